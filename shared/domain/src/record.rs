//! The ledger's record of one (resource, slot), and its state machine.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::lease::Lease;
use crate::policy::{PolicyText, PolicyTexts};
use crate::resource::ResourceId;
use crate::snapshot::{Ownership, Snapshot, SnapshotState};
use crate::time::{Slot, after, elapsed};

/// The format that this code writes. A record of a newer one is left alone.
pub const FORMAT: u32 = 1;
/// No invocation lives longer, so an intent this old belongs to nobody any more.
pub const INVOCATION_LIFE: SignedDuration = SignedDuration::from_mins(15);
/// How far apart two looks must be before a snapshot counts as gone, or as something foreign.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// How long a tombstone stays: a year of history and a bit.
pub const TOMBSTONE_LIFE: SignedDuration = SignedDuration::from_hours(400 * 24);

/// Where a record stands. See `ARCHITECTURE.md` for the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// We mean to make it; perhaps we asked already.
    Intended,
    /// The provider accepted the request.
    Requested,
    /// The provider shows it as being made.
    Pending,
    /// The provider says so.
    Available,
    /// Marked: its deletion is announced.
    Expiring,
    /// We mean to delete it; perhaps we asked already.
    Deleting,
    /// Gone, confirmed: a tombstone.
    Deleted,
    /// This attempt came to nothing.
    Failed,
}

impl State {
    /// All states, in the order of a snapshot's life.
    pub const ALL: [State; 8] = [
        State::Intended,
        State::Requested,
        State::Pending,
        State::Available,
        State::Expiring,
        State::Deleting,
        State::Deleted,
        State::Failed,
    ];

    /// The word in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Intended => "intended",
            State::Requested => "requested",
            State::Pending => "pending",
            State::Available => "available",
            State::Expiring => "expiring",
            State::Deleting => "deleting",
            State::Deleted => "deleted",
            State::Failed => "failed",
        }
    }
}

/// The legal edges; the table with who walks each is in `ARCHITECTURE.md`, and a test compares the two.
pub const EDGES: &[(State, State)] = {
    use State::*;
    &[
        (Intended, Intended),
        (Intended, Requested),
        (Intended, Pending),
        (Intended, Available),
        (Intended, Failed),
        (Requested, Requested),
        (Requested, Pending),
        (Requested, Available),
        (Requested, Failed),
        (Pending, Pending),
        (Pending, Available),
        (Pending, Failed),
        (Available, Available),
        (Available, Expiring),
        (Available, Deleted),
        (Expiring, Expiring),
        (Expiring, Available),
        (Expiring, Failed),
        (Expiring, Deleting),
        (Expiring, Deleted),
        (Deleting, Deleting),
        (Deleting, Available),
        (Deleting, Failed),
        (Deleting, Deleted),
        (Deleted, Available),
        (Deleted, Deleted),
        (Failed, Intended),
        (Failed, Failed),
        (Failed, Pending),
        (Failed, Available),
        (Failed, Expiring),
    ]
};

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
    pub region: String,
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

/// When each state was last entered, to the microsecond: a small table, because a run of `prune` holds many
/// records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<State, Timestamp>", into = "BTreeMap<State, Timestamp>")]
pub struct Times([i64; State::ALL.len()]);

/// Stands for a state that was never entered; no time is that long ago.
const NEVER: i64 = i64::MIN;

impl Default for Times {
    fn default() -> Self {
        Times([NEVER; State::ALL.len()])
    }
}

impl Times {
    /// When the state was last entered.
    #[must_use]
    pub fn get(&self, state: State) -> Option<Timestamp> {
        self.0.get(state as usize).and_then(|micros| Timestamp::from_microsecond(*micros).ok())
    }

    /// Notes that the state was entered.
    pub fn insert(&mut self, state: State, at: Timestamp) {
        if let Some(time) = self.0.get_mut(state as usize) {
            *time = at.as_microsecond();
        }
    }

    /// Forgets the state.
    pub fn remove(&mut self, state: State) {
        if let Some(time) = self.0.get_mut(state as usize) {
            *time = NEVER;
        }
    }
}

impl From<BTreeMap<State, Timestamp>> for Times {
    fn from(times: BTreeMap<State, Timestamp>) -> Self {
        times.into_iter().collect()
    }
}

impl FromIterator<(State, Timestamp)> for Times {
    fn from_iter<T: IntoIterator<Item = (State, Timestamp)>>(times: T) -> Self {
        let mut all = Times::default();
        times.into_iter().for_each(|(state, at)| all.insert(state, at));
        all
    }
}

impl<const N: usize> From<[(State, Timestamp); N]> for Times {
    fn from(times: [(State, Timestamp); N]) -> Self {
        times.into_iter().collect()
    }
}

impl From<Times> for BTreeMap<State, Timestamp> {
    fn from(times: Times) -> Self {
        State::ALL.into_iter().filter_map(|state| Some((state, times.get(state)?))).collect()
    }
}

/// What a new record is about; its state follows from the method that begins it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What is backed up.
    pub resource: ResourceId,
    /// Its name.
    pub resource_name: String,
    /// Where it lives.
    pub region: String,
    /// The slot.
    pub slot: Slot,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The snapshot's name.
    pub name: String,
    /// The policy that the snapshot is made by.
    pub policy: Arc<PolicyText>,
}

impl Subject {
    fn begin(self, times: Times, reason: &str, lease: Lease) -> Record {
        let Subject { resource, resource_name, region, slot, attempt, name, policy } = self;
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
            region,
            resource_name,
            policy,
            lease,
            missed: 0,
            missing_since: None,
            foreign_since: None,
            mark: None,
            has_residue: false,
        })
    }
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

