//! A run consists of lanes, one for each place. Each lane has its own part of the report, its own
//! lease and its own failures, so that a place that hangs, throttles or refuses does not affect the
//! others.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_lock::Semaphore;
use futures_util::future::{join, join_all, select};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::FORMAT;
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{Context, Regions, Settings};

use crate::ports::{
    Deadline, ErrorKind, Inventory, Invocation, Memory, ProviderError, RUNS_MAX, Relay, Remember,
    Tick,
};
use crate::report::{Counter, Failure, ItemReport, Report, TickError};

/// How many places are listed at once: their lists are held in memory.
const LISTED_AT_ONCE: usize = 4;
/// How often one run asks for the Regions at most.
const REGIONS_TRIES: u32 = 3;

/// One place in one run.
pub(crate) struct Lane {
    pub(crate) place: Place,
    report: Mutex<Report>,
    /// The number of items that were queued or begun, and are not done.
    open: AtomicU64,
    /// Whether the lane achieved anything, so that going on at once is worthwhile.
    achieved: AtomicBool,
    /// Whether its work ended by itself, and not because the time was over.
    ended: AtomicBool,
    /// The result of listing the place.
    listed: Mutex<Option<Result<(), ProviderError>>>,
    /// Whether any page of its lists arrived.
    answered: AtomicBool,
    entry: Mutex<Entry>,
}

/// The state of a lane's lease.
#[derive(Default)]
enum Entry {
    /// The run has not asked for the lease yet.
    #[default]
    Open,
    /// This run holds the lease.
    Ours(Box<LastRun>),
    /// The lease could not be read or written; claims keep the run safe without it.
    Without,
    /// Another run holds the lease.
    Elsewhere,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No holder of a lock panics halfway; a poisoned report is still a report.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    pub(crate) fn report(&self) -> MutexGuard<'_, Report> {
        lock(&self.report)
    }

    pub(crate) fn add(&self, part: ItemReport) {
        self.report().add(part);
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.report().failures.push(failure.in_place(&self.place));
    }

    /// Adds this many items to those that are open.
    pub(crate) fn open(&self, items: usize) {
        self.open.fetch_add(items as u64, Ordering::Relaxed);
    }

    /// Notes that one item is done.
    pub(crate) fn done(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn achieved(&self) {
        self.achieved.store(true, Ordering::Relaxed);
    }

    /// Notes that a page of its lists arrived.
    pub(crate) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn listed(&self, result: Result<(), ProviderError>) {
        *lock(&self.listed) = Some(result);
    }

    /// Returns how many items are left, and whether going on with them at once is worthwhile.
    fn rest(&self) -> (u64, bool) {
        let left = self.open.load(Ordering::Relaxed);
        // A lane that was cut off before its items were known has at least one left.
        let left = if self.ended.load(Ordering::Relaxed) { left } else { left.max(1) };
        (left, left > 0 && self.achieved.load(Ordering::Relaxed))
    }
}

/// A run of a function: the data that all its lanes share.
pub(crate) struct Run<'a, I, L, D> {
    function: Function,
    pub(crate) inventory: &'a I,
    pub(crate) ledger: &'a L,
    pub(crate) deadline: &'a D,
    pub(crate) cx: Context<'a>,
    pub(crate) memory: Memory,
    pub(crate) listing: Semaphore,
    tick: Option<&'a Tick>,
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// The part of the report that belongs to no place.
    report: Mutex<Report>,
}

impl<'a, I: Inventory, L: Remember, D: Deadline> Run<'a, I, L, D> {
    /// Begins a run by reading what the ledger remembers.
    pub(crate) async fn begin(
        function: Function,
        inventory: &'a I,
        ledger: &'a L,
        settings: &'a Settings,
        invocation: &'a Invocation<D>,
    ) -> Result<Self, TickError> {
        let Invocation { now, lease, tick, deadline } = invocation;
        let memory = ledger.memory().await?;
        let mut report = Report::new(function, *now);
        report.partial = tick.is_some();
        report.unreadable(&memory.unreadable);
        if function != Function::Poll {
            report.findings.extend(settings.problems.iter().cloned());
        }
        Ok(Run {
            function,
            inventory,
            ledger,
            deadline,
            cx: Context { settings, now: *now, lease: *lease },
            memory,
            listing: Semaphore::new(LISTED_AT_ONCE),
            tick: tick.as_ref(),
            lanes: Mutex::default(),
            report: Mutex::new(report),
        })
    }

