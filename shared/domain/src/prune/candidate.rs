//! The snapshots of one resource to judge, each with its record.

use std::collections::BTreeMap;

use crate::ledger::record::Record;
use crate::place::Place;
use crate::prune::Seen;
use crate::snapshot::SnapshotState;

/// A snapshot of ours, with its record if that agrees.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) seen: &'a Seen,
    pub(super) record: Option<&'a Record>,
    /// The record of its name, if that disagrees.
    pub(super) disagrees: Option<&'a Record>,
}

impl Candidate<'_> {
    pub(super) fn is_available(&self) -> bool {
        self.seen.state == SnapshotState::Available
    }
}

/// Our snapshots of a resource, the newest first.
pub(super) fn candidates<'a>(
    seen: BTreeMap<&'a str, &'a Seen>,
    records: &'a [Record],
    place: &Place,
) -> Vec<Candidate<'a>> {
    let by_name: BTreeMap<&str, &Record> = records.iter().map(|r| (r.name.as_str(), r)).collect();
    let candidate = |(name, seen): (&'a str, &'a Seen)| {
        let named = by_name.get(name).copied();
        let agrees =
            |r: &&Record| (r.slot, r.attempt, &r.place) == (seen.slot, seen.attempt, place);
        let record = named.filter(agrees);
        Candidate { name, seen, record, disagrees: named.filter(|r| !agrees(r)) }
    };
    let mut all: Vec<Candidate<'_>> = seen.into_iter().map(candidate).collect();
    all.sort_by_key(|c| std::cmp::Reverse((c.seen.slot, c.seen.attempt, c.name)));
    all
}
