//! Ports and the three runners: gather the facts, plan, apply, report. Knows no provider.
//!
//! A run is lanes, one for each place (`lane`); in a lane a runner reads like its sentence in the contract.
//! What they share: [`pages`] turns lists, `work` is a lane's queue, and [`pace`] learns how fast a place lets
//! it go. After each run, [`notify`] tells people, and [`metrics`] the alarms.

pub mod create;
mod lane;
pub mod metrics;
pub mod notify;
pub mod pace;
pub mod pages;
pub mod poll;
pub mod ports;
pub mod prune;
pub mod report;
mod work;
