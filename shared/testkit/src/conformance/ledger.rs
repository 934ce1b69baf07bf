//! The checks that every ledger passes.

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{ConditionStore, Ledger, Note, Remember, Write};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::{Proof, Protected, Standing};
use snapkeep_domain::ledger::record::{
    FORMAT, Fields, HISTORY_MAX, History, Identity, Record, State, Subject,
};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::notice::{self, Condition};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::PolicyText;
use snapkeep_domain::poll::FOLLOWED;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::time::Slot;

/// This many records make more than three pages in a ledger that reads a few records at a time.
const MANY: i64 = 50;
/// This many records with [`LONG`] each make more than three pages of 1 MB.
const MANY_LONG: i64 = 60;
const LONG: usize = 60_000;
fn place() -> Place {
    "eu-west-1".parse().unwrap()
}

/// Runs all checks on a ledger that is empty at the beginning.
pub async fn ledger(ledger: &(impl Ledger + ConditionStore + Remember)) {
    is_empty_at_first(ledger).await;
    lets_one_claim_win(ledger).await;
    lets_one_advance_win(ledger).await;
    indexes_what_lives(ledger).await;
    keeps_a_history(ledger).await;
    reads_back_to_the_one_before(ledger).await;
    keeps_resources_apart(ledger).await;
    reads_many(ledger).await;
    remembers_conditions(ledger).await;
    remembers_resources(ledger).await;
    remembers_runs(ledger).await;
}

async fn remembers_resources(ledger: &(impl Ledger + Remember)) {
    let known = async || ledger.memory().await.unwrap().protected;
    assert_eq!(known().await, []);
    let policy = record("x", 1).policy.clone();
    let id = |name: &str| ResourceId(format!("arn:{name}"));
    let item = |name: &str| Protected {
        standing: Standing::On,
        hold: None,
        since: Some(start()),
        ..Protected::rebuilt(&id(name), name, &place(), policy.clone())
    };
    for name in ["many-1", "web"] {
        assert!(ledger.remember(&item(name)).await.unwrap());
        assert!(!ledger.remember(&item(name)).await.unwrap(), "it is there already");
    }
    let (newest, answered) = (slot(7), slot(8).timestamp());
    ledger.note(&id("web"), Note::Answered(answered)).await.unwrap();
    for hour in [5, 7, 6] {
        ledger.note(&id("web"), Note::Available(slot(hour))).await.unwrap();
    }
    // A note about a resource that is not remembered has no effect.
    ledger.note(&id("nobody"), Note::Available(slot(5))).await.unwrap();
    let written = Protected { version: 1, ..item("web") };
    let noted = Protected { newest: Some(newest), answered: Some(answered), ..written.clone() };
    assert_eq!(known().await, [Protected { version: 1, ..item("many-1") }, noted.clone()]);
    // What the tags say is written without the other members, and they are written without it.
    let off = Protected { standing: Standing::Off, hold: Some(String::new()), ..written.clone() };
    assert!(ledger.remember(&off).await.unwrap());
    assert!(!ledger.remember(&written).await.unwrap(), "one change wins");
    let expected = Protected { version: 2, standing: Standing::Off, hold: off.hold, ..noted };
    assert_eq!(known().await[1], expected);
    ledger.note(&id("web"), Note::Newest(Some(slot(2)))).await.unwrap();
    assert_eq!(known().await[1].newest, Some(slot(2)));
    ledger.note(&id("web"), Note::Newest(None)).await.unwrap();
    let proof = Proof { at: start(), ok: true, seconds: Some(74) };
    ledger.note(&id("web"), Note::Proven(proof)).await.unwrap();
    assert_eq!(known().await[1].proven, Some(proof));
    let back = Protected { hold: None, standing: Standing::On, ..known().await[1].clone() };
    assert!(ledger.remember(&back).await.unwrap());
    assert_eq!(known().await[1], Protected { version: 3, ..back });
    // Protected resources are not records.
    assert!(ledger.live(&place()).await.unwrap().unreadable.is_empty());
}

