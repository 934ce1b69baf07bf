//! Plans `create`, one resource at a time: whether its due slot is taken, why it waits, and what
//! the provider's answer means. The order is [`questions`], [`plan`], claim, request, [`settle`].

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::answer::Lookup;
use crate::finding::{Code, Finding};
use crate::ledger::record::{DUE, Fields, Identity, Recognition, Record, State, Subject};
use crate::policy::settings::Context;
use crate::policy::tags::{OptIn, Protection};
use crate::poll::may_appear;
use crate::snapshot::{
    ATTEMPTS_MAX, Instance, KEEP, MANAGED_BY, POLICY, SLOT, SOURCE, SnapshotRef, SnapshotState,
    TIMEZONE, Tags, snapshot_name_at,
};
use crate::time::{Slot, after, elapsed, format_duration};

mod settle;

pub use settle::{Outcome, Settled, Settlement, defer, settle};

/// What is known of one opted-in resource.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The instance.
    pub instance: Instance,
    /// What its tags say.
    pub protection: Protection,
    /// Since when it has been protected.
    pub protected_since: Option<Timestamp>,
    /// Its records from the due slot on, the newest before that, and all that are in flight.
    pub records: Vec<Record>,
    /// What the provider answered to the [`questions`].
    pub looks: BTreeMap<SnapshotRef, Lookup>,
}

/// What to do for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Claim the intent, then ask for the snapshot.
    Take(Box<Take>),
    /// The snapshot exists already: write this record, which says so.
    Track {
        /// Whether it replaces a record; otherwise the slot has none.
        replaces: bool,
        /// The record.
        record: Box<Record>,
    },
    /// The due slot has what it needs.
    Served,
    /// The due slot waits for this reason.
    Wait(Finding),
}

/// A slot to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// Whether the intent replaces a record; otherwise the slot has none.
    pub replaces: bool,
    /// The intent, which is written before the request.
    pub intent: Record,
    /// The residue of the failed attempt as an item of its own, which is written first.
    pub superseded: Option<Record>,
}

/// The due slot of a resource: the latest one of its schedule at or before `now`.
#[must_use]
pub fn due_slot(protection: &Protection, now: Timestamp) -> Slot {
    protection.policy.schedule.latest(&protection.policy.zone, now)
}

/// The records whose snapshots must be looked up before a plan can be made: older intents whose
/// effect is unknown, and failed attempts that are about to be repeated, because their snapshots
/// may exist after all. Where a request cannot be repeated under its name, also the intent of the
/// due slot, and its first attempt if the ledger has no record of the resource: a run that died may have
/// remembered the resource already.
#[must_use]
pub fn questions(facts: &Facts, cx: &Context<'_>) -> Vec<Record> {
    let due = due_slot(&facts.protection, cx.now);
    let asks = |record: &&Record| match record.state {
        State::Intended if record.slot == due => {
            !cx.capabilities.unique_names
                && record.effect_unknown()
                && record.intent_is_free(cx.now)
        }
        State::Intended => is_doubtful(record, cx) && record.intent_is_free(cx.now),
        State::Failed => {
            record.slot == due
                && !record.superseded
                && !record.refused_for_good
                && cx.now >= next_attempt_at(record)
        }
        _ => false,
    };
    let mut all: Vec<Record> = facts.records.iter().filter(asks).cloned().collect();
    all.dedup_by_key(|record| record.snapshot());
    let opted_in = facts.protection.opt_in == OptIn::On;
    if opted_in && !cx.capabilities.unique_names && facts.records.is_empty() {
        all.push(intent(facts, due, 1, 0, cx));
    }
    all
}

/// Plans for one resource.
#[must_use]
pub fn plan(facts: &Facts, cx: &Context<'_>) -> Verdict {
    let Facts { instance, protection, records, .. } = facts;
    if protection.opt_in != OptIn::On {
        return Verdict::Served;
    }
    let slot = due_slot(protection, cx.now);
    // The residue of an attempt may be good after all, for example after the ledger was restored.
    if records.iter().any(|r| r.slot == slot && r.superseded && is_good(r)) {
        return Verdict::Served;
    }
    let about = |code, message: String| {
        Verdict::Wait(Finding::new(code, message).of(&instance.id, &instance.name))
    };
    let record = records.iter().find(|r| r.slot == slot && !r.superseded);
    match record {
        None => {}
        Some(r) if r.state == State::Intended && !r.intent_is_free(cx.now) => {
            return about(
                Code::ClaimedElsewhere,
                format!("slot {slot} is being taken by another invocation"),
            );
        }
        // The attempt was given up, and its snapshot exists: `prune` corrects the record.
        Some(r) if r.state == State::Failed && came_about(facts, r, cx) => return Verdict::Served,
        Some(r) if matches!(r.state, State::Intended | State::Failed) => {}
        Some(_) => return Verdict::Served,
    }
    if let Some(why) = &instance.unready {
        let finding = Finding::new(Code::CreateDeferred, format!("slot {slot} waits: {why}"));
        let finding = finding.of(&instance.id, &instance.name).value(why.clone());
        return Verdict::Wait(
            finding.fix("look at the instance; the slot is taken once a snapshot can be made"),
        );
    }
    if let Some(why) = in_the_way(facts, slot, cx) {
        return about(Code::WaitingForPending, format!("slot {slot} waits: {why}"));
    }
    let first = || intent(facts, slot, 1, missed(facts, slot), cx);
    match record {
        None => looked_first(facts, &first(), false, cx).unwrap_or_else(|| {
            Verdict::Take(Box::new(Take { replaces: false, intent: first(), superseded: None }))
        }),
        Some(old) if old.state == State::Intended => looked_first(facts, old, true, cx)
            .unwrap_or_else(|| {
                let intent = old.taken_over(cx.now, cx.lease);
                Verdict::Take(Box::new(Take { replaces: true, intent, superseded: None }))
            }),
        Some(failed) => retry(facts, failed, cx),
    }
}

