//! Adapters: Lightsail, DynamoDB, notifications, events, configuration, telemetry, and the
//! functions that are wired from them.
//!
//! Everything that touches the world is here; nothing here decides.

pub mod clock;
pub mod dynamodb;
pub mod environment;
pub mod event;
pub mod function;
pub mod lightsail;
pub mod notifications;
pub mod providers;
pub mod sdk;
pub mod telemetry;
