//! The states of a record, their legal edges, and when each was entered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a record. `ARCHITECTURE.md` has a diagram of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// We intend to make the snapshot, and may have requested it.
    Intended,
    /// The provider accepted the request.
    Requested,
    /// The provider shows it as being made.
    Pending,
    /// The provider shows it as available.
    Available,
    /// It is marked: its deletion is announced.
    Expiring,
    /// We intend to delete it, and may have requested that.
    Deleting,
    /// It is confirmed to be gone: the record is a tombstone.
    Deleted,
    /// This attempt failed.
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

    /// The state's word in the ledger.
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

    /// The state of a word in the ledger.
    #[must_use]
    pub fn of(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// The legal edges. `ARCHITECTURE.md` has them in a table, with the function that walks each, and a
/// test compares the two.
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

/// When each state was last entered, to the microsecond. The table is small, because a run of
/// `prune` holds many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<State, Timestamp>", into = "BTreeMap<State, Timestamp>")]
pub struct Times([i64; State::ALL.len()]);

/// The value for a state that was never entered; no time is that long ago.
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

    /// Forgets when the state was entered.
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