/// Why the due slot has no snapshot yet, as far as the ledger knows: what commands say without asking
/// the provider.
#[must_use]
pub fn waiting(facts: &Facts, cx: &Context<'_>) -> Option<Finding> {
    let take = match plan(facts, cx) {
        Verdict::Wait(finding) => return Some(finding),
        Verdict::Take(take) => take,
        Verdict::Track { .. } | Verdict::Served => return None,
    };
    let slot = take.intent.slot;
    let mut records = facts.records.iter();
    let old =
        records.find(|r| (r.slot, r.superseded, r.state) == (slot, false, State::Intended))?;
    let Instance { id, name, .. } = &facts.instance;
    let message = match old.reason == DUE {
        true => {
            format!("slot {slot} was claimed by a run that did not end; the next tick takes it")
        }
        false => format!("slot {slot} is tried again at the next tick: {}", old.reason),
    };
    Some(Finding::new(Code::CreateDeferred, message).of(id, name).fix(RETRIED_FIX))
}

/// What follows from the look that comes before a request which cannot be repeated; `None` if the
/// request may be made. A look that finds nothing counts only some time after the last request.
fn looked_first(
    facts: &Facts,
    record: &Record,
    replaces: bool,
    cx: &Context<'_>,
) -> Option<Verdict> {
    let look = facts.looks.get(&record.snapshot())?;
    let waits = |why: &str| {
        let message = format!("slot {} waits: {why}", record.slot);
        let Instance { id, name, .. } = &facts.instance;
        Some(Verdict::Wait(Finding::new(Code::WaitingForPending, message).of(id, name)))
    };
    match look {
        Lookup::Found(found) => {
            match record.recognises(found, &cx.settings.deployment, &cx.capabilities) {
                Recognition::Ours => {
                    let made = record.as_made(found, &cx.capabilities);
                    let record = made.observed(&found.state, cx.now, "it was asked for before");
                    Some(Verdict::Track { replaces, record: Box::new(record) })
                }
                _ => waits("whether its snapshot exists could not be determined"),
            }
        }
        Lookup::Missing if replaces && may_appear(record, cx) => {
            waits("its request had no answer, and its snapshot may still appear")
        }
        Lookup::Missing => None,
        Lookup::Unknown => waits("whether its snapshot exists could not be determined"),
    }
}

/// The next attempt of a slot whose last one failed, unless it is too early or all are used up.
fn retry(facts: &Facts, failed: &Record, cx: &Context<'_>) -> Verdict {
    let Fields { slot, attempt, reason, .. } = &**failed;
    let Instance { id, name, .. } = &facts.instance;
    let about = |code, message: String| Finding::new(code, message).of(id, name);
    if failed.refused_for_good {
        let message = format!("slot {slot} gets no snapshot: {reason}");
        return Verdict::Wait(about(Code::NotSupported, message).fix(NOT_SUPPORTED_FIX));
    }
    if *attempt >= ATTEMPTS_MAX {
        let message = format!(
            "all {ATTEMPTS_MAX} attempts of slot {slot} failed ({reason}); the next slot comes"
        );
        return Verdict::Wait(about(Code::AttemptsExhausted, message).fix(
            "look at the failed snapshots in the provider's console, or make a snapshot by hand",
        ));
    }
    let at = next_attempt_at(failed);
    if cx.now < at {
        let pause = format_duration(elapsed(cx.now, at));
        let message = format!(
            "attempt {attempt} of slot {slot} failed ({reason}); the next is made in {pause}"
        );
        return Verdict::Wait(about(Code::RetryLater, message));
    }
    let intent = failed.replaced_by(&intent(facts, *slot, attempt + 1, 0, cx));
    let superseded = failed.has_residue.then(|| failed.left_behind());
    Verdict::Take(Box::new(Take { replaces: true, intent, superseded }))
}

fn is_good(record: &Record) -> bool {
    matches!(record.state, State::Requested | State::Pending | State::Available)
        || record.times.get(State::Available).is_some()
}

