//! The ledger's record of one (resource, slot), and its state machine.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::answer::Lookup;
use crate::capabilities::Capabilities;
use crate::ledger::lease::Lease;
use crate::place::Place;
use crate::policy::PolicyText;
use crate::resource::ResourceId;
use crate::snapshot::{Ownership, Snapshot, SnapshotRef};
use crate::time::{Slot, after, elapsed};

pub use change::Subject;
pub use history::{Change, HISTORY_MAX, History};
pub use state::{EDGES, State, Times};

mod change;
mod history;
mod state;

/// The format that this code writes. A record of a newer format is left alone.
pub const FORMAT: u32 = 1;
/// The reason of an intent that nothing has happened to yet.
pub const DUE: &str = "due";
/// No invocation lives longer, so an intent of this age no longer belongs to any.
pub const INVOCATION_LIFE: SignedDuration = SignedDuration::from_mins(15);
/// How far apart two looks must be before a snapshot counts as gone or as foreign.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// How long a tombstone stays: a little more than a year.
pub const TOMBSTONE_LIFE: SignedDuration = SignedDuration::from_hours(400 * 24);

/// An announced deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was announced.
    pub at: Timestamp,
    /// When it may be carried out, by the grace at the time of the mark.
    pub execute_at: Timestamp,
    /// How many available snapshots of the resource outlive it.
    pub survivors: u32,
    /// The newest of these snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Slot>,
    /// The oldest of these snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Slot>,
    /// The size of the snapshot in GB, which nobody can ask for once it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u32>,
}

impl Mark {
    /// What outlives it, for people.
    #[must_use]
    pub fn outlive(&self) -> String {
        match (self.newest, self.oldest) {
            (Some(newest), Some(oldest)) if newest != oldest => {
                format!("{} outlive it, of the slots from {oldest} to {newest}", self.survivors)
            }
            (Some(only), _) => format!("{} outlives it, of slot {only}", self.survivors),
            (None, _) => "none that is available outlives it".to_owned(),
        }
    }
}

/// What identifies a snapshot, where its name does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The provider's id, as soon as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    /// The disk that it is taken of, where the provider states that as its origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Box<str>>,
}

impl Identity {
    fn is_empty(&self) -> bool {
        self.id.is_none() && self.disk.is_none()
    }
}

/// The ledger's record of one (resource, slot), or of the residue of one of its failed attempts.
/// Its members can be read; they change only by its methods, which follow [`EDGES`] and keep the
/// members consistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(Fields);

/// The members of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// The resource: the partition key.
    pub resource: ResourceId,
    /// The slot.
    pub slot: Slot,
    /// Whether this is the item of a superseded failed attempt: its sort key is `<slot>#<attempt>`.
    #[serde(default, alias = "leftover")]
    pub superseded: bool,
    /// The attempt whose snapshot this is, from 1.
    pub attempt: u32,
    /// The format version, see [`FORMAT`].
    pub format: u32,
    /// The version for optimistic locking; each write increments it.
    pub version: u64,
    /// The state.
    pub state: State,
    /// When each state was last entered.
    pub times: Times,
    /// The reason for the state.
    pub reason: String,
    /// The snapshot's name.
    pub name: String,
    /// What identifies the snapshot, where its name does not.
    #[serde(default, skip_serializing_if = "Identity::is_empty")]
    pub identity: Identity,
    /// Whether it was adopted by name and origin alone, so that nobody knows its retention.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopted_untagged: bool,
    /// Whether the provider refused the attempt for good: the slot gets no other.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refused_for_good: bool,
    /// The place of the snapshot.
    #[serde(rename = "region")]
    pub place: Place,
    /// The name of the resource, for people.
    pub resource_name: String,
    /// The policy in force when the record was made.
    pub policy: Arc<PolicyText>,
    /// The time until which an intent belongs to the invocation that claimed it.
    #[serde(default, rename = "leased_until", skip_serializing_if = "Lease::is_none")]
    pub lease: Lease,
    /// How many slots before this one passed without a snapshot. The run that moves the record on
    /// reports them, and clears them once the report is out, so that they are reported even if an
    /// invocation dies.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u32,
    /// Since when a lookup by name has answered "not found".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// Since when a lookup by name has shown something that is not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_since: Option<Timestamp>,
    /// The announced deletion, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Box<Mark>>,
    /// Whether a failed attempt left a residue at the provider.
    #[serde(default, alias = "remains")]
    pub has_residue: bool,
    /// How its state came to be.
    #[serde(default, skip_serializing)]
    pub history: History,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl From<Record> for Fields {
    fn from(record: Record) -> Fields {
        record.0
    }
}

impl Deref for Record {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl Record {
    /// The sort key: the slot as in the tag, with `#<attempt>` for the residue of a failed attempt.
    #[must_use]
    pub fn sort_key(&self) -> String {
        if self.superseded {
            format!("{}#{}", self.slot, self.attempt)
        } else {
            self.slot.to_string()
        }
    }

