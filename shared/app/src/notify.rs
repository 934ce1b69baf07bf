//! Notifies people of a run's results: events and conditions, once each. One mail covers all
//! notices that have one cause.

use std::collections::{BTreeMap, BTreeSet};

use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::notice::{self, Condition, Notice};

use crate::ports::{
    ConditionStore, Deadline, ErrorKind, Invocation, Ledger, Notifier, ProviderError,
};
use crate::report::{Failure, Report};
use crate::work::bounded;

/// Sends the notices, if anybody listens, while there is time. Failures go into the report; the
/// next run sends what is still true of the conditions.
pub async fn run(
    notifier: &impl Notifier,
    conditions: &impl ConditionStore,
    report: &mut Report,
    invocation: &Invocation<impl Deadline>,
) {
    if !notifier.listens() {
        return;
    }
    let mut passing = report.notices.clone();
    passing.extend(Notice::passing(&report.findings));
    let lasting = match conditions.known().await {
        Ok((known, unreadable)) => {
            let in_doubt = |condition: &Condition| in_doubt(report, condition);
            let planned =
                notice::plan(report.function, &report.findings, &known, in_doubt, invocation.now);
            report.unreadable(&unreadable);
            planned
        }
        Err(error) => {
            report.failures.push(Failure::from(&error));
            Vec::new()
        }
    };
    let deadline = &invocation.deadline;
    let time_is_over = || deadline.elapsed() >= deadline.last();
    if time_is_over() {
        // No later run sends these one-off notices: the report lists them as failures.
        report.failures.extend(passing.iter().map(untold));
        report.left += lasting.len() as u64;
        return;
    }
    let (failures, _) = tell(notifier, &passing).await;
    report.failures.extend(failures);
    // Intent before effect: only the run that has written a condition notifies people of it.
    let claims = lasting.iter().map(|condition| async {
        if time_is_over() {
            return Ok(None);
        }
        conditions.put(condition).await
    });
    let mut claimed = Vec::new();
    for claim in bounded(claims).await {
        match claim {
            Ok(condition) => claimed.extend(condition),
            Err(error) => report.failures.push(Failure::from(&error)),
        }
    }
    claimed.sort_by_key(|condition| Condition::key(&condition.finding));
    let notices: Vec<Notice> = claimed.iter().filter_map(Condition::notice).collect();
    let (failures, told) = tell(notifier, &notices).await;
    report.failures.extend(failures);
    let settled = claimed.into_iter().map(|condition| {
        let told = condition.notice().is_none_or(|notice| told.contains(&notice.cause()));
        let settled = condition.settled(told);
        async move { (conditions.put(&settled).await, settled) }
    });
    let mut overtaken = Vec::new();
    for (answer, condition) in bounded(settled).await {
        match answer {
            Ok(Some(_)) => {}
            Ok(None) => overtaken.push(condition),
            Err(error) => report.failures.push(Failure::from(&error)),
        }
    }
    if !overtaken.is_empty() {
        report.failures.extend(tell_again(conditions, &overtaken).await);
    }
}

/// Marks conditions as not notified if another run has sent the opposite meanwhile: nobody knows
/// which message came last, so the next run sends the current state.
async fn tell_again(conditions: &impl ConditionStore, overtaken: &[Condition]) -> Vec<Failure> {
    let known = match conditions.known().await {
        Ok((known, _)) => known,
        Err(error) => return vec![Failure::from(&error)],
    };
    let opposite = |now: &&Condition| {
        overtaken.iter().any(|told| {
            Condition::key(&told.finding) == Condition::key(&now.finding)
                && told.resolved.is_some() != now.resolved.is_some()
        })
    };
    let writes = known.iter().filter(opposite).map(|now| async move {
        let untold = now.clone().settled(false);
        conditions.put(&untold).await.err()
    });
    bounded(writes).await.into_iter().flatten().map(|error| Failure::from(&error)).collect()
}

/// Removes the missed slots that this report contains from the ledger. It comes last, when the
/// report is out: if a run dies before, the next run reports them again.
pub async fn acknowledge(
    ledger: &impl Ledger,
    report: &mut Report,
    invocation: &Invocation<impl Deadline>,
) {
    let deadline = &invocation.deadline;
    let told = std::mem::take(&mut report.told);
    let writes = told.iter().map(|record| async move {
        match deadline.elapsed() < deadline.last() {
            // A run that has moved the record on meanwhile carries the slots on, and reports them
            // again.
            true => ledger.advance(&record.missed_reported()).await.err(),
            false => None,
        }
    });
    for error in bounded(writes).await.into_iter().flatten() {
        report.failures.push(Failure::from(&error));
    }
}

/// Whether a missing finding is inconclusive, so its condition must not be resolved: the run did
/// not cover the condition's place, or something of its resource failed or is in other hands.
fn in_doubt(report: &Report, condition: &Condition) -> bool {
    let finding = &condition.finding;
    let resource = finding.resource.as_ref();
    let touches =
        |failure: &Failure| failure.resource.as_ref().is_some_and(|one| Some(one) == resource);
    let elsewhere = |other: &Finding| {
        other.code == Code::ClaimedElsewhere && other.resource == finding.resource
    };
    let covered = match &condition.place {
        Some(place) => report.covered.contains(place),
        // A condition that belongs to no place was checked if the run got that far.
        None => {
            let failed = |failure: &Failure| failure.resource.is_none() && failure.region.is_none();
            !report.partial && report.left == 0 && !report.failures.iter().any(failed)
        }
    };
    !covered || report.failures.iter().any(touches) || report.findings.iter().any(elsewhere)
}

/// Sends each notice to programs, and one mail to people for all notices that have one cause.
/// Returns the failures, and the causes that somebody heard of. The two channels are independent.
async fn tell(
    notifier: &impl Notifier,
    notices: &[Notice],
) -> (Vec<Failure>, BTreeSet<notice::Cause>) {
    let mut by_cause: BTreeMap<notice::Cause, Vec<&Notice>> = BTreeMap::new();
    for notice in notices {
        by_cause.entry(notice.cause()).or_default().push(notice);
    }
    let mails = by_cause.iter().map(async |(cause, same)| match Notice::together(same) {
        Some(notice) if notice.wants_a_person() => {
            let answer = notifier.mail(&notice).await;
            (cause, answer.map_err(|error| (error, notice.name.clone())))
        }
        _ => (cause, Ok(false)),
    });
    let (mut failures, mut told, mut unheard) = (Vec::new(), BTreeSet::new(), Vec::new());
    for (cause, answer) in bounded(mails).await {
        match answer {
            Ok(true) => drop(told.insert(cause.clone())),
            Ok(false) => unheard.push(cause.clone()),
            Err((error, name)) => failures.push(Failure { name, ..Failure::from(&error) }),
        }
    }
    match notifier.events(notices).await {
        Ok(()) => told.extend(unheard),
        Err(error) => failures.push(Failure::from(&error)),
    }
    (failures, told)
}

fn untold(notice: &Notice) -> Failure {
    let message = format!("there was no time to tell: {}: {}", notice.title(), notice.message);
    Failure::from(&ProviderError {
        kind: ErrorKind::Refused,
        operation: "Publish",
        code: "NoTime".to_owned(),
        message,
    })
}
