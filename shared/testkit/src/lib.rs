//! What tests stand on: a provider and a ledger in memory, the conformance suites, and
//! the simulator.
//!
//! The suites say what the ports mean; every adapter, and the memory here, is held to them. Nothing
//! here needs an async runtime: the futures in memory are ready at once.
#![expect(clippy::unwrap_used, reason = "a check that fails panics")]

pub mod conformance;
pub mod ledger;
pub mod memory;
pub mod reference;
pub mod simulation;
pub mod still;

pub use ledger::MemoryLedger;
pub use memory::MemoryProvider;
