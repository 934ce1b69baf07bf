//! Runs `poll`: follows the snapshots that are under way.

use std::time::Duration;

use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::answer::Lookup;
use snapkeep_domain::finding::{Code, Finding, Topic};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::notice::Notice;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::poll;
use snapkeep_domain::time::elapsed;

use crate::lane::{Lane, Run};
use crate::pace::{Heard, Pace};
use crate::ports::{
    Deadline, Inventory, Invocation, Ledger, Note, ProviderError, Relay, Remember, Write,
};
use crate::report::{Counter, Failure, ItemReport, Report, TickError};
use crate::work::{Queue, Turn, drain, heard, pause};

/// How often one run tries a look, unless it is throttled.
const TRIES_MAX: u32 = 3;

/// How often a run without work is noted in the ledger.
const NOTED_EVERY: SignedDuration = SignedDuration::from_mins(30);

/// One tick of `poll`. If nothing is under way, it makes one round of ledger queries and no
/// provider call.
///
/// # Errors
/// Only when a retry of the whole tick can help.
pub async fn run(
    inventory: &impl Inventory,
    ledger: &(impl Ledger + Remember),
    relay: &impl Relay,
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Report, TickError> {
    let run = Run::begin(Function::Poll, inventory, ledger, settings, invocation).await?;
    let work = async |lane: &Lane| Box::pin(Poll { run: &run, lane }.place()).await;
    Box::pin(run.where_known(work)).await?;
    run.finish(relay).await
}

/// A record to follow.
struct Followed {
    record: Record,
    error: Option<ProviderError>,
    tries: u32,
}

/// `poll` in one place.
struct Poll<'a, I, L, D> {
    run: &'a Run<'a, I, L, D>,
    lane: &'a Lane,
}

impl<I: Inventory, L: Ledger + Remember, D: Deadline> Poll<'_, I, L, D> {
    async fn place(&self) -> Result<(), TickError> {
        let (run, lane) = (self.run, self.lane);
        let open = run.ledger.open(&lane.place).await?;
        lane.report().unreadable(&open.unreadable);
        let records = open.records.into_iter().filter(|record| poll::wants_look(record, run.now));
        // Records that have been under way longest go first, so that a short budget starves none.
        let rank =
            |record: &Record| -> (Timestamp, String) { (record.entered(), record.name.clone()) };
        let all: Vec<_> = records
            .map(|record| (rank(&record), Box::new(Followed { record, error: None, tries: 0 })))
            .collect();
        // A run without work is noted now and then, so that a poll which never runs is missed.
        let noted = |last: &LastRun| elapsed(last.at, run.now) < NOTED_EVERY;
        let is_noted = run.last_run(&lane.place).is_some_and(noted);
        if (all.is_empty() && is_noted) || !run.enter(lane).await {
            return Ok(());
        }
        lane.open(all.len());
        let work = |followed: Box<Followed>| self.follow(followed);
        let (queue, none) = (Queue::new(all), stream::empty());
        let left = drain(run.deadline, Pace::default(), queue, none, Duration::ZERO, work).await;
        for followed in left {
            self.unanswered(&followed);
        }
        Ok(())
    }

    async fn follow(&self, mut followed: Box<Followed>) -> Turn<Box<Followed>> {
        let (run, lane, record) = (self.run, self.lane, &followed.record);
        let (look, heard) = match run.inventory.look_up(&record.snapshot()).await {
            Ok(found) => (run.found(lane, record, found), Heard::Through),
            Err(error) => {
                let (kind, heard) = (error.kind, heard(&error));
                followed.error = Some(error);
                followed.tries += 1;
                let again = heard == Heard::Throttled || followed.tries < TRIES_MAX;
                if kind.transient() && again {
                    let pause = pause(kind, followed.tries);
                    return Turn::Again(followed, heard, pause);
                }
                self.unanswered(&followed);
                (Lookup::Unknown, heard)
            }
        };
        if look != Lookup::Unknown {
            lane.achieved();
        }
        let mut part = ItemReport { counts: vec![Counter::Followed], ..ItemReport::default() };
        self.settle(&followed.record, &look, &mut part).await;
        lane.add(part);
        lane.done();
        Turn::Done(Some(heard))
    }

    /// Writes the step that follows from an answer.
    async fn settle(&self, record: &Record, look: &Lookup, part: &mut ItemReport) {
        let (run, lane) = (self.run, self.lane);
        let step = poll::settle(record, look, &run.cx(lane));
        let Some(next) = step.next else {
            part.findings.extend(step.finding);
            return;
        };
        let own_slot = step.finding.as_ref().is_some_and(|f| f.code == Code::MissedSlots);
        match run.ledger.advance(&next).await {
            Ok(Write::Done(next)) => {
                part.counts.extend(match next.state {
                    _ if own_slot => None,
                    State::Available => Some(Counter::Available),
                    State::Deleted => Some(Counter::Deleted),
                    State::Failed => Some(Counter::AttemptsFailed),
                    _ => None,
                });
                if next.state == State::Available {
                    let message = format!("{} of slot {} is available", next.name, next.slot);
                    part.notices.push(Notice::of_record(Topic::Available, &next, message));
                    let note = Note::Available(next.slot);
                    if let Err(error) = run.ledger.note(&next.resource, note).await {
                        part.failures.push(Failure::from(&error).of(&next.resource, &next.name));
                    }
                }
                if own_slot {
                    self.missed(record, &next, step.finding, part);
                } else {
                    part.findings.extend(step.finding);
                    part.missed(&next);
                }
            }
            // Another run was faster, and reports the change.
            Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
            Err(error) => {
                let failure = Failure::from(&error).in_place(&lane.place);
                part.failures.push(failure.of(&record.resource, &record.name));
            }
        }
    }

    /// Reports a slot that passed without a snapshot, apart from the earlier ones that its intent
    /// carried.
    fn missed(
        &self,
        before: &Record,
        next: &Record,
        finding: Option<Finding>,
        part: &mut ItemReport,
    ) {
        part.counts.push(Counter::Missed);
        part.findings.extend(finding);
        part.missed(before);
        part.told.retain(|record| record.name != before.name);
        part.told.push(next.clone());
    }

    fn unanswered(&self, followed: &Followed) {
        let Followed { record, error: Some(error), .. } = followed else { return };
        let failure = Failure::from(error).of(&record.resource, &record.name);
        self.lane.fail(failure);
    }
}
