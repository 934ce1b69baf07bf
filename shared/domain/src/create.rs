//! Plans `create`: which due slots to take, which to wait for, and why.

use jiff::{SignedDuration, Timestamp};

use crate::finding::{Code, Finding};
use crate::record::{FORMAT, INVOCATION_LIFE, Record, State};
use crate::snapshot::{
    ATTEMPTS_MAX, Instance, KEEP, MANAGED_BY, Ownership, POLICY, ResourceId, SLOT, SOURCE,
    Snapshot, SnapshotState, TIMEZONE, Tags, snapshot_name,
};
use crate::tags::{OptIn, Protection};
use crate::time::{Slot, after, humane, since};

/// What is known of one opted-in resource.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The resource.
    pub instance: Instance,
    /// What its tags say.
    pub protection: Protection,
    /// Its records from the due slot on, the newest before that, and all that are in flight.
    pub records: Vec<Record>,
    /// Its snapshots, as far as they could be listed.
    pub snapshots: Vec<Snapshot>,
}

/// What to do for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Claim `intent`, then ask for the snapshot.
    Take {
        /// The record that the intent replaces; none when the slot is new.
        from: Option<Box<Record>>,
        /// The intent to write before anything is asked for.
        intent: Box<Record>,
        /// An item of its own for what the failed attempt left behind, written first.
        leftover: Option<Box<Record>>,
    },
    /// The slot's snapshot exists already, the ledger lost it: record it.
    Track {
        /// The new record.
        record: Box<Record>,
    },
    /// The due slot has what it needs.
    Served,
    /// Not now, for this reason.
    Wait(Finding),
}

/// A resource with its verdict.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The resource.
    pub instance: Instance,
    /// What to do.
    pub verdict: Verdict,
}

/// The due slot of a resource: the latest one of its schedule at or before `now`.
#[must_use]
pub fn due_slot(protection: &Protection, now: Timestamp) -> Slot {
    protection.policy.schedule.latest(&protection.policy.zone, now)
}

/// Plans for all resources; the least protected come first.
#[must_use]
pub fn plan(
    facts: &[Facts],
    deployment: &str,
    pending_timeout: SignedDuration,
    now: Timestamp,
) -> Vec<Planned> {
    let mut order: Vec<(Option<Slot>, &ResourceId, &Facts)> =
        facts.iter().map(|f| (newest_good(f), &f.instance.id, f)).collect();
    order.sort_by_key(|(newest, id, _)| (*newest, *id));
    let planned = |(_, _, f): (_, _, &Facts)| Planned {
        instance: f.instance.clone(),
        verdict: verdict(f, deployment, pending_timeout, now),
    };
    order.into_iter().map(planned).collect()
}

/// Whether the facts' snapshots can be believed: they show what the ledger knows, and that is something.
///
/// A list may come back empty or stale, and a ledger may have lost its newest records. When neither
/// vouches for the other, [`names`] are to be asked for one by one.
#[must_use]
pub fn is_credible(facts: &Facts) -> bool {
    let known = facts.records.iter().filter(|r| {
        matches!(r.state, State::Requested | State::Pending | State::Available | State::Expiring)
    });
    let mut known = known.map(|r| facts.snapshots.iter().any(|s| s.name == r.name)).peekable();
    known.peek().is_some() && known.all(|shown| shown)
}

/// The names that the attempts of the due slot have.
#[must_use]
pub fn names(facts: &Facts, deployment: &str, now: Timestamp) -> Vec<String> {
    let Instance { id, name, .. } = &facts.instance;
    let slot = due_slot(&facts.protection, now);
    (1..=ATTEMPTS_MAX).map(|attempt| snapshot_name(deployment, id, name, slot, attempt)).collect()
}

/// The newest slot that has, or soon has, a good snapshot.
fn newest_good(facts: &Facts) -> Option<Slot> {
    let good = |r: &&Record| !matches!(r.state, State::Intended | State::Failed | State::Deleted);
    facts.records.iter().filter(good).map(|r| r.slot).max()
}

