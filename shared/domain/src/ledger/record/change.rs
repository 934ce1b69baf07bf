//! Begins and changes records. Nothing else sets their members.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Change, DUE, EDGES, FORMAT, Fields, History, Identity, Mark, Record, State, Times};
use crate::capabilities::Capabilities;
use crate::function::Function;
use crate::ledger::lease::Lease;
use crate::place::Place;
use crate::policy::{PolicyText, PolicyTexts};
use crate::resource::ResourceId;
use crate::snapshot::{MANAGED_BY, Snapshot, SnapshotState};
use crate::time::Slot;

/// The subject of a new record; the method that begins it sets the state.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The resource.
    pub resource: ResourceId,
    /// The resource's name.
    pub resource_name: String,
    /// The place of the snapshot.
    pub place: Place,
    /// The slot.
    pub slot: Slot,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The snapshot's name.
    pub name: String,
    /// What identifies the snapshot, where its name does not.
    pub identity: Identity,
    /// The policy under which the snapshot is made.
    pub policy: Arc<PolicyText>,
}

impl Subject {
    fn begin(self, times: Times, reason: &str, lease: Lease) -> Record {
        let Subject { resource, resource_name, place, slot, attempt, name, identity, policy } =
            self;
        Record(Fields {
            resource,
            slot,
            superseded: false,
            attempt,
            format: FORMAT,
            version: 0,
            state: State::Intended,
            times,
            reason: reason.to_owned(),
            name,
            identity,
            adopted_untagged: false,
            refused_for_good: false,
            place,
            resource_name,
            policy,
            lease,
            missed: 0,
            missing_since: None,
            foreign_since: None,
            mark: None,
            has_residue: false,
            history: History::default(),
        })
    }
}

impl Record {
    /// A record with these members, as a ledger holds it.
    #[must_use]
    pub fn stored(fields: Fields) -> Self {
        Record(fields)
    }

    /// The intent to make a snapshot, claimed by an invocation until `lease` ends; `missed` slots
    /// passed before it.
    #[must_use]
    pub fn intended(subject: Subject, missed: u32, now: Timestamp, lease: Lease) -> Self {
        let intent = subject.begin([(State::Intended, now)].into(), DUE, lease);
        intent.with(|next| next.missed = missed).noted(None, now)
    }

    /// The record of a snapshot of ours that has none, in the state that the provider shows.
    #[must_use]
    pub fn adopted(
        subject: Subject,
        created_at: Timestamp,
        shown: &SnapshotState,
        now: Timestamp,
    ) -> Self {
        let times = [(State::Requested, created_at)].into();
        let adopted = subject.begin(times, "", Lease::NONE);
        adopted.observed(shown, now, "adopted from the provider").noted(None, now)
    }
}

impl Record {
    fn with(mut self, change: impl FnOnce(&mut Fields)) -> Self {
        change(&mut self.0);
        self
    }

    /// Notes for the history that its state is another than before.
    fn noted(mut self, from: Option<State>, at: Timestamp) -> Self {
        let Fields { state: to, attempt, .. } = self.0;
        let reason = self.0.reason.clone();
        self.0.history.next =
            Some(Box::new(Change { at, function: None, from, to, attempt, reason }));
        self
    }

    /// The same record, whose next change of state this function makes.
    #[must_use]
    pub fn by(mut self, function: Function) -> Self {
        if let Some(change) = &mut self.0.history.next {
            change.function.get_or_insert(function);
        }
        self
    }

    /// The record as the ledger holds it with these changes.
    #[must_use]
    pub fn with_history(self, past: Vec<Change>) -> Self {
        self.with(|next| next.history = History { past, next: None })
    }

    /// The same record moved to `state`; the ledger's compare-and-set increments the version.
    #[must_use]
    pub fn moved(&self, state: State, now: Timestamp, reason: impl Into<String>) -> Self {
        debug_assert!(EDGES.contains(&(self.state, state)), "{:?} to {state:?}", self.state);
        let moved = self.clone().with(|next| {
            if next.state != state {
                next.times.insert(state, now);
            }
            next.state = state;
            next.reason = reason.into();
            next.lease = Lease::NONE;
            next.missing_since = None;
            next.foreign_since = None;
            if !matches!(state, State::Expiring | State::Deleting | State::Deleted) {
                next.mark = None;
            }
            next.has_residue = state == State::Failed && self.has_residue;
        });
        // Of several changes in one write, the history tells the first state and the last.
        let earlier = self.history.next.as_ref();
        let from = earlier.map_or(Some(self.state), |change| change.from);
        if earlier.is_some() || self.state != state { moved.noted(from, now) } else { moved }
    }

    /// The same record in the state in which the provider now shows its snapshot.
    #[must_use]
    pub fn observed(&self, shown: &SnapshotState, now: Timestamp, reason: &str) -> Self {
        let state = match shown {
            SnapshotState::Pending | SnapshotState::Other(_) => State::Pending,
            SnapshotState::Available => State::Available,
            SnapshotState::Error => State::Failed,
        };
        self.moved(state, now, reason).with(|next| next.has_residue = state == State::Failed)
    }

