//! The planners of `create` and `poll`: what is due, what waits, what is tried again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::answer::{ErrorKind, Lookup, ProviderError};
use snapkeep_domain::create::{
    Facts, Outcome, Settled, Take, Verdict, defer, missed_slots, plan, questions, settle, tags,
};
use snapkeep_domain::finding::Code;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::{Fields, Record, State};
use snapkeep_domain::policy::tags::Protection;
use snapkeep_domain::poll;
use snapkeep_domain::snapshot::{Instance, SnapshotRef, SnapshotState, Tags};
use snapkeep_domain::time::Slot;
use snapkeep_tests::{
    DEPLOYMENT, REGION, alter, at, context, place, record, settings, snapshot_of, web,
};

mod by_id;

fn facts(schedule: &str, records: Vec<Record>) -> Facts {
    let settings = settings(&[("SNAPKEEP_SCHEDULE", schedule), ("SNAPKEEP_KEEP", "daily=7")]);
    let tags = Tags::from([("snapkeep".to_owned(), String::new())]);
    Facts {
        protection: Protection::read(&tags, "snapkeep", &settings.policies),
        instance: Instance {
            id: web(),
            name: "web".to_owned(),
            place: place(REGION),
            tags,
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        },
        protected_since: None,
        records,
        looks: BTreeMap::new(),
    }
}

fn verdict(facts: &Facts, now: &str) -> Verdict {
    plan(facts, &context(&settings(&[]), at(now)))
}

fn asked(facts: &Facts, now: &str) -> Vec<SnapshotRef> {
    let all = questions(facts, &context(&settings(&[]), at(now)));
    all.iter().map(Record::snapshot).collect()
}

fn taken(facts: &Facts, now: &str) -> Take {
    match verdict(facts, now) {
        Verdict::Take(take) => *take,
        other => panic!("not taken: {other:?}"),
    }
}

