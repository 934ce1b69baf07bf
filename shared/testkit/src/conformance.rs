//! What the ports mean, as checks that every adapter passes: [`provider()`] and [`ledger()`].
//!
//! Plain async functions over the traits; a failed check panics with what it expected.

pub mod ledger;
pub mod provider;

pub use ledger::ledger;
pub use provider::{World, provider};
