//! The basis of the tests: a provider and a ledger in memory, the conformance suites, and the
//! simulator.
//!
//! The suites define the meaning of the ports; every adapter, and the memory here, must pass them.
//! Nothing here needs an async runtime: the futures in memory are ready at once.
#![expect(clippy::unwrap_used, reason = "a check that fails panics")]

pub mod conformance;
pub mod ledger;
pub mod memory;
pub mod reference;
pub mod simulation;
pub mod still;

use snapkeep_domain::ledger::record::{Fields, Record};
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::SnapshotRef;

pub use ledger::MemoryLedger;
pub use memory::MemoryProvider;

/// A snapshot that is asked for by its name alone.
#[must_use]
pub fn named(place: &Place, name: &str) -> SnapshotRef {
    let source = ResourceId(String::new());
    SnapshotRef { place: place.clone(), source, name: name.to_owned(), id: None }
}

/// Changes a record past its state machine, as a ledger that somebody wrote into may hold it.
pub fn alter(record: &mut Record, change: impl FnOnce(&mut Fields)) {
    let mut fields = Fields::from(record.clone());
    change(&mut fields);
    *record = Record::stored(fields);
}
