//! The ports of one invocation in the simulated world: each call waits for its turn, may go wrong, and
//! is shown to the properties.

use std::sync::Arc;

use snapkeep_app::ports::{
    Creator, Deadline, Deleter, ErrorKind, Inventory, Ledger, LedgerError, Order, ProviderError,
    Records, Unreadable, Write,
};
use snapkeep_domain::record::{Record, State};
use snapkeep_domain::snapshot::{Instance, ResourceId, Snapshot, SnapshotState};
use snapkeep_domain::time::Slot;

use super::invocation::Doing;
use super::sabotage::Sabotage;
use super::turns::InvocationId;
use super::world::World;
use crate::ledger::MemoryLedger;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused without effect.
    Before(ErrorKind),
    /// Carried out, and then no answer comes.
    After,
    /// A read answers from the past.
    Stale,
    /// A list comes back empty, as a success.
    Empty,
    /// A list shows something twice.
    Doubled,
}

/// All ports of one invocation; which of them a function gets is up to the function.
#[derive(Clone, Debug)]
pub struct Ports {
    pub(super) world: Arc<World>,
    pub(super) me: InvocationId,
    /// Its deployment, which has a ledger of its own.
    pub(super) of: usize,
}

const CLAIM: &str = "claim";
const MESSAGE: &str = "a fault of the simulation";

fn refusal(operation: &'static str, kind: ErrorKind) -> ProviderError {
    ProviderError { kind, operation, code: format!("{kind:?}"), message: MESSAGE.to_owned() }
}

impl Ports {
    async fn turn(&self, operation: &'static str, what: &str) -> Option<Fault> {
        self.world.turns.wait(self.me).await;
        self.world.strike(self.me, operation, what)
    }

    /// Shows the properties what this invocation was told.
    fn told<T>(&self, note: impl FnOnce(&mut Doing) -> T) {
        self.world.told(self.me, |doing| drop(note(doing)));
    }

    fn ledger(&self) -> &MemoryLedger {
        &self.world.ledgers[self.of]
    }

    fn sabotaged(&self, by: Sabotage) -> bool {
        self.world.sabotage() == Some(by)
    }

    /// A list, with what may be wrong with lists.
    async fn list<T: Clone>(
        &self,
        operation: &'static str,
        region: &str,
        now: impl Future<Output = Result<Vec<T>, ProviderError>> + Send,
        past: impl FnOnce() -> Option<Vec<T>> + Send,
    ) -> Result<Vec<T>, ProviderError> {
        match self.turn(operation, region).await {
            Some(Fault::Before(kind)) => Err(refusal(operation, kind)),
            Some(Fault::Empty) => now.await.map(|_| Vec::new()),
            Some(Fault::Stale) => {
                let now = now.await?;
                Ok(past().unwrap_or(now))
            }
            Some(Fault::Doubled) => {
                let mut list = now.await?;
                let twice = list.iter().take(list.len().div_ceil(2)).cloned().collect::<Vec<_>>();
                list.extend(twice);
                Ok(list)
            }
            Some(Fault::After) | None => now.await,
        }
    }

    async fn write(&self, operation: &'static str, record: &Record) -> Result<Write, LedgerError> {
        let failed = |code: &str| LedgerError {
            operation,
            code: code.to_owned(),
            message: MESSAGE.to_owned(),
        };
        let what = format!("{} {}", record.name, record.state.as_str());
        let fault = self.turn(operation, &what).await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(failed(&format!("{kind:?}")));
        }
        let record = self.world.dressed(self.me, record);
        if operation == CLAIM && self.sabotaged(Sabotage::ForgetsItsIntents) {
            return Ok(Write::Done(Box::new(record)));
        }
        let old = self.ledger().find(&record);
        let written = match operation {
            CLAIM => self.ledger().claim(&record).await?,
            _ => self.ledger().advance(&record).await?,
        };
        if let Write::Done(new) = &written {
            self.world.saw_write(self.me, self.of, old.as_ref(), new);
        }
        if fault.is_some() {
            return Err(failed("Lost"));
        }
        Ok(match written {
            Write::Conflict(Some(standing)) if !self.world.reads(self.me, &standing) => {
                Write::Conflict(None)
            }
            written => written,
        })
    }

    /// What this invocation's format cannot read is named, as the real ledger does.
    fn readable(&self, mut found: Records) -> Records {
        let (good, bad): (Vec<_>, Vec<_>) =
            found.records.into_iter().partition(|record| self.world.reads(self.me, record));
        found.records = good;
        found.unreadable.extend(bad.into_iter().map(|record| Unreadable {
            sort_key: record.sort_key(),
            resource: record.resource,
            why: "of a newer format".to_owned(),
        }));
        found
    }
}

impl Inventory for Ports {
    async fn regions(&self) -> Result<Vec<String>, ProviderError> {
        match self.turn("regions", "").await {
            Some(Fault::Before(kind)) => Err(refusal("regions", kind)),
            _ => self.world.provider.regions().await,
        }
    }

    async fn instances(&self, region: &str) -> Result<Vec<Instance>, ProviderError> {
        let past = || self.world.past_instances(region);
        let now = self.world.provider.instances(region);
        let list = self.list("instances", region, now, past).await;
        if let Ok(list) = &list {
            self.told(|doing| doing.instances.insert(region.to_owned(), list.clone()));
        }
        match list {
            Err(_) if self.sabotaged(Sabotage::TrustsBrokenLists) => {
                self.world.provider.instances(region).await
            }
            list => list,
        }
    }

