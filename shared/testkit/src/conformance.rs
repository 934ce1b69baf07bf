//! The meaning of the ports, as checks that every adapter passes: [`provider()`] and [`ledger()`].
//!
//! They are plain async functions over the traits; a failed check panics with what it expected.

pub mod ledger;
pub mod provider;

pub use ledger::ledger;
pub use provider::{World, provider};
