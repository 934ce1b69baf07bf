//! Tells people what a run came to: what passed, and what lasts, once.

use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::notice::{self, Matter, Notice};

use crate::gather;
use crate::ports::{Deadline, ErrorKind, Invocation, Matters, Notifier, ProviderError};
use crate::report::{Failure, Part, Report};

/// Tells people, if there is anybody to tell. What does not work goes into the report: what lasts is told
/// by the next run.
pub async fn run(
    notifier: &impl Notifier,
    matters: &impl Matters,
    report: &mut Report,
    invocation: &Invocation<impl Deadline>,
) {
    if !notifier.listens() {
        return;
    }
    let mut passing = std::mem::take(&mut report.notices);
    passing.extend(Notice::passing(&report.findings));
    let lasting = match matters.known().await {
        Ok((known, unreadable)) => {
            let planned = notice::plan(
                report.function,
                &report.findings,
                &known,
                |finding| in_doubt(report, finding),
                invocation.now,
            );
            report.unreadable(&unreadable);
            planned
        }
        Err(error) => {
            report.failures.push(Failure::from(&error));
            Vec::new()
        }
    };
    let work = passing.into_iter().map(What::Passes).chain(lasting.into_iter().map(What::Lasts));
    let work = work.map(|what| async {
        match what {
            What::Passes(notice) => {
                let failed = match invocation.deadline.passed() {
                    // No later run tells it: what it was is in the report.
                    true => Some(untold(&notice)),
                    false => publish(notifier, &notice).await,
                };
                Part { failures: failed.into_iter().collect(), ..Part::default() }
            }
            What::Lasts(_) if invocation.deadline.passed() => Part::left(),
            What::Lasts(matter) => tell(notifier, matters, &matter).await,
        }
    });
    for part in gather::bounded(work.collect()).await {
        report.add(part);
    }
}

enum What {
    Passes(Notice),
    Lasts(Matter),
}

/// Whether the run cannot say that what it did not find is over: it left things, something of that resource
/// failed or is in other hands, or something failed and it did not see the resource.
fn in_doubt(report: &Report, finding: &Finding) -> bool {
    let resource = finding.resource.as_ref();
    let seen = resource.is_some_and(|resource| report.seen.contains(resource));
    let touches = |failure: &Failure| match &failure.resource {
        Some(failed) => resource.is_none_or(|about| about == failed),
        None => !seen,
    };
    let elsewhere = |other: &Finding| {
        other.code == Code::ClaimedElsewhere && other.resource == finding.resource
    };
    report.left > 0 || report.failures.iter().any(touches) || report.findings.iter().any(elsewhere)
}

/// Intent before effect: whoever has written the matter tells people.
async fn tell(notifier: &impl Notifier, matters: &impl Matters, matter: &Matter) -> Part {
    let mut part = Part::default();
    let Some(notice) = matter.notice() else { return part };
    let claimed = match matters.put(matter).await {
        Ok(Some(claimed)) => claimed,
        Ok(None) => return part,
        Err(error) => {
            part.failures.push(Failure::from(&error));
            return part;
        }
    };
    let failed = publish(notifier, &notice).await;
    let settled = claimed.settled(failed.is_none());
    part.failures.extend(failed);
    if let Err(error) = matters.put(&settled).await {
        part.failures.push(Failure::from(&error));
    }
    part
}

async fn publish(notifier: &impl Notifier, notice: &Notice) -> Option<Failure> {
    let error = notifier.publish(notice).await.err()?;
    Some(Failure { name: notice.name.clone(), ..Failure::from(&error) })
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