    async fn instance(&self, region: &str, name: &str) -> Result<Option<Instance>, ProviderError> {
        let answer = match self.turn("instance", name).await {
            Some(Fault::Before(kind)) => Err(refusal("instance", kind)),
            _ => self.world.provider.instance(region, name).await,
        };
        if let Ok(found) = &answer {
            let place = (region.to_owned(), name.to_owned());
            self.told(|doing| doing.asked.insert(place, found.clone()));
        }
        answer
    }

    async fn snapshots(&self, region: &str) -> Result<Vec<Snapshot>, ProviderError> {
        let past = || self.world.past_snapshots(region);
        let now = self.world.provider.snapshots(region);
        let mut list = self.list("snapshots", region, now, past).await;
        if let Ok(list) = &list {
            self.told(|doing| doing.snapshots.insert(region.to_owned(), list.clone()));
        }
        if list.is_err() && self.sabotaged(Sabotage::TrustsBrokenLists) {
            list = self.world.provider.snapshots(region).await;
            // The first page came.
            list.iter_mut().for_each(|list| list.truncate(list.len() - list.len() / 4));
        }
        if let (Some(sabotage), Ok(list)) = (self.world.sabotage(), &mut list) {
            sabotage.distort(list);
        }
        list
    }

    async fn snapshot(&self, region: &str, name: &str) -> Result<Option<Snapshot>, ProviderError> {
        let answer = match self.turn("snapshot", name).await {
            Some(Fault::Before(_)) if self.sabotaged(Sabotage::TakesAnErrorForGone) => Ok(None),
            Some(Fault::Before(kind)) => Err(refusal("snapshot", kind)),
            Some(Fault::Stale) => {
                let now = self.world.provider.snapshot(region, name).await?;
                let past = self.world.past_snapshots(region);
                Ok(past.map_or(now, |past| past.into_iter().find(|s| s.name == name)))
            }
            _ => self.world.provider.snapshot(region, name).await,
        };
        if let Ok(found) = &answer {
            let place = (region.to_owned(), name.to_owned());
            self.told(|doing| doing.looks.insert(place, found.clone()));
        }
        answer.map(|mut found| {
            if let (Some(sabotage), Some(found)) = (self.world.sabotage(), &mut found) {
                sabotage.distort(std::slice::from_mut(found));
            }
            found
        })
    }
}

impl Creator for Ports {
    async fn create(&self, order: &Order) -> Result<(), ProviderError> {
        let fault = self.turn("create", &order.name).await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(refusal("create", kind));
        }
        let mut order = order.clone();
        if self.sabotaged(Sabotage::MakesTwo) {
            self.world.make_another(&order);
        }
        if self.sabotaged(Sabotage::ForgetsItsTags) {
            order.tags.clear();
        }
        self.world.saw_order(self.me, self.of, &order);
        let fate = self.world.fate();
        let answer = self.world.provider.create(&order).await;
        if answer.is_ok() {
            self.world.saw_create(self.me, &order, fate);
        }
        match fault {
            Some(_) => Err(refusal("create", ErrorKind::Indeterminate)),
            None => answer,
        }
    }
}

impl Deleter for Ports {
    async fn delete(&self, region: &str, name: &str) -> Result<(), ProviderError> {
        let fault = self.turn("delete", name).await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(refusal("delete", kind));
        }
        let victim = match self.world.sabotage() {
            Some(Sabotage::DeletesWhatIsForeign) => self.world.some_foreign(region),
            Some(Sabotage::DeletesWhatIsPending) => self.world.some_pending(region),
            _ => None,
        };
        let name = victim.as_deref().unwrap_or(name);
        let before = self.world.provider.find(region, name);
        let answer = self.world.provider.delete(region, name).await;
        // The memory refuses to delete what is pending; asking for it is bad enough.
        if let Some(before) = before
            && (answer.is_ok() || before.state == SnapshotState::Pending)
        {
            self.world.saw_delete(self.me, self.of, &before);
        }
        match fault {
            Some(_) => Err(refusal("delete", ErrorKind::Indeterminate)),
            None => answer,
        }
    }
}

impl Ledger for Ports {
    async fn claim(&self, record: &Record) -> Result<Write, LedgerError> {
        self.write(CLAIM, record).await
    }

    async fn advance(&self, record: &Record) -> Result<Write, LedgerError> {
        self.write("advance", record).await
    }

    async fn live(&self, states: &[State]) -> Result<Records, LedgerError> {
        let fault = self.turn("live", "").await;
        if let Some(Fault::Before(kind)) = fault {
            let (operation, code) = ("live", format!("{kind:?}"));
            return Err(LedgerError { operation, code, message: MESSAGE.to_owned() });
        }
        let now = self.ledger().live(states).await?;
        let found = match fault {
            Some(Fault::Stale) => self.world.past_live(self.of, states, now),
            _ => now,
        };
        Ok(self.readable(found))
    }

    async fn recent(&self, resource: &ResourceId, from: Slot) -> Result<Records, LedgerError> {
        if let Some(Fault::Before(kind)) = self.turn("recent", &resource.0).await {
            let (operation, code) = ("recent", format!("{kind:?}"));
            return Err(LedgerError { operation, code, message: MESSAGE.to_owned() });
        }
        Ok(self.readable(self.ledger().recent(resource, from).await?))
    }
}

impl Deadline for Ports {
    fn passed(&self) -> bool {
        self.world.deadline_passed(self.me)
    }
}
