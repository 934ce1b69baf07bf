//! Faults at every port: before the effect, or after it, which is a lost response.
//!
//! A hook sees each call before it happens, so it can also count, check an invariant at the very
//! moment of a deletion, or let everything fail from some call on, which is a crash.

use std::fmt;

use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Ledger, LedgerError, Order, ProviderError, Records,
    Write,
};
use snapkeep_domain::record::{Record, State};
use snapkeep_domain::snapshot::{Instance, ResourceId, Snapshot};
use snapkeep_domain::time::Slot;

/// A call of a port.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the method of a port with its arguments")]
pub enum Call<'a> {
    Delete { region: &'a str, name: &'a str },
    Create(&'a Order),
    Regions,
    Instances { region: &'a str },
    Instance { region: &'a str, name: &'a str },
    Snapshots { region: &'a str },
    Snapshot { region: &'a str, name: &'a str },
    Claim(&'a Record),
    Advance(&'a Record),
    Live(&'a [State]),
    Recent { resource: &'a ResourceId, from: Slot },
}

impl Call<'_> {
    /// The port's method.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Call::Delete { .. } => "delete",
            Call::Create(_) => "create",
            Call::Regions => "regions",
            Call::Instances { .. } => "instances",
            Call::Instance { .. } => "instance",
            Call::Snapshots { .. } => "snapshots",
            Call::Snapshot { .. } => "snapshot",
            Call::Claim(_) => "claim",
            Call::Advance(_) => "advance",
            Call::Live(_) => "live",
            Call::Recent { .. } => "recent",
        }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        matches!(self, Call::Delete { .. } | Call::Create(_) | Call::Claim(_) | Call::Advance(_))
    }
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused without effect.
    Before(ErrorKind),
    /// Carried out, and then this comes back instead of the answer: a lost response.
    After(ErrorKind),
}

/// A provider or a ledger whose calls go wrong when `hook` says so.
///
/// It borrows, so that each tick of a test can have its own on the same world.
pub struct Faulty<'a, P, H> {
    inner: &'a P,
    hook: H,
}

impl<P: fmt::Debug, H> fmt::Debug for Faulty<'_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", self.inner).finish_non_exhaustive()
    }
}

impl<'a, P, H: Fn(&Call<'_>) -> Option<Fault>> Faulty<'a, P, H> {
    /// Wraps `inner`.
    pub fn new(inner: &'a P, hook: H) -> Self {
        Self { inner, hook }
    }

    async fn call<T, E>(
        &self,
        call: Call<'_>,
        effect: impl Future<Output = Result<T, E>> + Send,
        error: fn(&'static str, ErrorKind) -> E,
    ) -> Result<T, E> {
        match (self.hook)(&call) {
            None => effect.await,
            Some(Fault::Before(kind)) => Err(error(call.operation(), kind)),
            Some(Fault::After(kind)) => {
                effect.await?;
                Err(error(call.operation(), kind))
            }
        }
    }
}

const MESSAGE: &str = "a fault of the test";

fn provider(operation: &'static str, kind: ErrorKind) -> ProviderError {
    ProviderError { kind, operation, code: format!("{kind:?}"), message: MESSAGE.to_owned() }
}

fn ledger(operation: &'static str, kind: ErrorKind) -> LedgerError {
    LedgerError { operation, code: format!("{kind:?}"), message: MESSAGE.to_owned() }
}

impl<P: Deleter, H: Fn(&Call<'_>) -> Option<Fault> + Sync> Deleter for Faulty<'_, P, H> {
    async fn delete(&self, region: &str, name: &str) -> Result<(), ProviderError> {
        self.call(Call::Delete { region, name }, self.inner.delete(region, name), provider).await
    }
}

impl<P: Creator, H: Fn(&Call<'_>) -> Option<Fault> + Sync> Creator for Faulty<'_, P, H> {
    async fn create(&self, order: &Order) -> Result<(), ProviderError> {
        self.call(Call::Create(order), self.inner.create(order), provider).await
    }
}

impl<P: Inventory, H: Fn(&Call<'_>) -> Option<Fault> + Sync> Inventory for Faulty<'_, P, H> {
    async fn regions(&self) -> Result<Vec<String>, ProviderError> {
        self.call(Call::Regions, self.inner.regions(), provider).await
    }

    async fn instances(&self, region: &str) -> Result<Vec<Instance>, ProviderError> {
        self.call(Call::Instances { region }, self.inner.instances(region), provider).await
    }

    async fn instance(&self, region: &str, name: &str) -> Result<Option<Instance>, ProviderError> {
        let call = Call::Instance { region, name };
        self.call(call, self.inner.instance(region, name), provider).await
    }

    async fn snapshots(&self, region: &str) -> Result<Vec<Snapshot>, ProviderError> {
        self.call(Call::Snapshots { region }, self.inner.snapshots(region), provider).await
    }

    async fn snapshot(&self, region: &str, name: &str) -> Result<Option<Snapshot>, ProviderError> {
        let call = Call::Snapshot { region, name };
        self.call(call, self.inner.snapshot(region, name), provider).await
    }
}

impl<P: Ledger, H: Fn(&Call<'_>) -> Option<Fault> + Sync> Ledger for Faulty<'_, P, H> {
    async fn claim(&self, record: &Record) -> Result<Write, LedgerError> {
        self.call(Call::Claim(record), self.inner.claim(record), ledger).await
    }

    async fn advance(&self, record: &Record) -> Result<Write, LedgerError> {
        self.call(Call::Advance(record), self.inner.advance(record), ledger).await
    }

    async fn live(&self, states: &[State]) -> Result<Records, LedgerError> {
        self.call(Call::Live(states), self.inner.live(states), ledger).await
    }

    async fn recent(&self, resource: &ResourceId, from: Slot) -> Result<Records, LedgerError> {
        let call = Call::Recent { resource, from };
        self.call(call, self.inner.recent(resource, from), ledger).await
    }
}
