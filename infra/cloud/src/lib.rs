//! The embedded cloud: a part of AWS, on loopback, in simulated time.
//!
//! Lightsail over its real wire protocol, DynamoDB (dynoxide), a schedule with EventBridge's
//! events, a bus and a topic, and a Lambda that runs the function binaries over the Runtime API.

pub mod accounts;
pub mod clock;
mod control;
pub mod dynamodb;
pub mod embedded;
pub mod events;
pub mod http;
pub mod knobs;
pub mod lambda;
pub mod lighthouse;
pub mod lightsail;
mod rates;
pub mod runner;
pub mod schedule;
pub mod secrets;
mod server;
