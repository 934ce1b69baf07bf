//! The planners of `create` and `poll`: what is due, what waits, what is tried again.

use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::create::{Facts, Verdict, is_credible, missed_slots, names, plan, tags};
use snapkeep_domain::finding::Code;
use snapkeep_domain::poll::{self, Look};
use snapkeep_domain::record::{Record, State};
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotState, Tags};
use snapkeep_domain::tags::Protection;
use snapkeep_domain::time::Slot;
use snapkeep_tests::{DEPLOYMENT, REGION, at, record, settings, snapshot_of, web};

const TIMEOUT: SignedDuration = SignedDuration::from_hours(6);

fn facts(schedule: &str, records: Vec<Record>) -> Facts {
    let settings = settings(&[("SNAPKEEP_SCHEDULE", schedule), ("SNAPKEEP_KEEP", "daily=7")]);
    let tags = Tags::from([("snapkeep".to_owned(), String::new())]);
    Facts {
        protection: Protection::read(&tags, "snapkeep", &settings.policies),
        instance: Instance { id: web(), name: "web".to_owned(), region: REGION.to_owned(), tags },
        records,
        snapshots: Vec::new(),
    }
}

fn verdict(facts: &Facts, now: &str) -> Verdict {
    plan(std::slice::from_ref(facts), DEPLOYMENT, TIMEOUT, at(now)).remove(0).verdict
}

fn slot(text: &str) -> Slot {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn in_state(at: &str, state: State, entered: &str) -> Record {
    let mut record = record(slot(at), 1, Some("daily=7"));
    let entered: Timestamp = entered.parse().unwrap_or(Timestamp::MIN);
    record.state = state;
    record.times = [(state, entered)].into();
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
    let Verdict::Take { from: None, intent, leftover: None } =
        verdict(&facts("daily@03:00", vec![]), "2026-11-20T01:00:00Z")
    else {
        panic!("not taken")
    };
    assert_eq!(intent.slot, slot("2026-11-19T03:00:00Z"));
    assert_eq!((intent.state, intent.attempt), (State::Intended, 1));
    assert_eq!(intent.leased_until, Some(at("2026-11-20T01:15:00Z")));
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
    let Verdict::Take { intent, .. } = verdict(&late, "2026-11-20T10:00:00Z") else {
        panic!("not taken")
    };
    assert_eq!((intent.slot, intent.missed), (slot("2026-11-20T03:00:00Z"), 4));
    // What a failed attempt of the due slot left behind is no slot that was served.
    let mut leftover = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:00:00Z");
    leftover.leftover = true;
    let newest = record(slot("2026-11-15T03:00:00Z"), 1, None);
    let Verdict::Take { intent, .. } =
        verdict(&facts("daily@03:00", vec![newest, leftover]), "2026-11-20T10:00:00Z")
    else {
        panic!("not taken")
    };
    assert_eq!(intent.missed, 4);
    // A clock that steps back makes nothing again.
    assert_eq!(verdict(&late, "2026-11-15T10:00:00Z"), Verdict::Served);
}

#[test]
fn one_snapshot_at_a_time_unless_it_is_stuck() {
    let pending = in_state("2026-11-20T03:00:00Z", State::Pending, "2026-11-20T03:00:00Z");
    let facts = facts("hourly", vec![pending]);
    assert_eq!(code(&verdict(&facts, "2026-11-20T09:00:00Z")), Some(Code::WaitingForPending));
    assert!(matches!(verdict(&facts, "2026-11-20T09:00:01Z"), Verdict::Take { .. }));
}

#[test]
fn an_intent_is_taken_over_once_its_invocation_must_be_over() {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:00Z");
    intent.leased_until = Some(at("2026-11-20T03:15:00Z"));
    let leased = facts("daily@03:00", vec![intent.clone()]);
    assert_eq!(code(&verdict(&leased, "2026-11-20T03:14:59Z")), Some(Code::ClaimedElsewhere));
    let Verdict::Take { from: Some(_), intent: again, .. } =
        verdict(&leased, "2026-11-20T03:15:00Z")
    else {
        panic!("not taken over")
    };
    assert_eq!((&again.name, again.attempt), (&intent.name, 1));
    // After a plain refusal it is free at the very next tick.
    intent.leased_until = None;
    let free = facts("daily@03:00", vec![intent]);
    assert!(matches!(verdict(&free, "2026-11-20T03:00:01Z"), Verdict::Take { .. }));
}

#[test]
fn a_failed_slot_is_tried_again_after_1_2_4_and_8_hours_at_most_five_times() {
    for (attempt, hours) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        let mut failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T04:00:00Z");
        failed.attempt = attempt;
        failed.remains = true;
        let again = at("2026-11-20T04:00:00Z") + SignedDuration::from_hours(hours);
        let facts = facts("daily@03:00", vec![failed.clone()]);
        let early = (again - SignedDuration::from_secs(1)).to_string();
        assert_eq!(code(&verdict(&facts, &early)), Some(Code::RetryLater), "{attempt}");
        let Verdict::Take { intent, leftover: Some(left), .. } =
            verdict(&facts, &again.to_string())
        else {
            panic!("attempt {attempt} is not followed")
        };
        assert_eq!((intent.attempt, intent.version), (attempt + 1, failed.version));
        assert_ne!(intent.name, failed.name);
        assert_eq!(left.sort_key(), format!("2026-11-20T03:00:00Z#{attempt}"));
    }
    let mut last = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T04:00:00Z");
    last.attempt = 5;
    let facts = facts("daily@03:00", vec![last]);
    assert_eq!(code(&verdict(&facts, "2026-11-21T02:59:59Z")), Some(Code::AttemptsExhausted));
    assert!(matches!(verdict(&facts, "2026-11-21T03:00:00Z"), Verdict::Take { from: None, .. }));
}

