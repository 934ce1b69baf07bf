//! A world that goes wrong, from one seed: the real domain and runners of the functions, on one
//! thread, against a provider, a ledger and a clock in memory, while people and services interfere.
//!
//! A history has two parts. First, everything that [`rates`] has drawn may go wrong, and the
//! [`properties`] watch every call. Then the world is healthy, and all must be well again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{Invocation, Tick};
use snapkeep_app::report::{Report, TickError};
use snapkeep_domain::finding::Finding;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::record::{FORMAT, INVOCATION_LIFE};
use snapkeep_domain::snapshot::Tags;

use crate::memory::MemoryProvider;
use deployment::Deployment;
use invocation::RunningInvocation;
use operators::Operators;
use ports::Ports;
pub use profile::Profile;
use properties::{Property, Violation};
use rates::Rates;
use sabotage::Sabotage;
use turns::InvocationId;
use world::{NEXT_FORMAT, World, settings};

pub mod deployment;
pub mod health;
pub mod invocation;
mod mail;
pub mod operators;
pub mod ports;
mod profile;
mod progress;
pub mod properties;
pub mod property;
pub mod rates;
pub mod sabotage;
mod scripted;
pub mod service;
pub mod turns;
pub mod world;

/// The Regions of the simulated account.
pub const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];
/// The time at which every history begins.
const START: &str = "2026-01-01T00:10:00Z";
/// The length of the healthy part.
const RECOVERY: SignedDuration = SignedDuration::from_hours(46);
/// Nothing may be reported in the last hours of the healthy part.
const QUIET: SignedDuration = SignedDuration::from_hours(6);

type Running = Pin<Box<dyn Future<Output = Result<Report, TickError>>>>;

/// An event that is going to happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The rule fires.
    Rule(Function, usize),
    /// A function is invoked; a Tick invokes it for one place, with the number of the run.
    Invoke(Function, usize, Option<(usize, u32)>),
    /// A person or a service acts.
    Act,
}

/// The options of a history.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What the provider can do.
    pub profile: Profile,
    /// The sabotage that breaks the functions.
    pub sabotage: Option<Sabotage>,
    /// Whether to keep the lines of the transcript.
    pub trace: bool,
}

/// The outcome of a history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// A hash of everything that happened, in order.
    pub hash: u64,
    /// The transcript, if it was kept.
    pub lines: Vec<String>,
    /// The number of calls to the ports.
    pub calls: u64,
    /// The number of invocations.
    pub invocations: u64,
}

/// Runs the history of a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut simulation = Simulation::random(seed, options);
    let days = match simulation.world.provider.all_instances().len() {
        ..=3 => simulation.world.lock().rng.i64(1..=4),
        _ => 1,
    };
    let end = simulation.world.now() + SignedDuration::from_hours(24 * days);
    simulation.until(end);
    simulation.recover(RECOVERY);
    let violation = simulation.violation();
    let (hash, lines) = simulation.world.transcript();
    let Simulation { calls, invocations, .. } = simulation;
    Outcome { seed, violation, hash, lines, calls, invocations }
}

/// A running history.
pub struct Simulation {
    /// The world.
    pub world: Arc<World>,
    /// The deployments.
    pub deployments: Vec<Deployment>,
    ticks: BTreeMap<InvocationId, Running>,
    queue: BTreeMap<(Timestamp, u64), Event>,
    operators: Operators,
    answers: Option<Vec<Result<Report, TickError>>>,
    /// What the last run of each function found in the healthy world, by deployment.
    last: Vec<BTreeMap<Function, Vec<Finding>>>,
    /// Whether there are so many instances that calls take less time, as if many were under way at
    /// once.
    crowded: bool,
    /// The time from which nothing may be reported.
    quiet_from: Option<Timestamp>,
    events: u64,
    calls: u64,
    invocations: u64,
}

