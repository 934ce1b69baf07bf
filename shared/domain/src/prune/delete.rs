//! The last steps of a deletion: the last look at the snapshot itself, and the meaning
//! of the answer.

use crate::answer::{ErrorKind, Lookup, ProviderError};
use crate::finding::{Code, Finding};
use crate::ledger::record::{Recognition, Record};
use crate::policy::settings::Context;
use crate::snapshot::{Snapshot, SnapshotState};

/// The result of the last look, or of the provider's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastLook {
    /// Delete it, or count it as deleted.
    Delete,
    /// It is gone already: `poll` writes the tombstone.
    Gone,
    /// The intent stands; a later run looks again.
    Wait,
    /// Ask again in this run.
    Again,
    /// There is an objection: write this record, if any, and report the finding.
    Object {
        /// The record as the provider shows its snapshot.
        next: Option<Box<Record>>,
        /// The reason.
        finding: Box<Finding>,
    },
}

/// Judges a last look at the snapshot itself: it must be ours, not held by its own tag, and in the
/// state that the plan judged. Any difference is an objection, and the next plan judges anew.
#[must_use]
pub fn last_look(
    intent: &Record,
    judged: &SnapshotState,
    look: &Lookup,
    cx: &Context<'_>,
) -> LastLook {
    let found = match look {
        Lookup::Found(found) => found,
        Lookup::Missing => return LastLook::Gone,
        Lookup::Unknown => return LastLook::Wait,
    };
    let (_, zone) = intent.policy.retention();
    let held = found.hold().is_some_and(|hold| hold.holds(cx.now, &zone));
    let why = match intent.recognises(found, &cx.settings.deployment, &cx.capabilities) {
        Recognition::Unknown => "the provider does not tell of what it was taken",
        Recognition::Foreign => "it is no longer ours",
        Recognition::Ours if held => "it is held",
        Recognition::Ours if found.state != *judged => "its state has changed since it was judged",
        Recognition::Ours if !found.deletable => "the provider does not delete it in its state",
        Recognition::Ours => return LastLook::Delete,
    };
    object(intent, found, why, cx)
}

/// Settles a deletion by the provider's answer. A plain refusal had no effect, so the record goes
/// back to the state of its snapshot. After other errors the intent stands, and the next look
/// decides.
#[must_use]
pub fn settle(
    intent: &Record,
    found: &Snapshot,
    answer: &Result<(), ProviderError>,
    cx: &Context<'_>,
) -> LastLook {
    match answer {
        Ok(()) => LastLook::Delete,
        Err(error) => match error.kind {
            ErrorKind::NotFound | ErrorKind::UnderWay => LastLook::Gone,
            ErrorKind::Throttled | ErrorKind::Busy => LastLook::Again,
            ErrorKind::Denied | ErrorKind::NotSupported | ErrorKind::Refused => {
                object(intent, found, &error.to_string(), cx)
            }
            _ => LastLook::Wait,
        },
    }
}

fn object(intent: &Record, found: &Snapshot, why: &str, cx: &Context<'_>) -> LastLook {
    let settled = matches!(found.state, SnapshotState::Available | SnapshotState::Error);
    let next = settled
        .then(|| Box::new(intent.observed(&found.state, cx.now, &format!("not deleted: {why}"))));
    let message = format!("{} is not deleted: {why}", intent.name);
    let finding =
        Finding::new(Code::DeleteRefused, message).of(&intent.resource, &intent.resource_name);
    LastLook::Object { next, finding: Box::new(finding) }
}
