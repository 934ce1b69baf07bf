//! `prune`: whatever a place looks like, each snapshot of ours gets one verdict, and nothing goes that any guard
//! keeps.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Arbitrary, Result, Unstructured};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use snapkeep_domain::answer::Lookup;
use snapkeep_domain::capabilities::{Capabilities, TagSupport};
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::{Fields, Recognition, Record, State};
use snapkeep_domain::policy::confirmation::ConfirmationCode;
use snapkeep_domain::policy::keep::{Keep, MinKeep};
use snapkeep_domain::policy::settings::{Context, Settings};
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::{self, LastLook, Plan, SourceStatus, Step, Verdict};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Hold, Instance, Ownership, Snapshot, SnapshotState, Tags};
use snapkeep_domain::time::{FUTURE_TOLERANCE, Slot, Zone};
use snapkeep_fuzz::{
    NAMES, answers, any_time, chance, check_edge, id_of, instance, look, near, now, record,
    settings, slot, snapshot, unique,
};
use snapkeep_tests::{DEPLOYMENT, Facts, REGION, alter, context, mark, snapshot_of};

/// A provider whose names do not identify snapshots.
const BY_ID: Capabilities = Capabilities {
    stem_chars: 34,
    unique_names: false,
    tags: TagSupport::Yes,
    slow_deletes: true,
    tells_quota: false,
};

/// A place with up to three resources.
fn place(u: &mut Unstructured<'_>, settings: &Settings, now: Timestamp) -> Result<Facts> {
    let mut facts = Facts::default();
    let count = 1 + usize::from(u8::arbitrary(u)? % 3);
    for name in &NAMES[..count] {
        let instance = instance(u, name, now)?;
        let policy = Protection::read(&instance.tags, &settings.tag, &settings.policies).policy;
        for _ in 0..u8::arbitrary(u)? % 8 {
            let slot = slot(u, &policy.schedule, &policy.zone, now)?;
            add(u, &mut facts, name, slot, now)?;
        }
        if chance(u, 8)? {
            let (schedule, zone) = (&policy.schedule, &policy.zone);
            let mut item = Protected::rebuilt(
                &instance.id,
                name,
                &snapkeep_tests::place(REGION),
                policy.text().into(),
            );
            item.newest = Some(slot(u, schedule, zone, now)?);
            item.hold = if chance(u, 8)? { item.hold } else { None };
            item.since = Some(near(u, now)?);
            facts.protected.push(item);
        }
        if !chance(u, 4)? {
            facts.instances.push(instance);
        }
        if chance(u, 1)? {
            facts.unreadable.insert(id_of(name));
        }
    }
    unique(&mut facts.records);
    Ok(facts)
}

/// A record, its snapshot, or both; often such that there is something to delete.
fn add(
    u: &mut Unstructured<'_>,
    facts: &mut Facts,
    name: &str,
    slot: Slot,
    now: Timestamp,
) -> Result<()> {
    let mut record = record(u, name, slot, now)?;
    if chance(u, 10)? {
        record = Record::stored(Fields {
            state: State::Available,
            place: REGION.parse().unwrap(),
            lease: Lease::NONE,
            mark: None,
            ..record.into()
        });
        if chance(u, 10)? {
            mark(&mut record, now - SignedDuration::from_hours(u8::arbitrary(u)?.into()));
        }
        let source_place = Some(snapkeep_tests::place(REGION));
        facts.snapshots.push(Snapshot { source_place, ..snapshot_of(&record) });
        facts.records.push(record);
        return Ok(());
    }
    for _ in 0..(u8::arbitrary(u)? % 8).saturating_sub(4).max(1) {
        // Pages may show it twice, and differently.
        facts.snapshots.push(snapshot(u, &record, now)?);
    }
    match u8::arbitrary(u)? % 8 {
        0..=5 => facts.records.push(record),
        6 => drop(facts.snapshots.pop()),
        _ => {}
    }
    Ok(())
}