fn slot(text: &str) -> Slot {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn in_state(at: &str, state: State, entered: &str) -> Record {
    let mut record = record(slot(at), 1, Some("daily=7"));
    let entered: Timestamp = entered.parse().unwrap_or(Timestamp::MIN);
    alter(&mut record, |r| {
        r.state = state;
        r.times = [(state, entered)].into();
    });
    record
}

fn code(verdict: &Verdict) -> Option<Code> {
    match verdict {
        Verdict::Wait(finding) => Some(finding.code),
        _ => None,
    }
}

#[test]
fn without_a_record_the_latest_slot_is_due_at_once_even_from_before() {
    let Take { replaces, intent, superseded } =
        taken(&facts("daily@03:00", vec![]), "2026-11-20T01:00:00Z");
    assert_eq!((replaces, superseded), (false, None));
    assert_eq!(intent.slot, slot("2026-11-19T03:00:00Z"));
    assert_eq!((intent.state, intent.attempt), (State::Intended, 1));
    assert_eq!(intent.lease, Lease::until(at("2026-11-20T01:15:00Z")));
    assert_eq!(intent.policy.keep.as_deref(), Some("daily=7"));
    let tags = tags(&intent, DEPLOYMENT);
    assert_eq!(tags["snapkeep:slot"], "2026-11-19T03:00:00Z");
    assert_eq!(tags["snapkeep:source"], web().0);
    assert_eq!(tags.len(), 6);
}

#[test]
fn a_slot_with_a_record_is_served_and_a_gap_is_caught_up_once_and_counted() {
    let newest = record(slot("2026-11-15T03:00:00Z"), 1, None);
    let served = facts("daily@03:00", vec![record(slot("2026-11-20T03:00:00Z"), 1, None)]);
    assert_eq!(verdict(&served, "2026-11-20T23:00:00Z"), Verdict::Served);
    let late = facts("daily@03:00", vec![newest]);
    let intent = taken(&late, "2026-11-20T10:00:00Z").intent;
    assert_eq!((intent.slot, intent.missed), (slot("2026-11-20T03:00:00Z"), 4));
    // What a failed attempt of the due slot left behind is no slot that was served.
    let superseded =
        in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:00:00Z").superseded();
    let newest = record(slot("2026-11-15T03:00:00Z"), 1, None);
    let late = facts("daily@03:00", vec![newest, superseded]);
    assert_eq!(taken(&late, "2026-11-20T10:00:00Z").intent.missed, 4);
    // Without any record, what passed since the protection began is missed.
    let mut never = facts("daily@03:00", vec![]);
    never.protected_since = Some(at("2026-11-17T12:00:00Z"));
    assert_eq!(taken(&never, "2026-11-20T10:00:00Z").intent.missed, 2);
    // A clock that steps back makes nothing again.
    assert_eq!(verdict(&late, "2026-11-15T10:00:00Z"), Verdict::Served);
}

#[test]
fn one_snapshot_at_a_time_unless_it_is_stuck() {
    let pending = in_state("2026-11-20T03:00:00Z", State::Pending, "2026-11-20T03:00:00Z");
    let facts = facts("hourly", vec![pending]);
    assert_eq!(code(&verdict(&facts, "2026-11-20T09:00:00Z")), Some(Code::WaitingForPending));
    assert!(matches!(verdict(&facts, "2026-11-20T09:00:01Z"), Verdict::Take(_)));
}

#[test]
fn an_intent_is_taken_over_once_its_invocation_must_be_over() {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:00Z");
    alter(&mut intent, |r| r.lease = Lease::until(at("2026-11-20T03:15:00Z")));
    let leased = facts("daily@03:00", vec![intent.clone()]);
    assert_eq!(code(&verdict(&leased, "2026-11-20T03:14:59Z")), Some(Code::ClaimedElsewhere));
    let Take { replaces, intent: again, .. } = taken(&leased, "2026-11-20T03:15:00Z");
    assert!(replaces);
    assert_eq!((&again.name, again.attempt), (&intent.name, 1));
    // After a plain refusal it is free at the very next tick.
    alter(&mut intent, |r| r.lease = Lease::NONE);
    let free = facts("daily@03:00", vec![intent]);
    assert!(matches!(verdict(&free, "2026-11-20T03:00:01Z"), Verdict::Take(_)));
}

#[test]
fn a_failed_slot_is_tried_again_after_1_2_4_and_8_hours_at_most_five_times() {
    for (attempt, hours) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        let mut failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T04:00:00Z");
        alter(&mut failed, |r| {
            r.attempt = attempt;
            r.has_residue = true;
        });
        let again = at("2026-11-20T04:00:00Z") + SignedDuration::from_hours(hours);
        let facts = facts("daily@03:00", vec![failed.clone()]);
        let early = (again - SignedDuration::from_secs(1)).to_string();
        assert_eq!(code(&verdict(&facts, &early)), Some(Code::RetryLater), "{attempt}");
        let Take { intent, superseded, .. } = taken(&facts, &again.to_string());
        let left = superseded.unwrap();
        assert_eq!(intent.asked_at(), again, "an attempt's times are its own");
        assert_eq!((intent.attempt, intent.version), (attempt + 1, failed.version));
        assert_ne!(intent.name, failed.name);
        assert_eq!(left.sort_key(), format!("2026-11-20T03:00:00Z#{attempt}"));
    }
    let mut last = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T04:00:00Z");
    alter(&mut last, |r| r.attempt = 5);
    let facts = facts("daily@03:00", vec![last]);
    assert_eq!(code(&verdict(&facts, "2026-11-21T02:59:59Z")), Some(Code::AttemptsExhausted));
    assert!(!taken(&facts, "2026-11-21T03:00:00Z").replaces);
}

