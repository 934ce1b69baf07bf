//! Runs `create`: snapshots what is due.

use std::collections::BTreeSet;

use jiff::Timestamp;
use snapkeep_domain::create::{self, Facts, Planned, Verdict};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::poll::name_taken;
use snapkeep_domain::record::{INVOCATION_LIFE, Record, State};
use snapkeep_domain::settings::Settings;
use snapkeep_domain::snapshot::{Instance, Ownership, ResourceId, Snapshot};
use snapkeep_domain::tags::{OptIn, Protection};
use snapkeep_domain::time::since;

use crate::gather;
use crate::ports::{
    Creator, Deadline, ErrorKind, Inventory, Invocation, Ledger, LedgerError, Order, ProviderError,
    Write,
};
use crate::report::{Counter, Failure, Part, Report, TickError};

/// One tick of `create`.
///
/// # Errors
/// Only when retrying the whole tick can help.
pub async fn run(
    inventory: &impl Inventory,
    creator: &impl Creator,
    ledger: &impl Ledger,
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Report, TickError> {
    let now = invocation.now;
    let mut report = Report::new("create", now);
    report.findings.extend(settings.problems.iter().map(|problem| problem.finding()));

    let in_flight = ledger.live(&[State::Requested, State::Pending]).await?;
    report.unreadable(&in_flight.unreadable);
    let regions =
        gather::regions(inventory, &settings.regions, &in_flight.records, &mut report).await?;
    let listed = gather::in_each(&regions, |region| inventory.instances(region)).await;
    let listed = gather::complete(listed, &settings.regions, &in_flight.records, &mut report)?;
    let instances = listed.into_iter().flat_map(|(_, list)| gather::once(list, |i| &i.id.0));
    let instances: Vec<Instance> = instances.collect();
    report.saw(&instances);

    let mut facts = opted_in(instances, settings, &mut report);
    report.count(Counter::Protected, facts.len());
    recall(ledger, &mut facts, &in_flight.records, &mut report, now).await?;

    let plan = create::plan(&facts, &settings.deployment, settings.pending_timeout, now);
    let due = plan.into_iter().filter(|planned| matches!(planned.verdict, Verdict::Take { .. }));
    let due: BTreeSet<ResourceId> = due.map(|planned| planned.instance.id).collect();
    look(inventory, &mut facts, &due, settings, &mut report, now).await;
    let plan = create::plan(&facts, &settings.deployment, settings.pending_timeout, now);

    let work = plan.into_iter().map(|planned| async {
        match planned.verdict {
            Verdict::Served => Part { counts: vec![Counter::Served], ..Part::default() },
            Verdict::Wait(finding) => {
                Part { counts: vec![Counter::Waiting], findings: vec![finding], ..Part::default() }
            }
            _ if invocation.deadline.passed() => Part::left(),
            _ => apply(inventory, creator, ledger, settings, planned, now).await,
        }
    });
    for part in gather::bounded(work.collect()).await {
        report.add(part);
    }
    Ok(report.finished())
}

/// Reads every instance's tags, reports what is wrong with them, and keeps those that are opted in.
fn opted_in(instances: Vec<Instance>, settings: &Settings, report: &mut Report) -> Vec<Facts> {
    let mut facts = Vec::new();
    for instance in instances {
        let protection = Protection::read(&instance.tags, &settings.tag, &settings.policies);
        for problem in &protection.policy.problems {
            report.findings.push(problem.finding().of(&instance.id, &instance.name));
        }
        match protection.opt_in {
            OptIn::On => {
                facts.push(Facts { instance, protection, records: vec![], snapshots: vec![] });
            }
            OptIn::Off => report.findings.push(
                Finding::new(Code::OptedOut, format!("{} is off: no snapshots", instance.name))
                    .of(&instance.id, &instance.name),
            ),
            OptIn::Untagged => {}
        }
    }
    facts
}

/// Adds the ledger's records; a resource whose records cannot be had is reported and left for later.
async fn recall(
    ledger: &impl Ledger,
    facts: &mut Vec<Facts>,
    in_flight: &[Record],
    report: &mut Report,
    now: Timestamp,
) -> Result<(), TickError> {
    let queries = facts
        .iter()
        .map(|fact| ledger.recent(&fact.instance.id, create::due_slot(&fact.protection, now)));
    let answers = gather::bounded(queries.collect()).await;
    let mut last_error: Option<LedgerError> = None;
    let mut known = Vec::new();
    for (mut fact, answer) in std::mem::take(facts).into_iter().zip(answers) {
        match answer {
            Ok(answer) => {
                report.unreadable(&answer.unreadable);
                fact.records = answer.records;
                for record in in_flight.iter().filter(|r| r.resource == fact.instance.id) {
                    let key = record.sort_key();
                    if fact.records.iter().all(|r| r.sort_key() != key) {
                        fact.records.push(record.clone());
                    }
                }
                known.push(fact);
            }
            Err(error) => {
                let failure = Failure::from(&error).of(&fact.instance.id, &fact.instance.name);
                report.failures.push(failure);
                last_error = Some(error);
            }
        }
    }
    *facts = known;
    match last_error {
        Some(error) if facts.is_empty() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Adds the provider's snapshots where one is due: it may have what the ledger lost. Where it cannot be
/// found out whether the slot has one already, the resource is reported and left for the next tick.
async fn look(
    inventory: &impl Inventory,
    facts: &mut Vec<Facts>,
    due: &BTreeSet<ResourceId>,
    settings: &Settings,
    report: &mut Report,
    now: Timestamp,
) {
    let is_due = |fact: &Facts| due.contains(&fact.instance.id);
    let regions: BTreeSet<String> =
        facts.iter().filter(|f| is_due(f)).map(|f| f.instance.region.clone()).collect();
    for listed in gather::in_each(&regions, |region| inventory.snapshots(region)).await {
        match listed.result {
            Ok(snapshots) => {
                for fact in facts.iter_mut().filter(|f| f.instance.region == listed.region) {
                    let of = |s: &&Snapshot| s.source == fact.instance.id;
                    fact.snapshots = snapshots.iter().filter(of).cloned().collect();
                }
            }
            Err(error) => {
                report.failures.push(Failure::from(&error).in_region(&listed.region));
            }
        }
    }
    let looks = facts.iter().map(|fact| async {
        if !is_due(fact) || create::is_credible(fact) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in create::names(fact, &settings.deployment, now) {
            found.extend(inventory.snapshot(&fact.instance.region, &name).await?);
        }
        Ok::<_, ProviderError>(found)
    });
    let looks = gather::bounded(looks.collect()).await;
    let mut known = Vec::new();
    for (mut fact, found) in std::mem::take(facts).into_iter().zip(looks) {
        match found {
            Ok(found) => {
                fact.snapshots.extend(found);
                fact.snapshots = gather::once(fact.snapshots, |snapshot| &snapshot.name);
                known.push(fact);
            }
            Err(error) => {
                let failure = Failure::from(&error).of(&fact.instance.id, &fact.instance.name);
                report.failures.push(failure);
            }
        }
    }
    *facts = known;
}

async fn apply(
    inventory: &impl Inventory,
    creator: &impl Creator,
    ledger: &impl Ledger,
    settings: &Settings,
    planned: Planned,
    now: Timestamp,
) -> Part {
    let Planned { instance, verdict } = planned;
    let mut part = Part::default();
    let failed = |error: &LedgerError| Failure::from(error).of(&instance.id, &instance.name);
    let (from, intent, leftover) = match verdict {
        Verdict::Served | Verdict::Wait(_) => return part,
        Verdict::Track { record } => {
            match gather::adopt(ledger, &record).await {
                Ok(Write::Done(_)) => part.counts.push(Counter::Tracked),
                Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
                Err(error) => part.failures.push(failed(&error)),
            }
            return part;
        }
        Verdict::Take { from, intent, leftover } => (from, intent, leftover),
    };

    // Intent before effect. The leftover's own item comes first, so that it is never forgotten.
    if let Some(leftover) = leftover
        && let Err(error) = ledger.claim(&leftover).await
    {
        part.failures.push(failed(&error));
        return part;
    }
    let claimed = match from {
        None => ledger.claim(&intent).await,
        Some(_) => ledger.advance(&intent).await,
    };
    let intent = match claimed {
        Ok(Write::Done(record)) => *record,
        Ok(Write::Conflict(_)) => {
            part.counts.push(Counter::Conflicts);
            part.findings.push(
                Finding::new(
                    Code::ClaimedElsewhere,
                    format!("slot {} is being taken by another invocation", intent.slot),
                )
                .of(&instance.id, &instance.name),
            );
            return part;
        }
        Err(error) => {
            part.failures.push(failed(&error));
            return part;
        }
    };
    let order = Order {
        region: instance.region.clone(),
        instance: instance.name.clone(),
        name: intent.name.clone(),
        tags: create::tags(&intent, &settings.deployment),
    };
    let next = match creator.create(&order).await {
        Ok(()) => {
            part.counts.push(Counter::Requested);
            Some(intent.moved(State::Requested, now, "the provider took the request"))
        }
        Err(error) if error.kind == ErrorKind::NameTaken => {
            whose_name(inventory, settings, &intent, &error, now, &mut part).await
        }
        Err(error) => Some(deferred(&instance, &intent, &error, &mut part)),
    };
    if let Some(next) = next {
        match ledger.advance(&next).await {
            Ok(Write::Done(_)) => part.missed(&intent),
            Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
            // The intent stands: whoever comes next finds the snapshot by its name. Unless only the
            // answer was lost, so this is the last who can report what was missed.
            Err(error) => {
                part.missed(&intent);
                part.failures.push(failed(&error));
            }
        }
    }
    part
}

/// "Name exists" is success once the snapshot is verified ours: an answer was lost.
async fn whose_name(
    inventory: &impl Inventory,
    settings: &Settings,
    intent: &Record,
    error: &ProviderError,
    now: Timestamp,
    part: &mut Part,
) -> Option<Record> {
    let ours = Ownership::Ours { slot: intent.slot, attempt: intent.attempt };
    match inventory.snapshot(&intent.region, &intent.name).await {
        Ok(Some(found))
            if found.ownership(&settings.deployment) == ours && found.source == intent.resource =>
        {
            part.counts.push(Counter::Tracked);
            Some(intent.moved(State::Requested, now, "it was asked for before"))
        }
        // Not shown by that name: something of another kind has it, or it was asked for just now.
        Ok(None) if since(first_intended(intent), now) < INVOCATION_LIFE => {
            part.failures.push(Failure::from(error).of(&intent.resource, &intent.name));
            None
        }
        Ok(_) => {
            part.counts.push(Counter::AttemptsFailed);
            let step = name_taken(intent, now);
            part.findings.extend(step.finding);
            step.next
        }
        Err(error) => {
            part.failures.push(Failure::from(&error).of(&intent.resource, &intent.name));
            None
        }
    }
}

fn first_intended(intent: &Record) -> Timestamp {
    intent.times.get(&State::Intended).copied().unwrap_or(Timestamp::MIN)
}

/// Not this snapshot's fault: the intent is kept. After a plain refusal it is free for the next tick;
/// when the effect may have happened, it is only free once this invocation must be over.
fn deferred(
    instance: &Instance,
    intent: &Record,
    error: &ProviderError,
    part: &mut Part,
) -> Record {
    part.failures
        .push(Failure::from(error).in_region(&instance.region).of(&instance.id, &instance.name));
    part.findings.push(
        Finding::new(
            Code::CreateDeferred,
            format!("slot {} is tried again at the next tick: {error}", intent.slot),
        )
        .of(&instance.id, &instance.name)
        .value(error.code.clone())
        .fix(match error.kind {
            ErrorKind::Denied => "check the permissions of the create function",
            ErrorKind::Quota => "delete snapshots that are not needed, or have the quota raised",
            _ => "nothing, unless it stays: it is tried at every tick while its slot is the latest",
        }),
    );
    let mut next = Record { reason: error.to_string(), missed: 0, ..intent.clone() };
    if !error.kind.effect_unknown() {
        next.leased_until = None;
    }
    next
}