/// Asks what the plan wants to know.
fn ask(u: &mut Unstructured<'_>, facts: &mut Facts, cx: &Context<'_>) -> Result<()> {
    let now = cx.now;
    let questions = facts.gathered(DEPLOYMENT, &cx.capabilities).questions(cx);
    for (id, name) in questions.sources {
        let source = match u8::arbitrary(u)? % 6 {
            0 | 1 => SourceStatus::Alive(Instance { id: id.clone(), ..instance(u, &name, now)? }),
            2 | 3 => SourceStatus::Gone { name_lives: chance(u, 4)? },
            4 => SourceStatus::Unknown,
            _ => continue,
        };
        facts.sources.insert(id, source);
    }
    for snapshot in questions.snapshots {
        let asked = facts.records.iter().find(|r| r.snapshot() == snapshot);
        let asked = asked.unwrap_or_else(|| panic!("{snapshot:?} is in no record"));
        let mut look = look(u, asked, now)?;
        if let Lookup::Found(found) = &mut look {
            // Who asks by an id is shown what has it.
            if let Some(id) = &asked.identity.id {
                found.id = id.to_string();
            }
            facts.snapshots.push(Snapshot::clone(found));
        }
        facts.looks.insert(snapshot, look);
    }
    Ok(())
}

/// What was shown last under each name that is ours.
fn ours(facts: &Facts) -> BTreeMap<String, Snapshot> {
    let mut shown = BTreeMap::new();
    for snapshot in &facts.snapshots {
        shown.insert(snapshot.name.clone(), snapshot.clone());
    }
    shown.retain(|_, s| {
        matches!(s.ownership(DEPLOYMENT, &Capabilities::default()), Ownership::Ours { .. })
    });
    shown
}

/// Where names do not identify snapshots: only what a record holds the id of goes, whatever has its name.
fn run_by_id(u: &mut Unstructured<'_>) -> Result<()> {
    let (now, settings) = (now(u)?, settings(u)?);
    let cx = Context { capabilities: BY_ID, ..context(&settings, now) };
    let mut facts = place(u, &settings, now)?;
    twins(u, &mut facts, now)?;
    ask(u, &mut facts, &cx)?;
    let mut shown: BTreeMap<&str, &Snapshot> = BTreeMap::new();
    shown.extend(facts.snapshots.iter().map(|one| (one.id.as_str(), one)));
    shown.retain(|_, s| matches!(s.ownership(DEPLOYMENT, &BY_ID), Ownership::Ours { .. }));
    let mut gathered = facts.gathered(DEPLOYMENT, &BY_ID);
    let (mut verdicts, mut gone) = (0, Vec::new());
    for id in gathered.resources() {
        let plan = gathered.plan(&id, &cx);
        verdicts += plan.verdicts.len();
        for step in plan.steps {
            let (Step::Write(r) | Step::Rescue(r) | Step::Mark(r) | Step::Delete { record: r, .. }) =
                &step
            else {
                continue;
            };
            let same = |old: &&Record| old.resource == r.resource && old.sort_key() == r.sort_key();
            let old =
                facts.records.iter().find(same).unwrap_or_else(|| panic!("no record: {step:?}"));
            check_edge(old, r);
            if matches!(step, Step::Mark(_) | Step::Delete { .. }) {
                let key = r.identity.id.as_deref();
                // A record without an id is that of the oldest of its slot and attempt.
                let namesakes =
                    shown.values().filter(|s| s.source == r.resource && s.name == r.name);
                let oldest = namesakes.min_by_key(|s| (s.created_at, &s.id)).map(|s| s.id.as_str());
                let own = shown.get(key.or(oldest).unwrap_or_default());
                let own = own.unwrap_or_else(|| panic!("nothing shows it: {step:?}"));
                assert!(matches!(own.state, SnapshotState::Available | SnapshotState::Error));
                assert!(own.deletable && own.hold().is_none_or(|hold| is_over(&hold, now)));
                gone.push((r.resource.clone(), own.id.clone()));
            }
        }
    }
    assert_eq!(verdicts, shown.len(), "one verdict for each of ours");
    // Something with a record remains of everything that anything goes of.
    for (id, _) in &gone {
        let remains = shown.values().any(|s| {
            let recorded = facts.records.iter().any(|r| match r.identity.id.as_deref() {
                Some(own) => *own == s.id,
                None => r.name == s.name,
            });
            let leaves = gone.iter().any(|(_, key)| *key == s.id);
            s.source == *id && s.state == SnapshotState::Available && recorded && !leaves
        });
        assert!(remains, "nothing remains of {id:?}");
    }
    Ok(())
}

