//! Leases: how long something belongs to the run that claimed it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The time until which an intent, a lane or a condition belongs to one run. Once that run must be
/// over, it is free again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(Option<Timestamp>);

impl Lease {
    /// No run has it.
    pub const NONE: Lease = Lease(None);

    /// A run has it until this time.
    #[must_use]
    pub const fn until(end: Timestamp) -> Self {
        Lease(Some(end))
    }

    /// Whether it was never taken, or was given back. An expired lease still counts as taken.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether another run may take it.
    #[must_use]
    pub fn is_free(self, now: Timestamp) -> bool {
        self.0.is_none_or(|end| end <= now)
    }
}