async fn remembers_runs(ledger: &impl Remember) {
    let known = async || ledger.memory().await.unwrap().runs;
    assert_eq!(known().await, []);
    let run = |function: Function| LastRun {
        function,
        place: place(),
        at: start(),
        finished: None,
        seconds: 0,
        counts: [("requested".to_owned(), 3)].into(),
        failures: 0,
        left: 2,
        shows_tags: true,
        lease: Lease::until(slot(1).timestamp()),
        format: FORMAT,
        version: 0,
    };
    let create = ledger.put_run(&run(Function::Create)).await.unwrap().unwrap();
    assert_eq!(create, LastRun { version: 1, ..run(Function::Create) });
    assert_eq!(ledger.put_run(&run(Function::Create)).await.unwrap(), None, "one run enters");
    let prune = ledger.put_run(&run(Function::Prune)).await.unwrap().unwrap();
    let left = LastRun { lease: Lease::NONE, ..create };
    let left = ledger.put_run(&left).await.unwrap().unwrap();
    assert_eq!((left.version, known().await), (2, vec![left.clone(), prune]));
}

async fn remembers_conditions(ledger: &(impl Ledger + ConditionStore)) {
    assert_eq!(ledger.known().await.unwrap().0, []);
    let brake = |code: &str| Finding::new(Code::Brake, "x").named("web").value(code).fix("confirm");
    let begun = notice::plan(Function::Prune, &[brake("a"), brake("b")], &[], |_| false, start());
    let mut known = Vec::new();
    for condition in &begun {
        known.extend(ledger.put(condition).await.unwrap());
        assert_eq!(ledger.put(condition).await.unwrap(), None, "one claim wins");
    }
    assert_eq!((known.len(), ledger.known().await.unwrap().0), (2, known.clone()));
    let told = known[0].clone().settled(true);
    let written = ledger.put(&told).await.unwrap().unwrap();
    assert_eq!(written, Condition { version: 2, ..told.clone() });
    assert_eq!(ledger.put(&told).await.unwrap(), None, "one change wins");
    let over = Condition { resolved: Some(start()), ..written };
    let over = ledger.put(&over).await.unwrap().unwrap();
    assert_eq!(ledger.known().await.unwrap().0, [over, known[1].clone()]);
    // Conditions are not records.
    let live = ledger.live(&place()).await.unwrap();
    assert!(live.unreadable.is_empty());
}

async fn is_empty_at_first(ledger: &impl Ledger) {
    assert_eq!(recent(ledger, "nothing", 0).await, []);
    let live = ledger.live(&place()).await.unwrap();
    assert!(live.records.is_empty() && live.unreadable.is_empty());
    assert!(ledger.live(&"another-place".parse().unwrap()).await.unwrap().records.is_empty());
}

async fn lets_one_claim_win(ledger: &impl Ledger) {
    let first = record("claimed", 1);
    let standing = done(ledger.claim(&first).await.unwrap());
    assert_eq!(standing, first.at_version(1));
    let late = Record::stored(Fields {
        reason: "the other one".to_owned(),
        version: 7,
        ..first.clone().into()
    });
    assert_eq!(conflict(ledger.claim(&late).await.unwrap()), Some(standing.clone()));
    // Even the very same record is not claimed twice.
    assert_eq!(conflict(ledger.claim(&first).await.unwrap()), Some(standing.clone()));
    assert_eq!(recent(ledger, "claimed", 0).await, [standing]);
    // The residue of a failed attempt has a key of its own.
    let superseded = first.superseded();
    done(ledger.claim(&superseded).await.unwrap());
}

async fn lets_one_advance_win(ledger: &impl Ledger) {
    let first = record("advanced", 1);
    assert_eq!(conflict(ledger.advance(&first).await.unwrap()), None, "there is nothing yet");
    let first = done(ledger.claim(&first).await.unwrap());
    let second = done(ledger.advance(&moved(&first, State::Requested)).await.unwrap());
    assert_eq!(second, moved(&first, State::Requested).at_version(2));
    let stale = ledger.advance(&moved(&first, State::Failed)).await.unwrap();
    assert_eq!(conflict(stale), Some(second.clone()));
    let ahead = moved(&second, State::Pending).at_version(3);
    assert_eq!(conflict(ledger.advance(&ahead).await.unwrap()), Some(second.clone()));
    let third = done(ledger.advance(&moved(&second, State::Pending)).await.unwrap());
    assert_eq!((third.version, third.state), (3, State::Pending));
    assert_eq!(recent(ledger, "advanced", 0).await, [third]);
}