#[test]
fn a_leftover_that_is_good_serves_its_slot() {
    let mut failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:10:00Z");
    alter(&mut failed, |r| r.has_residue = true);
    let mut superseded =
        in_state("2026-11-20T03:00:00Z", State::Available, "2026-11-20T03:05:00Z").superseded();
    let restored = facts("daily@03:00", vec![failed.clone(), superseded.clone()]);
    assert_eq!(verdict(&restored, "2026-11-20T10:00:00Z"), Verdict::Served);
    // Whatever it is now, if only it was available once, or is on its way.
    for (state, was_available) in [(State::Requested, false), (State::Expiring, true)] {
        alter(&mut superseded, |r| {
            r.state = state;
            r.times = [(state, at("2026-11-20T03:05:00Z"))].into();
        });
        if was_available {
            alter(&mut superseded, |r| {
                r.times.insert(State::Available, at("2026-11-20T03:05:00Z"))
            });
        }
        let facts = facts("daily@03:00", vec![failed.clone(), superseded.clone()]);
        assert_eq!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Served, "{state:?}");
    }
    // What failed serves nothing, wherever it stands.
    alter(&mut superseded, |r| {
        r.state = State::Failed;
        r.times = failed.times;
    });
    let without = facts("daily@03:00", vec![failed, superseded]);
    assert!(matches!(verdict(&without, "2026-11-20T10:00:00Z"), Verdict::Take(_)));
}

#[test]
fn an_intent_carries_what_was_missed_before_it_until_it_is_moved_on() {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:00Z");
    alter(&mut intent, |r| {
        r.lease = Lease::until(at("2026-11-20T03:15:00Z"));
        r.missed = 4;
    });
    let dead = facts("daily@03:00", vec![intent.clone()]);
    let again = taken(&dead, "2026-11-20T04:00:00Z").intent;
    assert_eq!(again.missed, 4);
    let finding = missed_slots(&again).unwrap();
    assert_eq!((finding.code, finding.value.as_deref()), (Code::MissedSlots, Some("4")));
    // It stays until whoever reports it has taken it out.
    let moved = again.moved(State::Requested, at("2026-11-20T04:00:00Z"), "");
    assert_eq!(missed_slots(&moved), Some(finding));
    assert_eq!(missed_slots(&Record::stored(Fields { missed: 0, ..moved.into() })), None);
}

fn error(kind: ErrorKind) -> Result<Option<Box<str>>, ProviderError> {
    let (code, message) = (format!("{kind:?}"), "words".to_owned());
    Err(ProviderError { kind, operation: "create", code, message })
}

fn intended(entered: &str) -> Record {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, entered);
    alter(&mut intent, |r| r.lease = Lease::until(at(entered) + SignedDuration::from_mins(15)));
    intent
}

fn settled(
    intent: &Record,
    answer: &Result<Option<Box<str>>, ProviderError>,
    look: Option<&Lookup>,
    now: &str,
) -> Settled {
    settle(intent, answer, look, false, &context(&settings(&[]), at(now)))
}

fn written(settled: Settled) -> (Record, Outcome, Option<Code>) {
    match settled {
        Settled::Write(done) => (done.next, done.outcome, done.finding.map(|f| f.code)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_given_up_is_asked_for_before_it_is_made_again() {
    let failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:10:00Z");
    let mut facts = facts("daily@03:00", vec![failed.clone()]);
    assert_eq!(asked(&facts, "2026-11-20T04:09:59Z"), []);
    assert_eq!(asked(&facts, "2026-11-20T04:10:00Z"), [failed.snapshot()]);
    for state in [SnapshotState::Pending, SnapshotState::Available] {
        facts.looks.insert(failed.snapshot(), found(&failed, state));
        assert_eq!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Served);
    }
    for look in [found(&failed, SnapshotState::Error), Lookup::Missing] {
        facts.looks.insert(failed.snapshot(), look);
        assert!(matches!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Take(_)));
    }
}

#[test]
fn whoever_waits_for_an_unknown_effect_asks_for_the_name_itself() {
    // The answer to the last slot's request was lost; this slot is due.
    let lost = intended("2026-11-20T03:00:00Z");
    let mut facts = facts("hourly", vec![lost.clone()]);
    assert_eq!(asked(&facts, "2026-11-20T04:00:00Z"), [lost.snapshot()]);
    let waits = |facts: &Facts| code(&verdict(facts, "2026-11-20T04:00:00Z"));
    assert_eq!(waits(&facts), Some(Code::WaitingForPending), "nobody knows");
    for (look, waiting) in [
        (found(&lost, SnapshotState::Pending), true),
        (Lookup::Unknown, true),
        (found(&lost, SnapshotState::Available), false),
        (found(&lost, SnapshotState::Error), false),
        (Lookup::Missing, false),
    ] {
        facts.looks.insert(lost.snapshot(), look.clone());
        assert_eq!(waits(&facts).is_some(), waiting, "{look:?}");
    }
    // Another invocation may still be asking; nobody waits for ever; and a plain refusal had no effect.
    facts.looks.clear();
    alter(&mut facts.records[0], |r| r.lease = Lease::until(at("2026-11-20T04:05:00Z")));
    assert!(asked(&facts, "2026-11-20T04:00:00Z").is_empty());
    assert_eq!(waits(&facts), Some(Code::WaitingForPending));
    assert!(matches!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Take(_)));
    alter(&mut facts.records[0], |r| r.lease = Lease::NONE);
    assert_eq!(waits(&facts), None);
}

