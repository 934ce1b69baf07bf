//! The provider's answers, as far as decisions depend on them. Adapters classify them by the code
//! on the wire.

use crate::snapshot::Snapshot;

/// The kind of a provider's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The requested resource does not exist.
    NotFound,
    /// The name is taken already.
    NameTaken,
    /// There were too many requests.
    Throttled,
    /// A quota is exhausted.
    Quota,
    /// The call is not allowed, or the credentials are invalid.
    Denied,
    /// The resource is busy: an automatic snapshot is in progress, or an instance is still
    /// starting.
    Busy,
    /// The Region is not enabled for the account.
    RegionNotEnabled,
    /// The page token is too old or unknown: the list must be read again from its beginning.
    BadPageToken,
    /// The provider never does this with this resource.
    NotSupported,
    /// The deletion was requested before and is under way.
    UnderWay,
    /// The provider refused the request for another reason.
    Refused,
    /// There was no answer, or a server error: the effect may have happened.
    Indeterminate,
}

impl ErrorKind {
    /// Whether the effect may have happened despite the error.
    #[must_use]
    pub fn effect_unknown(self) -> bool {
        matches!(self, ErrorKind::Indeterminate)
    }

    /// Whether the same call may soon succeed by itself, so that a run tries it again.
    #[must_use]
    pub fn transient(self) -> bool {
        matches!(self, ErrorKind::Throttled | ErrorKind::Busy | ErrorKind::Indeterminate)
    }

    /// Whether the provider answered the request itself. Throttling and a full quota do not answer
    /// any request: when there is room again, the resource that has waited longest goes first.
    #[must_use]
    pub fn answered(self) -> bool {
        !matches!(self, ErrorKind::Throttled | ErrorKind::Quota | ErrorKind::Indeterminate)
    }
}

/// A provider's refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed with {code}: {message}")]
pub struct ProviderError {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// The call that failed.
    pub operation: &'static str,
    /// The error code on the wire.
    pub code: String,
    /// The provider's message.
    pub message: String,
}

/// How many snapshots a place may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In all.
    pub total: u64,
    /// How many more may be made.
    pub available: u64,
}

/// The result of looking a snapshot up by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The snapshot exists.
    Found(Box<Snapshot>),
    /// The provider says that the snapshot does not exist.
    Missing,
    /// There was no answer.
    Unknown,
}
