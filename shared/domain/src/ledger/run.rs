//! The last run of a function in a place, as the ledger remembers it. It is also the lane's lease:
//! while a run holds a lane, no other run of the function enters it. Claims make that safe, not the
//! lease.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::function::Function;
use crate::ledger::lease::Lease;
use crate::place::Place;

/// What a run did in a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The function that ran.
    pub function: Function,
    /// The place.
    pub place: Place,
    /// When it began.
    pub at: Timestamp,
    /// When the last run that also ended began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    /// How many seconds it took; 0 while it runs.
    #[serde(default)]
    pub seconds: u64,
    /// Its counters.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
    /// How many failures it reported.
    #[serde(default)]
    pub failures: u64,
    /// How many items it left for the next run.
    #[serde(default)]
    pub left: u64,
    /// Whether any snapshot of the place ever showed a tag.
    #[serde(default)]
    pub shows_tags: bool,
    /// The time until which the lane belongs to a run.
    #[serde(default, rename = "held_until", skip_serializing_if = "Lease::is_none")]
    pub lease: Lease,
    /// The format of the item.
    pub format: u32,
    /// The version, for optimistic locking; 0 means not written yet.
    pub version: u64,
}

impl LastRun {
    /// When the last run that also ended began, as far as that is known: it gave its lease back.
    #[must_use]
    pub fn finished(&self) -> Option<Timestamp> {
        self.finished.or_else(|| self.lease.is_none().then_some(self.at))
    }
}