#[test]
fn what_the_provider_has_and_the_ledger_lost_is_recorded_not_made_again() {
    let mut facts = facts("daily@03:00", vec![]);
    let lost = record(slot("2026-11-20T03:00:00Z"), 2, Some("daily=7"));
    facts.snapshots.push(snapshot_of(&lost));
    let Verdict::Track { record } = verdict(&facts, "2026-11-20T04:00:00Z") else {
        panic!("not tracked")
    };
    assert_eq!((record.state, record.attempt, &record.name), (State::Available, 2, &lost.name));
    facts.snapshots[0].state = SnapshotState::Error;
    let Verdict::Take { intent, .. } = verdict(&facts, "2026-11-20T04:00:00Z") else {
        panic!("not taken")
    };
    assert_eq!(intent.attempt, 3);
    facts.snapshots[0].source.0.push('x');
    assert!(
        matches!(verdict(&facts, "2026-11-20T04:00:00Z"), Verdict::Take { intent, .. } if intent.attempt == 1)
    );
}

#[test]
fn a_leftover_that_is_good_serves_its_slot() {
    let mut failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:10:00Z");
    failed.remains = true;
    let mut leftover = in_state("2026-11-20T03:00:00Z", State::Available, "2026-11-20T03:05:00Z");
    leftover.leftover = true;
    let restored = facts("daily@03:00", vec![failed.clone(), leftover.clone()]);
    assert_eq!(verdict(&restored, "2026-11-20T10:00:00Z"), Verdict::Served);
    // Whatever it is now, if only it was available once, or is on its way.
    for (state, was_available) in [(State::Requested, false), (State::Expiring, true)] {
        leftover.state = state;
        leftover.times = [(state, at("2026-11-20T03:05:00Z"))].into();
        if was_available {
            leftover.times.insert(State::Available, at("2026-11-20T03:05:00Z"));
        }
        let facts = facts("daily@03:00", vec![failed.clone(), leftover.clone()]);
        assert_eq!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Served, "{state:?}");
    }
    // What failed serves nothing, wherever it stands.
    leftover.state = State::Failed;
    leftover.times = failed.times.clone();
    let without = facts("daily@03:00", vec![failed, leftover]);
    assert!(matches!(verdict(&without, "2026-11-20T10:00:00Z"), Verdict::Take { .. }));
}

#[test]
fn an_intent_carries_what_was_missed_before_it_until_it_is_moved_on() {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:00Z");
    intent.leased_until = Some(at("2026-11-20T03:15:00Z"));
    intent.missed = 4;
    let dead = facts("daily@03:00", vec![intent.clone()]);
    let Verdict::Take { intent: again, .. } = verdict(&dead, "2026-11-20T04:00:00Z") else {
        panic!("not taken over")
    };
    assert_eq!(again.missed, 4);
    let finding = missed_slots(&again).unwrap();
    assert_eq!((finding.code, finding.value.as_deref()), (Code::MissedSlots, Some("4")));
    let moved = again.moved(State::Requested, at("2026-11-20T04:00:00Z"), "");
    assert_eq!((moved.missed, missed_slots(&moved)), (0, None));
}

