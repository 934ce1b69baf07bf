//! The snapshots of one resource to judge, each with its record.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::capabilities::Capabilities;
use crate::ledger::record::{Record, State};
use crate::place::Place;
use crate::prune::Seen;
use crate::snapshot::SnapshotState;
use crate::time::Slot;

/// A snapshot of ours, with its record if that agrees.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    /// What identifies it in its place.
    pub(super) key: &'a str,
    pub(super) seen: &'a Seen,
    pub(super) record: Option<&'a Record>,
    /// The record of its name, if that disagrees.
    pub(super) disagrees: Option<&'a Record>,
    /// Whether another snapshot is that of its slot and attempt.
    pub(super) is_twin: bool,
    /// Whether it counts in the rules: where its name does not identify it, only once it has a record,
    /// because a tombstone, which no list shows, may make it a twin.
    pub(super) counts: bool,
    /// Whether its deletion was begun, and the provider carries it out later: until it is gone, it
    /// counts in no rule.
    pub(super) is_leaving: bool,
}

impl Candidate<'_> {
    /// Whether it is available and counts in the rules.
    pub(super) fn is_available(&self) -> bool {
        self.seen.state == SnapshotState::Available && self.counts && !self.is_leaving
    }
}

/// Our snapshots of a resource, the newest first.
pub(super) fn candidates<'a>(
    seen: BTreeMap<&'a str, &'a Seen>,
    records: &'a [Record],
    place: &Place,
    capabilities: &Capabilities,
) -> Vec<Candidate<'a>> {
    let by_key: BTreeMap<&str, &Record> =
        records.iter().map(|record| (record.snapshot_key(), record)).collect();
    let oldest = if capabilities.unique_names { BTreeMap::new() } else { oldest(&seen) };
    let candidate = |(key, seen): (&'a str, &'a Seen)| {
        let attempt = (seen.slot, seen.attempt);
        let own = by_key.get(key).copied();
        // A record without an id is that of the oldest snapshot of its slot and attempt.
        let namesake = records.iter().find(|record| (record.slot, record.attempt) == attempt);
        let is_oldest = oldest.get(&attempt).is_some_and(|(_, first)| *first == key);
        let named = own.or(namesake.filter(|record| record.identity.id.is_none() && is_oldest));
        let is_twin =
            !capabilities.unique_names && named.is_none() && (namesake.is_some() || !is_oldest);
        let agrees =
            |r: &&Record| (r.slot, r.attempt, &r.place) == (seen.slot, seen.attempt, place);
        let record = named.filter(agrees);
        let counts = capabilities.unique_names || record.is_some();
        let is_leaving =
            capabilities.slow_deletes && record.is_some_and(|r| r.state == State::Deleting);
        let disagrees = named.filter(|r| !agrees(r));
        Candidate {
            name: seen.name(key),
            key,
            seen,
            record,
            disagrees,
            is_twin,
            counts,
            is_leaving,
        }
    };
    let mut all: Vec<Candidate<'_>> = seen.into_iter().map(candidate).collect();
    all.sort_by_key(|c| std::cmp::Reverse((c.seen.slot, c.seen.attempt, c.name, c.key)));
    all
}

/// The oldest snapshot of each slot and attempt: when it was made, and its key.
fn oldest<'a>(seen: &BTreeMap<&'a str, &'a Seen>) -> BTreeMap<(Slot, u32), (Timestamp, &'a str)> {
    let mut oldest = BTreeMap::new();
    for (key, seen) in seen {
        let made = (seen.created_at, *key);
        let first = oldest.entry((seen.slot, seen.attempt)).or_insert(made);
        *first = made.min(*first);
    }
    oldest
}