    /// Whether both have the same sort key.
    #[must_use]
    pub fn is_same_item(&self, other: &Record) -> bool {
        let attempt = |record: &Record| record.superseded.then_some(record.attempt);
        (self.slot, attempt(self)) == (other.slot, attempt(other))
    }

    /// What its snapshot is asked for by.
    #[must_use]
    pub fn snapshot(&self) -> SnapshotRef {
        let Fields { place, resource, name, identity, .. } = &self.0;
        SnapshotRef {
            place: place.clone(),
            source: resource.clone(),
            name: name.clone(),
            id: identity.id.clone(),
        }
    }

    /// The state, which is the sparse index's key; `None` for tombstones and settled failures. A
    /// failure whose missed slots nobody has reported yet is not settled.
    #[must_use]
    pub fn live(&self) -> Option<State> {
        match self.state {
            State::Deleted => None,
            State::Failed if !self.has_residue && self.missed == 0 => None,
            state => Some(state),
        }
    }

    /// When the item may vanish from the ledger: tombstones and settled failures only.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self.live() {
            Some(_) => None,
            None => self.times.get(self.state).map(|entered| after(entered, TOMBSTONE_LIFE)),
        }
    }

    /// When the current state was entered.
    #[must_use]
    pub fn entered(&self) -> Timestamp {
        self.times.get(self.state).unwrap_or(Timestamp::MIN)
    }

    /// Whether an intent may be taken over, because its invocation is over.
    #[must_use]
    pub fn intent_is_free(&self, now: Timestamp) -> bool {
        self.lease.is_free(now)
    }

    /// Whether an invocation may be about to delete its snapshot.
    #[must_use]
    pub fn being_deleted(&self, now: Timestamp) -> bool {
        self.state == State::Deleting && !self.intent_is_free(now)
    }

    /// Whether it is marked, and not being deleted: a rescue during the deletion would come too
    /// late, and leave a record of a snapshot that is gone.
    #[must_use]
    pub fn may_be_rescued(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Expiring | State::Deleting) && !self.being_deleted(now)
    }

    /// Whether its snapshot is being made, so that a later slot waits.
    #[must_use]
    pub fn in_flight(&self, now: Timestamp, pending_timeout: SignedDuration) -> bool {
        matches!(self.state, State::Requested | State::Pending)
            && elapsed(self.asked_at(), now) <= pending_timeout
    }

    /// When the provider accepted the request, as far as we know.
    #[must_use]
    pub fn asked_at(&self) -> Timestamp {
        let first = [State::Requested, State::Pending, State::Intended];
        first.into_iter().find_map(|state| self.times.get(state)).unwrap_or(Timestamp::MIN)
    }

    /// Whether the provider may have its snapshot without our knowledge: it was claimed, perhaps
    /// requested, and no answer came.
    #[must_use]
    pub fn effect_unknown(&self) -> bool {
        self.state == State::Intended && !self.lease.is_none()
    }

    /// What identifies its snapshot in its place, as far as it is known.
    #[must_use]
    pub fn snapshot_key(&self) -> &str {
        self.identity.id.as_deref().unwrap_or(&self.name)
    }

    /// The snapshot of the record among those that a lookup showed. If several could be it, it is
    /// the oldest one.
    #[must_use]
    pub fn look(
        &self,
        found: Vec<Snapshot>,
        deployment: &str,
        capabilities: &Capabilities,
    ) -> Lookup {
        let own = |one: &Snapshot| match (&self.identity.id, capabilities.unique_names) {
            (_, true) => true,
            (Some(id), false) => **id == one.id,
            (None, false) => match self.recognises(one, deployment, capabilities) {
                Recognition::Ours => true,
                Recognition::Unknown => one.name == self.name,
                Recognition::Foreign => false,
            },
        };
        let all = found.into_iter().filter(own);
        let first = all.min_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        first.map_or(Lookup::Missing, |found| Lookup::Found(Box::new(found)))
    }

    /// Whether a snapshot that was looked up for it is the record's.
    #[must_use]
    pub fn recognises(
        &self,
        found: &Snapshot,
        deployment: &str,
        capabilities: &Capabilities,
    ) -> Recognition {
        if !self.can_be(found) {
            return Recognition::Foreign;
        }
        let found = self.traced(found);
        match found.ownership(deployment, capabilities) {
            _ if found.source.0.is_empty() => Recognition::Unknown,
            Ownership::Ours { slot, attempt }
                if (slot, attempt) == (self.slot, self.attempt)
                    && found.source == self.resource =>
            {
                Recognition::Ours
            }
            _ => Recognition::Foreign,
        }
    }

    /// Whether the snapshot that the provider accepted the request for is still the record's. Its
    /// tags may be gone by now; only another id or origin shows that it is something else.
    #[must_use]
    pub fn recognises_origin(&self, found: &Snapshot) -> Recognition {
        match &self.traced(found).source {
            _ if !self.can_be(found) => Recognition::Foreign,
            source if source.0.is_empty() => Recognition::Unknown,
            source if *source == self.resource => Recognition::Ours,
            _ => Recognition::Foreign,
        }
    }

    /// Whether neither id nor disk shows that it is another snapshot.
    fn can_be(&self, found: &Snapshot) -> bool {
        let same = |own: &Option<Box<str>>, other: Option<&str>| match (own, other) {
            (Some(own), Some(other)) => **own == *other,
            _ => true,
        };
        same(&self.identity.id, Some(&found.id)) && same(&self.identity.disk, found.disk.as_deref())
    }

    /// A snapshot of the record's disk was taken of the record's resource.
    fn traced<'a>(&self, found: &'a Snapshot) -> Cow<'a, Snapshot> {
        let own = (&self.resource, self.resource_name.as_str());
        found.traced(|disk| (self.identity.disk.as_deref() == Some(disk)).then_some(own))
    }
}