    /// The resources of a place that the ledger remembers.
    pub(crate) fn protected(&self, place: &Place) -> impl Iterator<Item = &Protected> {
        self.memory.protected.iter().filter(move |item| item.place == *place)
    }

    /// The last run of this function in a place.
    pub(crate) fn last_run(&self, place: &Place) -> Option<&LastRun> {
        let own = |run: &&LastRun| run.function == self.function && run.place == *place;
        self.memory.runs.iter().find(own)
    }

    fn lane(&self, place: &Place) -> Arc<Lane> {
        let lane = Arc::new(Lane {
            place: place.to_owned(),
            report: Mutex::new(Report::new(self.function, self.cx.now)),
            open: AtomicU64::new(0),
            achieved: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            listed: Mutex::default(),
            answered: AtomicBool::new(false),
            entry: Mutex::default(),
        });
        lock(&self.lanes).push(Arc::clone(&lane));
        lane
    }

    /// The places in which the ledger knows an active resource.
    pub(crate) fn known(&self) -> BTreeSet<Place> {
        let active = self.memory.protected.iter().filter(|item| item.idle_since.is_none());
        active.map(|item| item.place.clone()).collect()
    }

    /// Whether the configuration includes the place.
    fn is_configured(&self, place: &Place) -> bool {
        let region = place.at_home();
        let named = match &self.cx.settings.regions {
            Regions::All => true,
            Regions::Only(names) => names.contains(&region),
        };
        named && self.inventory.places(vec![region]).contains(place)
    }

