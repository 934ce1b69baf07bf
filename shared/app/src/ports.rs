//! The ports, split as the IAM rights are: a function does not compile against what it may not do.
//!
//! Futures are `Send`, dispatch is static, and lists come page by page.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
pub use snapkeep_domain::answer::{ErrorKind, ProviderError, Quota};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::{Proof, Protected};
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::notice::{Condition, Notice};
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef, Tags};
use snapkeep_domain::time::Slot;

/// A page of a list, and the token of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its elements.
    pub elements: Vec<T>,
    /// The errors of elements that cannot be read: the list is incomplete; the other elements
    /// count.
    pub broken: Vec<ProviderError>,
    /// The token of the next page; `None` on the last page.
    pub next: Option<String>,
    /// How many elements the whole list has, if the provider says so. A list that does not have as
    /// many different ones is read again.
    pub total: Option<usize>,
}

/// Reads what exists at the provider.
pub trait Inventory: Sync {
    /// The Regions that a provider names, in our own account.
    fn regions(
        &self,
        provider: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Place>, ProviderError>> + Send;
    /// These Regions in every account that is looked after.
    fn places(&self, regions: Vec<Place>) -> Vec<Place> {
        regions
    }
    /// What the provider can do in a place.
    fn capabilities(&self, place: &Place) -> Capabilities;
    /// A page of the instances of a place.
    fn instances(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> impl Future<Output = Result<Page<Instance>, ProviderError>> + Send;
    /// The instance of this id, asked for by its name where the provider takes no id: then it may
    /// be another one. `None` if there is none.
    fn instance(
        &self,
        place: &Place,
        id: &ResourceId,
        name: &str,
    ) -> impl Future<Output = Result<Option<Instance>, ProviderError>> + Send;
    /// A page of the snapshots of a place that people or snapkeep made.
    fn snapshots(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> impl Future<Output = Result<Page<Snapshot>, ProviderError>> + Send;
    /// What a reference may mean: the snapshot of its id or name, if there is one; without an id
    /// where names do not identify snapshots, all snapshots of its source.
    fn look_up(
        &self,
        of: &SnapshotRef,
    ) -> impl Future<Output = Result<Vec<Snapshot>, ProviderError>> + Send;
    /// The quota of snapshots of a place; `None` if the provider tells none.
    fn quota(
        &self,
        _place: &Place,
    ) -> impl Future<Output = Result<Option<Quota>, ProviderError>> + Send {
        std::future::ready(Ok(None))
    }
}

/// A request for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The place.
    pub place: Place,
    /// The instance's id.
    pub resource: ResourceId,
    /// The instance's name, for providers that take no id here.
    pub instance: String,
    /// The snapshot's name.
    pub name: String,
    /// Its tags, set when it is created.
    pub tags: Tags,
}

/// Creates snapshots.
pub trait Creator: Sync {
    /// Asks for a snapshot; `Ok` means that the provider accepted the request, and has the
    /// snapshot's id where names do not identify snapshots.
    fn create(
        &self,
        order: &SnapshotRequest,
    ) -> impl Future<Output = Result<Option<Box<str>>, ProviderError>> + Send;
}

/// Deletes snapshots, and does nothing else.
pub trait Deleter: Sync {
    /// Deletes one snapshot.
    fn delete(
        &self,
        snapshot: &SnapshotRef,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send;
}

/// The ledger does not answer: a retry of the whole tick can help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("ledger: {operation} failed with {code}: {message}")]
pub struct LedgerError {
    /// The call that failed.
    pub operation: &'static str,
    /// The error code on the wire.
    pub code: String,
    /// The error message.
    pub message: String,
}

/// An item that this code cannot read: of a newer format, or broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its resource.
    pub resource: ResourceId,
    /// Its sort key.
    pub sort_key: String,
    /// Why it cannot be read.
    pub why: String,
}

/// The records that a query read. Unreadable items are named, and stop nothing else.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// The readable records.
    pub records: Vec<Record>,
    /// The unreadable items.
    pub unreadable: Vec<Unreadable>,
}

/// The result of a write. A conflict is a value, not an error: another writer was faster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The record was written, and is now this one.
    Done(Box<Record>),
    /// Nothing was written; this record stands there, if it can be read.
    Conflict(Option<Box<Record>>),
}

