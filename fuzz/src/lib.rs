//! What the fuzz targets share: facts of the planners, drawn from the fuzzer's bytes.
//!
//! When the bytes run out every choice falls on its first alternative, so the plain case comes first.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Arbitrary, Result, Unstructured};
use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::answer::{ErrorKind, Lookup, ProviderError};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::record::{EDGES, Fields, History, Mark, Record, State};
use snapkeep_domain::policy::PolicyText;
use snapkeep_domain::policy::confirmation::ConfirmationCode;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{
    HOLD, Instance, KEEP, MANAGED_BY, SLOT, SOURCE, Snapshot, SnapshotState, Tags, snapshot_name,
};
use snapkeep_domain::time::{Slot, Zone};
use snapkeep_tests::{DEPLOYMENT, REGION, alter, at, place, snapshot_of};

/// Schedules that people write, the default first.
pub const SCHEDULES: [&str; 6] =
    ["daily@03:00", "hourly", "every-6h", "daily@02:30", "weekly@sun-03:00", "monthly@31-00:00"];
/// Retentions.
pub const KEEPS: [&str; 8] = [
    "last=2",
    "daily=3",
    "last=1",
    "all",
    "hourly=4 daily=2 weekly=2",
    "within=3d",
    "monthly=2 yearly=1",
    "within=1m2w daily=9",
];
/// Zones, some with nights in which clocks jump.
pub const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"];
/// The resources of the place.
pub const NAMES: [&str; 3] = ["web", "db", "_ü"];

const KINDS: [ErrorKind; 12] = [
    ErrorKind::NameTaken,
    ErrorKind::NotFound,
    ErrorKind::Throttled,
    ErrorKind::Quota,
    ErrorKind::Denied,
    ErrorKind::Busy,
    ErrorKind::RegionNotEnabled,
    ErrorKind::BadPageToken,
    ErrorKind::NotSupported,
    ErrorKind::UnderWay,
    ErrorKind::Refused,
    ErrorKind::Indeterminate,
];

/// The id of a resource.
#[must_use]
pub fn id_of(name: &str) -> ResourceId {
    ResourceId(format!("arn:aws:lightsail:{REGION}:111122223333:Instance/{name}-1"))
}

/// Whether this happens: `often` times of 16.
pub fn chance(u: &mut Unstructured<'_>, often: u8) -> Result<bool> {
    // Zero, which is what is drawn when the bytes run out, is no.
    Ok(u8::arbitrary(u)? & 15 > 15 - often.min(15))
}