    /// An intent that another invocation left, claimed by this one.
    #[must_use]
    pub fn taken_over(&self, now: Timestamp, lease: Lease) -> Self {
        self.moved(State::Intended, now, "taken over").with(|next| {
            // The request that is made now is the one whose effect may be unknown later.
            next.times.insert(State::Intended, now);
            next.lease = lease;
            next.foreign_since = self.foreign_since;
        })
    }

    /// A new intent that replaces this failed attempt.
    #[must_use]
    pub fn replaced_by(&self, intent: &Record) -> Self {
        let next =
            intent.clone().with(|next| (next.version, next.missed) = (self.version, self.missed));
        let at = next.entered();
        next.noted(Some(self.state), at)
    }

    /// The residue of this failed attempt as an item of its own; the missed slots stay with the
    /// slot's record.
    #[must_use]
    pub fn left_behind(&self) -> Self {
        self.superseded().with(|item| (item.version, item.missed) = (0, 0))
    }

    /// The same record as an item of its own, beside that of the slot.
    #[must_use]
    pub fn superseded(&self) -> Self {
        self.clone().with(|item| item.superseded = true)
    }

    /// An intent that is kept for the next tick; without a lease if it cannot have had an effect.
    #[must_use]
    pub fn deferred(&self, reason: String, lease: Lease) -> Self {
        self.clone().with(|next| (next.reason, next.lease) = (reason, lease))
    }

    /// An intent whose slot passed without a snapshot.
    #[must_use]
    pub fn slot_passed(&self, now: Timestamp) -> Self {
        let failed = self.moved(State::Failed, now, "its slot passed before it could be taken");
        failed.with(|next| next.missed = self.missed.saturating_add(1))
    }

    /// An intent whose snapshot exists, with the retention under which the snapshot was made,
    /// because the policy may have changed since. The schedule stays that of the intent, because
    /// the slot is of it. A snapshot without tags says nothing of its retention.
    #[must_use]
    pub fn as_made(&self, found: &Snapshot, capabilities: &Capabilities) -> Self {
        let schedule = self.policy.schedule.clone();
        let mut identified = self.identified(found, capabilities);
        // The instance may have had another name then.
        identified.0.name.clone_from(&found.name);
        if !found.tags.contains_key(MANAGED_BY) {
            return identified;
        }
        identified.with(|next| next.policy = PolicyText { schedule, ..found.policy_text() }.into())
    }

    /// The record with the id of its snapshot, where that identifies it.
    #[must_use]
    pub fn identified(&self, found: &Snapshot, capabilities: &Capabilities) -> Self {
        self.clone().with(|next| {
            if !capabilities.unique_names {
                next.identity.id = Some(found.id.as_str().into());
            }
            let disk = found.disk.as_deref().map(Into::into);
            next.identity.disk = disk.or(next.identity.disk.take());
        })
    }

    /// The record with the id that the provider gave the snapshot.
    #[must_use]
    pub fn with_id(&self, id: Option<Box<str>>) -> Self {
        self.clone().with(|next| next.identity.id = id)
    }

    /// A failed attempt that the provider refused for good.
    #[must_use]
    pub fn refused(&self, now: Timestamp, reason: impl Into<String>) -> Self {
        self.moved(State::Failed, now, reason).with(|next| next.refused_for_good = true)
    }

    /// The adopted record of a snapshot without tags.
    #[must_use]
    pub fn untagged(self) -> Self {
        self.with(|next| next.adopted_untagged = true)
    }

    /// The record with a deletion that is announced.
    #[must_use]
    pub fn marked(&self, mark: Mark, reason: impl Into<String>) -> Self {
        let marked = self.moved(State::Expiring, mark.at, reason);
        let outlive = mark.outlive();
        marked.with(|next| {
            next.mark = Some(Box::new(mark));
            if let Some(change) = &mut next.history.next {
                change.reason = format!("{}; {outlive}", change.reason);
            }
        })
    }

    /// The intent to delete, claimed by an invocation until `lease` ends.
    #[must_use]
    pub fn deleting(&self, now: Timestamp, lease: Lease) -> Self {
        let intent = self.moved(State::Deleting, now, self.reason.clone());
        intent.with(|next| next.lease = lease)
    }

    /// Notes since when a lookup by name has answered "not found"; `None` if it no longer does.
    #[must_use]
    pub fn missing(&self, since: Option<Timestamp>) -> Self {
        self.clone().with(|next| next.missing_since = since)
    }

    /// Notes since when a lookup by name has shown something that is not ours.
    #[must_use]
    pub fn foreign(&self, since: Timestamp) -> Self {
        self.clone().with(|next| next.foreign_since = Some(since))
    }

    /// The failed attempt without its residue, which is gone.
    #[must_use]
    pub fn without_residue(&self) -> Self {
        self.missing(None).with(|next| next.has_residue = false)
    }

    /// The record after its missed slots were reported.
    #[must_use]
    pub fn missed_reported(&self) -> Self {
        self.clone().with(|next| next.missed = 0)
    }

    /// The same record with a policy text that all records with this text share.
    #[must_use]
    pub fn sharing(mut self, texts: &mut PolicyTexts) -> Self {
        self.0.policy = texts.shared(self.0.policy);
        self
    }

    /// The record as the ledger holds it under this version.
    #[must_use]
    pub fn at_version(&self, version: u64) -> Self {
        self.clone().with(|next| (next.version, next.history.next) = (version, None))
    }
}