async fn indexes_what_lives(ledger: &impl Ledger) {
    let path = [
        State::Requested,
        State::Pending,
        State::Available,
        State::Expiring,
        State::Deleting,
        State::Deleted,
        State::Available,
    ];
    let mut now = done(ledger.claim(&record("lived", 1)).await.unwrap());
    assert_eq!(shown(ledger, "lived").await, [now.clone()]);
    for state in path {
        now = done(ledger.advance(&moved(&now, state)).await.unwrap());
        let expected = if state == State::Deleted { vec![] } else { vec![now.clone()] };
        assert_eq!(shown(ledger, "lived").await, expected, "{state:?}");
        let open = ledger.open(&place()).await.unwrap().records;
        let followed = open.iter().any(|record| record.resource == now.resource);
        assert_eq!(followed, FOLLOWED.contains(&state), "{state:?}");
        assert_eq!(recent(ledger, "lived", 0).await, [now.clone()], "{state:?}");
    }
    let open = ledger.open(&place()).await.unwrap().records;
    assert!(open.iter().all(|record| record.resource != now.resource), "nothing to follow");
    assert!(ledger.live(&"another-place".parse().unwrap()).await.unwrap().records.is_empty());

    // A failure is shown while it has a residue, and no longer once it is settled.
    let now = done(ledger.advance(&moved(&now, State::Expiring)).await.unwrap());
    let failed = Record::stored(Fields { has_residue: true, ..moved(&now, State::Failed).into() });
    let failed = done(ledger.advance(&failed).await.unwrap());
    let settled = Record::stored(Fields { has_residue: false, ..failed.clone().into() });
    assert_eq!(shown(ledger, "lived").await, [failed]);
    done(ledger.advance(&settled).await.unwrap());
    assert_eq!(shown(ledger, "lived").await, []);
}

/// The history has the last changes of state, whatever the writer knows of it.
async fn keeps_a_history(ledger: &impl Ledger) {
    let subject = Subject {
        resource: ResourceId("arn:told".to_owned()),
        resource_name: "told".to_owned(),
        place: place(),
        slot: slot(1),
        attempt: 1,
        name: "told-1".to_owned(),
        identity: Identity::default(),
        policy: record("told", 1).policy.clone(),
    };
    let mut now = Record::intended(subject, 0, start(), Lease::NONE).by(Function::Create);
    now = done(ledger.claim(&now).await.unwrap());
    let at = |minutes| start() + SignedDuration::from_mins(minutes);
    for (minute, state) in [(1, State::Requested), (2, State::Pending), (3, State::Available)] {
        // As from the index, which has no history.
        let shown = now.with_history(Vec::new());
        let next = shown.moved(state, at(minute), format!("minute {minute}")).by(Function::Poll);
        now = done(ledger.advance(&next).await.unwrap());
    }
    // What changes no state adds nothing.
    now = done(ledger.advance(&now.missing(Some(at(4)))).await.unwrap());
    let told = async || {
        let found = recent(ledger, "told", 0).await;
        let past = &found[0].history.past;
        past.iter().map(|c| (c.from, c.to, c.function, c.at)).collect::<Vec<_>>()
    };
    let poll = Some(Function::Poll);
    assert_eq!(
        told().await,
        [
            (None, State::Intended, Some(Function::Create), at(0)),
            (Some(State::Intended), State::Requested, poll, at(1)),
            (Some(State::Requested), State::Pending, poll, at(2)),
            (Some(State::Pending), State::Available, poll, at(3)),
        ]
    );
    for minute in 5..50 {
        let state = if minute % 2 == 0 { State::Available } else { State::Expiring };
        now = done(ledger.advance(&now.moved(state, at(minute), "back and forth")).await.unwrap());
    }
    let told = told().await;
    assert_eq!(told.len(), HISTORY_MAX);
    assert_eq!(told.last().map(|last| last.3), Some(at(49)));
    assert_eq!(told.first().map(|first| first.3), Some(at(30)));
}

async fn reads_back_to_the_one_before(ledger: &impl Ledger) {
    let mut all = Vec::new();
    for hour in 1..=5 {
        all.push(done(ledger.claim(&record("recent", hour)).await.unwrap()));
        // Slot 3 has two failed attempts behind it, and slot 2 has one.
        for attempt in 1..=[0, 0, 1, 2, 0, 0][usize::try_from(hour).unwrap_or_default()] {
            let superseded = Record::stored(Fields {
                superseded: true,
                attempt,
                ..record("recent", hour).into()
            });
            all.push(done(ledger.claim(&superseded).await.unwrap()));
        }
    }
    let keys = async |from: i64| {
        let found = recent(ledger, "recent", from).await;
        assert!(found.iter().all(|record| all.contains(record)));
        found.iter().map(short).collect::<Vec<_>>()
    };
    let down = ["5", "4", "3#2", "3#1", "3", "2#1", "2", "1"];
    assert_eq!(keys(6).await, ["5"], "the newest one before");
    assert_eq!(keys(5).await, ["5", "4"]);
    // The slot before comes with the residue of its failed attempts.
    assert_eq!(keys(4).await, ["5", "4", "3#2", "3#1", "3"]);
    assert_eq!(keys(3).await, down[..7]);
    assert_eq!(keys(2).await, down);
    assert_eq!(keys(0).await, down, "from before all of them");
}