#[test]
fn an_answer_is_settled_by_what_it_means() {
    let intent = intended("2026-11-20T03:00:00Z");
    let now = "2026-11-20T03:00:10Z";
    let (next, outcome, finding) = written(settled(&intent, &Ok(None), None, now));
    assert_eq!((next.state, outcome, finding), (State::Requested, Outcome::Requested, None));
    for kind in [ErrorKind::Throttled, ErrorKind::Busy, ErrorKind::Indeterminate] {
        assert_eq!(settled(&intent, &error(kind), None, now), Settled::Again, "{kind:?}");
    }
    for kind in [ErrorKind::Denied, ErrorKind::Quota, ErrorKind::NotFound, ErrorKind::Refused] {
        let (next, outcome, finding) = written(settled(&intent, &error(kind), None, now));
        assert_eq!((next.state, outcome), (State::Intended, Outcome::Deferred), "{kind:?}");
        assert_eq!((next.lease, finding), (Lease::NONE, Some(Code::CreateDeferred)), "{kind:?}");
    }
    // A refusal after a lost answer says nothing of what became of the first request.
    let throttled = error(ErrorKind::Throttled).unwrap_err();
    for (lost, lease) in [(false, Lease::NONE), (true, intent.lease)] {
        let settings = settings(&[]);
        let cx = context(&settings, at(now));
        assert_eq!(defer(&intent, &throttled, lost, &cx).next.lease, lease);
    }
    let taken = error(ErrorKind::NameTaken);
    assert_eq!(settled(&intent, &taken, None, now), Settled::Look);
    for (state, outcome, to) in [
        (SnapshotState::Pending, Outcome::Tracked, State::Requested),
        (SnapshotState::Available, Outcome::Tracked, State::Requested),
        (SnapshotState::Error, Outcome::Failed, State::Failed),
    ] {
        let look = found(&intent, state);
        let (next, came_to, _) = written(settled(&intent, &taken, Some(&look), now));
        assert_eq!((came_to, next.state), (outcome, to));
        assert_eq!(next.has_residue, to == State::Failed);
    }
    // The policy may have changed since it was made: its own retention is that of its tags.
    let Lookup::Found(mut found) = found(&intent, SnapshotState::Available) else { return };
    found.tags.insert("snapkeep:keep".to_owned(), "all".to_owned());
    let (next, ..) = written(settled(&intent, &taken, Some(&Lookup::Found(found.clone())), now));
    assert_eq!(next.policy.keep.as_deref(), Some("all"));
    assert_eq!(next.policy.schedule, intent.policy.schedule);
    let polled = followed(&intent, &Lookup::Found(found), "2026-11-20T03:20:00Z").next.unwrap();
    assert_eq!(polled.policy, next.policy);
}