/// How a record begins.
impl Record {
    /// A record with these members, as a ledger held them.
    #[must_use]
    pub fn stored(fields: Fields) -> Self {
        Record(fields)
    }

    /// The intent to make a snapshot, claimed by an invocation until `lease` ends. `missed` slots passed before it.
    #[must_use]
    pub fn intended(subject: Subject, missed: u32, now: Timestamp, lease: Lease) -> Self {
        let intent = subject.begin([(State::Intended, now)].into(), "due", lease);
        intent.with(|next| next.missed = missed)
    }

    /// The record of a snapshot of ours that has none, as the provider shows it.
    #[must_use]
    pub fn adopted(
        subject: Subject,
        created_at: Timestamp,
        shown: &SnapshotState,
        now: Timestamp,
    ) -> Self {
        let times = [(State::Requested, created_at)].into();
        subject.begin(times, "", Lease::NONE).observed(shown, now, "adopted from the provider")
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

/// How a record changes.
impl Record {
    fn with(&self, change: impl FnOnce(&mut Fields)) -> Self {
        let mut next = self.clone();
        change(&mut next.0);
        next
    }

    /// The same record moved to `state`; the ledger's compare-and-set raises the version.
    #[must_use]
    pub fn moved(&self, state: State, now: Timestamp, reason: impl Into<String>) -> Self {
        debug_assert!(EDGES.contains(&(self.state, state)), "{:?} to {state:?}", self.state);
        self.with(|next| {
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
        })
    }

    /// The same record as the provider now shows its snapshot.
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
            next.lease = lease;
            next.foreign_since = self.foreign_since;
        })
    }

    /// A new intent in the place of this failed attempt.
    #[must_use]
    pub fn replaced_by(&self, intent: &Record) -> Self {
        intent.with(|next| (next.version, next.missed) = (self.version, self.missed))
    }

    /// An item of its own for what this failed attempt left behind; its missed slots stay with the slot's record.
    #[must_use]
    pub fn left_behind(&self) -> Self {
        self.superseded().with(|item| (item.version, item.missed) = (0, 0))
    }

    /// The same record as an item of its own, beside that of the slot.
    #[must_use]
    pub fn superseded(&self) -> Self {
        self.with(|item| item.superseded = true)
    }

    /// An intent that is kept for the next tick; `free` when nothing can have come of it.
    #[must_use]
    pub fn deferred(&self, reason: String, free: bool) -> Self {
        self.with(|next| {
            next.reason = reason;
            if free {
                next.lease = Lease::NONE;
            }
        })
    }

    /// An intent whose slot passed without a snapshot.
    #[must_use]
    pub fn slot_passed(&self, now: Timestamp) -> Self {
        let failed = self.moved(State::Failed, now, "its slot passed before it could be taken");
        failed.with(|next| next.missed = self.missed.saturating_add(1))
    }

    /// An intent whose snapshot is there already, with the retention under which it was made: the policy may have
    /// changed since. The slot is of today's schedule.
    #[must_use]
    pub fn as_made(&self, found: &Snapshot) -> Self {
        let schedule = self.policy.schedule.clone();
        self.with(|next| next.policy = PolicyText { schedule, ..found.policy_text() }.into())
    }

    /// The deletion is announced.
    #[must_use]
    pub fn marked(&self, mark: Mark, reason: impl Into<String>) -> Self {
        let marked = self.moved(State::Expiring, mark.at, reason);
        marked.with(|next| next.mark = Some(Box::new(mark)))
    }

    /// The intent to delete, claimed by an invocation until `lease` ends.
    #[must_use]
    pub fn deleting(&self, now: Timestamp, lease: Lease) -> Self {
        let intent = self.moved(State::Deleting, now, self.reason.clone());
        intent.with(|next| next.lease = lease)
    }

    /// Asking for it by name has answered "not found" since then, or does not any more.
    #[must_use]
    pub fn missing(&self, since: Option<Timestamp>) -> Self {
        self.with(|next| next.missing_since = since)
    }

    /// Asking for it by name has shown something that is not ours since then.
    #[must_use]
    pub fn foreign(&self, since: Timestamp) -> Self {
        self.with(|next| next.foreign_since = Some(since))
    }

    /// A failed attempt whose residue is gone.
    #[must_use]
    pub fn without_residue(&self) -> Self {
        self.missing(None).with(|next| next.has_residue = false)
    }

    /// The slots that it missed are reported.
    #[must_use]
    pub fn missed_reported(&self) -> Self {
        self.with(|next| next.missed = 0)
    }

    /// The same record, whose policy text is held once for all that have the same.
    #[must_use]
    pub fn sharing(mut self, texts: &mut PolicyTexts) -> Self {
        self.0.policy = texts.shared(self.0.policy);
        self
    }

    /// The record as the ledger holds it under this version.
    #[must_use]
    pub fn at_version(&self, version: u64) -> Self {
        self.with(|next| next.version = version)
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
            region: "region".to_owned(),
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
            let mut one = record(state);
            assert_eq!(one.live(), (state != State::Deleted).then_some(state));
            one = one.with(|one| (one.has_residue, one.missed) = (false, 0));
            let settled = matches!(state, State::Deleted | State::Failed);
            assert_eq!(one.live().is_none(), settled, "{state:?}");
            let expires = one.expires_at();
            assert_eq!(expires, settled.then(|| after(one.entered(), TOMBSTONE_LIFE)));
        }
        let words: Vec<&str> = State::ALL.iter().map(|state| state.as_str()).collect();
        assert_eq!(words.join(" "), WORDS);
    }
}
