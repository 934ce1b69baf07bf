//! The simulated world: provider, ledgers, the invocations under way, and everything that can go
//! wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{ErrorKind, Records, SnapshotRequest, Tick};
use snapkeep_app::report::Report;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::{FORMAT, Record, State};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotState};

use super::invocation::RunningInvocation;
use super::ports::Fault;
use super::properties::{Property, Watch};
use super::rates::{Rates, STALE_MAX, WRITES};
use super::sabotage::Sabotage;
use super::service::{Buckets, Fate, Late};
use super::turns::{InvocationId, Turns};
use super::{Options, Profile};
use crate::alter;
use crate::ledger::MemoryLedger;
use crate::memory::MemoryProvider;

/// The format that the functions of the next version write.
pub const NEXT_FORMAT: u32 = FORMAT + 1;

/// A service that fails for a while.
#[derive(Clone, Debug)]
pub struct Outage {
    /// The operation; `None` means all.
    pub operation: Option<&'static str>,
    /// The Region in which the provider fails; `None` means all.
    pub region: Option<String>,
    /// The error that it answers.
    pub kind: ErrorKind,
    /// The end of the outage.
    pub until: Timestamp,
}

/// The simulated world.
#[derive(Debug)]
pub struct World {
    /// The provider, with everything that exists.
    pub provider: MemoryProvider,
    /// The ledger of each deployment.
    pub ledgers: Vec<MemoryLedger>,
    /// The calls that wait for their turn.
    pub turns: Turns,
    inner: Mutex<Inner>,
}

/// The state that only the simulator knows.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) rng: Rng,
    pub(super) rates: Rates,
    pub(super) profile: Profile,
    /// Whether nothing goes wrong any more.
    pub(super) healthy: bool,
    pub(super) outages: Vec<Outage>,
    /// The error of every clock, and its end.
    pub(super) step: Option<(SignedDuration, Timestamp)>,
    /// How many in a hundred functions are of the next version, which is being rolled out.
    pub(super) rollout: u32,
    pub(super) running: BTreeMap<InvocationId, RunningInvocation>,
    pub(super) watch: Watch,
    /// The members that the service shows late, by the snapshot's id.
    pub(super) late: BTreeMap<String, Late>,
    /// The calls that its rate still lets through.
    pub(super) buckets: Buckets,
    /// The hour, and how many requests for snapshots came in it.
    pub(super) let_through: (i64, usize),
    /// Regions that exist, but that the provider does not name.
    pub(super) unnamed: BTreeSet<String>,
    /// The functions' Ticks that the bus has not delivered.
    pub(super) ticks: Vec<(Function, usize, Tick)>,
    /// The fault of the next call, in a scripted history.
    pub(super) scripted: Option<Fault>,
    sabotage: Option<Sabotage>,
    transcript: DefaultHasher,
    lines: Option<Vec<String>>,
    /// The provider's recent states.
    past: VecDeque<(Timestamp, Vec<Snapshot>, Vec<Instance>)>,
    /// The recent writes: to which ledger, the record before, and the record after.
    written: VecDeque<(Timestamp, usize, Option<Record>, Record)>,
}

