//! What tests stand on: a provider and a ledger in memory, faults, and the conformance suites.
//!
//! The suites say what the ports mean; every adapter, and the memory here, is held to them. Nothing
//! here needs an async runtime: the futures in memory are ready at once.
#![expect(clippy::unwrap_used, reason = "a check that fails panics")]

pub mod conformance;
pub mod faults;
pub mod ledger;
pub mod memory;

pub use faults::Faulty;
pub use ledger::MemoryLedger;
pub use memory::MemoryProvider;
