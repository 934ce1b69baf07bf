//! Plans `poll`: what the provider's answers mean for the records that are under way.

use jiff::Timestamp;

use crate::answer::Lookup;
use crate::finding::{Code, Finding};
use crate::ledger::record::{GONE_AFTER, Recognition, Record, State};
use crate::policy::settings::Context;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::time::{after, elapsed, format_duration};

/// The states that `poll` follows.
pub const FOLLOWED: [State; 4] =
    [State::Intended, State::Requested, State::Pending, State::Deleting];

/// The step for one record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The record to write, if anything changed.
    pub next: Option<Record>,
    /// The finding to report.
    pub finding: Option<Finding>,
}

/// Whether to look this record's snapshot up: an intent that an invocation works on is left alone.
#[must_use]
pub fn wants_look(record: &Record, now: Timestamp) -> bool {
    record.state != State::Intended || record.intent_is_free(now)
}

/// Plans the step for one record.
#[must_use]
pub fn settle(record: &Record, look: &Lookup, cx: &Context<'_>) -> Step {
    match (record.state, look) {
        (_, Lookup::Unknown) => Step::default(),
        (State::Intended, _) => intended(record, look, cx),
        (State::Requested | State::Pending, _) => requested(record, look, cx),
        (State::Deleting, Lookup::Missing) => Step {
            next: Some(record.moved(State::Deleted, cx.now, record.reason.clone())),
            finding: None,
        },
        // The snapshot still exists: `prune` looks again and deletes again.
        (State::Deleting, Lookup::Found(_)) => Step::default(),
        (State::Available | State::Expiring | State::Deleted | State::Failed, _) => Step::default(),
    }
}

fn about(record: &Record, code: Code, message: String) -> Finding {
    Finding::new(code, message).of(&record.resource, &record.resource_name)
}

/// Settles an intent that no invocation works on any more; its snapshot may have been requested.
fn intended(record: &Record, look: &Lookup, cx: &Context<'_>) -> Step {
    match look {
        Lookup::Found(snapshot) => {
            match record.recognises(snapshot, &cx.settings.deployment, &cx.capabilities) {
                Recognition::Ours => {
                    observed(&record.as_made(snapshot, &cx.capabilities), snapshot, cx.now)
                }
                Recognition::Unknown => Step::default(),
                Recognition::Foreign => doubted(record, cx.now),
            }
        }
        Lookup::Missing if slot_passed(record, cx.now) && !may_appear(record, cx) => {
            let message =
                format!("slot {} passed without a snapshot: {}", record.slot, record.reason);
            Step {
                next: Some(record.slot_passed(cx.now)),
                finding: Some(about(record, Code::MissedSlots, message).value("1")),
            }
        }
        Lookup::Missing | Lookup::Unknown => Step::default(),
    }
}

/// Settles a snapshot whose request the provider accepted.
fn requested(record: &Record, look: &Lookup, cx: &Context<'_>) -> Step {
    let now = cx.now;
    match (look, record.missing_since) {
        (Lookup::Unknown, _) => Step::default(),
        (Lookup::Found(snapshot), _) => match record.recognises_origin(snapshot) {
            Recognition::Ours => followed(record, snapshot, cx),
            Recognition::Unknown => Step::default(),
            Recognition::Foreign => doubted(record, now),
        },
        (Lookup::Missing, Some(first)) if elapsed(first, now) >= GONE_AFTER => {
            let message = format!("{} is gone while pending", record.name);
            let finding = about(record, Code::AttemptFailed, message);
            Step {
                next: Some(record.moved(State::Failed, now, "gone while pending")),
                finding: Some(finding.value(record.attempt.to_string())),
            }
        }
        (Lookup::Missing, Some(_)) => Step::default(),
        (Lookup::Missing, None) => Step { next: Some(record.missing(Some(now))), finding: None },
    }
}

/// Notes what the provider shows, and reports a snapshot that takes too long.
fn followed(record: &Record, snapshot: &Snapshot, cx: &Context<'_>) -> Step {
    let known = record.identified(snapshot, &cx.capabilities);
    let mut step = observed(&known, snapshot, cx.now);
    if step.next.is_none() && known != *record {
        step.next = Some(known);
    }
    let waiting = step.next.as_ref().unwrap_or(record);
    step.finding = pending_too_long(waiting, cx).or(step.finding.take());
    step
}

/// The finding about a snapshot that takes too long.
#[must_use]
pub fn pending_too_long(record: &Record, cx: &Context<'_>) -> Option<Finding> {
    let age = elapsed(record.asked_at(), cx.now);
    if record.state != State::Pending || age <= cx.settings.pending_timeout {
        return None;
    }
    let message = format!("{} has been pending for {}", record.name, format_duration(age));
    let fix = "look at the snapshot in the provider's console; later slots are taken regardless";
    let finding = about(record, Code::PendingTooLong, message);
    Some(finding.value(record.name.clone()).fix(fix))
}

fn observed(record: &Record, snapshot: &Snapshot, now: Timestamp) -> Step {
    let failed = snapshot.state == SnapshotState::Error;
    let reason = if failed { "the provider reports an error" } else { "as the provider shows it" };
    let next = record.observed(&snapshot.state, now, reason);
    if next.state == record.state
        && record.missing_since.is_none()
        && record.foreign_since.is_none()
    {
        return Step::default();
    }
    let finding = failed.then(|| {
        let message = format!("the provider reports an error for {}", record.name);
        about(record, Code::AttemptFailed, message)
            .value(record.attempt.to_string())
            .fix("look at the instance if the next attempt, which is made automatically, fails too")
    });
    Step { next: Some(next), finding }
}

/// Handles a name that belongs to something that is not ours. Tags and origin may come late, so the
/// second look decides.
fn doubted(record: &Record, now: Timestamp) -> Step {
    match foreign(record, now) {
        Some(noted) if noted == *record => Step::default(),
        Some(noted) => Step { next: Some(noted), finding: None },
        None => name_taken(record, now),
    }
}

/// The record with the first foreign look noted; `None` if a look long enough ago was foreign, too.
#[must_use]
pub fn foreign(record: &Record, now: Timestamp) -> Option<Record> {
    match record.foreign_since {
        Some(first) if elapsed(first, now) >= GONE_AFTER => None,
        Some(_) => Some(record.clone()),
        None => Some(record.foreign(now)),
    }
}

/// The step for an attempt whose name belongs to something that is not ours.
#[must_use]
pub fn name_taken(record: &Record, now: Timestamp) -> Step {
    Step {
        next: Some(record.moved(State::Failed, now, "its name is taken by something foreign")),
        finding: Some(
            about(
                record,
                Code::AttemptFailed,
                format!("the name {} is taken by something that is not ours", record.name),
            )
            .value(record.attempt.to_string())
            .fix("rename or remove the resource that has this name; the next attempt uses another name"),
        ),
    }
}

/// Whether a snapshot that a look did not show may still appear: where a request cannot be repeated,
/// only a look some time after it counts. The run that holds the intent may ask until its lease ends.
#[must_use]
pub fn may_appear(record: &Record, cx: &Context<'_>) -> bool {
    !cx.capabilities.unique_names
        && record.effect_unknown()
        && !record.lease.is_free(after(cx.now, -GONE_AFTER))
}

/// Whether the record's slot is no longer the latest of the schedule that made it.
fn slot_passed(record: &Record, now: Timestamp) -> bool {
    match record.policy.schedule() {
        Some((schedule, zone)) => schedule.latest(&zone, now) > record.slot,
        None => true,
    }
}