impl World {
    pub(super) fn new(
        provider: MemoryProvider,
        deployments: usize,
        rng: Rng,
        rates: Rates,
        Options { sabotage, profile, trace }: Options,
    ) -> Self {
        let inner = Inner {
            rng,
            rates,
            profile,
            healthy: false,
            outages: Vec::new(),
            step: None,
            rollout: 0,
            running: BTreeMap::new(),
            watch: Watch::default(),
            late: BTreeMap::new(),
            buckets: Buckets::default(),
            let_through: (0, 0),
            unnamed: BTreeSet::new(),
            ticks: Vec::new(),
            scripted: None,
            sabotage,
            transcript: DefaultHasher::new(),
            lines: trace.then(Vec::new),
            past: VecDeque::new(),
            written: VecDeque::new(),
        };
        let ledgers = std::iter::repeat_with(MemoryLedger::new).take(deployments).collect();
        Self { provider, ledgers, turns: Turns::default(), inner: Mutex::new(inner) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current time, by the only clock that is right.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.provider.now()
    }

    /// Writes a line of the transcript.
    pub(super) fn note(&self, line: std::fmt::Arguments<'_>) {
        let line = format!("{} {line}", self.now());
        let mut inner = self.lock();
        line.hash(&mut inner.transcript);
        if let Some(lines) = &mut inner.lines {
            lines.push(line);
        }
    }

    /// The hash of everything that happened, and the lines if they were kept.
    pub(super) fn transcript(&self) -> (u64, Vec<String>) {
        let mut inner = self.lock();
        (inner.transcript.finish(), inner.lines.take().unwrap_or_default())
    }

    pub(super) fn sabotage(&self) -> Option<Sabotage> {
        self.lock().sabotage
    }

    /// Draws the fault of this call.
    pub(super) fn strike(
        &self,
        me: InvocationId,
        operation: &'static str,
        what: &str,
        place: Option<&str>,
    ) -> Option<Fault> {
        let now = self.now();
        let mut inner = self.lock();
        inner.outages.retain(|outage| outage.until > now);
        let out = inner.outages.iter().find(|o| {
            o.operation.is_none_or(|of| of == operation)
                && o.region.as_ref().is_none_or(|region| place == Some(region.as_str()))
        });
        let out = out.map(|outage| outage.kind);
        let out = out.or_else(|| inner.over_limit(operation, place, now));
        let Inner { rng, rates, healthy, scripted, .. } = &mut *inner;
        let fault = match (scripted.take(), out) {
            (Some(fault), _) => Some(fault),
            (None, Some(kind)) => Some(Fault::Before(kind)),
            (None, None) if *healthy => None,
            (None, None) => rates.fault(rng, operation),
        };
        // A read whose answer is lost is an error like any other.
        let writes = WRITES.contains(&operation);
        let fault = match fault {
            Some(Fault::After) if !writes => Some(Fault::Before(ErrorKind::Indeterminate)),
            fault => fault,
        };
        // This sabotage takes an error for an answer, so it cannot report it, and is not about
        // that.
        let hidden =
            inner.sabotage == Some(Sabotage::TakesAnErrorForGone) && operation == "snapshot";
        if let Some(doing) = inner.running.get_mut(&me).filter(|_| !hidden) {
            doing.met(operation, what, fault);
        }
        drop(inner);
        match fault {
            Some(fault) => self.note(format_args!("#{me} {operation} {what}: {fault:?}")),
            None => self.note(format_args!("#{me} {operation} {what}")),
        }
        fault
    }

    /// Remembers what the provider shows now, for answers that are stale.
    pub(super) fn remember(&self) {
        let now = self.now();
        let mut inner = self.lock();
        if inner.rates.stale == 0 {
            return;
        }
        let (snapshots, instances) = (self.provider.all_snapshots(), self.provider.all_instances());
        inner.past.push_back((now, snapshots, instances));
        while inner.past.len() > 8 {
            inner.past.pop_front();
        }
    }

    /// The oldest state that may still be shown.
    fn past<T>(&self, pick: impl Fn(&(Timestamp, Vec<Snapshot>, Vec<Instance>)) -> T) -> Option<T> {
        let border = self.now() - STALE_MAX;
        self.lock().past.iter().find(|(at, ..)| *at >= border).map(pick)
    }

    pub(super) fn past_snapshots(&self, region: &str) -> Option<Vec<Snapshot>> {
        let past: Vec<Snapshot> =
            self.past(|(_, all, _)| all.iter().filter(|s| *s.place == *region).cloned().collect())?;
        Some(past.into_iter().filter_map(|snapshot| self.shown(snapshot)).collect())
    }

    pub(super) fn past_instances(&self, region: &str) -> Option<Vec<Instance>> {
        self.past(|(_, _, all)| all.iter().filter(|i| *i.place == *region).cloned().collect())
    }

    /// The index as it was recently; if `torn`, its first pages from then and its last from now.
    pub(super) fn past_live(
        &self,
        of: usize,
        place: &str,
        states: &[State],
        now: Records,
        torn: bool,
    ) -> Records {
        let border = self.now() - STALE_MAX;
        let mut inner = self.lock();
        let key = |r: &Record| (r.live(), r.resource.clone(), r.sort_key());
        let mut all: BTreeMap<_, Record> =
            now.records.iter().map(|r| ((r.resource.clone(), r.sort_key()), r.clone())).collect();
        for (at, ledger, before, after) in inner.written.iter().rev() {
            if *at < border {
                break;
            }
            if *ledger != of || *after.place != *place {
                continue;
            }
            let key = (after.resource.clone(), after.sort_key());
            match before {
                Some(before) => all.insert(key, before.clone()),
                None => all.remove(&key),
            };
        }
        let shown = |record: &Record| record.live().is_some_and(|state| states.contains(&state));
        let mut records: Vec<Record> = all.into_values().filter(shown).collect();
        if torn && !records.is_empty() {
            let at = inner.rng.usize(0..records.len());
            records.sort_by_key(key);
            let page = key(&records[at]);
            records.truncate(at + 1);
            records.extend(now.records.into_iter().filter(|record| key(record) > page));
        }
        Records { records, unreadable: now.unreadable }
    }

    /// Notes an answer that an invocation got.
    pub(super) fn told(&self, me: InvocationId, note: impl FnOnce(&mut RunningInvocation)) {
        self.lock().running.get_mut(&me).map(note);
    }

    /// Shows the properties a snapshot that is about to be requested.
    pub(super) fn saw_order(&self, me: InvocationId, of: usize, order: &SnapshotRequest) {
        let intended = self.ledgers[of].all().iter().any(|record| {
            record.name == order.name
                && record.place == order.place
                && record.state == State::Intended
        });
        let mut inner = self.lock();
        let Inner { running, watch, .. } = &mut *inner;
        if let Some(doing) = running.get(&me) {
            watch.ordered(doing, order, intended);
        }
    }

    /// Shows the properties a new snapshot, and lets its fate happen.
    pub(super) fn saw_create(
        &self,
        me: InvocationId,
        order: &SnapshotRequest,
        fate: Fate,
        id: Option<&str>,
    ) {
        let key = id.unwrap_or(&order.name);
        let Some(made) = self.provider.find(&order.place, key) else { return };
        let all = self.provider.all_snapshots();
        let now = self.now();
        let mut inner = self.lock();
        inner.comes_late(&made.id, now);
        let Inner { running, watch, rates, .. } = &mut *inner;
        if let Some(doing) = running.get(&me) {
            watch.created(doing, &made, order, &all);
            if let Some(capacity) = rates.capacity {
                watch.let_through(&made, &self.provider.all_instances(), capacity.an_hour, now);
            }
        }
        drop(inner);
        match fate {
            Fate::Good | Fate::Slow => {}
            Fate::Error => {
                self.provider.fail(&order.place, key);
                // Where the operation failed and the state does not change, it cannot be deleted.
                let deletable = id.is_none() || self.lock().rng.bool();
                self.provider.set_deletable(&order.place, key, deletable);
            }
            Fate::Stuck => self.provider.set_state(&order.place, key, SnapshotState::Pending),
            Fate::Vanishes => drop(self.provider.vanish(&order.place, key)),
        }
        if fate != Fate::Good {
            self.note(format_args!("{}: {fate:?}", order.name));
        }
        self.remember();
    }

    pub(super) fn saw_delete(&self, me: InvocationId, of: usize, deleted: &Snapshot) {
        let record = self.ledgers[of]
            .all()
            .into_iter()
            .find(|r| is_of(r, deleted) && r.place == deleted.place && r.state == State::Deleting);
        let left = self.provider.all_snapshots();
        let now = self.now();
        let mut inner = self.lock();
        let Inner { running, watch, .. } = &mut *inner;
        if let Some(doing) = running.get_mut(&me) {
            watch.deleted(doing, deleted, record.as_ref(), &left, now);
        }
        drop(inner);
        self.remember();
    }

    pub(super) fn saw_write(
        &self,
        me: InvocationId,
        of: usize,
        old: Option<&Record>,
        new: &Record,
    ) {
        let there = self.provider.find(&new.place, new.snapshot_key());
        let now = self.now();
        let mut inner = self.lock();
        inner.written.push_back((now, of, old.cloned(), new.clone()));
        while inner.written.len() > 32 {
            inner.written.pop_front();
        }
        let Inner { running, watch, .. } = &mut *inner;
        if let Some(doing) = running.get_mut(&me) {
            watch.wrote(doing, old, new, there.as_ref());
        }
    }

    /// The record as this invocation's version, or its sabotage, writes it.
    pub(super) fn dressed(&self, me: InvocationId, record: &Record) -> Record {
        let inner = self.lock();
        let mut record = record.clone();
        let Some(doing) = inner.running.get(&me) else { return record };
        alter(&mut record, |record| {
            if doing.format == NEXT_FORMAT {
                record.format = NEXT_FORMAT;
            }
            match (inner.sabotage, record.state) {
                (Some(Sabotage::BackdatesMarks), State::Expiring) => {
                    let long_ago = |at: Timestamp| at - SignedDuration::from_hours(240);
                    if let Some(mark) = &mut record.mark {
                        (mark.at, mark.execute_at) = (long_ago(mark.at), long_ago(mark.execute_at));
                    }
                }
                (Some(Sabotage::JumpsStates), State::Expiring) => record.state = State::Deleting,
                _ => {}
            }
        });
        record
    }

    /// Whether this invocation can read the record.
    pub(super) fn reads(&self, me: InvocationId, record: &Record) -> bool {
        self.lock().running.get(&me).is_none_or(|doing| record.format <= doing.format)
    }

    /// The function of this invocation.
    pub(super) fn function(&self, me: InvocationId) -> Option<Function> {
        self.lock().running.get(&me).map(|doing| doing.function)
    }

    /// How long this invocation has run.
    pub(super) fn elapsed(&self, me: InvocationId) -> Duration {
        let now = self.now();
        let inner = self.lock();
        let ran = inner.running.get(&me).map(|doing| now.duration_since(doing.started));
        ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or(Duration::MAX)
    }

    /// The time after which this invocation begins no item.
    pub(super) fn budget(&self, me: InvocationId) -> Duration {
        let inner = self.lock();
        let budget =
            inner.running.get(&me).map(|doing| doing.stop_at.duration_since(doing.started));
        budget.and_then(|budget| Duration::try_from(budget).ok()).unwrap_or_default()
    }

    /// The Regions that the provider names.
    pub(super) fn named(&self, mut regions: Vec<Place>) -> Vec<Place> {
        let inner = self.lock();
        regions.retain(|region| !inner.unnamed.contains(&**region));
        regions
    }

    /// Makes the provider name this Region no more.
    pub fn unname(&self, region: &str) {
        self.lock().unnamed.insert(region.to_owned());
    }

    /// How many elements a page has.
    pub(super) fn page_size(&self) -> usize {
        let inner = self.lock();
        // In a healthy world, the lists must fit into a run.
        if inner.healthy { 20 } else { inner.rates.page_size.max(1) }
    }

    /// Shows the properties a report that is out.
    pub(super) fn out(&self, me: InvocationId, of: usize, report: &Report) {
        let mut inner = self.lock();
        let report = match inner.sabotage {
            Some(by) => by.report(report.clone()),
            None => report.clone(),
        };
        let Inner { running, watch, .. } = &mut *inner;
        if let Some(doing) = running.get(&me) {
            watch.out(doing, &report);
            watch.progressed(doing, &report, &self.ledgers[of], &self.provider);
        }
    }

    /// The places of the Ticks that the bus has not delivered.
    #[must_use]
    pub fn undelivered(&self) -> Vec<Place> {
        self.lock().ticks.iter().map(|(.., tick)| tick.place.clone()).collect()
    }

    /// Puts an invocation's Tick for a place on the bus.
    pub(super) fn ticked(&self, me: InvocationId, of: usize, tick: &Tick) {
        let mut inner = self.lock();
        if let Some(function) = inner.running.get(&me).map(|doing| doing.function) {
            inner.ticks.push((function, of, tick.clone()));
        }
    }

    /// Notes a broken promise.
    pub(super) fn violate(&self, property: Property, message: String) {
        self.lock().watch.violate(property, message);
    }
}

/// Whether a record is of this snapshot.
pub(super) fn is_of(record: &Record, snapshot: &Snapshot) -> bool {
    match &record.identity.id {
        Some(id) => **id == snapshot.id,
        None => record.name == snapshot.name,
    }
}

/// Reads settings from variables; `None` if the function does not start with them.
pub(super) fn settings(vars: &BTreeMap<String, String>, function: Function) -> Option<Settings> {
    Settings::read(vars, function).ok()
}
