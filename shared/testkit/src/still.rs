//! Helpers for tests in which no real time passes and no run goes on.

use std::time::Duration;

use snapkeep_app::ports::{Deadline, ProviderError, Relay, Tick};
use snapkeep_domain::function::Function;

/// A budget that does not end, on a clock that stands still.
#[derive(Clone, Copy, Debug)]
pub struct Endless;

impl Deadline for Endless {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn stop(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn end(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn last(&self) -> Duration {
        Duration::from_secs(3600)
    }

    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

/// A relay without an event bus.
#[derive(Clone, Copy, Debug)]
pub struct NoBus;

impl Relay for NoBus {
    async fn go_on(&self, _: Function, _: &Tick) -> Result<bool, ProviderError> {
        Ok(false)
    }
}