/// Whether a snapshot that has a record's name is the record's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// It is the record's.
    Ours,
    /// The provider does not say (yet) what it was taken from.
    Unknown,
    /// It is something else. Tags come late, so that only two looks, some time apart, prove it.
    Foreign,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotState;

    /// The names of the states in the ledger's index and in people's queries.
    const WORDS: &str = "intended requested pending available expiring deleting deleted failed";

    #[test]
    fn the_table_has_no_dead_end_and_no_short_cut_to_a_deletion() {
        for state in State::ALL {
            assert!(EDGES.iter().any(|(from, to)| *from == state && *to != state), "{state:?}");
            assert!(EDGES.iter().any(|(from, to)| *to == state && *from != state), "{state:?}");
        }
        // Nothing is deleted without a mark, and only what exists is marked.
        let into = |state| EDGES.iter().filter(move |(_, to)| *to == state).map(|(from, _)| *from);
        assert!(
            into(State::Deleting).all(|from| [State::Expiring, State::Deleting].contains(&from))
        );
        let marked = [State::Available, State::Failed, State::Expiring];
        assert!(into(State::Expiring).all(|from| marked.contains(&from)));
    }

    fn record(state: State) -> Record {
        let at: Timestamp = "2026-11-20T03:00:00Z".parse().unwrap();
        Record(Fields {
            resource: ResourceId("id".to_owned()),
            slot: Slot::at(at),
            superseded: false,
            attempt: 1,
            format: FORMAT,
            version: 1,
            state,
            times: [(state, at)].into(),
            reason: "before".to_owned(),
            name: "name".to_owned(),
            identity: Identity::default(),
            adopted_untagged: false,
            refused_for_good: false,
            place: "eu-west-1".parse().unwrap(),
            resource_name: "web".to_owned(),
            policy: PolicyText {
                name: "default".to_owned(),
                schedule: None,
                keep: None,
                timezone: "UTC".to_owned(),
            }
            .into(),
            lease: Lease::until(at),
            missed: 2,
            missing_since: Some(at),
            foreign_since: Some(at),
            mark: Some(Box::new(Mark {
                at,
                execute_at: at,
                survivors: 0,
                newest: None,
                oldest: None,
                size_gb: None,
            })),
            has_residue: true,
            history: History::default(),
        })
    }

    #[test]
    fn a_move_notes_the_time_of_a_new_state_and_drops_what_belonged_to_the_old_one() {
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        for (from, to) in EDGES {
            let old = record(*from);
            let new = old.moved(*to, now, "after");
            assert_eq!((new.state, new.reason.as_str()), (*to, "after"));
            assert_eq!(new.entered(), if from == to { old.entered() } else { now }, "{to:?}");
            assert_eq!(
                (new.lease, new.missing_since, new.foreign_since),
                (Lease::NONE, None, None)
            );
            assert_eq!(new.missed, old.missed, "until it is reported");
            // A mark lasts through its deletion, and a residue through its failure.
            let marked = matches!(to, State::Expiring | State::Deleting | State::Deleted);
            assert_eq!(new.mark.is_some(), marked, "{from:?} {to:?}");
            assert_eq!(new.has_residue, *to == State::Failed, "{from:?} {to:?}");
        }
    }

    #[test]
    fn only_an_error_leaves_something_behind() {
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        let pending = record(State::Pending);
        for (state, to) in [
            (SnapshotState::Available, State::Available),
            (SnapshotState::Error, State::Failed),
            (SnapshotState::Other("odd".to_owned()), State::Pending),
        ] {
            let next = pending.observed(&state, now, "seen");
            assert_eq!((next.state, next.has_residue), (to, to == State::Failed));
        }
    }

    #[test]
    fn what_is_settled_is_not_live_and_expires() {
        for state in State::ALL {
            let Record(mut fields) = record(state);
            assert_eq!(
                Record::stored(fields.clone()).live(),
                (state != State::Deleted).then_some(state)
            );
            (fields.has_residue, fields.missed) = (false, 0);
            let one = Record::stored(fields);
            let settled = matches!(state, State::Deleted | State::Failed);
            assert_eq!(one.live().is_none(), settled, "{state:?}");
            let expires = one.expires_at();
            assert_eq!(expires, settled.then(|| after(one.entered(), TOMBSTONE_LIFE)));
        }
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        assert_eq!(words.join(" "), WORDS);
    }
}