/// Stores what snapkeep intends, owns and did.
pub trait Ledger: Sync {
    /// Puts a new record if its key is free; its `version` becomes 1.
    fn claim(&self, record: &Record) -> impl Future<Output = Result<Write, LedgerError>> + Send;
    /// Replaces the record of the same key if its version is still `record.version`, and increments
    /// the version.
    fn advance(&self, record: &Record) -> impl Future<Output = Result<Write, LedgerError>> + Send;
    /// The records of a place that are under way (`poll::FOLLOWED`), from the sparse index, which
    /// may lag a little.
    fn open(&self, place: &Place) -> impl Future<Output = Result<Records, LedgerError>> + Send;
    /// All live records of a place, from the sparse index, which may lag a little.
    fn live(&self, place: &Place) -> impl Future<Output = Result<Records, LedgerError>> + Send;
    /// A resource's records from this slot on, and the newest one before it; the newest comes
    /// first.
    fn recent(
        &self,
        resource: &ResourceId,
        from: Slot,
    ) -> impl Future<Output = Result<Records, LedgerError>> + Send;
}

/// What the ledger remembers of resources and runs.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Every protected resource.
    pub protected: Vec<Protected>,
    /// The last run of each function in each place.
    pub runs: Vec<LastRun>,
    /// The items of it that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A member of a protected resource that is written alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The provider answered a request for a snapshot of it.
    Answered(Timestamp),
    /// A snapshot of this slot is available; written unless a newer one is remembered.
    Available(Slot),
    /// This is the newest slot that has an available snapshot.
    Newest(Option<Slot>),
    /// A drill had this result.
    Proven(Proof),
}

/// Stores what the ledger remembers besides its records. It decides nothing by itself.
pub trait Remember: Sync {
    /// Reads everything.
    fn memory(&self) -> impl Future<Output = Result<Memory, LedgerError>> + Send;
    /// Writes what the tags say of a resource and increments its version, if that is still
    /// `item.version` (0: no item); the other members stay as they are. `false` means that another
    /// writer was faster.
    fn remember(&self, item: &Protected) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Writes one member of a resource that is remembered; does nothing for any other.
    fn note(
        &self,
        resource: &ResourceId,
        note: Note,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Writes a run and increments its version, if that is still `run.version` (0: no item); `None`
    /// means that another writer was faster.
    fn put_run(
        &self,
        run: &LastRun,
    ) -> impl Future<Output = Result<Option<LastRun>, LedgerError>> + Send;
}

/// Stores the conditions that people are notified of.
pub trait ConditionStore: Sync {
    /// Every condition, including resolved ones that the ledger still has, and the unreadable
    /// items.
    fn known(
        &self,
    ) -> impl Future<Output = Result<(Vec<Condition>, Vec<Unreadable>), LedgerError>> + Send;
    /// Writes a condition and increments its version, if that is still `condition.version` (0: no
    /// item); `None` means that another writer was faster.
    fn put(
        &self,
        condition: &Condition,
    ) -> impl Future<Output = Result<Option<Condition>, LedgerError>> + Send;
}

/// Notifies people and programs.
pub trait Notifier: Sync {
    /// Whether anybody listens.
    fn listens(&self) -> bool;
    /// Sends each notice to programs; `Ok` means that all were accepted for delivery.
    fn events(&self, notices: &[Notice]) -> impl Future<Output = Result<(), ProviderError>> + Send;
    /// Sends a notice to people; `true` means that it was accepted for delivery, `false` that
    /// nobody listens.
    fn mail(&self, notice: &Notice) -> impl Future<Output = Result<bool, ProviderError>> + Send;
}

/// Goes on at once with the work that a run left in a place.
pub trait Relay: Sync {
    /// Sends the event whose rule invokes the function for that place alone; `false` means that
    /// there is no bus.
    fn go_on(
        &self,
        function: Function,
        tick: &Tick,
    ) -> impl Future<Output = Result<bool, ProviderError>> + Send;
}

/// A place to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The place.
    pub place: Place,
    /// The number of this run, from 1.
    pub run: u32,
}

/// The most runs that follow one another in a place.
pub const RUNS_MAX: u32 = 15;

/// The real time of this invocation, which is never simulated, unlike `now`. Times count from its
/// start.
pub trait Deadline: Sync {
    /// How long the invocation has run.
    fn elapsed(&self) -> Duration;
    /// No item is begun from this time on.
    fn stop(&self) -> Duration;
    /// No call is waited for from this time on: the rest is for the report.
    fn end(&self) -> Duration;
    /// The report must be out by this time.
    fn last(&self) -> Duration;
    /// Waits for this time.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// An invocation: its time, its lease, its place and its budget.
#[derive(Clone, Debug)]
pub struct Invocation<D> {
    /// The current time, read once.
    pub now: Timestamp,
    /// The lease of its claims, which lasts as long as the invocation.
    pub lease: Lease,
    /// The one place that it works in; `None` means all places.
    pub tick: Option<Tick>,
    /// The time budget.
    pub deadline: D,
}
