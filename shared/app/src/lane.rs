//! A run consists of lanes, one for each place. Each lane has its own part of the report, its own
//! lease and its own failures, so that a place that hangs, throttles or refuses does not affect the
//! others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_lock::Semaphore;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::answer::Lookup;
use snapkeep_domain::capabilities::TagSupport;
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::{FORMAT, Record};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{Context, Provider, Regions, Settings};
use snapkeep_domain::quota::{self, Need};
use snapkeep_domain::snapshot::Snapshot;

use crate::ports::{
    Deadline, ErrorKind, Inventory, Invocation, Memory, ProviderError, RUNS_MAX, Relay, Remember,
    Tick,
};
use crate::report::{Counter, Failure, ItemReport, Report, TickError};

mod places;

/// How many places are listed at once: their lists are held in memory.
const LISTED_AT_ONCE: usize = 4;

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
    /// Whether any snapshot of the place ever showed a tag.
    shows_tags: AtomicBool,
    /// What its protected instances need of its quota.
    needs: Mutex<Vec<Need>>,
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

    /// Notes that a snapshot of the place showed a tag.
    pub(crate) fn shows_tags(&self) {
        self.shows_tags.store(true, Ordering::Relaxed);
    }

    /// Notes what a protected instance needs of the quota.
    pub(crate) fn needs(&self, need: Need) {
        lock(&self.needs).push(need);
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
    pub(crate) settings: &'a Settings,
    pub(crate) now: Timestamp,
    lease: Lease,
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
            settings,
            now: *now,
            lease: *lease,
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

    /// What the planners judge by in a lane.
    pub(crate) fn cx(&self, lane: &Lane) -> Context<'a> {
        let mut capabilities = self.inventory.capabilities(&lane.place);
        if lane.shows_tags.load(Ordering::Relaxed) {
            capabilities.tags = TagSupport::Yes;
        }
        let elapsed = SignedDuration::try_from(self.deadline.elapsed()).unwrap_or_default();
        let elapsed = SignedDuration::from_secs(elapsed.as_secs());
        Context { settings: self.settings, now: self.now, lease: self.lease, elapsed, capabilities }
    }

    /// What a lookup showed of a record's snapshot.
    pub(crate) fn found(&self, lane: &Lane, record: &Record, found: Vec<Snapshot>) -> Lookup {
        if found.iter().any(|snapshot| !snapshot.tags.is_empty()) {
            lane.shows_tags();
        }
        let Context { settings, capabilities, .. } = self.cx(lane);
        record.look(found, &settings.deployment, &capabilities)
    }

    /// Reads the quota of a place with protected instances, and reports one that does not suffice.
    /// Without knowledge of its own, a run takes the number of snapshots that are not ours from the
    /// last one that counted them.
    pub(crate) async fn check_quota(&self, lane: &Lane, foreign: Option<u64>) {
        let needs = std::mem::take(&mut *lock(&lane.needs));
        if needs.is_empty() {
            return;
        }
        let quota = match self.inventory.quota(&lane.place).await {
            Ok(Some(quota)) => quota,
            Ok(None) => return,
            Err(error) => return lane.fail(Failure::from(&error)),
        };
        let counted = |run: &&LastRun| run.function == Function::Prune && run.place == lane.place;
        let counted = || {
            let last = self.memory.runs.iter().find(counted)?;
            last.counts.get(Counter::Foreign.as_str()).copied()
        };
        let foreign = foreign.or_else(counted).unwrap_or(0);
        let finding = quota::short(&lane.place, quota, foreign, &needs, self.now);
        lane.report().findings.extend(finding);
    }

    fn lane(&self, place: &Place) -> Arc<Lane> {
        let shown = |run: &LastRun| run.shows_tags && run.place == *place;
        let lane = Arc::new(Lane {
            place: place.to_owned(),
            report: Mutex::new(Report::new(self.function, self.now)),
            open: AtomicU64::new(0),
            achieved: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            listed: Mutex::default(),
            answered: AtomicBool::new(false),
            shows_tags: AtomicBool::new(self.memory.runs.iter().any(shown)),
            needs: Mutex::default(),
            entry: Mutex::default(),
        });
        lock(&self.lanes).push(Arc::clone(&lane));
        lane
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
            Some(last) if !last.lease.is_free(self.now) => Ok(None),
            _ => {
                let run = LastRun {
                    function,
                    place: place.clone(),
                    at: self.now,
                    finished: last.and_then(LastRun::finished),
                    seconds: 0,
                    counts: last.map(|last| last.counts.clone()).unwrap_or_default(),
                    failures: last.map_or(0, |last| last.failures),
                    left: last.map_or(0, |last| last.left),
                    shows_tags: lane.shows_tags.load(Ordering::Relaxed),
                    lease: self.lease,
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
        Ok(report.finished(&self.settings.tag))
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
                let provider = self.settings.provider_of(place);
                let by_name = |provider: &Provider| matches!(provider.regions, Regions::Only(_));
                let needed =
                    provider.is_some_and(by_name) || self.protected(place).next().is_some();
                let code = if needed { Code::RegionUnreachable } else { Code::RegionNotEnabled };
                let message =
                    format!("Region {place} is not enabled for the account ({})", error.code);
                let mut finding = Finding::new(code, message).named(place.clone());
                if needed {
                    let variable = provider.map_or("the Regions", |one| one.regions_variable);
                    finding =
                        finding.fix(format!("enable the Region, or take it out of {variable}"));
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
                let shows_tags = lane.shows_tags.load(Ordering::Relaxed);
                let finished = Some(run.at);
                let lease = Lease::NONE;
                LastRun { finished, seconds, counts, failures, left, shows_tags, lease, ..*run }
            };
            if let Err(error) = self.ledger.put_run(&run).await {
                lane.fail(Failure::from(&error));
            }
        }
        let run = self.tick.map_or(1, |tick| tick.run + 1);
        if goes_on && run <= RUNS_MAX && !self.settings.dry_run {
            let tick = Tick { place: lane.place.clone(), run };
            if let Err(error) = relay.go_on(self.function, &tick).await {
                // The next scheduled tick goes on.
                lane.fail(Failure::from(&error));
            }
        }
    }
}