impl Simulation {
    fn random(seed: u64, options: Options) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut rates = Rates::draw(&mut rng);
        let mut deployments = vec![Deployment::draw("snapkeep", &mut rng)];
        let provider = MemoryProvider::new(&REGIONS, START.parse().unwrap())
            .with_capabilities(options.profile.capabilities());
        let count = match rng.u16(0..400) {
            0 => deployments[0].fleet(&mut rates, &mut rng),
            1..=16 => deployments[0].scarcity(&mut rates, &mut rng),
            _ => rng.usize(1..=3),
        };
        for at in 0..count {
            // Many instances are spread over the places; if not all are served, there is one place.
            let region = if rates.capacity.is_some() { 0 } else { rng.usize(0..2) };
            provider.launch(REGIONS[region], &format!("web-{at}"), on());
        }
        if rng.u8(0..6) == 0 && count <= 3 {
            deployments.push(Deployment::draw("other", &mut rng));
        }
        if options.profile == Profile::ById {
            provider.set_one_at_a_time(true);
            provider.set_gone_after(rates.draw_by_id(&mut rng));
            if rates.drops_tags {
                provider.drop_tags();
            }
        }
        let world = World::new(provider, deployments.len(), rng, rates, options);
        world.note(format_args!("seed {seed}"));
        for deployment in &deployments {
            world.note(format_args!("{} {:?}", deployment.id, deployment.vars));
        }
        let mut simulation = Self::of(world, deployments);
        simulation.crowded = count > 20;
        simulation.schedule();
        simulation.enqueue(simulation.world.now(), Event::Act);
        simulation
    }

    /// Sets up the rules that invoke the functions from now on.
    pub fn schedule(&mut self) {
        for deployment in 0..self.deployments.len() {
            for function in [Function::Create, Function::Poll, Function::Prune] {
                let at = self.world.now() + SignedDuration::from_mins(function as i64 * 3);
                self.enqueue(at, Event::Rule(function, deployment));
            }
        }
    }

    /// Removes the rules.
    pub fn unschedule(&mut self) {
        self.queue.clear();
    }

    fn of(world: World, deployments: Vec<Deployment>) -> Self {
        Simulation {
            world: Arc::new(world),
            last: vec![BTreeMap::new(); deployments.len()],
            deployments,
            ticks: BTreeMap::new(),
            queue: BTreeMap::new(),
            operators: Operators::default(),
            answers: None,
            crowded: false,
            quiet_from: None,
            events: 0,
            calls: 0,
            invocations: 0,
        }
    }

    fn enqueue(&mut self, at: Timestamp, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn broken(&self) -> bool {
        self.world.lock().watch.violation.is_some()
    }

    /// Lets time pass until `end`, or until a promise is broken.
    fn until(&mut self, end: Timestamp) {
        while !self.broken() {
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            let waiting = self.world.turns.waiting();
            if waiting.is_empty() {
                let nap = self.world.turns.next_nap(None);
                match due.into_iter().chain(nap).min().filter(|next| *next <= end) {
                    Some(next) => self.pass_to(next),
                    None => break,
                }
                continue;
            }
            // A call takes a moment; some calls take minutes.
            let mut inner = self.world.lock();
            let slow = !inner.healthy && {
                let chance = inner.rates.slow;
                Rates::strikes(&mut inner.rng, chance)
            };
            let millis = match (slow, self.crowded) {
                (true, _) => 300_000,
                (false, true) => 100,
                (false, false) => 2_000,
            };
            let takes = SignedDuration::from_millis(inner.rng.i64(0..millis));
            // If it matters who is first, calls are answered in their order.
            let in_order = inner.rates.capacity.is_some();
            let next = if in_order { 0 } else { inner.rng.usize(0..waiting.len()) };
            let (call, invocation) = waiting[next];
            let crash = !inner.healthy && {
                let chance = inner.rates.crash;
                Rates::strikes(&mut inner.rng, chance)
            };
            drop(inner);
            self.pass_to(self.world.now() + takes);
            if crash {
                self.crash(invocation);
            } else if self.ticks.contains_key(&invocation) {
                self.step(call, invocation);
            }
        }
    }

    /// Sets the time, after everything that is due by then has happened.
    fn pass_to(&mut self, time: Timestamp) {
        loop {
            self.deliver();
            let event = self.queue.first_key_value().map(|((at, _), event)| (*at, *event));
            let nap = self.world.turns.next_nap(None).filter(|nap| *nap <= time);
            match (event.filter(|(at, _)| *at <= time), nap) {
                (Some((at, event)), nap) if nap.is_none_or(|nap| at <= nap) => {
                    self.queue.pop_first();
                    self.world.provider.set_now(at.max(self.world.now()));
                    self.happen(event);
                }
                (_, Some(nap)) => {
                    self.world.provider.set_now(nap.max(self.world.now()));
                    if let Some(invocation) = self.world.turns.wake(self.world.now()) {
                        self.poll(invocation);
                    }
                }
                _ => break,
            }
        }
        self.world.provider.set_now(time.max(self.world.now()));
        let now = self.world.now();
        let overdue: Vec<InvocationId> = {
            let inner = self.world.lock();
            let over = inner
                .running
                .iter()
                .filter(|(_, d)| now.duration_since(d.started) >= INVOCATION_LIFE);
            over.map(|(id, _)| *id).collect()
        };
        for id in overdue {
            self.crash(id);
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.world.now();
        match event {
            Event::Rule(function, of) => {
                let cadence = self.deployments[of].cadence[function as usize];
                self.enqueue(
                    now + SignedDuration::from_mins(cadence.into()),
                    Event::Rule(function, of),
                );
                for late in self.deliveries() {
                    self.enqueue(now + late, Event::Invoke(function, of, None));
                }
            }
            Event::Invoke(function, of, only) => {
                self.invoke(function, of, only);
            }
            Event::Act => {
                let mut inner = self.world.lock();
                if inner.healthy || inner.rates.actions.is_empty() {
                    return;
                }
                let world::Inner { rng, rates, .. } = &mut *inner;
                let action = rates.actions[rng.usize(0..rates.actions.len())];
                let minutes = i64::from(rates.hours_between_actions) * 120;
                let next = now + SignedDuration::from_mins(rng.i64(0..minutes));
                drop(inner);
                let said = self.operators.act(action, &self.world, &mut self.deployments);
                self.world.note(format_args!("{action:?} {said}"));
                self.enqueue(next, Event::Act);
            }
        }
    }

    /// Delivers the functions' Ticks: late, twice, or never, and sometimes for a wrong place.
    fn deliver(&mut self) {
        let ticks = std::mem::take(&mut self.world.lock().ticks);
        for (function, of, tick) in ticks {
            let place = REGIONS.iter().position(|region| *region == &*tick.place);
            let place = place.unwrap_or(REGIONS.len());
            let wrong = {
                let mut inner = self.world.lock();
                !inner.healthy && inner.rng.u8(0..20) == 0
            };
            let place = if wrong { REGIONS.len() } else { place };
            for late in self.deliveries() {
                let at = self.world.now() + late;
                self.enqueue(at, Event::Invoke(function, of, Some((place, tick.run))));
            }
        }
    }

    /// The delay of each delivery of an event.
    fn deliveries(&mut self) -> Vec<SignedDuration> {
        let mut inner = self.world.lock();
        if inner.healthy {
            return vec![SignedDuration::ZERO];
        }
        let world::Inner { rng, rates, .. } = &mut *inner;
        if Rates::strikes(rng, rates.missing) {
            return Vec::new();
        }
        let mut one = || {
            let late = if Rates::strikes(rng, rates.late) { 300 } else { 1 };
            SignedDuration::from_secs(rng.i64(0..late * 60))
        };
        let mut all = vec![one()];
        let second = one();
        if Rates::strikes(rng, rates.twice) {
            all.push(second);
        }
        all
    }

    /// Invokes a function; `None` if it refuses to start.
    pub fn start(&mut self, function: Function, deployment: usize) -> Option<InvocationId> {
        self.invoke(function, deployment, None)
    }

    fn invoke(
        &mut self,
        function: Function,
        deployment: usize,
        only: Option<(usize, u32)>,
    ) -> Option<InvocationId> {
        let vars = &self.deployments[deployment].vars;
        let settings = settings(vars, function)?;
        let sabotage = self.world.sabotage();
        if sabotage == Some(Sabotage::NeverPrunes) && function == Function::Prune {
            return None;
        }
        self.invocations += 1;
        let me = self.invocations;
        let started = self.world.now();
        let mut inner = self.world.lock();
        let world::Inner { rng, rates, healthy, step, rollout, .. } = &mut *inner;
        let mut now = started;
        let mut budget = SignedDuration::from_mins(14);
        *step = step.filter(|(_, until)| *until > started && !*healthy);
        if !*healthy {
            now += step.map_or(SignedDuration::ZERO, |(by, _)| by);
            if Rates::strikes(rng, rates.skewed) {
                now += SignedDuration::from_secs(rng.i64(-240..=240));
            }
            if Rates::strikes(rng, rates.short) {
                budget = SignedDuration::from_secs(rng.i64(0..60));
            }
        }
        let next = *rollout > 0 && (*healthy || rng.u32(0..100) < *rollout);
        let format = if next { NEXT_FORMAT } else { FORMAT };
        let doing = RunningInvocation::new(
            function,
            settings.clone(),
            now,
            started,
            started + budget,
            format,
        );
        inner.watch.began(&doing);
        inner.running.insert(me, doing);
        drop(inner);
        self.world
            .note(format_args!("#{me} {function:?} of {deployment} at {now}, format {format}"));
        let ports = Ports { world: Arc::clone(&self.world), me, of: deployment };
        let settings = sabotage.map_or(settings.clone(), |by| by.settings(settings));
        let tick = only.map(|(place, run)| Tick {
            place: REGIONS.get(place).copied().unwrap_or("nowhere-1").parse().unwrap(),
            run,
        });
        let lease = Lease::until(now + INVOCATION_LIFE);
        let call = Invocation { now, lease, tick, deadline: ports.clone() };
        self.ticks.insert(me, Box::pin(invocation::serve(function, ports, settings, call)));
        self.poll(me);
        Some(me)
    }

    /// Lets a call go on.
    fn step(&mut self, call: u64, invocation: InvocationId) {
        self.calls += 1;
        self.world.turns.grant(call);
        self.poll(invocation);
    }

    fn poll(&mut self, invocation: InvocationId) {
        let Some(tick) = self.ticks.get_mut(&invocation) else { return };
        let mut context = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| tick.as_mut().poll(&mut context)));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(result)) => self.end(invocation, result),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                self.world.violate(Property::NoPanic, message);
                self.crash(invocation);
            }
        }
    }

    fn end(&mut self, invocation: InvocationId, result: Result<Report, TickError>) {
        self.ticks.remove(&invocation);
        let result = result.map(|report| match self.world.sabotage() {
            Some(by) => by.report(report),
            None => report,
        });
        match &result {
            Ok(report) => {
                let findings: Vec<_> = report.findings.iter().map(|f| (f.code, &f.name)).collect();
                let failed = report.failures.len();
                self.world
                    .note(format_args!("#{invocation} ends: {failed} failures, {findings:?}"));
            }
            Err(error) => self.world.note(format_args!("#{invocation} ends: {error}")),
        }
        let mut inner = self.world.lock();
        let Some(doing) = inner.running.remove(&invocation) else { return };
        inner.watch.ended(&doing, &result);
        drop(inner);
        if let Ok(report) = &result {
            self.told(&doing, report);
        }
        if let Some(answers) = &mut self.answers {
            answers.push(result);
        }
    }

    /// Ends an invocation where it stands, as a crash does.
    pub fn crash(&mut self, invocation: InvocationId) {
        self.world.note(format_args!("#{invocation} dies"));
        self.ticks.remove(&invocation);
        self.world.turns.forget(invocation);
        let mut inner = self.world.lock();
        inner.running.remove(&invocation);
    }
}

fn on() -> Tags {
    [("snapkeep".to_owned(), String::new())].into()
}
