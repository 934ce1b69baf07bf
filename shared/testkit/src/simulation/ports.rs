//! The ports of one invocation in the simulated world: each call waits for its turn, may go wrong,
//! and is shown to the properties.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use snapkeep_app::ports::{
    Creator, Deadline, Deleter, ErrorKind, Inventory, Ledger, LedgerError, Memory, Note, Page,
    ProviderError, Records, Relay, Remember, SnapshotRequest, Tick, Unreadable, Write,
};
use snapkeep_domain::answer::Quota;
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::place::Place;
use snapkeep_domain::poll::FOLLOWED;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef, SnapshotState};
use snapkeep_domain::time::Slot;

use super::invocation::{RunningInvocation, Views};
use super::sabotage::Sabotage;
use super::turns::InvocationId;
use super::world::World;
use crate::ledger::MemoryLedger;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call is refused without effect.
    Before(ErrorKind),
    /// The call is carried out, and then no answer comes.
    After,
    /// A read shows a past state.
    Stale,
    /// A list is empty, as a success.
    Empty,
    /// A list shows elements twice.
    Doubled,
    /// The token of a page is too old.
    Expired,
    /// What is read page by page changes between its pages.
    Torn,
}

/// All ports of one invocation; the function decides which of them it uses.
#[derive(Clone, Debug)]
pub struct Ports {
    pub(super) world: Arc<World>,
    pub(super) me: InvocationId,
    /// The deployment, which has a ledger of its own.
    pub(super) of: usize,
}

const CLAIM: &str = "claim";
const MESSAGE: &str = "a fault of the simulation";

pub(super) fn refusal(operation: &'static str, kind: ErrorKind) -> ProviderError {
    ProviderError { kind, operation, code: format!("{kind:?}"), message: MESSAGE.to_owned() }
}

impl Ports {
    pub(super) async fn turn(&self, operation: &'static str, what: &str) -> Option<Fault> {
        self.turn_in(operation, what, None).await
    }

    /// Takes the turn of a call to the provider in a place.
    async fn turn_in(
        &self,
        operation: &'static str,
        what: &str,
        place: Option<&str>,
    ) -> Option<Fault> {
        self.world.turns.wait(self.me, (operation, what.to_owned())).await;
        self.world.strike(self.me, operation, what, place)
    }

    /// Shows the properties an answer that this invocation got.
    fn told<T>(&self, note: impl FnOnce(&mut RunningInvocation) -> T) {
        self.world.told(self.me, |doing| drop(note(doing)));
    }

    pub(super) fn ledger(&self) -> &MemoryLedger {
        &self.world.ledgers[self.of]
    }

    pub(super) fn sabotaged(&self, by: Sabotage) -> bool {
        self.world.sabotage() == Some(by)
    }

    /// A page of a list, with the faults of lists. The token is where the next page begins: if
    /// something changes meanwhile, the pages shift.
    async fn page<T: Clone>(
        &self,
        operation: &'static str,
        region: &str,
        token: Option<String>,
        views: impl Fn(&mut RunningInvocation) -> &mut Views<T>,
        whole: impl Fn() -> Result<Vec<T>, ProviderError>,
        past: impl FnOnce() -> Option<Vec<T>>,
    ) -> Result<Page<T>, ProviderError> {
        let fault = self.turn_in(operation, region, Some(region)).await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(refusal(operation, kind));
        }
        if token.is_some() && fault == Some(Fault::Expired) {
            return Err(refusal(operation, ErrorKind::BadPageToken));
        }
        let whole = whole()?;
        let list = match (fault, &token) {
            (Some(Fault::Empty), None) => Some(Vec::new()),
            (Some(Fault::Stale), None) => past(),
            (Some(Fault::Doubled), None) => {
                let twice = whole.iter().take(whole.len().div_ceil(2)).cloned();
                Some(whole.iter().cloned().chain(twice).collect())
            }
            _ => None,
        };
        let size = self.world.page_size();
        let from: usize = token.and_then(|token| token.parse().ok()).unwrap_or_default();
        let mut page = Page { elements: Vec::new(), broken: Vec::new(), next: None, total: None };
        self.told(|doing| {
            let view = views(doing).entry(region.to_owned()).or_default();
            if from == 0 {
                (view.shown, view.frozen, view.complete) = (Vec::new(), list, false);
            }
            let all = view.frozen.as_ref().unwrap_or(&whole);
            page.elements = all.iter().skip(from).take(size).cloned().collect();
            page.next = (all.len() > from + size).then(|| (from + size).to_string());
            view.shown.extend(page.elements.iter().cloned());
            view.complete = page.next.is_none();
        });
        Ok(page)
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

