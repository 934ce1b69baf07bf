//! What the provider answers, as far as decisions depend on it. Adapters classify by the code on the wire.

use crate::snapshot::Snapshot;

/// What kind of refusal a provider's error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// What was asked for does not exist.
    NotFound,
    /// The name is taken already.
    NameTaken,
    /// Too many requests.
    Throttled,
    /// A quota is used up.
    Quota,
    /// Not allowed, or the credentials are not good.
    Denied,
    /// Not now: an automatic snapshot in progress, an instance still starting.
    Busy,
    /// The Region is not enabled for the account.
    RegionNotEnabled,
    /// The token of a list's page is too old or not known: the list must be read again from its beginning.
    BadPageToken,
    /// The provider refused the request for another reason.
    Refused,
    /// No answer, or a server's error: the effect may have happened.
    Indeterminate,
}

impl ErrorKind {
    /// Whether the effect may have happened all the same.
    #[must_use]
    pub fn effect_unknown(self) -> bool {
        matches!(self, ErrorKind::Indeterminate)
    }

    /// Whether the same call may succeed by itself soon, so that a run tries it again.
    #[must_use]
    pub fn transient(self) -> bool {
        matches!(self, ErrorKind::Throttled | ErrorKind::Busy | ErrorKind::Indeterminate)
    }

    /// Whether the provider answered the request itself. Too many requests, and a quota that is full, are no answer to
    /// any: who is let through when there is room again is who has waited longest.
    #[must_use]
    pub fn answered(self) -> bool {
        !matches!(self, ErrorKind::Throttled | ErrorKind::Quota | ErrorKind::Indeterminate)
    }
}

/// A provider's refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed with {code}: {message}")]
pub struct ProviderError {
    /// What it amounts to.
    pub kind: ErrorKind,
    /// The call.
    pub operation: &'static str,
    /// The code on the wire.
    pub code: String,
    /// The provider's words.
    pub message: String,
}

/// What asking for a snapshot by its name answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There it is.
    Found(Box<Snapshot>),
    /// The provider says that there is none.
    Missing,
    /// No answer.
    Unknown,
}
