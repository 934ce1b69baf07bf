//! The ports, split as IAM is: what a function may not do, it does not compile against.
//!
//! Futures are `Send`, dispatch is static, and an inventory returns a *complete* list or an error.

use std::future::Future;

use jiff::Timestamp;
use snapkeep_domain::notice::{Matter, Notice};
use snapkeep_domain::record::{Record, State};
use snapkeep_domain::snapshot::{Instance, ResourceId, Snapshot, Tags};
use snapkeep_domain::time::Slot;

/// What kind of refusal a provider's error is; adapters classify by the code on the wire.
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

    /// Whether the same call may succeed by itself later.
    #[must_use]
    pub fn transient(self) -> bool {
        matches!(self, ErrorKind::Throttled | ErrorKind::Busy | ErrorKind::Indeterminate)
    }
}

/// A provider's refusal.
#[derive(Clone, Debug, thiserror::Error)]
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

/// Reading what exists.
pub trait Inventory: Sync {
    /// The Regions that the provider names.
    fn regions(&self) -> impl Future<Output = Result<Vec<String>, ProviderError>> + Send;
    /// Where these Regions are: once for each account that is looked after.
    fn places(&self, regions: Vec<String>) -> Vec<String> {
        regions
    }
    /// All instances of a Region.
    fn instances(
        &self,
        region: &str,
    ) -> impl Future<Output = Result<Vec<Instance>, ProviderError>> + Send;
    /// One instance by its name; `None` when there is none.
    fn instance(
        &self,
        region: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Instance>, ProviderError>> + Send;
    /// All snapshots of a Region that people or we made.
    fn snapshots(
        &self,
        region: &str,
    ) -> impl Future<Output = Result<Vec<Snapshot>, ProviderError>> + Send;
    /// One snapshot by its name; `None` when there is none.
    fn snapshot(
        &self,
        region: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Snapshot>, ProviderError>> + Send;
}

/// An order for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Where.
    pub region: String,
    /// Of which instance, by its name: providers take no id here.
    pub instance: String,
    /// The snapshot's name.
    pub name: String,
    /// Its tags, set together with it.
    pub tags: Tags,
}

/// Making snapshots.
pub trait Creator: Sync {
    /// Asks for a snapshot; `Ok` means that the provider took the request.
    fn create(&self, order: &Order) -> impl Future<Output = Result<(), ProviderError>> + Send;
}

/// Deleting snapshots, and nothing else.
pub trait Deleter: Sync {
    /// Deletes one snapshot by its name.
    fn delete(
        &self,
        region: &str,
        name: &str,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send;
}

/// The ledger does not answer: retrying the whole tick can help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("ledger: {operation} failed with {code}: {message}")]
pub struct LedgerError {
    /// The call.
    pub operation: &'static str,
    /// The code on the wire.
    pub code: String,
    /// The words.
    pub message: String,
}

/// An item that this code cannot read: of a newer format, or broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its resource.
    pub resource: ResourceId,
    /// Its sort key.
    pub sort_key: String,
    /// What is wrong.
    pub why: String,
}

/// Records as read; what cannot be read is named, and stops nothing else.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The readable ones.
    pub records: Vec<Record>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

/// How a write ended. A conflict is a value, not an error: somebody else was faster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Written; this is the record now.
    Done(Box<Record>),
    /// Not written; this is what stands there, if it can be read.
    Conflict(Option<Box<Record>>),
}

/// What we intend, own and did.
pub trait Ledger: Sync {
    /// Puts a new record if its key is free; its `version` becomes 1.
    fn claim(&self, record: &Record) -> impl Future<Output = Result<Write, LedgerError>> + Send;
    /// Replaces the record of the same key if its version is still `record.version`, and raises it.
    fn advance(&self, record: &Record) -> impl Future<Output = Result<Write, LedgerError>> + Send;
    /// The live records in these states, from the sparse index (which may lag a little).
    fn live(&self, states: &[State]) -> impl Future<Output = Result<Records, LedgerError>> + Send;
    /// A resource's records from this slot on, and the newest one before it; newest first.
    fn recent(
        &self,
        resource: &ResourceId,
        from: Slot,
    ) -> impl Future<Output = Result<Records, LedgerError>> + Send;
}

/// What the ledger remembers of what people were told.
pub trait Matters: Sync {
    /// Every matter, those that are over included as long as the ledger has them; and what cannot be read.
    fn known(
        &self,
    ) -> impl Future<Output = Result<(Vec<Matter>, Vec<Unreadable>), LedgerError>> + Send;
    /// Writes a matter, and raises its version, if it is still of this version (0: not there);
    /// `None` when somebody else was faster.
    fn put(
        &self,
        matter: &Matter,
    ) -> impl Future<Output = Result<Option<Matter>, LedgerError>> + Send;
}

/// Telling people.
pub trait Notifier: Sync {
    /// Whether there is anybody to tell.
    fn listens(&self) -> bool;
    /// Tells them; `Ok` means that it was taken for delivery.
    fn publish(&self, notice: &Notice) -> impl Future<Output = Result<(), ProviderError>> + Send;
}

/// Real time that is left to this invocation; `now` may be simulated, this may not.
pub trait Deadline: Sync {
    /// Whether there is no time to begin another item.
    fn passed(&self) -> bool;
}

/// When an invocation thinks it is, and how long it may work.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<D> {
    /// Now, read once.
    pub now: Timestamp,
    /// The budget.
    pub deadline: D,
}
