//! The pure core of snapkeep: every decision is a function of (inventory, ledger, policy, now).
//!
//! It has no clock, no I/O, no environment, no randomness and no hash order: the crate's
//! dependencies and its `clippy.toml` ensure that. It knows no provider.
//!
//! A newcomer's map: [`policy`] is what people configure: the variables, the tags, and what
//! schedules and retention rules mean. [`snapshot`] is what the provider shows, and which of it is
//! ours; [`answer`] is what the provider answers, and
//! [`capabilities`] what it can do. [`ledger`] is what we remember and intend.
//! [`create`], [`poll`] and [`prune`] plan from these three, and leave what a [`drill`] made alone; a [`forecast`] steps them ahead, and an
//! [`audit`] looks back. A [`finding`] is what people should know, and a [`notice`] is what they are
//! sent. [`time`], [`place`], [`resource`] and [`function`]
//! are the terms that all of them use.

pub mod answer;
pub mod audit;
pub mod capabilities;
pub mod create;
pub mod drill;
pub mod finding;
pub mod forecast;
pub mod function;
pub mod ledger;
pub mod notice;
pub mod place;
pub mod policy;
pub mod poll;
pub mod prune;
pub mod quota;
pub mod resource;
pub mod snapshot;
pub mod time;
