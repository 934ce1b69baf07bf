//! The three functions as they are deployed, through the Lambda Runtime API, on the embedded cloud
//! in stepped time.

mod accounts;
mod acting;
mod bench;
mod command;
mod configuration;
mod create;
mod deletions;
mod events;
mod faults;
mod foreign_snapshots;
mod handbook;
mod harness;
mod insights;
mod lighthouse;
mod logs;
mod operating;
mod prune;
mod reading;
mod size;
mod stack;
mod upgrade;
