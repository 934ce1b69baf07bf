//! The pure core of snapkeep: every decision as a function of (inventory, ledger, policy, now).
//!
//! No clock, no I/O, no environment, no randomness and no hash order: the crate's dependencies and its
//! `clippy.toml` hold that. It knows no provider.
//!
//! A newcomer's map, in the order of the contract: [`tags`] and [`policy`] read what people wrote,
//! [`schedule`] turns it into slots, [`keep`] judges by retention, [`snapshot`] says what is ours,
//! [`record`] is the ledger's state machine, [`protected`] what it remembers of each resource, and
//! [`create`], [`poll`] and [`prune`] plan from them and from the provider's [`answer`]s;
//! what people should know is a [`finding`], and what they are told a [`notice`].

pub mod answer;
pub mod create;
pub mod finding;
pub mod function;
pub mod keep;
pub mod lease;
pub mod notice;
pub mod policy;
pub mod poll;
pub mod protected;
pub mod prune;
pub mod record;
pub mod resource;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod snapshot;
pub mod tags;
pub mod time;