#[test]
fn what_looks_foreign_is_believed_at_the_second_look() {
    let intent = intended("2026-11-20T03:00:00Z");
    let taken = error(ErrorKind::NameTaken);
    let mut bare = snapshot_of(&intent);
    bare.tags.clear();
    let foreign = Lookup::Found(Box::new(bare));
    for look in [foreign, Lookup::Missing] {
        let first = written(settled(&intent, &taken, Some(&look), "2026-11-20T03:00:10Z"));
        assert_eq!((first.0.state, first.1), (State::Intended, Outcome::Deferred));
        assert_eq!(first.0.foreign_since, Some(at("2026-11-20T03:00:10Z")));
        let early = written(settled(&first.0, &taken, Some(&look), "2026-11-20T03:15:09Z"));
        assert_eq!(early.1, Outcome::Deferred);
        let second = written(settled(&first.0, &taken, Some(&look), "2026-11-20T03:15:10Z"));
        assert_eq!((second.0.state, second.1), (State::Failed, Outcome::Failed));
        assert_eq!(second.2, Some(Code::AttemptFailed));
    }
    // Nothing is believed of what does not tell of what it was taken.
    let mut unknown = snapshot_of(&intent);
    unknown.source.0.clear();
    let unknown = Lookup::Found(Box::new(unknown));
    let kept = written(settled(&intent, &taken, Some(&unknown), "2026-11-20T03:00:10Z"));
    assert_eq!((kept.0.foreign_since, kept.1), (None, Outcome::Deferred));
}

#[test]
fn what_a_failed_attempt_left_gets_an_item_of_its_own() {
    let mut failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:10:00Z");
    alter(&mut failed, |r| (r.has_residue, r.version) = (true, 7));
    let facts = facts("daily@03:00", vec![failed.clone()]);
    let Take { replaces, intent, superseded } = taken(&facts, "2026-11-20T10:00:00Z");
    let superseded = superseded.unwrap();
    assert!(replaces);
    assert_eq!((intent.attempt, intent.version), (2, 7));
    assert_eq!(
        (superseded.superseded, superseded.version, &superseded.name),
        (true, 0, &failed.name)
    );
}

#[test]
fn who_has_waited_longest_for_an_answer_comes_first() {
    let policy = record(slot("2026-11-19T03:00:00Z"), 1, None).policy.clone();
    let item = |answered: Option<&str>, newest: Option<&str>| Protected {
        answered: answered.map(at),
        newest: newest.map(slot),
        ..Protected::rebuilt(&web(), "web", &place(REGION), policy.clone())
    };
    let never_asked = Protected::rank(None);
    let never_good = item(Some("2026-11-18T03:00:00Z"), None);
    let old = item(Some("2026-11-18T03:00:00Z"), Some("2026-11-10T03:00:00Z"));
    let fresh = item(Some("2026-11-18T03:00:00Z"), Some("2026-11-18T03:00:00Z"));
    // What always fails was answered lately, and so does not lead for ever.
    let failing = item(Some("2026-11-19T03:00:00Z"), None);
    let ranks = [&never_good, &old, &fresh, &failing].map(|item| Protected::rank(Some(item)));
    assert!(ranks.is_sorted() && never_asked < ranks[0], "{ranks:?}");
}

fn followed(record: &Record, look: &Lookup, now: &str) -> poll::Step {
    poll::settle(record, look, &context(&settings(&[]), at(now)))
}

fn found(record: &Record, state: SnapshotState) -> Lookup {
    let mut snapshot = snapshot_of(record);
    snapshot.state = state;
    Lookup::Found(Box::new(snapshot))
}

fn next_state(step: &poll::Step) -> Option<State> {
    step.next.as_ref().map(|record| record.state)
}

#[test]
fn poll_follows_the_provider() {
    let asked = in_state("2026-11-20T03:00:00Z", State::Requested, "2026-11-20T03:00:00Z");
    let now = "2026-11-20T03:10:00Z";
    for (shown, state) in [
        (SnapshotState::Pending, State::Pending),
        (SnapshotState::Available, State::Available),
        (SnapshotState::Error, State::Failed),
    ] {
        let step = followed(&asked, &found(&asked, shown), now);
        assert_eq!(next_state(&step), Some(state));
        let reason = match state {
            State::Failed => "the provider reports an error",
            _ => "as the provider shows it",
        };
        assert_eq!(step.next.unwrap().reason, reason);
        assert_eq!(
            step.finding.map(|f| f.code),
            (state == State::Failed).then_some(Code::AttemptFailed)
        );
    }
    assert_eq!(followed(&asked, &Lookup::Unknown, now), poll::Step::default());
    let pending = in_state("2026-11-20T03:00:00Z", State::Pending, "2026-11-20T03:00:00Z");
    let look = found(&pending, SnapshotState::Pending);
    assert_eq!(followed(&pending, &look, "2026-11-20T09:00:00Z"), poll::Step::default());
    let late = followed(&pending, &look, "2026-11-20T09:00:01Z");
    assert_eq!((late.next, late.finding.map(|f| f.code)), (None, Some(Code::PendingTooLong)));
}