#[test]
fn a_list_is_believed_when_it_shows_what_the_ledger_knows() {
    let known = record(slot("2026-11-19T03:00:00Z"), 1, None);
    let mut facts = facts("daily@03:00", vec![known.clone()]);
    assert!(!is_credible(&facts));
    facts.snapshots.push(snapshot_of(&known));
    assert!(is_credible(&facts));
    // One that is missing makes it doubtful, unless the ledger says that it should be.
    facts.records.push(in_state("2026-11-18T03:00:00Z", State::Pending, "2026-11-18T03:00:00Z"));
    assert!(!is_credible(&facts));
    facts.records[1].state = State::Deleted;
    assert!(is_credible(&facts));
    // A ledger without a word vouches for nothing.
    facts.records.remove(0);
    assert!(!is_credible(&facts));
    let names = names(&facts, DEPLOYMENT, at("2026-11-20T10:00:00Z"));
    assert_eq!(names.len(), 5);
    assert_eq!(names[1], record(slot("2026-11-20T03:00:00Z"), 2, None).name);
}

/// What the provider shows of a slot's attempt.
fn shown(of: &str, attempt: u32, state: SnapshotState) -> Snapshot {
    Snapshot { state, ..snapshot_of(&record(slot(of), attempt, None)) }
}

#[test]
fn what_was_given_up_and_is_there_after_all_is_not_made_again() {
    let failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:10:00Z");
    let mut facts = facts("daily@03:00", vec![failed]);
    for state in [SnapshotState::Pending, SnapshotState::Available] {
        facts.snapshots = vec![shown("2026-11-20T03:00:00Z", 1, state)];
        assert_eq!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Served);
    }
    facts.snapshots = vec![shown("2026-11-20T03:00:00Z", 1, SnapshotState::Error)];
    assert!(matches!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Take { .. }));
}

#[test]
fn a_pending_one_that_the_ledger_does_not_know_is_waited_for_as_long_as_it_may_take() {
    let older = in_state("2026-11-18T03:00:00Z", State::Available, "2026-11-18T03:10:00Z");
    let mut facts = facts("daily@03:00", vec![older]);
    facts.snapshots = vec![shown("2026-11-19T03:00:00Z", 1, SnapshotState::Pending)];
    facts.snapshots[0].created_at = at("2026-11-20T04:00:00Z");
    assert_eq!(code(&verdict(&facts, "2026-11-20T10:00:00Z")), Some(Code::WaitingForPending));
    assert!(matches!(verdict(&facts, "2026-11-20T10:00:01Z"), Verdict::Take { .. }));
    // One that the ledger knows is in flight by its record, not by the list.
    facts.records[0].name.clone_from(&facts.snapshots[0].name);
    assert!(matches!(verdict(&facts, "2026-11-20T10:00:00Z"), Verdict::Take { .. }));
}

#[test]
fn no_sixth_attempt_is_made_whoever_made_the_five() {
    let mut facts = facts("daily@03:00", vec![]);
    let attempts = |count| {
        (1..=count).map(|attempt| shown("2026-11-20T03:00:00Z", attempt, SnapshotState::Error))
    };
    facts.snapshots = attempts(5).collect();
    assert_eq!(code(&verdict(&facts, "2026-11-20T10:00:00Z")), Some(Code::AttemptsExhausted));
    facts.snapshots = attempts(3).collect();
    let Verdict::Take { intent, .. } = verdict(&facts, "2026-11-20T10:00:00Z") else {
        panic!("not taken")
    };
    assert_eq!(intent.attempt, 4);
    // The fifth that failed just now waits for nothing.
    let mut fifth = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T09:59:00Z");
    fifth.attempt = 5;
    facts.records = vec![fifth];
    assert_eq!(code(&verdict(&facts, "2026-11-20T10:00:00Z")), Some(Code::AttemptsExhausted));
}

#[test]
fn what_a_failed_attempt_left_gets_an_item_of_its_own() {
    let mut failed = in_state("2026-11-20T03:00:00Z", State::Failed, "2026-11-20T03:10:00Z");
    (failed.remains, failed.version) = (true, 7);
    let Verdict::Take { from: Some(_), intent, leftover: Some(leftover) } =
        verdict(&facts("daily@03:00", vec![failed.clone()]), "2026-11-20T10:00:00Z")
    else {
        panic!("not taken")
    };
    assert_eq!((intent.attempt, intent.version), (2, 7));
    assert_eq!((leftover.leftover, leftover.version, &leftover.name), (true, 0, &failed.name));
}