/// Gives snapshots ids of their own and records the ids of theirs, and copies some under their names.
fn twins(u: &mut Unstructured<'_>, facts: &mut Facts, now: Timestamp) -> Result<()> {
    for (at, snapshot) in facts.snapshots.iter_mut().enumerate() {
        snapshot.id = format!("snapshot-{at}");
        snapshot.deletable = !chance(u, 2)?;
    }
    for record in &mut facts.records {
        let own = facts.snapshots.iter().find(|s| s.name == record.name);
        if let Some(own) = own
            && !chance(u, 3)?
        {
            alter(record, |record| record.identity.id = Some(own.id.as_str().into()));
        }
    }
    for at in 0..facts.snapshots.len() {
        if chance(u, 3)? {
            let id = format!("twin-{at}");
            let created_at = near(u, now)?;
            let twin = Snapshot { id, created_at, ..facts.snapshots[at].clone() };
            facts.snapshots.push(twin);
        }
    }
    Ok(())
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let (now, settings) = (now(u)?, settings(u)?);
    let cx = context(&settings, now);
    let mut facts = place(u, &settings, now)?;
    ask(u, &mut facts, &cx)?;
    let ours = ours(&facts);
    let mut gathered = facts.gathered(DEPLOYMENT, &cx.capabilities);
    let resources = gathered.resources();
    assert!(resources.is_sorted_by(|a, b| a < b));
    let mut steps = Vec::new();
    let mut verdicts = BTreeSet::new();
    for id in resources {
        let plan = gathered.plan(&id, &cx);
        for judged in &plan.verdicts {
            assert!(verdicts.insert(judged.name.clone()), "{} is judged twice", judged.name);
        }
        check_resource(&id, &facts, &ours, &plan, &cx);
        steps.extend(plan.steps);
    }
    assert!(verdicts.iter().eq(ours.keys()), "one verdict for each of ours: {:?}", facts.snapshots);
    assert!(gathered.records.is_empty(), "every record was looked at");
    for step in &steps {
        check_step(step, &facts, &ours, &cx);
    }
    let capped = prune::cap_marks(&snapkeep_tests::place(REGION), &mut steps, &settings);
    let marks = steps.iter().filter(|step| matches!(step, Step::Mark(_))).count();
    assert!(settings.max_deletes.is_none_or(|max| marks <= max as usize));
    assert!(capped.is_none() || marks == 0);
    for step in &steps {
        if let Step::Delete { record, judged } = step {
            check_deletion(u, record, judged, &cx)?;
        }
    }
    Ok(())
}

/// One step: of a record as it stands, along a legal edge; what goes was announced, and is ours.
fn check_step(step: &Step, facts: &Facts, ours: &BTreeMap<String, Snapshot>, cx: &Context<'_>) {
    let record = match step {
        Step::Adopt(record) => {
            assert!(
                ours.contains_key(&record.name) && record.mark.is_none() && record.version == 0
            );
            return;
        }
        Step::Write(r) | Step::Mark(r) | Step::Rescue(r) | Step::Delete { record: r, .. } => r,
    };
    let same = |r: &&Record| r.resource == record.resource && r.sort_key() == record.sort_key();
    let old = facts.records.iter().find(same).unwrap_or_else(|| panic!("no record: {step:?}"));
    check_edge(old, record);
    assert!(!old.being_deleted(cx.now), "another run is at it: {step:?}");
    match step {
        Step::Rescue(_) => assert!(record.mark.is_none() && old.state != State::Deleted),
        Step::Write(_) => assert!(
            !matches!(record.state, State::Expiring | State::Deleting) || old.mark == record.mark
        ),
        Step::Mark(_) => {
            let mark = record.mark.as_ref().unwrap_or_else(|| panic!("no mark"));
            assert!(mark.at == cx.now && mark.execute_at >= mark.at);
            check_going(record, &ours[&record.name], cx);
        }
        Step::Delete { judged, .. } => {
            let mark = record.mark.as_ref().unwrap_or_else(|| panic!("no mark"));
            assert!(
                mark.execute_at <= cx.now && cx.now.duration_since(mark.at) >= cx.settings.grace
            );
            assert!(matches!(record.state, State::Expiring | State::Deleting));
            let found = &ours[&record.name];
            assert_eq!(found.state, *judged);
            check_going(record, found, cx);
        }
        Step::Adopt(_) => {}
    }
}

/// What is marked or deleted is ours, settled, where its record says, and not held.
fn check_going(record: &Record, found: &Snapshot, cx: &Context<'_>) {
    assert_eq!(record.recognises(found, DEPLOYMENT, &Capabilities::default()), Recognition::Ours);
    assert!(matches!(found.state, SnapshotState::Available | SnapshotState::Error));
    assert_eq!(&*record.place, REGION);
    if let Some(hold) = found.hold() {
        assert!(is_over(&hold, cx.now), "it is held");
    }
}

/// Whether a hold is over in any zone there is.
fn is_over(hold: &Hold, now: Timestamp) -> bool {
    let latest: Date = Offset::constant(15).to_datetime(now).date();
    matches!(hold, Hold::Until(day) if latest > *day)
}

