//! What the ledger holds: a record of each (resource, slot), what is remembered of each resource,
//! and the last run of each function in a place.

pub mod lease;
pub mod protected;
pub mod record;
pub mod run;
