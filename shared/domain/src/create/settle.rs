//! What the provider's answer to a request for a snapshot means for its intent.

use crate::answer::{ErrorKind, Lookup, ProviderError};
use crate::create::{NOT_SUPPORTED_FIX, RETRIED_FIX};
use crate::finding::{Code, Finding};
use crate::ledger::lease::Lease;
use crate::ledger::record::{Recognition, Record, State};
use crate::policy::settings::Context;
use crate::poll::{foreign, name_taken};
use crate::snapshot::SnapshotState;
use crate::time::after;

/// What the answer to a request for a snapshot means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The name is taken: look up whose it is, and settle again.
    Look,
    /// Ask again in this run, by the same name.
    Again,
    /// Write this record and report the rest.
    Write(Box<Settlement>),
}

/// The result of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The record to write.
    pub next: Record,
    /// The outcome of the request.
    pub outcome: Outcome,
    /// The finding to report.
    pub finding: Option<Finding>,
}

/// The outcome of a request for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider accepted it.
    Requested,
    /// The snapshot exists: it was requested before.
    Tracked,
    /// The attempt failed.
    Failed,
    /// The intent is kept for the next tick.
    Deferred,
}

/// Settles an intent by the provider's answer and, if the name is taken, by a lookup of the name.
/// `lost` means that an earlier answer in this run was lost, so that the effect is unknown whatever
/// this answer says.
#[must_use]
pub fn settle(
    intent: &Record,
    answer: &Result<Option<Box<str>>, ProviderError>,
    look: Option<&Lookup>,
    lost: bool,
    cx: &Context<'_>,
) -> Settled {
    let write = |next: Record, outcome, finding| {
        Settled::Write(Box::new(Settlement { next, outcome, finding }))
    };
    let error = match answer {
        Ok(id) => {
            let next = intent.with_id(id.clone()).moved(
                State::Requested,
                cx.now,
                "the provider took the request",
            );
            return write(next, Outcome::Requested, None);
        }
        Err(error) => error,
    };
    if error.kind.effect_unknown() && !cx.capabilities.unique_names {
        return Settled::Write(Box::new(defer(intent, error, true, cx)));
    }
    if error.kind.transient() {
        return Settled::Again;
    }
    if error.kind == ErrorKind::NotSupported {
        return Settled::Write(Box::new(not_supported(intent, error, cx)));
    }
    if error.kind != ErrorKind::NameTaken {
        return Settled::Write(Box::new(defer(intent, error, lost, cx)));
    }
    match look {
        None => Settled::Look,
        Some(Lookup::Found(found)) => {
            match intent.recognises(found, &cx.settings.deployment, &cx.capabilities) {
                Recognition::Ours if found.state == SnapshotState::Error => {
                    let next = intent.as_made(found, &cx.capabilities).observed(
                        &found.state,
                        cx.now,
                        "the provider reports an error",
                    );
                    let message = format!("the provider reports an error for {}", intent.name);
                    let finding = Finding::new(Code::AttemptFailed, message)
                    .of(&intent.resource, &intent.resource_name)
                    .value(intent.attempt.to_string())
                    .fix("look at the instance if the next attempt, which is made automatically, fails too");
                    write(next, Outcome::Failed, Some(finding))
                }
                Recognition::Ours => {
                    let again = "it was asked for before";
                    let made = intent.as_made(found, &cx.capabilities);
                    let next = made.moved(State::Requested, cx.now, again);
                    write(next, Outcome::Tracked, None)
                }
                Recognition::Unknown => Settled::Write(Box::new(defer(intent, error, lost, cx))),
                Recognition::Foreign => doubt(intent, error, lost, cx),
            }
        }
        // No snapshot has the name: a resource of another kind has it, or the request was made just
        // now.
        Some(Lookup::Missing) => doubt(intent, error, lost, cx),
        Some(Lookup::Unknown) => Settled::Write(Box::new(defer(intent, error, lost, cx))),
    }
}

/// The provider refuses the resource for good.
fn not_supported(intent: &Record, error: &ProviderError, cx: &Context<'_>) -> Settlement {
    let next = intent.refused(cx.now, error.to_string());
    let message = format!("{} cannot be snapshotted: {error}", intent.resource_name);
    let finding = Finding::new(Code::NotSupported, message)
        .of(&intent.resource, &intent.resource_name)
        .value(error.code.clone())
        .fix(NOT_SUPPORTED_FIX);
    Settlement { next, outcome: Outcome::Failed, finding: Some(finding) }
}

/// The name belongs to something that is not ours, which is believed at the second look.
fn doubt(intent: &Record, error: &ProviderError, lost: bool, cx: &Context<'_>) -> Settled {
    match foreign(intent, cx.now) {
        Some(noted) => Settled::Write(Box::new(defer(&noted, error, lost, cx))),
        None => {
            let step = name_taken(intent, cx.now);
            Settled::Write(Box::new(Settlement {
                next: step.next.unwrap_or_else(|| intent.clone()),
                outcome: Outcome::Failed,
                finding: step.finding,
            }))
        }
    }
}

/// Keeps the intent, because its snapshot is not at fault. After a plain refusal, it is free for
/// the next tick. If the effect may have happened, it is free once this invocation must be over; where
/// the request cannot be repeated, its lease ends now, because a look counts only some time after it.
#[must_use]
pub fn defer(intent: &Record, error: &ProviderError, lost: bool, cx: &Context<'_>) -> Settlement {
    let lease = match lost || error.kind.effect_unknown() {
        false => Lease::NONE,
        true if cx.capabilities.unique_names => intent.lease,
        true => Lease::until(after(cx.now, cx.elapsed)),
    };
    let next = intent.deferred(error.to_string(), lease);
    let finding = Finding::new(
        Code::CreateDeferred,
        format!("slot {} is tried again at the next tick: {error}", intent.slot),
    )
    .of(&intent.resource, &intent.resource_name)
    .value(error.code.clone())
    .fix(match error.kind {
        ErrorKind::Denied => "check the permissions of the create function",
        ErrorKind::Quota => "delete snapshots that are not needed, or have the quota raised",
        ErrorKind::NameTaken => {
            "rename or remove the resource that has this name, unless it is a snapshot of ours"
        }
        _ => RETRIED_FIX,
    });
    Settlement { next, outcome: Outcome::Deferred, finding: Some(finding) }
}