/// What holds of all snapshots of a resource together.
fn check_resource(
    id: &ResourceId,
    facts: &Facts,
    ours: &BTreeMap<String, Snapshot>,
    plan: &Plan,
    cx: &Context<'_>,
) {
    let acts: Vec<&Record> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Mark(record) | Step::Delete { record, .. } => Some(&**record),
            _ => None,
        })
        .collect();
    let own = |r: &&Record| r.resource == *id;
    let records: Vec<&Record> = facts.records.iter().filter(own).collect();
    // Condemned is what goes now or later.
    let condemned: BTreeSet<&str> = plan
        .verdicts
        .iter()
        .filter(|j| matches!(j.verdict, Verdict::Mark | Verdict::Waiting | Verdict::Delete))
        .map(|j| j.name.as_str())
        .collect();
    let going: BTreeSet<&str> =
        records.iter().filter(|r| r.being_deleted(cx.now)).map(|r| r.name.as_str()).collect();
    let available = available(id, ours);
    check_floor(&available, &condemned, &going, cx.settings);
    // Without any that is available, failed ones stay too.
    assert!(!available.is_empty() || acts.is_empty(), "nothing remains");
    if acts.is_empty() {
        return;
    }
    assert!(!facts.unreadable.contains(id), "a record could not be read");
    check_future(id, &records, ours, cx.now);
    let instance = facts.instances.iter().find(|one| one.id == *id);
    let instance = match (instance, facts.sources.get(id)) {
        (Some(instance), _) | (None, Some(SourceStatus::Alive(instance))) => Some(instance),
        (None, Some(SourceStatus::Gone { .. })) => None,
        (None, Some(SourceStatus::Unknown) | None) => panic!("whether it lives is unknown"),
    };
    match instance {
        Some(instance) => check_living(&instance.tags, &available, &records, plan, cx),
        None => check_gone(id, facts, &available, cx),
    }
}

/// The available snapshots of ours of a resource, the newest first.
fn available<'a>(
    id: &ResourceId,
    ours: &'a BTreeMap<String, Snapshot>,
) -> Vec<(&'a Snapshot, Slot)> {
    let own = ours.values().filter(|s| s.source == *id && s.state == SnapshotState::Available);
    let mut all: Vec<(Slot, u32, &Snapshot)> = own
        .filter_map(|s| match s.ownership(DEPLOYMENT, &Capabilities::default()) {
            Ownership::Ours { slot, attempt } => Some((slot, attempt, s)),
            _ => None,
        })
        .collect();
    all.sort_by_key(|(slot, attempt, _)| std::cmp::Reverse((*slot, *attempt)));
    all.into_iter().map(|(slot, _, s)| (s, slot)).collect()
}

fn check_floor(
    available: &[(&Snapshot, Slot)],
    condemned: &BTreeSet<&str>,
    going: &BTreeSet<&str>,
    settings: &Settings,
) {
    let stays = |(s, _): &&(&Snapshot, Slot)| {
        !condemned.contains(s.name.as_str()) && !going.contains(s.name.as_str())
    };
    let could = available.iter().filter(|(s, _)| !going.contains(s.name.as_str())).count();
    let floor = match &settings.min_keep {
        MinKeep::Count(count) => *count as usize,
        MinKeep::Rules(_) => 1,
    };
    let remain = available.iter().filter(stays).count();
    assert!(remain >= floor.min(could), "{remain} of {could} remain, not {floor}");
    if let MinKeep::Rules(keep) = &settings.min_keep
        && *keep == Keep::All
    {
        assert_eq!(remain, could, "the floor keeps all");
    }
}

/// Nothing goes while anything lies in the future.
fn check_future(
    id: &ResourceId,
    records: &[&Record],
    ours: &BTreeMap<String, Snapshot>,
    now: Timestamp,
) {
    let border = now + FUTURE_TOLERANCE;
    for record in records {
        assert!(record.slot.timestamp() <= border, "a slot in the future");
        assert!(record.mark.as_ref().is_none_or(|mark| mark.at <= border), "a mark in the future");
    }
    let own = ours.values().filter(|s| s.source == *id);
    own.for_each(|s| assert!(s.created_at <= border, "created in the future"));
}