#[test]
fn the_least_protected_come_first() {
    let named = |name: &str, records: Vec<Record>| {
        let mut facts = facts("daily@03:00", records);
        facts.instance.id.0.push_str(name);
        facts.instance.name = name.to_owned();
        facts
    };
    let all = [
        named("fresh", vec![record(slot("2026-11-19T03:00:00Z"), 1, None)]),
        named("old", vec![record(slot("2026-11-01T03:00:00Z"), 1, None)]),
        named("failing", vec![in_state("2026-11-19T03:00:00Z", State::Failed, "")]),
    ];
    let planned = plan(&all, DEPLOYMENT, TIMEOUT, at("2026-11-20T04:00:00Z"));
    let names: Vec<&str> = planned.iter().map(|p| p.instance.name.as_str()).collect();
    assert_eq!(names, ["failing", "old", "fresh"]);
}

fn followed(record: &Record, look: &Look, now: &str) -> poll::Step {
    poll::plan(record, look, DEPLOYMENT, TIMEOUT, at(now))
}

fn found(record: &Record, state: SnapshotState) -> Look {
    let mut snapshot = snapshot_of(record);
    snapshot.state = state;
    Look::Found(Box::new(snapshot))
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
    assert_eq!(followed(&asked, &Look::Unknown, now), poll::Step::default());
    let pending = in_state("2026-11-20T03:00:00Z", State::Pending, "2026-11-20T03:00:00Z");
    let look = found(&pending, SnapshotState::Pending);
    assert_eq!(followed(&pending, &look, "2026-11-20T09:00:00Z"), poll::Step::default());
    let late = followed(&pending, &look, "2026-11-20T09:00:01Z");
    assert_eq!((late.next, late.finding.map(|f| f.code)), (None, Some(Code::PendingTooLong)));
}

#[test]
fn gone_while_pending_needs_two_answers_a_quarter_of_an_hour_apart() {
    let pending = in_state("2026-11-20T03:00:00Z", State::Pending, "2026-11-20T03:00:00Z");
    let first = followed(&pending, &Look::Missing, "2026-11-20T03:10:00Z").next;
    let Some(first) = first else { panic!("not noted") };
    assert_eq!(
        (first.state, first.missing_since),
        (State::Pending, Some(at("2026-11-20T03:10:00Z")))
    );
    assert_eq!(followed(&first, &Look::Missing, "2026-11-20T03:24:59Z"), poll::Step::default());
    let step = followed(&first, &Look::Missing, "2026-11-20T03:25:00Z");
    assert_eq!(next_state(&step), Some(State::Failed));
    let back = followed(&first, &found(&first, SnapshotState::Pending), "2026-11-20T03:25:00Z");
    assert_eq!(back.next.and_then(|r| r.missing_since), None);
}

#[test]
fn poll_settles_intents_that_nobody_works_on() {
    let mut intent = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:00Z");
    intent.leased_until = Some(at("2026-11-20T03:15:00Z"));
    assert!(!poll::wants_look(&intent, at("2026-11-20T03:14:59Z")));
    assert!(poll::wants_look(&intent, at("2026-11-20T03:15:00Z")));
    let ours = followed(&intent, &found(&intent, SnapshotState::Available), "2026-11-20T03:20:00Z");
    assert_eq!(next_state(&ours), Some(State::Available));
    let mut foreign = snapshot_of(&intent);
    foreign.tags.clear();
    let taken = followed(&intent, &Look::Found(Box::new(foreign)), "2026-11-20T03:20:00Z");
    assert_eq!(next_state(&taken), Some(State::Failed));
    // While its slot is the latest, `create` tries again; after that it is a missed slot.
    assert_eq!(followed(&intent, &Look::Missing, "2026-11-21T02:59:59Z"), poll::Step::default());
    let missed = followed(&intent, &Look::Missing, "2026-11-21T03:00:00Z");
    assert_eq!(next_state(&missed), Some(State::Failed));
    assert_eq!(missed.finding.map(|f| f.code), Some(Code::MissedSlots));
}

#[test]
fn a_tombstone_needs_the_providers_word() {
    let mut deleting = in_state("2026-11-20T03:00:00Z", State::Deleting, "2026-11-25T03:00:00Z");
    deleting.reason = "no rule keeps it".to_owned();
    let still = found(&deleting, SnapshotState::Available);
    assert_eq!(followed(&deleting, &still, "2026-11-25T03:10:00Z"), poll::Step::default());
    assert_eq!(followed(&deleting, &Look::Unknown, "2026-11-25T03:10:00Z"), poll::Step::default());
    let gone = followed(&deleting, &Look::Missing, "2026-11-25T03:10:00Z");
    let Some(tombstone) = gone.next else { panic!("no tombstone") };
    assert_eq!((tombstone.state, tombstone.live()), (State::Deleted, None));
    assert_eq!(
        tombstone.expires_at(),
        Some(at("2026-11-25T03:10:00Z") + SignedDuration::from_hours(9600))
    );
}