/// Whether its snapshot may exist without our knowledge, and still be in the making.
fn is_doubtful(record: &Record, cx: &Context<'_>) -> bool {
    record.effect_unknown() && elapsed(record.asked_at(), cx.now) <= cx.settings.pending_timeout
}

/// Whether the lookup showed that a failed attempt has a good snapshot after all.
fn came_about(facts: &Facts, record: &Record, cx: &Context<'_>) -> bool {
    matches!(facts.looks.get(&record.snapshot()), Some(Lookup::Found(found))
        if record.recognises(found, &cx.settings.deployment, &cx.capabilities) == Recognition::Ours
            && found.state != SnapshotState::Error)
}

/// Why the slot waits, if it does: a resource has one snapshot in the making at a time, and one
/// that is stuck blocks no later slot.
fn in_the_way(facts: &Facts, slot: Slot, cx: &Context<'_>) -> Option<String> {
    facts.records.iter().find_map(|r| {
        if r.in_flight(cx.now, cx.settings.pending_timeout) {
            return Some(format!("{} is being made", r.name));
        }
        if (r.slot, r.superseded) == (slot, false) || !is_doubtful(r, cx) {
            return None;
        }
        if !r.intent_is_free(cx.now) {
            return Some(format!("another invocation is asking for {}", r.name));
        }
        match facts.looks.get(&r.snapshot()) {
            Some(Lookup::Missing) if may_appear(r, cx) => {
                Some(format!("the request for {} had no answer, and it may still appear", r.name))
            }
            Some(Lookup::Missing) => None,
            Some(Lookup::Found(found))
                if matches!(found.state, SnapshotState::Available | SnapshotState::Error) =>
            {
                None
            }
            Some(Lookup::Found(_)) => Some(format!("{} is being made", r.name)),
            Some(Lookup::Unknown) | None => {
                Some(format!("whether {} is being made could not be determined", r.name))
            }
        }
    })
}

/// The next attempt is made 1, 2, 4, … hours after the first, second, third, … one failed.
pub(crate) fn next_attempt_at(failed: &Record) -> Timestamp {
    let doubled = failed.attempt.clamp(1, ATTEMPTS_MAX).saturating_sub(1);
    after(failed.entered(), SignedDuration::from_hours(1 << doubled))
}

/// How many slots passed between the newest record and the due slot; without a record, since the
/// protection began.
fn missed(facts: &Facts, due: Slot) -> u32 {
    let newest = facts.records.iter().map(|r| r.slot).filter(|slot| *slot < due).max();
    let newest = newest.or(facts.protected_since.map(Slot::at));
    let policy = &facts.protection.policy;
    let count = newest.map_or(0, |newest| policy.schedule.slots_between(&policy.zone, newest, due));
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What to do about a slot that is tried again.
const RETRIED_FIX: &str =
    "do nothing unless it lasts: the request is retried at every tick until the next slot is due";

/// What to do about a resource that the provider makes no snapshots of.
const NOT_SUPPORTED_FIX: &str =
    "back this instance up by other means, and tag it off so that it is no longer reported";

/// The finding about the missed slots that a record carries: those before it that have no snapshot.
#[must_use]
pub fn missed_slots(record: &Record) -> Option<Finding> {
    let slots = if record.missed == 1 { "slot" } else { "slots" };
    // A record that failed because its slot passed counts its own slot.
    let until = if record.state == State::Failed { "up to" } else { "before" };
    let message =
        || format!("{} {slots} {until} {} passed without a snapshot", record.missed, record.slot);
    (record.missed > 0).then(|| {
        Finding::new(Code::MissedSlots, message())
            .of(&record.resource, &record.resource_name)
            .value(record.missed.to_string())
            .fix("check whether create ran at that time, and what it reported")
    })
}

fn intent(facts: &Facts, slot: Slot, attempt: u32, missed: u32, cx: &Context<'_>) -> Record {
    let Instance { id, name, place, disk, .. } = &facts.instance;
    let subject = Subject {
        resource: id.clone(),
        resource_name: name.clone(),
        place: place.clone(),
        slot,
        attempt,
        name: snapshot_name_at(
            &cx.capabilities,
            &cx.settings.deployment,
            (id, name),
            slot,
            attempt,
        ),
        identity: Identity { id: None, disk: disk.as_deref().map(Into::into) },
        policy: facts.protection.policy.text().into(),
    };
    Record::intended(subject, missed, cx.now, cx.lease)
}

/// The tags of the intent's snapshot, which explain it without the ledger.
#[must_use]
pub fn tags(intent: &Record, deployment: &str) -> Tags {
    let mut tags = Tags::from(
        [
            (MANAGED_BY, deployment),
            (SLOT, &intent.slot.to_string()),
            (SOURCE, &intent.resource.0),
            (POLICY, &intent.policy.name),
            (TIMEZONE, &intent.policy.timezone),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    // An unreadable retention is not written: without the tag, everything is kept.
    if let Some(keep) = &intent.policy.keep {
        tags.insert(KEEP.to_owned(), keep.clone());
    }
    tags
}