fn check_living(
    tags: &Tags,
    available: &[(&Snapshot, Slot)],
    records: &[&Record],
    plan: &Plan,
    cx: &Context<'_>,
) {
    let Protection { opt_in, policy, hold, confirmed, .. } =
        Protection::read(tags, &cx.settings.tag, &cx.settings.policies);
    assert_eq!(opt_in, OptIn::On);
    assert!(policy.problems.is_empty(), "{:?}", policy.problems);
    assert!(hold.is_none_or(|hold| is_over(&hold, cx.now)), "the instance is held");
    let keep = policy.retention.keep();
    assert!(
        keep != Keep::All
            || plan.verdicts.iter().all(|j| {
                let state = available.iter().any(|(s, _)| s.name == j.name);
                !state || !matches!(j.verdict, Verdict::Mark | Verdict::Waiting | Verdict::Delete)
            }),
        "everything is kept"
    );
    let times: Vec<Timestamp> = available.iter().map(|(_, slot)| slot.timestamp()).collect();
    let period = policy.schedule.period(&policy.zone, cx.now);
    let limit = period + period + SignedDuration::from_hours(24);
    assert!(cx.now.duration_since(times[0]) <= limit, "the newest is stale");
    // The brake: so many marks that their own retention would not have made.
    let marks = plan.steps.iter().filter_map(|step| match step {
        Step::Mark(record) => {
            available.iter().position(|(s, _)| s.name == record.name).map(|at| (at, record))
        }
        _ => None,
    });
    let surprises = marks.filter(|(at, record)| {
        let old = records.iter().find(|r| r.sort_key() == record.sort_key());
        let policy = &old.unwrap_or_else(|| panic!("no record")).policy;
        let keep = policy.keep.as_ref().and_then(|text| text.parse::<Keep>().ok());
        match (keep, policy.timezone.parse::<Zone>()) {
            (Some(keep), Ok(zone)) => !keep.judge(&times, &zone)[*at].is_empty(),
            _ => true,
        }
    });
    let code = ConfirmationCode::of_rules(&keep, &policy.zone);
    let free = confirmed.contains(&code) || cx.settings.confirmed.contains(&code);
    let percent = cx.settings.max_delete_percent as usize;
    assert!(free || surprises.count() * 100 <= percent * times.len(), "the brake");
}

fn check_gone(id: &ResourceId, facts: &Facts, available: &[(&Snapshot, Slot)], cx: &Context<'_>) {
    let released = cx.settings.confirmed.contains(&ConfirmationCode::of_release(id));
    let known = facts.protected.iter().find(|item| item.resource == *id);
    match known.map(|known| known.hold()) {
        Some(Some(hold)) => assert!(released || is_over(&hold, cx.now), "it was held"),
        Some(None) => {}
        None => assert!(released, "nobody knows whether it was held"),
    }
    let keep = cx.settings.orphan_keep.unwrap_or(SignedDuration::MAX);
    assert!(cx.now.duration_since(available[0].1.timestamp()) >= keep, "its time is not over");
}

/// A deletion's last steps: what any look and any answer make of it.
fn check_deletion(
    u: &mut Unstructured<'_>,
    record: &Record,
    judged: &SnapshotState,
    cx: &Context<'_>,
) -> Result<()> {
    let intent = record.deleting(cx.now, cx.lease);
    check_edge(record, &intent);
    assert_eq!((intent.state, &intent.mark), (State::Deleting, &record.mark));
    assert_eq!(intent.lease, cx.lease);
    let later = Context { now: any_time(u, cx.now)?, ..*cx };
    let look = look(u, record, cx.now)?;
    let object = |next: &Option<Box<Record>>| {
        for next in next.iter() {
            check_edge(&intent, next);
            assert!(matches!(next.state, State::Available | State::Failed) && next.mark.is_none());
        }
    };
    match (prune::last_look(&intent, judged, &look, &later), &look) {
        (LastLook::Delete, Lookup::Found(found)) => {
            check_going(&intent, found, &later);
            assert_eq!(found.state, *judged);
        }
        (LastLook::Gone, Lookup::Missing) | (LastLook::Wait, Lookup::Unknown) => {}
        (LastLook::Object { next, .. }, Lookup::Found(_)) => object(&next),
        (other, look) => panic!("{other:?} after {look:?}"),
    }
    let found = match look {
        Lookup::Found(found) => *found,
        _ => snapshot(u, record, cx.now)?,
    };
    for answer in answers() {
        match prune::settle(&intent, &found, &answer, &later) {
            LastLook::Delete => assert!(answer.is_ok()),
            LastLook::Object { next, .. } => object(&next),
            LastLook::Gone | LastLook::Wait | LastLook::Again => assert!(answer.is_err()),
        }
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let mut u = Unstructured::new(data);
    let _ = match chance(&mut u, 5) {
        Ok(true) => run_by_id(&mut u),
        _ => run(&mut u),
    };
});