    /// Works in every place that is looked after, all at once: places that the ledger knows do not
    /// wait for the list of Regions. Returns when the time is over, whatever is still under way.
    pub(crate) async fn everywhere(&self, work: impl AsyncFn(&Lane)) -> Result<(), TickError> {
        let (known, left_out): (Vec<Place>, Vec<Place>) =
            self.known().into_iter().partition(|place| self.is_configured(place));
        if self.function == Function::Prune && self.tick.is_none() {
            left_out.iter().for_each(|place| self.is_left_out(place));
        }
        let known: BTreeSet<Place> = known.into_iter().collect();
        let wanted = |place: &Place| self.tick.is_none_or(|tick| tick.place == *place);
        let in_all = async |places: Vec<Place>| {
            let lanes: Vec<Arc<Lane>> = places.iter().map(|place| self.lane(place)).collect();
            join_all(lanes.iter().map(async |lane| {
                work(lane).await;
                lane.ended.store(true, Ordering::Relaxed);
            }))
            .await;
        };
        let here: Vec<Place> = known.iter().filter(|place| wanted(place)).cloned().collect();
        let is_known = self.tick.is_some() && !here.is_empty();
        let mut failed = None;
        let all = join(in_all(here), async {
            if is_known {
                return;
            }
            match self.named(&known).await {
                Ok(places) => {
                    let others = places.into_iter().filter(|place| !known.contains(place));
                    let others: Vec<Place> = others.filter(wanted).collect();
                    if let (Some(tick), true) = (self.tick, others.is_empty()) {
                        self.knows_not(tick);
                    }
                    in_all(others).await;
                }
                Err(error) => failed = Some(error),
            }
        });
        self.within(self.deadline.end(), all).await;
        match failed {
            Some(error) if known.is_empty() => Err(error.into()),
            Some(error) => {
                lock(&self.report).failures.push(Failure::from(&error));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Works in every place that the ledger knows, all at once, whatever the configuration says.
    ///
    /// # Errors
    /// The ledger's error, if it answers for no place.
    pub(crate) async fn where_known(
        &self,
        work: impl AsyncFn(&Lane) -> Result<(), TickError>,
    ) -> Result<(), TickError> {
        let wanted = |place: &Place| self.tick.is_none_or(|tick| tick.place == *place);
        let places: Vec<Place> = self.known().into_iter().filter(wanted).collect();
        if let (Some(tick), true) = (self.tick, places.is_empty()) {
            self.knows_not(tick);
        }
        let lanes: Vec<Arc<Lane>> = places.iter().map(|place| self.lane(place)).collect();
        let results = Mutex::new(Vec::new());
        let all = join_all(lanes.iter().map(|lane| async {
            let result = work(lane).await;
            lane.ended.store(true, Ordering::Relaxed);
            if let Err(error) = &result {
                lane.fail(error.into());
            }
            lock(&results).push(result);
        }));
        self.within(self.deadline.end(), all).await;
        let mut results = std::mem::take(&mut *lock(&results));
        let all_failed =
            !lanes.is_empty() && results.len() == lanes.len() && results.iter().all(Result::is_err);
        if all_failed { results.swap_remove(0) } else { Ok(()) }
    }

    /// Reports a Tick event for a place that is not looked after.
    fn knows_not(&self, tick: &Tick) {
        let place = &tick.place;
        let message = format!("a Tick event names the place `{place}`, which is not looked after");
        let fix = "do nothing unless it happens again; then find out who sends the event";
        let finding = Finding::new(Code::BadTick, message).named(place).fix(fix);
        lock(&self.report).findings.push(finding);
    }

    /// The places that the configuration or the provider names.
    async fn named(&self, known: &BTreeSet<Place>) -> Result<Vec<Place>, ProviderError> {
        if let Regions::Only(names) = &self.cx.settings.regions {
            return Ok(self.inventory.places(names.clone()));
        }
        let mut tries = 0;
        let mut names = loop {
            tries += 1;
            match self.inventory.regions().await {
                Ok(names) => break names,
                Err(error) if tries >= REGIONS_TRIES || !error.kind.transient() => {
                    return Err(error);
                }
                Err(_) => self.deadline.sleep(Duration::from_millis(500)).await,
            }
        };
        names.sort();
        names.dedup();
        let places = self.inventory.places(names);
        for place in known.iter().filter(|place| !places.contains(place)) {
            let message = format!(
                "the provider no longer names {place}, where there are snapshots of ours; it is looked after \
                 all the same"
            );
            let fix =
                "check whether the Region is enabled for the account, or is about to be closed";
            let finding = Finding::new(Code::RegionUnnamed, message).named(place).fix(fix);
            lock(&self.report).findings.push(finding);
        }
        Ok(places)
    }

    fn is_left_out(&self, place: &Place) {
        let count = self.protected(place).filter(|item| item.idle_since.is_none()).count();
        let region = place.region();
        let resources = if count == 1 { "resource" } else { "resources" };
        let message = format!(
            "the configuration leaves out {place}, where the ledger knows {count} {resources}: nothing is \
             taken or pruned there"
        );
        let fix = format!(
            "add {region} to SNAPKEEP_REGIONS, and the account's role to SNAPKEEP_ROLE_ARNS"
        );
        let finding = Finding::new(Code::PlaceLeftOut, message).named(place);
        lock(&self.report).findings.push(finding.value(count.to_string()).fix(fix));
    }

    /// Waits for `work`, at most until the time `until`.
    pub(crate) async fn within(&self, until: Duration, work: impl Future<Output = impl Sized>) {
        let left = until.saturating_sub(self.deadline.elapsed());
        select(pin!(work), pin!(self.deadline.sleep(left))).await;
    }

    /// Takes the lane's lease; `false` when another run of this function holds it.
    pub(crate) async fn enter(&self, lane: &Lane) -> bool {
        match &*lock(&lane.entry) {
            Entry::Open => {}
            Entry::Ours(_) | Entry::Without => return true,
            Entry::Elsewhere => return false,
        }
        let (function, place) = (self.function, &lane.place);
        let last = self.last_run(place);
        // A lease cannot be taken if another version wrote its item.
        let key = format!("{function}#{place}");
        let unreadable = self.memory.unreadable.iter().any(|item| item.sort_key == key);
        let entered = match last {
            Some(last) if !last.lease.is_free(self.cx.now) => Ok(None),
            _ => {
                let run = LastRun {
                    function,
                    place: place.clone(),
                    at: self.cx.now,
                    seconds: 0,
                    counts: last.map(|last| last.counts.clone()).unwrap_or_default(),
                    failures: last.map_or(0, |last| last.failures),
                    left: last.map_or(0, |last| last.left),
                    lease: self.cx.lease,
                    format: FORMAT,
                    version: last.map_or(0, |last| last.version),
                };
                self.ledger.put_run(&run).await
            }
        };
        let entry = match entered {
            Ok(Some(run)) => Entry::Ours(Box::new(run)),
            Ok(None) if unreadable => Entry::Without,
            Ok(None) => {
                let message = format!("another run of {function} is at work in {place}");
                let finding = Finding::new(Code::LaneHeld, message).named(place);
                lane.report().findings.push(finding);
                Entry::Elsewhere
            }
            Err(error) => {
                lane.fail(Failure::from(&error));
                Entry::Without
            }
        };
        let enters = !matches!(entry, Entry::Elsewhere);
        *lock(&lane.entry) = entry;
        enters
    }

    /// Gives the leases back, sends a Tick for each place with work left, and assembles the report.
    pub(crate) async fn finish(self, relay: &impl Relay) -> Result<Report, TickError> {
        let mut lanes = lock(&self.lanes).clone();
        lanes.sort_by(|a, b| a.place.cmp(&b.place));
        let outcome = self.outcomes(&lanes);
        let leave = join_all(lanes.iter().map(|lane| self.leave(lane, relay)));
        self.within(self.deadline.last(), leave).await;
        outcome?;
        let mut report = lock(&self.report).clone();
        for lane in &lanes {
            let (left, _) = lane.rest();
            let share =
                std::mem::replace(&mut *lane.report(), Report::new(report.function, report.now));
            report.absorb(share, &lane.place, left);
        }
        Ok(report.finished())
    }

    /// Reports how listing went. A Region that is not enabled is only information, unless the
    /// configuration names it, the ledger knows resources there, or no place answers.
    ///
    /// # Errors
    /// When no place answers and a retry can help.
    fn outcomes(&self, lanes: &[Arc<Lane>]) -> Result<(), TickError> {
        let results: Vec<(&Arc<Lane>, Result<(), ProviderError>)> =
            lanes.iter().filter_map(|lane| Some((lane, lock(&lane.listed).clone()?))).collect();
        // Instances that were listed were served, even if a later page failed.
        let answered = |lane: &Lane| lane.answered.load(Ordering::Relaxed);
        let any = results.iter().any(|(lane, result)| result.is_ok() || answered(lane));
        let mut transient = None;
        for (lane, result) in results {
            let Err(error) = result else {
                lane.report().count(Counter::Regions, 1);
                continue;
            };
            let place = &lane.place;
            if error.kind == ErrorKind::RegionNotEnabled && any {
                let needed = matches!(self.cx.settings.regions, Regions::Only(_))
                    || self.protected(place).next().is_some();
                let code = if needed { Code::RegionUnreachable } else { Code::RegionNotEnabled };
                let message =
                    format!("Region {place} is not enabled for the account ({})", error.code);
                let mut finding = Finding::new(code, message).named(place.clone());
                if needed {
                    finding = finding.fix("enable the Region, or take it out of SNAPKEEP_REGIONS");
                    lane.fail(Failure::from(&error));
                }
                lane.report().findings.push(finding);
                continue;
            }
            lane.fail(Failure::from(&error));
            if error.kind.transient() {
                transient = Some(error);
            }
        }
        match transient {
            Some(error) if !any => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn leave(&self, lane: &Lane, relay: &impl Relay) {
        let (left, goes_on) = lane.rest();
        let entry = std::mem::take(&mut *lock(&lane.entry));
        if let Entry::Ours(run) = entry {
            let run = {
                let report = lane.report();
                let counts =
                    report.counts.iter().map(|(c, n)| (c.as_str().to_owned(), *n)).collect();
                let failures = report.failures.len() as u64;
                let seconds = self.deadline.elapsed().as_secs();
                LastRun { seconds, counts, failures, left, lease: Lease::NONE, ..*run }
            };
            if let Err(error) = self.ledger.put_run(&run).await {
                lane.fail(Failure::from(&error));
            }
        }
        let run = self.tick.map_or(1, |tick| tick.run + 1);
        if goes_on && run <= RUNS_MAX && !self.cx.settings.dry_run {
            let tick = Tick { place: lane.place.clone(), run };
            if let Err(error) = relay.go_on(self.function, &tick).await {
                // The next scheduled tick goes on.
                lane.fail(Failure::from(&error));
            }
        }
    }
}