#[test]
fn gone_while_pending_needs_two_answers_a_quarter_of_an_hour_apart() {
    let pending = in_state("2026-11-20T03:00:00Z", State::Pending, "2026-11-20T03:00:00Z");
    let first = followed(&pending, &Lookup::Missing, "2026-11-20T03:10:00Z").next;
    let Some(first) = first else { panic!("not noted") };
    assert_eq!(
        (first.state, first.missing_since),
        (State::Pending, Some(at("2026-11-20T03:10:00Z")))
    );
    assert_eq!(followed(&first, &Lookup::Missing, "2026-11-20T03:24:59Z"), poll::Step::default());
    let step = followed(&first, &Lookup::Missing, "2026-11-20T03:25:00Z");
    assert_eq!(next_state(&step), Some(State::Failed));
    let back = followed(&first, &found(&first, SnapshotState::Pending), "2026-11-20T03:25:00Z");
    assert_eq!(back.next.and_then(|r| r.missing_since), None);
}

#[test]
fn poll_settles_intents_that_nobody_works_on() {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:00Z");
    alter(&mut intent, |r| r.lease = Lease::until(at("2026-11-20T03:15:00Z")));
    assert!(!poll::wants_look(&intent, at("2026-11-20T03:14:59Z")));
    assert!(poll::wants_look(&intent, at("2026-11-20T03:15:00Z")));
    let ours = followed(&intent, &found(&intent, SnapshotState::Available), "2026-11-20T03:20:00Z");
    assert_eq!(next_state(&ours), Some(State::Available));
    let mut foreign = snapshot_of(&intent);
    foreign.tags.clear();
    let foreign = Lookup::Found(Box::new(foreign));
    let first = followed(&intent, &foreign, "2026-11-20T03:20:00Z").next.unwrap();
    assert_eq!((first.state, first.foreign_since.is_some()), (State::Intended, true));
    assert_eq!(followed(&first, &foreign, "2026-11-20T03:30:00Z"), poll::Step::default());
    let taken = followed(&first, &foreign, "2026-11-20T03:35:00Z");
    assert_eq!(next_state(&taken), Some(State::Failed));
    // Its tags came late.
    let ours = found(&first, SnapshotState::Pending);
    let ours = followed(&first, &ours, "2026-11-20T03:35:00Z").next.unwrap();
    assert_eq!((ours.state, ours.foreign_since), (State::Pending, None));
    // While its slot is the latest, `create` tries again; after that it is a missed slot.
    assert_eq!(followed(&intent, &Lookup::Missing, "2026-11-21T02:59:59Z"), poll::Step::default());
    let missed = followed(&intent, &Lookup::Missing, "2026-11-21T03:00:00Z");
    assert_eq!(next_state(&missed), Some(State::Failed));
    assert_eq!(missed.finding.map(|f| f.code), Some(Code::MissedSlots));
}

#[test]
fn a_tombstone_needs_the_providers_word() {
    let mut deleting = in_state("2026-11-20T03:00:00Z", State::Deleting, "2026-11-25T03:00:00Z");
    alter(&mut deleting, |r| r.reason = "no rule keeps it".to_owned());
    let still = found(&deleting, SnapshotState::Available);
    assert_eq!(followed(&deleting, &still, "2026-11-25T03:10:00Z"), poll::Step::default());
    assert_eq!(
        followed(&deleting, &Lookup::Unknown, "2026-11-25T03:10:00Z"),
        poll::Step::default()
    );
    let gone = followed(&deleting, &Lookup::Missing, "2026-11-25T03:10:00Z");
    let Some(tombstone) = gone.next else { panic!("no tombstone") };
    assert_eq!((tombstone.state, tombstone.live()), (State::Deleted, None));
    assert_eq!(
        tombstone.expires_at(),
        Some(at("2026-11-25T03:10:00Z") + SignedDuration::from_hours(9600))
    );
}
