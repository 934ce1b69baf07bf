//! Runs `poll`: follows what is under way.

use snapkeep_domain::finding::Code;
use snapkeep_domain::notice::{Notice, Topic};
use snapkeep_domain::poll::{self, FOLLOWED, Look};
use snapkeep_domain::record::{Record, State};
use snapkeep_domain::settings::Settings;

use crate::gather;
use crate::ports::{Deadline, Inventory, Invocation, Ledger, Write};
use crate::report::{Counter, Failure, Part, Report, TickError};

/// One tick of `poll`. With nothing under way it is one round of ledger queries and no provider call.
///
/// # Errors
/// Only when retrying the whole tick can help.
pub async fn run(
    inventory: &impl Inventory,
    ledger: &impl Ledger,
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Report, TickError> {
    let now = invocation.now;
    let mut report = Report::new("poll", now);
    let open = ledger.live(&FOLLOWED).await?;
    report.unreadable(&open.unreadable);

    let mut records: Vec<Record> =
        open.records.into_iter().filter(|record| poll::wants_look(record, now)).collect();
    // The longest under way first, so that a short budget never starves one.
    records.sort_by_key(|record| (record.entered(), record.name.clone()));
    let work = records.iter().map(|record| async {
        if invocation.deadline.passed() {
            return Part::left();
        }
        follow(inventory, ledger, settings, record, now).await
    });
    for part in gather::bounded(work.collect()).await {
        report.add(part);
    }
    Ok(report.finished())
}

async fn follow(
    inventory: &impl Inventory,
    ledger: &impl Ledger,
    settings: &Settings,
    record: &Record,
    now: jiff::Timestamp,
) -> Part {
    let mut part = Part { counts: vec![Counter::Followed], ..Part::default() };
    let look = match inventory.snapshot(&record.region, &record.name).await {
        Ok(Some(found)) => Look::Found(Box::new(found)),
        Ok(None) => Look::Missing,
        Err(error) => {
            let failure = Failure::from(&error).in_region(&record.region);
            part.failures.push(failure.of(&record.resource, &record.name));
            Look::Unknown
        }
    };
    let step = poll::plan(record, &look, &settings.deployment, settings.pending_timeout, now);
    let Some(next) = step.next else {
        part.findings.extend(step.finding);
        return part;
    };
    match ledger.advance(&next).await {
        Ok(Write::Done(next)) => {
            let missed = step.finding.as_ref().is_some_and(|f| f.code == Code::MissedSlots);
            let counter = match next.state {
                _ if missed => Some(Counter::Missed),
                State::Available => Some(Counter::Available),
                State::Deleted => Some(Counter::Deleted),
                State::Failed => Some(Counter::AttemptsFailed),
                _ => None,
            };
            if next.state == State::Available {
                let message = format!("{} of slot {} is available", next.name, next.slot);
                part.notices.push(Notice::of_record(Topic::Available, &next, message));
            }
            part.counts.extend(counter);
            part.findings.extend(step.finding);
            part.missed(record);
        }
        // Somebody else was faster, and reports it.
        Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
        Err(error) => {
            part.findings.extend(step.finding);
            part.missed(record);
            part.failures.push(Failure::from(&error).of(&record.resource, &record.name));
        }
    }
    part
}
