//! What a run says about itself: its counts, failures and findings, and what it left.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use jiff::SignedDuration;
use snapkeep_app::ports::ErrorKind;
use snapkeep_app::report::{Report, TickError};
use snapkeep_domain::finding::Code;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::State;
use snapkeep_domain::snapshot::{HOLD, SnapshotState, snapshot_name};
use snapkeep_testkit::alter;
use snapkeep_testkit::simulation::ports::Fault;
use snapkeep_testkit::simulation::turns::InvocationId;
use snapkeep_testkit::simulation::{Profile, REGIONS, Simulation};

mod create;
mod fleets;
mod prune;

pub(crate) const DENIED: Option<Fault> = Some(Fault::Before(ErrorKind::Denied));

/// Two instances, a slot every four hours, two snapshots kept, an hour of grace.
pub(crate) fn world() -> Simulation {
    let vars = [
        ("SNAPKEEP_SCHEDULE", "every-4h"),
        ("SNAPKEEP_KEEP", "last=2"),
        ("SNAPKEEP_GRACE", "1h"),
        ("SNAPKEEP_MIN_KEEP", "1"),
    ];
    Simulation::scripted(Profile::ByName, &vars, &["web", "db"])
}

pub(crate) fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

pub(crate) fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// Runs a function from beginning to end; what it answers.
pub(crate) fn answer(world: &mut Simulation, function: Function) -> Result<Report, TickError> {
    drop(world.answers());
    world.run_alone(function);
    world.answers().pop().unwrap()
}

pub(crate) fn report(world: &mut Simulation, function: Function) -> Report {
    answer(world, function).unwrap()
}

/// Runs a function whose first call of this operation meets a fault, once.
pub(crate) fn struck(
    world: &mut Simulation,
    function: Function,
    operation: &'static str,
    fault: Option<Fault>,
) -> Report {
    let me = begun(world, function, operation);
    assert!(world.next(me, fault));
    finished(world, me)
}

pub(crate) fn counts(report: &Report) -> BTreeMap<&'static str, u64> {
    report.counts.iter().map(|(counter, count)| (counter.as_str(), *count)).collect()
}

pub(crate) fn codes(report: &Report) -> Vec<Code> {
    report.findings.iter().map(|finding| finding.code).collect()
}

/// A slot from its creation to its becoming available.
pub(crate) fn slot(world: &mut Simulation) {
    world.run_alone(Function::Create);
    world.advance(minutes(20));
    world.run_alone(Function::Poll);
    world.advance(minutes(220));
}

/// Starts a function and lets it come to its first call of this operation.
pub(crate) fn begun(world: &mut Simulation, function: Function, operation: &str) -> InvocationId {
    drop(world.answers());
    let me = world.start(function, 0).unwrap();
    while world.upcoming(me).is_some_and(|(next, _)| next != operation) {
        assert!(world.next(me, None));
    }
    assert!(world.upcoming(me).is_some(), "{function:?} makes no call {operation}");
    me
}

pub(crate) fn finished(world: &mut Simulation, me: InvocationId) -> Report {
    world.finish(me);
    world.answers().pop().unwrap().unwrap()
}