    /// The records of a place that the index shows.
    async fn indexed(
        &self,
        operation: &'static str,
        place: &Place,
        states: &[State],
    ) -> Result<Records, LedgerError> {
        let fault = self.turn(operation, place).await;
        if let Some(Fault::Before(kind)) = fault {
            let code = format!("{kind:?}");
            return Err(LedgerError { operation, code, message: MESSAGE.to_owned() });
        }
        let now = match operation {
            "open" => self.ledger().open(place).await?,
            _ => self.ledger().live(place).await?,
        };
        let found = match fault {
            Some(Fault::Stale) => self.world.past_live(self.of, place, states, now, false),
            Some(Fault::Torn) => self.world.past_live(self.of, place, states, now, true),
            _ => now,
        };
        let found = self.readable(found);
        self.told(|doing| doing.open.extend(found.records.iter().cloned()));
        Ok(found)
    }

    /// Reads or writes what the ledger remembers besides records.
    pub(super) async fn remembering<T>(
        &self,
        operation: &'static str,
        what: &str,
        call: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let failed = |code: String| LedgerError { operation, code, message: MESSAGE.to_owned() };
        match self.turn(operation, what).await {
            Some(Fault::Before(kind)) => Err(failed(format!("{kind:?}"))),
            Some(Fault::After) => call.await.and(Err(failed("Lost".to_owned()))),
            _ => call.await,
        }
    }

    /// Names the records that this invocation's format cannot read, as the real ledger does.
    fn readable(&self, mut found: Records) -> Records {
        if let Some(sabotage) = self.world.sabotage() {
            sabotage.misread(&mut found.records);
        }
        let (good, bad): (Vec<_>, Vec<_>) =
            found.records.into_iter().partition(|record| self.world.reads(self.me, record));
        found.records = good;
        found.unreadable.extend(bad.into_iter().map(|record| Unreadable {
            sort_key: record.sort_key(),
            resource: record.resource.clone(),
            why: "of a newer format".to_owned(),
        }));
        found
    }
}

impl Inventory for Ports {
    async fn regions(&self, provider: Option<&str>) -> Result<Vec<Place>, ProviderError> {
        match self.turn("regions", "").await {
            Some(Fault::Before(kind)) => Err(refusal("regions", kind)),
            _ => {
                self.world.provider.regions(provider).await.map(|regions| self.world.named(regions))
            }
        }
    }

    fn capabilities(&self, region: &Place) -> Capabilities {
        self.world.provider.capabilities(region)
    }

    async fn instances(
        &self,
        region: &Place,
        token: Option<String>,
    ) -> Result<Page<Instance>, ProviderError> {
        let whole = || self.world.instances(region);
        let past = || self.world.past_instances(region);
        let page =
            self.page("instances", region, token, |doing| &mut doing.instances, whole, past).await;
        match page {
            Err(_) if self.sabotaged(Sabotage::TrustsBrokenLists) => {
                Ok(Page { elements: whole()?, broken: Vec::new(), next: None, total: None })
            }
            Ok(mut page) if self.sabotaged(Sabotage::OverlooksInstances) => {
                page.elements.pop();
                Ok(page)
            }
            page => page,
        }
    }

    async fn instance(
        &self,
        region: &Place,
        id: &ResourceId,
        name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        let answer = match self.turn_in("instance", name, Some(region)).await {
            Some(Fault::Before(kind)) => Err(refusal("instance", kind)),
            _ => self.world.provider.instance(region, id, name).await,
        };
        if let Ok(found) = &answer {
            let who = (region.to_owned(), id.clone());
            self.told(|doing| doing.asked.insert(who, found.clone()));
        }
        answer
    }

    async fn quota(&self, place: &Place) -> Result<Option<Quota>, ProviderError> {
        match self.turn_in("quota", place, Some(place)).await {
            Some(Fault::Before(kind)) => Err(refusal("quota", kind)),
            _ => Ok(Some(self.world.quota(place))),
        }
    }

    async fn snapshots(
        &self,
        region: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        let whole = || self.world.snapshots(region);
        let past = || self.world.past_snapshots(region);
        let mut page =
            self.page("snapshots", region, token, |doing| &mut doing.snapshots, whole, past).await;
        if page.is_err() && self.sabotaged(Sabotage::TrustsBrokenLists) {
            // The first pages arrived.
            let mut elements = whole()?;
            elements.truncate(elements.len() - elements.len() / 4);
            page = Ok(Page { elements, broken: Vec::new(), next: None, total: None });
        }
        if let (Some(sabotage), Ok(page)) = (self.world.sabotage(), &mut page) {
            sabotage.distort(&mut page.elements);
        }
        page.map(|page| {
            let shown = page.elements.into_iter().map(|one| self.world.provider.shown(one));
            Page { elements: shown.collect(), ..page }
        })
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        let SnapshotRef { place: region, name, .. } = of;
        let answer = match self.turn_in("snapshot", name, Some(region)).await {
            Some(Fault::Before(_)) if self.sabotaged(Sabotage::TakesAnErrorForGone) => {
                Ok(Vec::new())
            }
            Some(Fault::Before(kind)) => Err(refusal("snapshot", kind)),
            Some(Fault::Stale) => self.world.meant(of, self.world.past_snapshots(region)),
            _ => self.world.meant(of, None),
        };
        if let Ok(found) = &answer {
            self.world.looked(self.me, of, found);
        }
        answer.map(|mut found| {
            let counts = self.sabotaged(Sabotage::CountsWhatIsNotThere);
            if let Some(sabotage) = self.world.sabotage()
                // This sabotage is not about what poll sees.
                && (!counts || self.world.function(self.me) == Some(Function::Prune))
            {
                sabotage.distort(&mut found);
            }
            found.into_iter().map(|one| self.world.provider.shown(one)).collect()
        })
    }
}