/// One of these words.
pub fn word<'a>(u: &mut Unstructured<'_>, words: &[&'a str]) -> Result<&'a str> {
    u.choose(words).copied()
}

/// The present: some time in two years that have nights in which clocks jump.
pub fn now(u: &mut Unstructured<'_>) -> Result<Timestamp> {
    let minutes: u32 = u.int_in_range(0..=2 * 366 * 24 * 60)?;
    Ok(at("2025-06-01T04:00:00Z") + SignedDuration::from_mins(minutes.into()))
}

/// A time near another, on a border that matters or a little off, before it or after.
pub fn near(u: &mut Unstructured<'_>, time: Timestamp) -> Result<Timestamp> {
    let units = [3600, 1, 60, 900, 6 * 3600, 86400, 30 * 86400];
    let unit: i64 = *u.choose(&units)?;
    let count: i64 = u8::arbitrary(u)?.into();
    let (count, sign) = (count / 4, if count % 4 == 3 { 1 } else { -1 });
    Ok(time + SignedDuration::from_secs(sign * unit * count))
}

/// A time near another, or rarely one of the ends of time.
pub fn any_time(u: &mut Unstructured<'_>, time: Timestamp) -> Result<Timestamp> {
    match u8::arbitrary(u)? {
        254 => Ok(Timestamp::MIN),
        255 => Ok(Timestamp::MAX),
        _ => near(u, time),
    }
}

fn maybe_time(u: &mut Unstructured<'_>, often: u8, time: Timestamp) -> Result<Option<Timestamp>> {
    if chance(u, often)? { any_time(u, time).map(Some) } else { Ok(None) }
}

/// Variables that are read without an error.
pub fn settings(u: &mut Unstructured<'_>) -> Result<Settings> {
    let mut vars: BTreeMap<&str, String> = BTreeMap::new();
    vars.insert("SNAPKEEP_LEDGER_TABLE", "ledger".to_owned());
    vars.insert("SNAPKEEP_DEPLOYMENT", DEPLOYMENT.to_owned());
    vars.insert("SNAPKEEP_KEEP", word(u, &KEEPS)?.to_owned());
    vars.insert("SNAPKEEP_MAX_DELETE_PERCENT", word(u, &["100", "50", "0"])?.to_owned());
    vars.insert(
        "SNAPKEEP_POLICIES",
        "gold: schedule=every-6h keep=daily=2; bad: keep=x".to_owned(),
    );
    let optional: [(&str, &[&str]); 7] = [
        ("SNAPKEEP_SCHEDULE", &SCHEDULES),
        ("SNAPKEEP_TIMEZONE", &ZONES),
        ("SNAPKEEP_MIN_KEEP", &["2", "1", "5", "daily=2", "all", "within=2d"]),
        ("SNAPKEEP_GRACE", &["0h", "1h", "72h", "3w", "999999w"]),
        ("SNAPKEEP_MAX_DELETES", &["0", "1", "4"]),
        ("SNAPKEEP_ORPHAN_KEEP", &["0h", "3d", "999999w"]),
        ("SNAPKEEP_PENDING_TIMEOUT", &["0h", "1h", "999999w"]),
    ];
    for (key, values) in optional {
        if chance(u, 6)? {
            vars.insert(key, word(u, values)?.to_owned());
        }
    }
    if chance(u, 4)? {
        vars.insert("SNAPKEEP_CONFIRM", code(u)?);
    }
    let vars = vars.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(Settings::read(&vars, Function::Prune).unwrap_or_else(|error| panic!("{error}")))
}

/// A code that confirms or releases something.
fn code(u: &mut Unstructured<'_>) -> Result<String> {
    if chance(u, 8)? {
        return Ok(ConfirmationCode::of_release(&id_of(word(u, &NAMES)?)).to_string());
    }
    let (keep, zone) = (word(u, &KEEPS)?.parse(), word(u, &ZONES)?.parse());
    Ok(ConfirmationCode::of_rules(
        &keep.unwrap_or_else(|e| panic!("{e}")),
        &zone.unwrap_or_else(|e| panic!("{e}")),
    )
    .to_string())
}

/// The value of a hold.
fn hold(u: &mut Unstructured<'_>, now: Timestamp) -> Result<String> {
    if chance(u, 8)? {
        return Ok(word(u, &["", "soon", "until=", "until=2027-02-30"])?.to_owned());
    }
    Ok(format!("until={}", near(u, now)?.strftime("%Y-%m-%d")))
}

/// An instance of this name.
pub fn instance(u: &mut Unstructured<'_>, name: &str, now: Timestamp) -> Result<Instance> {
    let mut tags = Tags::new();
    if !chance(u, 1)? {
        let opt_in = ["", "on", "gold", "off", "bad", "platin"];
        let at = usize::from(u8::arbitrary(u)?).saturating_sub(128) * opt_in.len() / 128;
        tags.insert("snapkeep".to_owned(), opt_in[at].to_owned());
    }
    let optional: [(&str, &[&str]); 5] = [
        (":schedule", &SCHEDULES),
        (":keep", &KEEPS),
        (":timezone", &ZONES),
        (":keep", &["x", "", "daily=0"]),
        (":Keep", &["all"]),
    ];
    for (at, (key, values)) in optional.into_iter().enumerate() {
        if chance(u, if at < 3 { 3 } else { 1 })? {
            tags.insert(format!("snapkeep{key}"), word(u, values)?.to_owned());
        }
    }
    if chance(u, 2)? {
        let key = word(u, &[HOLD, "Snapkeep:hold"])?;
        tags.insert(key.to_owned(), hold(u, now)?);
    }
    if chance(u, 2)? {
        tags.insert("snapkeep:confirm".to_owned(), code(u)?);
    }
    Ok(Instance {
        id: id_of(name),
        name: name.to_owned(),
        place: REGION.parse().unwrap(),
        tags,
        disk: None,
        unready: None,
        size_gb: None,
        created_at: None,
    })
}

/// A slot: one of this schedule, mostly not long ago, or any time.
pub fn slot(
    u: &mut Unstructured<'_>,
    schedule: &Schedule,
    zone: &Zone,
    now: Timestamp,
) -> Result<Slot> {
    let any = chance(u, 3)?;
    let time = if chance(u, 6)? {
        near(u, now)?
    } else {
        now - SignedDuration::from_hours(24 * i64::from(u8::arbitrary(u)? % 12))
    };
    Ok(if any { Slot::at(time) } else { schedule.latest(zone, time) })
}

fn policy_text(u: &mut Unstructured<'_>) -> Result<PolicyText> {
    let some = |text: &str| Some(text.to_owned());
    Ok(PolicyText {
        name: "default".to_owned(),
        schedule: if chance(u, 2)? { None } else { some(word(u, &SCHEDULES)?) },
        keep: match u8::arbitrary(u)? {
            0..=191 => some(word(u, &KEEPS)?),
            192..=223 => None,
            _ => some("unreadable"),
        },
        timezone: if chance(u, 1)? { "nowhere" } else { word(u, &ZONES)? }.to_owned(),
    })
}

/// A record of this resource and slot, in any state, with any of its times.
pub fn record(u: &mut Unstructured<'_>, name: &str, slot: Slot, now: Timestamp) -> Result<Record> {
    let states = [
        State::Available,
        State::Expiring,
        State::Failed,
        State::Intended,
        State::Requested,
        State::Pending,
        State::Deleting,
        State::Deleted,
    ];
    let state = *u.choose(&states)?;
    let attempt = 1 + u32::from(u8::arbitrary(u)? % 5);
    let id = id_of(name);
    let mut record = Record::stored(Fields {
        superseded: chance(u, 2)?,
        state,
        times: [(state, any_time(u, now)?)].into(),
        name: snapshot_name(DEPLOYMENT, &id, name, slot, attempt),
        resource: id,
        resource_name: name.to_owned(),
        policy: policy_text(u)?.into(),
        lease: maybe_time(u, 8, now)?.map_or(Lease::NONE, Lease::until),
        missed: u32::from(u8::arbitrary(u)? % 4),
        missing_since: maybe_time(u, 4, now)?,
        foreign_since: maybe_time(u, 4, now)?,
        has_residue: chance(u, 8)?,
        history: History::default(),
        ..snapkeep_tests::record(slot, attempt, None).into()
    });
    for earlier in State::ALL {
        if chance(u, 4)? {
            let at = any_time(u, now)?;
            alter(&mut record, |r| r.times.insert(earlier, at));
        }
    }
    if matches!(state, State::Expiring | State::Deleting) != chance(u, 1)? {
        let (at, execute_at) = (any_time(u, now)?, any_time(u, now)?);
        let mark = Mark { at, execute_at, survivors: 1, newest: None, oldest: None, size_gb: None };
        alter(&mut record, |r| r.mark = Some(mark.into()));
    }
    // A copy in another Region, or a ledger that somebody edited.
    if chance(u, 1)? {
        let elsewhere = place(word(u, &["us-east-1", "us-east-1@222233334444"])?);
        alter(&mut record, |r| r.place = elsewhere);
    }
    Ok(record)
}

/// Keeps the first record of each key, as the ledger does.
pub fn unique(records: &mut Vec<Record>) {
    let mut seen = BTreeSet::new();
    records.retain(|r| seen.insert((r.resource.clone(), r.sort_key())));
}

/// A snapshot's state.
pub fn snapshot_state(u: &mut Unstructured<'_>) -> Result<SnapshotState> {
    Ok(match u8::arbitrary(u)? % 16 {
        0..=9 => SnapshotState::Available,
        10..=11 => SnapshotState::Pending,
        12..=14 => SnapshotState::Error,
        _ => SnapshotState::Other("odd".to_owned()),
    })
}

/// The snapshot of a record, often as it should be, sometimes a look-alike, foreign, held or untold.
pub fn snapshot(u: &mut Unstructured<'_>, record: &Record, now: Timestamp) -> Result<Snapshot> {
    let mut snapshot = Snapshot {
        state: snapshot_state(u)?,
        place: REGION.parse().unwrap(),
        ..snapshot_of(record)
    };
    snapshot.source_place = None;
    while chance(u, 4)? {
        match u8::arbitrary(u)? % 13 {
            0 => drop(snapshot.tags.insert(HOLD.to_owned(), hold(u, now)?)),
            1 => drop(snapshot.tags.insert("snapkeep:HOLD".to_owned(), hold(u, now)?)),
            2 => drop(snapshot.tags.remove(MANAGED_BY)),
            3 => drop(snapshot.tags.insert(MANAGED_BY.to_owned(), "another".to_owned())),
            4 => drop(snapshot.tags.remove(SLOT)),
            5 => drop(snapshot.tags.insert(SLOT.to_owned(), Slot::at(near(u, now)?).to_string())),
            6 => drop(snapshot.tags.remove(SOURCE)),
            7 => drop(snapshot.tags.remove(KEEP)),
            8 => snapshot.source.0.clear(),
            9 => snapshot.source = id_of(word(u, &NAMES)?),
            10 => snapshot.source_place = Some(place(word(u, &[REGION, "us-east-1"])?)),
            11 => snapshot.name.push('x'),
            _ => snapshot.created_at = any_time(u, now)?,
        }
    }
    Ok(snapshot)
}

/// What asking for a record's snapshot answers.
pub fn look(u: &mut Unstructured<'_>, record: &Record, now: Timestamp) -> Result<Lookup> {
    Ok(match u8::arbitrary(u)? % 8 {
        0..=3 => Lookup::Found(Box::new(Snapshot {
            name: record.name.clone(),
            ..snapshot(u, record, now)?
        })),
        4..=6 => Lookup::Missing,
        _ => Lookup::Unknown,
    })
}

/// What a request answers: success and every kind of error.
pub fn answers() -> impl Iterator<Item = std::result::Result<(), ProviderError>> {
    let error = |kind| {
        let (code, message) = (format!("{kind:?}"), "no".to_owned());
        Err(ProviderError { kind, operation: "Call", code, message })
    };
    std::iter::once(Ok(())).chain(KINDS.map(error))
}

/// The edge from one record to the next is legal, and both are of the same attempt and snapshot.
pub fn check_edge(old: &Record, next: &Record) {
    assert!(EDGES.contains(&(old.state, next.state)), "{:?} to {:?}", old.state, next.state);
    let identity =
        |r: &Record| (r.resource.clone(), r.sort_key(), r.name.clone(), r.attempt, r.version);
    assert_eq!(identity(old), identity(next));
}
