//! The ports, split as IAM is: what a function may not do, it does not compile against.
//!
//! Futures are `Send`, dispatch is static, and a list is turned page by page.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
pub use snapkeep_domain::answer::{ErrorKind, ProviderError};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::notice::{Condition, Notice};
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, Tags};
use snapkeep_domain::time::Slot;

/// A page of a list, and the token of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its elements.
    pub elements: Vec<T>,
    /// Elements that cannot be read: the list is not complete, and the others count all the same.
    pub broken: Vec<ProviderError>,
    /// The token of the next page; none on the last.
    pub next: Option<String>,
}

/// Reading what exists.
pub trait Inventory: Sync {
    /// The Regions that the provider names, in our own account.
    fn regions(&self) -> impl Future<Output = Result<Vec<Place>, ProviderError>> + Send;
    /// These Regions in every account that is looked after.
    fn places(&self, regions: Vec<Place>) -> Vec<Place> {
        regions
    }
    /// A page of the instances of a place.
    fn instances(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> impl Future<Output = Result<Page<Instance>, ProviderError>> + Send;
    /// One instance by its name; `None` when there is none.
    fn instance(
        &self,
        place: &Place,
        name: &str,
    ) -> impl Future<Output = Result<Option<Instance>, ProviderError>> + Send;
    /// A page of the snapshots of a place that people or we made.
    fn snapshots(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> impl Future<Output = Result<Page<Snapshot>, ProviderError>> + Send;
    /// One snapshot by its name; `None` when there is none.
    fn snapshot(
        &self,
        place: &Place,
        name: &str,
    ) -> impl Future<Output = Result<Option<Snapshot>, ProviderError>> + Send;
}

/// A request for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Where.
    pub place: Place,
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
    fn create(
        &self,
        order: &SnapshotRequest,
    ) -> impl Future<Output = Result<(), ProviderError>> + Send;
}

/// Deleting snapshots, and nothing else.
pub trait Deleter: Sync {
    /// Deletes one snapshot by its name.
    fn delete(
        &self,
        place: &Place,
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
    /// The records of a place that are under way (`poll::FOLLOWED`), from the sparse index, which may lag a little.
    fn open(&self, place: &Place) -> impl Future<Output = Result<Records, LedgerError>> + Send;
    /// All live records of a place, from the sparse index, which may lag a little.
    fn live(&self, place: &Place) -> impl Future<Output = Result<Records, LedgerError>> + Send;
    /// A resource's records from this slot on, and the newest one before it; newest first.
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
    /// What cannot be read of it.
    pub unreadable: Vec<Unreadable>,
}

/// One member of a protected resource, written alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The provider answered a request for a snapshot of it.
    Answered(Timestamp),
    /// A snapshot of this slot is available; written if no newer one is remembered.
    Available(Slot),
    /// This is the newest slot with an available snapshot.
    Newest(Option<Slot>),
}

/// What the ledger remembers besides its records. It decides nothing by itself.
pub trait Remember: Sync {
    /// All of it.
    fn memory(&self) -> impl Future<Output = Result<Memory, LedgerError>> + Send;
    /// Writes what tags say of a resource, and raises its version, if it is still of this version (0: not
    /// there); the other members stay as they are. `false` when somebody else was faster.
    fn remember(&self, item: &Protected) -> impl Future<Output = Result<bool, LedgerError>> + Send;
    /// Writes one member of a resource that is remembered; of another, nothing.
    fn note(
        &self,
        resource: &ResourceId,
        note: Note,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;
    /// Writes a run, and raises its version, if it is still of this version (0: not there); `None` when
    /// somebody else was faster.
    fn put_run(
        &self,
        run: &LastRun,
    ) -> impl Future<Output = Result<Option<LastRun>, LedgerError>> + Send;
}

/// What the ledger remembers of what people were told.
pub trait ConditionStore: Sync {
    /// Every condition, those that are over included as long as the ledger has them; and what cannot be read.
    fn known(
        &self,
    ) -> impl Future<Output = Result<(Vec<Condition>, Vec<Unreadable>), LedgerError>> + Send;
    /// Writes a condition, and raises its version, if it is still of this version (0: not there);
    /// `None` when somebody else was faster.
    fn put(
        &self,
        condition: &Condition,
    ) -> impl Future<Output = Result<Option<Condition>, LedgerError>> + Send;
}

/// Notifying people and programs.
pub trait Notifier: Sync {
    /// Whether there is anybody to tell.
    fn listens(&self) -> bool;
    /// Tells programs of each; `Ok` means that all were taken for delivery.
    fn events(&self, notices: &[Notice]) -> impl Future<Output = Result<(), ProviderError>> + Send;
    /// Tells people; `true` means that it was taken for delivery, `false` that nobody listens.
    fn mail(&self, notice: &Notice) -> impl Future<Output = Result<bool, ProviderError>> + Send;
}

/// Going on at once with what a run left in a place.
pub trait Relay: Sync {
    /// Sends the event whose rule invokes the function for that place alone; `false` when there is no bus.
    fn go_on(
        &self,
        function: Function,
        tick: &Tick,
    ) -> impl Future<Output = Result<bool, ProviderError>> + Send;
}

/// One place to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Where.
    pub place: Place,
    /// The number of this run, from 1.
    pub run: u32,
}

/// At most so many runs follow one another in a place.
pub const RUNS_MAX: u32 = 15;

/// Real time of this invocation; `now` may be simulated, this may not. Times are those since it began.
pub trait Deadline: Sync {
    /// How long it has run.
    fn elapsed(&self) -> Duration;
    /// From then on no item is begun.
    fn stop(&self) -> Duration;
    /// From then on no call is waited for: what is left is for the report.
    fn end(&self) -> Duration;
    /// Then the report must be out.
    fn last(&self) -> Duration;
    /// Waits.
    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// When an invocation thinks it is, and how long it may work.
#[derive(Clone, Debug)]
pub struct Invocation<D> {
    /// Now, read once.
    pub now: Timestamp,
    /// For what it claims: as long as it lives.
    pub lease: Lease,
    /// The one place that it is for; all of them without.
    pub tick: Option<Tick>,
    /// The budget.
    pub deadline: D,
}
