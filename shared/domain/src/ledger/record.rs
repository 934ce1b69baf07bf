//! The ledger's record of one (resource, slot), and its state machine.

use std::ops::Deref;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ledger::lease::Lease;
use crate::place::Place;
use crate::policy::PolicyText;
use crate::resource::ResourceId;
use crate::snapshot::{Ownership, Snapshot};
use crate::time::{Slot, after, elapsed};

pub use change::Subject;
pub use state::{EDGES, State, Times};

mod change;
mod state;

/// The format that this code writes. A record of a newer one is left alone.
pub const FORMAT: u32 = 1;
/// No invocation lives longer, so an intent this old belongs to nobody any more.
pub const INVOCATION_LIFE: SignedDuration = SignedDuration::from_mins(15);
/// How far apart two looks must be before a snapshot counts as gone, or as something foreign.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// How long a tombstone stays: a year of history and a bit.
pub const TOMBSTONE_LIFE: SignedDuration = SignedDuration::from_hours(400 * 24);

/// An announced deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was announced.
    pub at: Timestamp,
    /// When it may be carried out, by the grace of that time.
    pub execute_at: Timestamp,
    /// How many available snapshots of the resource outlive it.
    pub survivors: u32,
    /// The newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Slot>,
    /// The oldest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Slot>,
}

/// One (resource, slot) of the ledger, or what a failed attempt of it left behind. Its members can be read; they
/// change only by the methods below, which walk [`EDGES`] and keep together what belongs together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(Fields);

/// The members of a [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// What is backed up: the partition key.
    pub resource: ResourceId,
    /// The slot.
    pub slot: Slot,
    /// Set on the item of a failed attempt that was superseded: its sort key is `<slot>#<attempt>`.
    #[serde(default, alias = "leftover")]
    pub superseded: bool,
    /// The attempt whose snapshot this is, from 1.
    pub attempt: u32,
    /// Format version, see [`FORMAT`].
    pub format: u32,
    /// For optimistic locking; grows by one with each write.
    pub version: u64,
    /// Where it stands.
    pub state: State,
    /// When each state was last entered.
    pub times: Times,
    /// Why it stands there.
    pub reason: String,
    /// The snapshot's name.
    pub name: String,
    /// Where it lives.
    #[serde(rename = "region")]
    pub place: Place,
    /// The name of the resource, for people.
    pub resource_name: String,
    /// The policy in force when it was made.
    pub policy: Arc<PolicyText>,
    /// Until when an intent belongs to the invocation that claimed it.
    #[serde(default, rename = "leased_until", skip_serializing_if = "Lease::is_none")]
    pub lease: Lease,
    /// How many slots before this one passed without a snapshot. Whoever moves the record on reports it,
    /// and takes it out once the report is out, so that no death of an invocation swallows it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u32,
    /// Since when asking for it by name answers "not found".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_since: Option<Timestamp>,
    /// Since when asking for it by name shows something that is not ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_since: Option<Timestamp>,
    /// The announced deletion, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Box<Mark>>,
    /// Whether a failed attempt left something at the provider.
    #[serde(default, alias = "remains")]
    pub has_residue: bool,
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

/// What a record says.
impl Record {
    /// The sort key: the slot as in the tag, with `#<attempt>` on what a failed attempt left behind.
    #[must_use]
    pub fn sort_key(&self) -> String {
        if self.superseded {
            format!("{}#{}", self.slot, self.attempt)
        } else {
            self.slot.to_string()
        }
    }

    /// The sparse index's key: the state, but for tombstones and settled failures. A failure whose missed
    /// slots nobody has reported yet is not settled.
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

    /// When the present state was entered.
    #[must_use]
    pub fn entered(&self) -> Timestamp {
        self.times.get(self.state).unwrap_or(Timestamp::MIN)
    }

    /// Whether an intent may be taken over: its invocation is over.
    #[must_use]
    pub fn intent_is_free(&self, now: Timestamp) -> bool {
        self.lease.is_free(now)
    }

    /// Whether an invocation may be about to delete its snapshot right now.
    #[must_use]
    pub fn being_deleted(&self, now: Timestamp) -> bool {
        self.state == State::Deleting && !self.intent_is_free(now)
    }

    /// Whether it is marked, and not being deleted: a rescue written then would come too late, and leave a
    /// record of what is gone.
    #[must_use]
    pub fn may_be_rescued(&self, now: Timestamp) -> bool {
        matches!(self.state, State::Expiring | State::Deleting) && !self.being_deleted(now)
    }

    /// Whether it is being made right now and so keeps a later slot waiting.
    #[must_use]
    pub fn in_flight(&self, now: Timestamp, pending_timeout: SignedDuration) -> bool {
        matches!(self.state, State::Requested | State::Pending)
            && elapsed(self.asked_at(), now) <= pending_timeout
    }

    /// When the provider took the request, as far as we know.
    #[must_use]
    pub fn asked_at(&self) -> Timestamp {
        let first = [State::Requested, State::Pending, State::Intended];
        first.into_iter().find_map(|state| self.times.get(state)).unwrap_or(Timestamp::MIN)
    }

    /// Whether the provider may have its snapshot though nobody knows: it was claimed, perhaps asked for, and
    /// no answer came.
    #[must_use]
    pub fn effect_unknown(&self) -> bool {
        self.state == State::Intended && !self.lease.is_none()
    }

    /// Whose the snapshot of its name is.
    #[must_use]
    pub fn recognises(&self, found: &Snapshot, deployment: &str) -> Recognition {
        match found.ownership(deployment) {
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

    /// Whose the snapshot is that the provider took the request for. Its tags may be gone by now; only another
    /// origin says that it is something else.
    #[must_use]
    pub fn recognises_origin(&self, found: &Snapshot) -> Recognition {
        match &found.source {
            source if source.0.is_empty() => Recognition::Unknown,
            source if *source == self.resource => Recognition::Ours,
            _ => Recognition::Foreign,
        }
    }
}

/// Whose a snapshot is that has a record's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// It is the record's.
    Ours,
    /// The provider does not tell (yet) of what it was taken.
    Unknown,
    /// It is something else. Tags come late, so that it takes two looks, some time apart, to believe it.
    Foreign,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::SnapshotState;

    /// What the ledger's index and people's queries are written with.
    const WORDS: &str = "intended requested pending available expiring deleting deleted failed";

    #[test]
    fn the_table_has_no_dead_end_and_no_short_cut_to_a_deletion() {
        for state in State::ALL {
            assert!(EDGES.iter().any(|(from, to)| *from == state && *to != state), "{state:?}");
            assert!(EDGES.iter().any(|(from, to)| *to == state && *from != state), "{state:?}");
        }
        // Nothing is deleted without a mark, and nothing is marked that is not there.
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
            })),
            has_residue: true,
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
            // A mark lives through its deletion, and what a failed attempt left through its failure.
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
