//! The three functions as they are deployed, through the Lambda Runtime API, on the embedded cloud
//! in stepped time.

#[path = "e2e/accounts.rs"]
mod accounts;
#[path = "e2e/bench.rs"]
mod bench;
#[path = "e2e/configuration.rs"]
mod configuration;
#[path = "e2e/create.rs"]
mod create;
#[path = "e2e/deletions.rs"]
mod deletions;
#[path = "e2e/events.rs"]
mod events;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/harness.rs"]
mod harness;
#[path = "e2e/prune.rs"]
mod prune;
#[path = "e2e/size.rs"]
mod size;
#[path = "e2e/stack.rs"]
mod stack;
#[path = "e2e/strangers.rs"]
mod strangers;
#[path = "e2e/upgrade.rs"]
mod upgrade;
