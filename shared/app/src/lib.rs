//! Ports and the three runners: each gathers the facts, plans, applies the plan, and reports. This
//! crate knows no provider.
//!
//! A run consists of lanes, one for each place (`lane`); the code of a runner for one lane follows
//! its sentence in the contract. The runners share [`pages`], which turns the pages of lists,
//! `work`, a lane's queue, and [`pace`], which learns how fast a place lets calls through. After
//! each run, [`notify`] informs people, and [`metrics`] the alarms. A [`survey`] gathers as `prune`
//! does, for commands.

pub mod create;
mod gather;
mod lane;
pub mod metrics;
pub mod notify;
pub mod pace;
pub mod pages;
pub mod poll;
pub mod ports;
pub mod prune;
pub mod report;
pub mod survey;
mod work;
