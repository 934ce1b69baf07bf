//! Ports and the three runners: gather the facts, plan, apply, report. Knows no provider.
//!
//! Each runner reads like its sentence in the contract; what they share is in [`gather`] and [`report`].
//! After each run, [`notify`] tells people, and [`metrics`] the alarms.

pub mod create;
pub mod gather;
pub mod metrics;
pub mod notify;
pub mod poll;
pub mod ports;
pub mod prune;
pub mod report;