fn verdict(
    facts: &Facts,
    deployment: &str,
    pending_timeout: SignedDuration,
    now: Timestamp,
) -> Verdict {
    let Facts { instance, protection, records, snapshots } = facts;
    if protection.opt_in != OptIn::On {
        return Verdict::Served;
    }
    let slot = due_slot(protection, now);
    let about =
        |code, message: String| Finding::new(code, message).of(&instance.id, &instance.name);
    let wait = |code, message: String| Verdict::Wait(about(code, message));

    // What an attempt left behind may turn out well after all, as after a restored ledger.
    let good = |r: &Record| {
        matches!(r.state, State::Requested | State::Pending | State::Available)
            || r.times.contains_key(&State::Available)
    };
    if records.iter().any(|r| r.slot == slot && r.leftover && good(r)) {
        return Verdict::Served;
    }
    let record = records.iter().find(|r| r.slot == slot && !r.leftover);
    match record.map(|r| r.state) {
        None => {}
        Some(State::Intended) if record.is_some_and(|r| !r.intent_is_free(now)) => {
            return wait(
                Code::ClaimedElsewhere,
                format!("slot {slot} is being taken by another invocation right now"),
            );
        }
        Some(State::Intended | State::Failed) => {}
        Some(_) => return Verdict::Served,
    }

    let ours: Vec<(&Snapshot, Slot, u32)> = snapshots
        .iter()
        .filter(|s| s.source == instance.id)
        .filter_map(|s| match s.ownership(deployment) {
            Ownership::Ours { slot, attempt } => Some((s, slot, attempt)),
            Ownership::LookAlike(_) | Ownership::Foreign => None,
        })
        .collect();
    let of_slot = || ours.iter().filter(|(_, at, _)| *at == slot);
    let recorded = |s: &Snapshot| records.iter().any(|r| r.name == s.name);
    let mut good = of_slot().filter(|(s, ..)| s.state != SnapshotState::Error);
    if let Some((found, _, attempt)) = good.clone().find(|(s, ..)| !recorded(s)) {
        // The slot is of today's schedule; the retention stays that of its tags, since the policy may
        // have changed after it was made.
        let mut record = Record::adopted(found, slot, *attempt, now);
        record.policy.schedule = protection.policy.text().schedule;
        return Verdict::Track { record: Box::new(record) };
    }
    // It was given up, and there it is: `prune` corrects the record.
    if record.is_some_and(|r| r.state == State::Failed) && good.next().is_some() {
        return Verdict::Served;
    }

    // One snapshot of an instance at a time; one that is stuck blocks no later slot.
    let in_flight = records.iter().find(|r| r.in_flight(now, pending_timeout)).map(|r| &r.name);
    let shown = ours.iter().find(|(s, ..)| {
        s.state == SnapshotState::Pending
            && !recorded(s)
            && since(s.created_at, now) <= pending_timeout
    });
    if let Some(name) = in_flight.or(shown.map(|(s, ..)| &s.name)) {
        return wait(
            Code::WaitingForPending,
            format!("slot {slot} waits while {name} is being made"),
        );
    }

    let taken_names = of_slot().map(|(_, _, attempt)| *attempt).max().unwrap_or(0);
    match record {
        None if taken_names >= ATTEMPTS_MAX => wait(
            Code::AttemptsExhausted,
            format!("all {ATTEMPTS_MAX} attempts of slot {slot} failed; the next slot comes"),
        ),
        None => Verdict::Take {
            from: None,
            intent: Box::new(Record {
                missed: missed(facts, slot),
                ..intent(facts, deployment, slot, taken_names + 1, now)
            }),
            leftover: None,
        },
        Some(old) if old.state == State::Intended => {
            let mut intent = old.moved(State::Intended, now, "taken over");
            intent.leased_until = Some(after(now, INVOCATION_LIFE));
            intent.missed = old.missed;
            Verdict::Take {
                from: Some(Box::new(old.clone())),
                intent: Box::new(intent),
                leftover: None,
            }
        }
        Some(old) if old.attempt >= ATTEMPTS_MAX => wait(
            Code::AttemptsExhausted,
            format!(
                "all {ATTEMPTS_MAX} attempts of slot {slot} failed ({}); the next slot comes",
                old.reason
            ),
        ),
        Some(old) => {
            let again = after(old.entered(), backoff(old.attempt));
            if now < again {
                return wait(
                    Code::RetryLater,
                    format!(
                        "attempt {} of slot {slot} failed ({}); the next is made in {}",
                        old.attempt,
                        old.reason,
                        humane(since(now, again))
                    ),
                );
            }
            let attempt = taken_names.max(old.attempt) + 1;
            if attempt > ATTEMPTS_MAX {
                return wait(
                    Code::AttemptsExhausted,
                    format!(
                        "all {ATTEMPTS_MAX} attempts of slot {slot} failed; the next slot comes"
                    ),
                );
            }
            let mut next = intent(facts, deployment, slot, attempt, now);
            next.version = old.version;
            next.times = old.moved(State::Intended, now, "").times;
            let leftover =
                old.remains.then(|| Box::new(Record { leftover: true, version: 0, ..old.clone() }));
            Verdict::Take { from: Some(Box::new(old.clone())), intent: Box::new(next), leftover }
        }
    }
}

/// 1, 2, 4, … hours after the first, second, third, … attempt.
fn backoff(attempt: u32) -> SignedDuration {
    SignedDuration::from_hours(1 << attempt.clamp(1, ATTEMPTS_MAX).saturating_sub(1))
}

/// How many slots passed between the newest record and the due slot.
fn missed(facts: &Facts, due: Slot) -> u32 {
    let newest = facts.records.iter().map(|r| r.slot).filter(|slot| *slot < due).max();
    let policy = &facts.protection.policy;
    let count = newest.map_or(0, |newest| policy.schedule.slots_between(&policy.zone, newest, due));
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What to report of an intent once it is moved on: the slots before it that have no snapshot.
#[must_use]
pub fn missed_slots(intent: &Record) -> Option<Finding> {
    let message =
        || format!("{} slots before {} passed without a snapshot", intent.missed, intent.slot);
    (intent.missed > 0).then(|| {
        Finding::new(Code::MissedSlots, message())
            .of(&intent.resource, &intent.resource_name)
            .value(intent.missed.to_string())
            .fix("see whether create ran, and what it reported, in that time")
    })
}

fn intent(facts: &Facts, deployment: &str, slot: Slot, attempt: u32, now: Timestamp) -> Record {
    let Instance { id, name, region, .. } = &facts.instance;
    Record {
        resource: id.clone(),
        slot,
        leftover: false,
        attempt,
        format: FORMAT,
        version: 0,
        state: State::Intended,
        times: [(State::Intended, now)].into(),
        reason: "due".to_owned(),
        name: snapshot_name(deployment, id, name, slot, attempt),
        region: region.clone(),
        resource_name: name.clone(),
        policy: facts.protection.policy.text(),
        leased_until: Some(after(now, INVOCATION_LIFE)),
        missed: 0,
        missing_since: None,
        mark: None,
        remains: false,
    }
}

/// The tags that the intent's snapshot gets: it explains itself without the ledger.
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
    // A retention that cannot be read is not written down: without the tag everything is kept.
    if let Some(keep) = &intent.policy.keep {
        tags.insert(KEEP.to_owned(), keep.clone());
    }
    tags
}
