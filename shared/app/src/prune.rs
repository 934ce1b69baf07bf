//! Runs `prune`: judges every snapshot, announces deletions, and carries out those that are due.

use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::notice::{Notice, Topic};
use snapkeep_domain::poll::Look;
use snapkeep_domain::prune::{self, Age, Facts, Guard, Plan, Source, Step, Verdict};
use snapkeep_domain::record::{INVOCATION_LIFE, Record, State};
use snapkeep_domain::settings::Settings;
use snapkeep_domain::snapshot::{HOLD, Ownership, Snapshot, SnapshotState};
use snapkeep_domain::time::{Zone, after};

use crate::gather;
use crate::ports::{
    Deadline, Deleter, ErrorKind, Inventory, Invocation, Ledger, LedgerError, Write,
};
use crate::report::{Counter, Failure, Part, Report, TickError};

const LIVE: [State; 7] = [
    State::Intended,
    State::Requested,
    State::Pending,
    State::Available,
    State::Expiring,
    State::Deleting,
    State::Failed,
];

/// One tick of `prune`.
///
/// # Errors
/// Only when retrying the whole tick can help.
pub async fn run(
    inventory: &impl Inventory,
    deleter: &impl Deleter,
    ledger: &impl Ledger,
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Report, TickError> {
    let now = invocation.now;
    let mut report = Report::new("prune", now);
    report.findings.extend(settings.problems.iter().map(|problem| problem.finding()));

    let mut facts = gather(inventory, ledger, settings, &mut report).await?;
    ask(inventory, settings, &mut facts, &mut report).await;
    let plan = prune::plan(&facts, settings, now);
    tell(&plan, &mut report);

    let mut steps = plan.steps;
    if settings.dry_run {
        let changes = steps.iter().filter(|step| !matches!(step, Step::Write(_))).count();
        let message = format!("dry run: {changes} changes are planned, none is made");
        let names: Vec<String> = steps.iter().filter_map(describe).collect();
        report.findings.push(
            Finding::new(Code::DryRun, message)
                .key("SNAPKEEP_DRY_RUN")
                .value(names.join(", "))
                .fix("set SNAPKEEP_DRY_RUN=off to let it act"),
        );
        steps.clear();
    }
    // What protects comes before what deletes, should the time not suffice.
    steps.sort_by_key(|step| match step {
        Step::Rescue(_) => 0,
        Step::Adopt(_) => 1,
        Step::Write(_) => 2,
        Step::Delete(_) => 3,
        Step::Mark(_) => 4,
    });
    let work = steps.into_iter().map(|step| async {
        if invocation.deadline.passed() {
            return Part::left();
        }
        apply(inventory, deleter, ledger, settings, step, now).await
    });
    for part in gather::bounded(work.collect()).await {
        report.add(part);
    }
    Ok(report.finished())
}

fn describe(step: &Step) -> Option<String> {
    match step {
        Step::Adopt(record) => Some(format!("adopt {}", record.name)),
        Step::Mark(record) => Some(format!("mark {}", record.name)),
        Step::Rescue(record) => Some(format!("rescue {}", record.name)),
        Step::Delete(record) => Some(format!("delete {}", record.name)),
        Step::Write(_) => None,
    }
}

/// The ledger's live records, and both listings of every Region.
async fn gather(
    inventory: &impl Inventory,
    ledger: &impl Ledger,
    settings: &Settings,
    report: &mut Report,
) -> Result<Facts, TickError> {
    let live = ledger.live(&LIVE).await?;
    report.unreadable(&live.unreadable);
    let regions = gather::regions(inventory, &settings.regions, &live.records, report).await?;
    // Snapshots first: one that is made in between is then in no listing, and no harm is done.
    let listed = gather::in_each(&regions, |region| async move {
        let snapshots = inventory.snapshots(region).await?;
        let instances = inventory.instances(region).await?;
        Ok((snapshots, instances))
    })
    .await;
    let mut facts = Facts {
        records: live.records,
        unreadable: live.unreadable.into_iter().map(|item| item.resource).collect(),
        ..Facts::default()
    };
    for (region, (snapshots, instances)) in
        gather::complete(listed, &settings.regions, &facts.records, report)?
    {
        facts.complete.insert(region);
        facts.snapshots.extend(gather::once(snapshots, |s| &s.name));
        facts.instances.extend(gather::once(instances, |i| &i.id.0));
    }
    report.saw(&facts.instances);
    Ok(facts)
}

/// Asks by name for what the listings should have shown.
async fn ask(
    inventory: &impl Inventory,
    settings: &Settings,
    facts: &mut Facts,
    report: &mut Report,
) {
    let questions = prune::questions(facts, &settings.deployment);
    let sources = questions.sources.iter().map(|(id, region, name)| async move {
        let source = match inventory.instance(region, name).await {
            Ok(Some(found)) if found.id == *id => Source::Alive(found),
            Ok(other) => Source::Gone { name_lives: other.is_some() },
            Err(error) => return (id.clone(), Source::Unknown, Some((error, name))),
        };
        (id.clone(), source, None)
    });
    for (id, source, error) in gather::bounded(sources.collect()).await {
        if let Some((error, name)) = error {
            report.failures.push(Failure::from(&error).of(&id, name));
        }
        facts.sources.insert(id, source);
    }
    let looks = questions.snapshots.iter().map(|(region, name)| async move {
        (region, name, inventory.snapshot(region, name).await)
    });
    for (region, name, answer) in gather::bounded(looks.collect()).await {
        let look = match answer {
            Ok(Some(found)) => {
                // The listing was behind: what is there counts.
                facts.snapshots.push(found.clone());
                Look::Found(Box::new(found))
            }
            Ok(None) => Look::Missing,
            Err(error) => {
                let mut failure = Failure::from(&error).in_region(region);
                failure.name = Some(name.clone());
                report.failures.push(failure);
                Look::Unknown
            }
        };
        facts.looks.insert((region.clone(), name.clone()), look);
    }
}

/// Puts the plan's verdicts into the report: what is held back appears by name.
fn tell(plan: &Plan, report: &mut Report) {
    report.findings.extend(plan.findings.iter().cloned());
    let braked = |finding: &&Finding| matches!(finding.code, Code::Brake | Code::TooManyMarks);
    report.count(Counter::Braked, plan.findings.iter().filter(braked).count());
    let over = |age: &Age| usize::try_from(age.over().as_secs()).unwrap_or_default();
    report.count(Counter::Overdue, plan.ages.iter().filter(|age| over(age) > 0).count());
    report.count(Counter::OverdueSeconds, plan.ages.iter().map(over).max().unwrap_or_default());
    report.ages.clone_from(&plan.ages);
    report.count(Counter::Snapshots, plan.verdicts.len());
    for judged in &plan.verdicts {
        let counter = match &judged.verdict {
            Verdict::Foreign | Verdict::LookAlike => Counter::Foreign,
            Verdict::NotAvailable => Counter::NotAvailable,
            Verdict::Kept(_) | Verdict::Adopt => Counter::Kept,
            Verdict::Guarded(_) => Counter::HeldBack,
            // Counted when it is done.
            Verdict::Mark | Verdict::Delete => continue,
            Verdict::Waiting => Counter::Expiring,
        };
        report.count(counter, 1);
        if judged.verdict == Verdict::Guarded(Guard::Floor) {
            report.findings.push(
                Finding::new(
                    Code::FloorKeeps,
                    format!(
                        "{} is kept: without it less than the minimum would remain",
                        judged.name
                    ),
                )
                .of(&judged.source, &judged.source_name),
            );
        }
    }
    for judged in &plan.verdicts {
        tracing::debug!(
            snapshot = judged.name,
            slot = judged.slot.map(|slot| slot.to_string()),
            verdict = ?judged.verdict,
            "judged"
        );
    }
}

async fn apply(
    inventory: &impl Inventory,
    deleter: &impl Deleter,
    ledger: &impl Ledger,
    settings: &Settings,
    step: Step,
    now: jiff::Timestamp,
) -> Part {
    match step {
        Step::Adopt(record) => adopt(inventory, ledger, settings, record, now).await,
        Step::Write(record) => {
            let counter = (record.state == State::Deleted).then_some(Counter::Deleted);
            write(ledger, &record, counter, None).await.0
        }
        Step::Mark(record) => {
            let (mut part, marked) = write(ledger, &record, Some(Counter::Marked), None).await;
            let notice = marked.and_then(|record| {
                let at = record.mark.as_ref()?.execute_at;
                let message = format!("{} is deleted after {at}: {}", record.name, record.reason);
                let fix = format!("to keep it, tag it {HOLD} before then");
                Some(Notice {
                    fix: Some(fix),
                    ..Notice::of_record(Topic::Marked, &record, message)
                })
            });
            part.notices.extend(notice);
            part
        }
        Step::Rescue(record) => {
            let finding =
                Finding::new(Code::Rescued, format!("{}: {}", record.name, record.reason))
                    .of(&record.resource, &record.resource_name);
            write(ledger, &record, Some(Counter::Rescued), Some(finding)).await.0
        }
        Step::Delete(record) => delete(inventory, deleter, ledger, settings, record, now).await,
    }
}

/// Writes a record; counts and reports only what was really written.
async fn write(
    ledger: &impl Ledger,
    record: &Record,
    counter: Option<Counter>,
    finding: Option<Finding>,
) -> (Part, Option<Record>) {
    let mut part = Part::default();
    match ledger.advance(record).await {
        Ok(Write::Done(written)) => {
            part.counts.extend(counter);
            part.findings.extend(finding);
            return (part, Some(*written));
        }
        Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
        Err(error) => part.failures.push(failed(&error, record)),
    }
    (part, None)
}

fn failed(error: &LedgerError, record: &Record) -> Failure {
    Failure::from(error).of(&record.resource, &record.name)
}

/// Takes a snapshot of ours into the ledger. Its place may be taken by a tombstone: then it is seen
/// again; or by another attempt: then it becomes an item of its own.
async fn adopt(
    inventory: &impl Inventory,
    ledger: &impl Ledger,
    settings: &Settings,
    record: Record,
    now: jiff::Timestamp,
) -> Part {
    let mut part = Part::default();
    let existing = match gather::adopt(ledger, &record).await {
        Ok(Write::Done(_)) => {
            part.counts.push(Counter::Adopted);
            let message = format!("{} had no record and got one", record.name);
            let adopted = Finding::new(Code::Adopted, message);
            part.findings.push(adopted.of(&record.resource, &record.resource_name));
            return part;
        }
        Ok(Write::Conflict(existing)) => existing,
        Err(error) => {
            part.failures.push(failed(&error, &record));
            return part;
        }
    };
    let Some(existing) = existing else {
        part.counts.push(Counter::Conflicts);
        return part;
    };
    // A listing may lag behind a deletion: only asking by name tells that it is really there.
    if existing.live().is_some() {
        return part;
    }
    match inventory.snapshot(&record.region, &record.name).await {
        Ok(Some(found)) if still_ours(&found, &existing, settings) => {
            // A tombstone gives way only to what is available.
            if existing.state == State::Deleted && found.state != SnapshotState::Available {
                return part;
            }
            let next = existing.observed(&found, now, "seen again");
            let finding = Finding::new(Code::SeenAgain, format!("{} is there again", record.name))
                .of(&record.resource, &record.resource_name);
            write(ledger, &next, Some(Counter::Adopted), Some(finding)).await.0
        }
        Ok(_) => part,
        Err(error) => {
            part.failures.push(Failure::from(&error).of(&record.resource, &record.name));
            part
        }
    }
}

fn still_ours(found: &Snapshot, record: &Record, settings: &Settings) -> bool {
    let ours = Ownership::Ours { slot: record.slot, attempt: record.attempt };
    found.ownership(&settings.deployment) == ours && found.source == record.resource
}

/// Deletes one snapshot: intent, last look, effect. `poll` confirms it.
async fn delete(
    inventory: &impl Inventory,
    deleter: &impl Deleter,
    ledger: &impl Ledger,
    settings: &Settings,
    record: Record,
    now: jiff::Timestamp,
) -> Part {
    let mut intent = record.moved(State::Deleting, now, record.reason.clone());
    intent.mark.clone_from(&record.mark);
    intent.leased_until = Some(after(now, INVOCATION_LIFE));
    let (mut part, written) = write(ledger, &intent, None, None).await;
    let Some(intent) = written else { return part };
    let provider_failed = |error| Failure::from(error).in_region(&record.region);
    let found = match inventory.snapshot(&record.region, &record.name).await {
        Ok(Some(found)) => found,
        // Gone already; `poll` writes the tombstone.
        Ok(None) => return part,
        Err(error) => {
            part.failures.push(provider_failed(&error).of(&record.resource, &record.name));
            return part;
        }
    };
    if let Some(why) = objection(&found, &intent, settings, now) {
        return refused(ledger, &intent, &found, &why, now, part).await;
    }
    match deleter.delete(&record.region, &record.name).await {
        Ok(()) => {
            part.counts.push(Counter::Pruned);
            let message = format!("{} is deleted: {}", intent.name, intent.reason);
            part.notices.push(Notice::of_record(Topic::Pruned, &intent, message));
        }
        Err(error) if error.kind == ErrorKind::NotFound => {}
        Err(error) => {
            part.failures.push(provider_failed(&error).of(&record.resource, &record.name));
            // A plain refusal did nothing: the snapshot is simply there again. Otherwise the intent
            // stands, and the next run looks again.
            if matches!(error.kind, ErrorKind::Denied | ErrorKind::Refused) {
                return refused(ledger, &intent, &found, &error.to_string(), now, part).await;
            }
        }
    }
    part
}

/// What the last look at the very snapshot finds against its deletion.
fn objection(
    found: &Snapshot,
    intent: &Record,
    settings: &Settings,
    now: jiff::Timestamp,
) -> Option<String> {
    let zone = intent.policy.timezone.parse().unwrap_or_else(|_| Zone::utc());
    if !still_ours(found, intent, settings) {
        Some("it is no longer ours".to_owned())
    } else if found.hold().is_some_and(|hold| hold.holds(now, &zone)) {
        Some("it is held".to_owned())
    } else if !matches!(found.state, SnapshotState::Available | SnapshotState::Error) {
        Some("it is not available".to_owned())
    } else {
        None
    }
}

async fn refused(
    ledger: &impl Ledger,
    intent: &Record,
    found: &Snapshot,
    why: &str,
    now: jiff::Timestamp,
    mut part: Part,
) -> Part {
    let next = match found.state {
        SnapshotState::Pending | SnapshotState::Other(_) => return part,
        SnapshotState::Available | SnapshotState::Error => {
            intent.observed(found, now, &format!("not deleted: {why}"))
        }
    };
    let finding =
        Finding::new(Code::DeleteRefused, format!("{} is not deleted: {why}", intent.name))
            .of(&intent.resource, &intent.resource_name);
    let (written, _) = write(ledger, &next, Some(Counter::Rescued), Some(finding)).await;
    part.counts.extend(written.counts);
    part.failures.extend(written.failures);
    part.findings.extend(written.findings);
    part
}
