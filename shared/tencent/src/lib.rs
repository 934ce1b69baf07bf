//! Tencent Cloud Lighthouse: signing, calls, and the three clients that the core's ports ask for.
//!
//! The API is version 2020-03-24 (<https://www.tencentcloud.com/document/product/1103/49571>). There
//! is no SDK for Rust; what is needed of it is a signature, and seven calls in JSON.

pub mod client;
mod error;
pub mod keys;
mod lighthouse;
mod mapping;
pub mod settings;
mod shapes;
pub mod sign;

pub use lighthouse::{LighthouseCreator, LighthouseDeleter, LighthouseInventory, capabilities};

/// What the places of this provider begin with, before a colon; its name in `SNAPKEEP_PROVIDERS`.
pub const PROVIDER: &str = "lighthouse";