async fn keeps_resources_apart(ledger: &impl Ledger) {
    // One id is the beginning of the other, and both have the same slot.
    for resource in ["apart", "apart2"] {
        done(ledger.claim(&record(resource, 1)).await.unwrap());
    }
    let first = recent(ledger, "apart", 0).await;
    let moved = done(ledger.advance(&moved(&first[0], State::Requested)).await.unwrap());
    assert_eq!(recent(ledger, "apart", 0).await, [moved]);
    let other = recent(ledger, "apart2", 0).await;
    assert_eq!((other.len(), other[0].state, other[0].version), (1, State::Intended, 1));
}

async fn reads_many(ledger: &impl Ledger) {
    for hour in 1..=MANY {
        done(ledger.claim(&record("many", hour)).await.unwrap());
    }
    let down = |most: i64| (1..=most).rev().map(|hour| hour.to_string()).collect::<Vec<_>>();
    let found = recent(ledger, "many", 0).await;
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), down(MANY));
    for hour in 1..=MANY_LONG {
        let long =
            Record::stored(Fields { reason: "x".repeat(LONG), ..record("long", hour).into() });
        done(ledger.claim(&long).await.unwrap());
    }
    let found = recent(ledger, "long", 0).await;
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), down(MANY_LONG));
    let mut live = shown(ledger, "long").await;
    live.sort_by_key(|record| std::cmp::Reverse(record.slot));
    assert_eq!(live, found);
}

fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000)
}

fn slot(hour: i64) -> Slot {
    Slot::at(start() + SignedDuration::from_hours(hour))
}

/// The key in the form `hour` or `hour#attempt`.
fn short(record: &Record) -> String {
    let hour = record.slot.timestamp().duration_since(start()).as_hours();
    let attempt = record.superseded.then(|| format!("#{}", record.attempt));
    format!("{hour}{}", attempt.unwrap_or_default())
}

fn record(resource: &str, hour: i64) -> Record {
    Record::stored(Fields {
        resource: ResourceId(format!("arn:{resource}")),
        slot: slot(hour),
        superseded: false,
        attempt: 1,
        format: FORMAT,
        version: 0,
        state: State::Intended,
        times: [(State::Intended, slot(hour).timestamp())].into(),
        reason: "due".to_owned(),
        name: format!("{resource}-{hour}"),
        place: place(),
        resource_name: resource.to_owned(),
        policy: PolicyText {
            name: "default".to_owned(),
            schedule: Some("hourly".to_owned()),
            keep: Some("last=3".to_owned()),
            timezone: "UTC".to_owned(),
        }
        .into(),
        lease: Lease::until(slot(hour + 1).timestamp()),
        missed: 0,
        missing_since: None,
        foreign_since: None,
        mark: None,
        has_residue: false,
        history: History::default(),
        identity: Identity::default(),
        adopted_untagged: false,
        refused_for_good: false,
    })
}

fn moved(record: &Record, state: State) -> Record {
    record.moved(state, record.slot.timestamp() + SignedDuration::from_mins(1), "moved")
}

fn done(write: Write) -> Record {
    match write {
        Write::Done(record) => *record,
        Write::Conflict(standing) => panic!("not written: {standing:?} stands there"),
    }
}

fn conflict(write: Write) -> Option<Record> {
    match write {
        Write::Conflict(standing) => standing.map(|record| *record),
        Write::Done(record) => panic!("written: {record:?}"),
    }
}

async fn recent(ledger: &impl Ledger, resource: &str, from: i64) -> Vec<Record> {
    let found = ledger.recent(&ResourceId(format!("arn:{resource}")), slot(from)).await.unwrap();
    assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
    found.records
}

/// The records of a resource that the index shows.
async fn shown(ledger: &impl Ledger, resource: &str) -> Vec<Record> {
    let mut live = ledger.live(&place()).await.unwrap().records;
    live.retain(|record| record.resource.0 == format!("arn:{resource}"));
    live
}