impl Creator for Ports {
    async fn create(&self, order: &SnapshotRequest) -> Result<Option<Box<str>>, ProviderError> {
        let fault = self.turn_in("create", &order.name, Some(&order.place)).await;
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
        if self.world.is_full(&order.place) {
            return Err(refusal("create", ErrorKind::Quota));
        }
        let answer = self.world.provider.create(&order).await;
        if let Ok(id) = &answer {
            self.world.saw_create(self.me, &order, fate, id.as_deref());
        }
        match fault {
            Some(_) => Err(refusal("create", ErrorKind::Indeterminate)),
            None => answer,
        }
    }
}

impl Deleter for Ports {
    async fn delete(&self, snapshot: &SnapshotRef) -> Result<(), ProviderError> {
        let SnapshotRef { place: region, name, .. } = snapshot;
        let fault = self.turn_in("delete", name, Some(region)).await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(refusal("delete", kind));
        }
        let victim = match self.world.sabotage() {
            Some(Sabotage::DeletesWhatIsForeign) => self.world.some_foreign(region),
            Some(Sabotage::DeletesWhatIsPending) => self.world.some_pending(region),
            _ => None,
        };
        let victim = victim.map(|victim| victim.reference(&self.world.provider.can()));
        let snapshot = victim.as_ref().unwrap_or(snapshot);
        let before = self.world.provider.meant(snapshot)?.pop();
        let answer = self.world.provider.delete(snapshot).await;
        // The memory refuses to delete what is pending; the request alone breaks the promise.
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

    async fn open(&self, place: &Place) -> Result<Records, LedgerError> {
        self.indexed("open", place, &FOLLOWED).await
    }

    async fn live(&self, place: &Place) -> Result<Records, LedgerError> {
        self.indexed("live", place, &State::ALL).await
    }

    async fn recent(&self, resource: &ResourceId, from: Slot) -> Result<Records, LedgerError> {
        if let Some(Fault::Before(kind)) = self.turn("recent", &resource.0).await {
            let (operation, code) = ("recent", format!("{kind:?}"));
            return Err(LedgerError { operation, code, message: MESSAGE.to_owned() });
        }
        Ok(self.readable(self.ledger().recent(resource, from).await?))
    }
}

impl Remember for Ports {
    async fn memory(&self) -> Result<Memory, LedgerError> {
        let mut memory = self.remembering("memory", "", self.ledger().memory()).await?;
        if self.sabotaged(Sabotage::ForgetsWhoWaited) {
            for item in &mut memory.protected {
                (item.answered, item.newest) = (None, None);
            }
        }
        Ok(memory)
    }

    async fn remember(&self, item: &Protected) -> Result<bool, LedgerError> {
        self.remembering("remember", &item.resource.0, self.ledger().remember(item)).await
    }

    async fn note(&self, resource: &ResourceId, note: Note) -> Result<(), LedgerError> {
        self.remembering("note", &resource.0, self.ledger().note(resource, note)).await
    }

    async fn put_run(&self, run: &LastRun) -> Result<Option<LastRun>, LedgerError> {
        self.remembering("put_run", &run.place, self.ledger().put_run(run)).await
    }
}

impl Relay for Ports {
    async fn go_on(&self, _: Function, tick: &Tick) -> Result<bool, ProviderError> {
        let fault = self.turn("go_on", &tick.place).await;
        if let Some(Fault::Before(kind)) = fault {
            return Err(refusal("go_on", kind));
        }
        self.world.ticked(self.me, self.of, tick);
        match fault {
            Some(_) => Err(refusal("go_on", ErrorKind::Indeterminate)),
            None => Ok(true),
        }
    }
}

impl Deadline for Ports {
    fn elapsed(&self) -> Duration {
        self.world.elapsed(self.me)
    }

    fn stop(&self) -> Duration {
        self.world.budget(self.me)
    }

    fn end(&self) -> Duration {
        self.stop() + Duration::from_secs(20)
    }

    fn last(&self) -> Duration {
        self.stop() + Duration::from_secs(40)
    }

    async fn sleep(&self, time: Duration) {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let until = self.world.now().saturating_add(time).unwrap_or(jiff::Timestamp::MAX);
        self.world.turns.nap(self.me, until).await;
    }
}
