//! Where names do not identify snapshots, a request cannot be repeated.

use jiff::SignedDuration;
use snapkeep_domain::answer::{ErrorKind, Lookup};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::create::{Facts, Outcome, Settled, Verdict, plan, questions, settle};
use snapkeep_domain::finding::Code;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::settings::Context;
use snapkeep_domain::snapshot::SnapshotState;
use snapkeep_tests::{alter, at, context, settings};

use super::{error, facts, found, in_state, intended};

/// What a provider can do whose names do not identify snapshots.
fn by_id() -> Capabilities {
    Capabilities { unique_names: false, ..Capabilities::default() }
}

fn verdict_by_id(facts: &Facts, now: &str) -> Verdict {
    let settings = settings(&[]);
    let cx = Context { capabilities: by_id(), ..context(&settings, at(now)) };
    plan(facts, &cx)
}

#[test]
fn a_request_that_cannot_be_repeated_is_looked_for_first() {
    let mut facts = facts("daily@03:00", Vec::new());
    let mut lost = in_state("2026-11-20T03:00:00Z", State::Intended, "2026-11-20T03:00:10Z");
    // The run died, and could ask until its lease ended.
    alter(&mut lost, |r| r.lease = Lease::until(at("2026-11-20T03:05:00Z")));
    facts.records = vec![lost.clone()];
    let settings = settings(&[]);
    let cx = Context { capabilities: by_id(), ..context(&settings, at("2026-11-20T03:10:00Z")) };
    let asked: Vec<_> = questions(&facts, &cx).iter().map(Record::snapshot).collect();
    assert_eq!(asked, [lost.snapshot()]);
    facts.looks.insert(lost.snapshot(), Lookup::Unknown);
    assert!(matches!(verdict_by_id(&facts, "2026-11-20T03:10:00Z"), Verdict::Wait(_)));
    // It may not show yet.
    facts.looks.insert(lost.snapshot(), Lookup::Missing);
    assert!(matches!(verdict_by_id(&facts, "2026-11-20T03:19:59Z"), Verdict::Wait(_)));
    assert!(matches!(verdict_by_id(&facts, "2026-11-20T03:20:00Z"), Verdict::Take(_)));
    let look = found(&lost, SnapshotState::Pending);
    let Lookup::Found(shown) = &look else { panic!("{look:?}") };
    facts.looks.insert(lost.snapshot(), look.clone());
    let Verdict::Track { replaces: true, record } = verdict_by_id(&facts, "2026-11-20T03:10:00Z")
    else {
        panic!("not tracked");
    };
    assert_eq!((record.state, record.identity.id.as_deref()), (State::Pending, Some(&*shown.id)));
}

#[test]
fn what_a_lost_ledger_does_not_know_is_looked_for_once() {
    let mut facts = facts("daily@03:00", Vec::new());
    facts.records = Vec::new();
    let settings = settings(&[]);
    let now = "2026-11-20T03:10:00Z";
    let cx = Context { capabilities: by_id(), ..context(&settings, at(now)) };
    let [first] = &questions(&facts, &cx)[..] else { panic!("one question") };
    facts.looks.insert(first.snapshot(), Lookup::Missing);
    assert!(matches!(verdict_by_id(&facts, now), Verdict::Take(_)));
    facts.looks.insert(first.snapshot(), found(first, SnapshotState::Available));
    assert!(matches!(verdict_by_id(&facts, now), Verdict::Track { replaces: false, .. }));
    facts.looks.insert(first.snapshot(), Lookup::Unknown);
    assert!(matches!(verdict_by_id(&facts, now), Verdict::Wait(_)));
    // What the ledger has a record of is not asked about.
    facts.records = vec![in_state("2026-11-19T03:00:00Z", State::Available, now)];
    assert!(questions(&facts, &cx).is_empty());
}

#[test]
fn a_lost_answer_is_not_asked_for_again_where_it_would_make_another() {
    let intent = intended("2026-11-20T03:00:00Z");
    let settings = settings(&[]);
    let elapsed = SignedDuration::from_secs(90);
    let cx = context(&settings, at("2026-11-20T03:00:05Z"));
    let cx = Context { capabilities: by_id(), elapsed, ..cx };
    let of = |kind| settle(&intent, &error(kind), None, false, &cx);
    // A look counts some time after the answer was lost, not after the run began.
    let asked = Lease::until(at("2026-11-20T03:01:35Z"));
    let Settled::Write(lost) = of(ErrorKind::Indeterminate) else { panic!("asked again") };
    assert_eq!((lost.outcome, lost.next.lease), (Outcome::Deferred, asked));
    assert_eq!(of(ErrorKind::Throttled), Settled::Again);
    let Settled::Write(never) = of(ErrorKind::NotSupported) else { panic!("asked again") };
    assert!(never.next.state == State::Failed && never.next.refused_for_good);
    let mut facts = facts("daily@03:00", Vec::new());
    facts.records = vec![never.next];
    let Verdict::Wait(finding) = verdict_by_id(&facts, "2026-11-20T09:00:00Z") else {
        panic!("tried again")
    };
    assert_eq!(finding.code, Code::NotSupported);
}

/// Found by the simulator: the instance had another name when its snapshot was made.
#[test]
fn a_record_of_what_a_look_shows_has_the_snapshots_name() {
    let intent = intended("2026-11-20T03:00:00Z");
    let look = found(&intent, SnapshotState::Available);
    let Lookup::Found(mut shown) = look else { panic!("{look:?}") };
    shown.name = format!("before-{}", intent.name);
    assert_eq!(intent.as_made(&shown, &by_id()).name, shown.name);
}
