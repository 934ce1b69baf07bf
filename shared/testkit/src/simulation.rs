//! A world that goes wrong, from one seed: the very domain and runners of the functions, on one thread,
//! against a provider, a ledger and a clock in memory, while people and services interfere.
//!
//! A history has two parts. First everything may go wrong that [`rates`] has drawn; the
//! [`properties`] watch every call. Then the world is healthy, and it is asked whether all is well again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{ErrorKind, Invocation};
use snapkeep_app::report::{Report, TickError};
use snapkeep_app::{create, poll, prune};
use snapkeep_domain::record::{FORMAT, INVOCATION_LIFE};
use snapkeep_domain::settings::Role;
use snapkeep_domain::snapshot::Tags;

use crate::memory::MemoryProvider;
use deployment::Deployment;
use invocation::Doing;
use people::People;
use ports::{Fault, Ports};
use properties::{Property, Violation};
use rates::Rates;
use sabotage::Sabotage;
use turns::InvocationId;
use world::{NEXT_FORMAT, Outage, World, settings};

pub mod deployment;
pub mod health;
pub mod invocation;
pub mod people;
pub mod ports;
pub mod properties;
pub mod rates;
pub mod sabotage;
pub mod turns;
pub mod world;

/// The Regions of the simulated account.
pub const REGIONS: [&str; 2] = ["eu-west-1", "us-east-1"];
/// When every history begins.
const START: &str = "2026-01-01T00:10:00Z";
/// How long the healthy part is.
const RECOVERY: SignedDuration = SignedDuration::from_hours(46);
/// In its last hours nothing may be reported.
const QUIET: SignedDuration = SignedDuration::from_hours(6);

type Tick = Pin<Box<dyn Future<Output = Result<Report, TickError>>>>;

/// Something that is going to happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The rule fires.
    Rule(Role, usize),
    /// A function is invoked.
    Invoke(Role, usize),
    /// Somebody does something.
    Act,
}

/// How a history is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Breaks the functions.
    pub sabotage: Option<Sabotage>,
    /// Keeps the lines of the transcript.
    pub trace: bool,
}

/// How a history went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// A hash over everything that happened, in order.
    pub hash: u64,
    /// What happened, if it was asked for.
    pub lines: Vec<String>,
    /// Calls to the ports.
    pub calls: u64,
    /// Invocations.
    pub invocations: u64,
}

/// Runs the history of a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    let mut simulation = Simulation::random(seed, options);
    let days = simulation.world.lock().rng.i64(1..=4);
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
    ticks: BTreeMap<InvocationId, Tick>,
    queue: BTreeMap<(Timestamp, u64), Event>,
    people: People,
    answers: Option<Vec<Result<Report, TickError>>>,
    /// From then on nothing may be reported.
    quiet_from: Option<Timestamp>,
    events: u64,
    calls: u64,
    invocations: u64,
}

impl Simulation {
    /// A world in which nothing goes wrong by itself: for scripted histories.
    #[must_use]
    pub fn scripted(vars: &[(&str, &str)], instances: &[&str]) -> Self {
        let provider = MemoryProvider::new(&REGIONS, START.parse().unwrap());
        for name in instances {
            provider.launch(REGIONS[0], name, on());
        }
        let world = World::new(provider, 1, Rng::with_seed(0), Rates::default(), None, true);
        world.lock().healthy = true;
        let own = vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let vars = own.chain([("SNAPKEEP_LEDGER_TABLE".to_owned(), "ledger".to_owned())]).collect();
        let id = "snapkeep".to_owned();
        let mut simulation = Self::of(world, vec![Deployment { id, vars, cadence: [30, 20, 60] }]);
        simulation.answers = Some(Vec::new());
        simulation
    }

    fn random(seed: u64, options: Options) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rates = Rates::draw(&mut rng);
        let provider = MemoryProvider::new(&REGIONS, START.parse().unwrap());
        for at in 0..rng.u8(1..=3) {
            provider.launch(REGIONS[rng.usize(0..2)], &format!("web-{at}"), on());
        }
        let mut deployments = vec![Deployment::draw("snapkeep", &mut rng)];
        if rng.u8(0..6) == 0 {
            deployments.push(Deployment::draw("other", &mut rng));
        }
        let world =
            World::new(provider, deployments.len(), rng, rates, options.sabotage, options.trace);
        world.note(format_args!("seed {seed}"));
        for deployment in &deployments {
            world.note(format_args!("{} {:?}", deployment.id, deployment.vars));
        }
        let mut simulation = Self::of(world, deployments);
        simulation.schedule();
        simulation.enqueue(simulation.world.now(), Event::Act);
        simulation
    }

    /// Sets the rules up that invoke the functions from now on.
    pub fn schedule(&mut self) {
        for deployment in 0..self.deployments.len() {
            for role in [Role::Create, Role::Poll, Role::Prune] {
                let at = self.world.now() + SignedDuration::from_mins(role as i64 * 3);
                self.enqueue(at, Event::Rule(role, deployment));
            }
        }
    }

    /// Takes the rules away.
    pub fn unschedule(&mut self) {
        self.queue.clear();
    }

    fn of(world: World, deployments: Vec<Deployment>) -> Self {
        Simulation {
            world: Arc::new(world),
            deployments,
            ticks: BTreeMap::new(),
            queue: BTreeMap::new(),
            people: People::default(),
            answers: None,
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

    /// Lets time pass until then, or until a promise is broken.
    fn until(&mut self, end: Timestamp) {
        while !self.broken() {
            let due = self.queue.first_key_value().map(|((at, _), _)| *at);
            let waiting = self.world.turns.waiting();
            if waiting.is_empty() {
                match due.filter(|due| *due <= end) {
                    Some(due) => self.pass_to(due),
                    None => break,
                }
                continue;
            }
            // A call takes a moment; some take minutes.
            let mut inner = self.world.lock();
            let slow = !inner.healthy && {
                let chance = inner.rates.slow;
                Rates::strikes(&mut inner.rng, chance)
            };
            let millis = if slow { 300_000 } else { 2_000 };
            let takes = SignedDuration::from_millis(inner.rng.i64(0..millis));
            let (call, invocation) = waiting[inner.rng.usize(0..waiting.len())];
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

    /// Makes it that time; what was to happen meanwhile has happened.
    fn pass_to(&mut self, time: Timestamp) {
        while let Some(((at, _), event)) = self.queue.first_key_value().map(|(k, e)| (*k, *e))
            && at <= time
        {
            self.queue.pop_first();
            self.world.provider.set_now(at.max(self.world.now()));
            self.happen(event);
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
            Event::Rule(role, of) => {
                let cadence = self.deployments[of].cadence[role as usize];
                self.enqueue(
                    now + SignedDuration::from_mins(cadence.into()),
                    Event::Rule(role, of),
                );
                for late in self.deliveries() {
                    self.enqueue(now + late, Event::Invoke(role, of));
                }
            }
            Event::Invoke(role, of) => {
                self.start(role, of);
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
                let said = self.people.act(action, &self.world, &mut self.deployments);
                self.world.note(format_args!("{action:?} {said}"));
                self.enqueue(next, Event::Act);
            }
        }
    }

    /// How late the event comes, each time that it comes.
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

    /// Invokes a function; `None` when it refuses to start.
    pub fn start(&mut self, role: Role, deployment: usize) -> Option<InvocationId> {
        let vars = &self.deployments[deployment].vars;
        let settings = settings(vars, role)?;
        let sabotage = self.world.sabotage();
        if sabotage == Some(Sabotage::NeverPrunes) && role == Role::Prune {
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
        let doing = Doing::new(role, settings.clone(), now, started, started + budget, format);
        inner.watch.began(&doing);
        inner.running.insert(me, doing);
        drop(inner);
        self.world.note(format_args!("#{me} {role:?} of {deployment} at {now}, format {format}"));
        let ports = Ports { world: Arc::clone(&self.world), me, of: deployment };
        let settings = sabotage.map_or(settings.clone(), |by| by.settings(settings));
        let invocation = Invocation { now, deadline: ports.clone() };
        let tick: Tick =
            match role {
                Role::Create => Box::pin(async move {
                    create::run(&ports, &ports, &ports, &settings, &invocation).await
                }),
                Role::Poll => {
                    Box::pin(async move { poll::run(&ports, &ports, &settings, &invocation).await })
                }
                Role::Prune => Box::pin(async move {
                    prune::run(&ports, &ports, &ports, &settings, &invocation).await
                }),
            };
        self.ticks.insert(me, tick);
        self.poll(me);
        Some(me)
    }

    /// Lets a call have its turn.
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

    /// An invocation dies where it stands.
    pub fn crash(&mut self, invocation: InvocationId) {
        self.world.note(format_args!("#{invocation} dies"));
        self.ticks.remove(&invocation);
        self.world.turns.forget(invocation);
        let mut inner = self.world.lock();
        if let Some(doing) = inner.running.remove(&invocation) {
            inner.watch.died(&doing);
        }
    }

    /// Runs a function to its end, alone.
    pub fn run_alone(&mut self, role: Role) {
        if let Some(me) = self.start(role, 0) {
            self.finish(me);
        }
    }

    /// Lets an invocation make its next call, which meets `fault`; whether there was one.
    pub fn next(&mut self, me: InvocationId, fault: Option<Fault>) -> bool {
        let waiting = self.world.turns.waiting();
        let Some((call, _)) = waiting.into_iter().find(|(_, of)| *of == me) else { return false };
        self.world.lock().scripted = fault;
        self.step(call, me);
        self.world.lock().scripted = None;
        true
    }

    /// Lets an invocation make all its calls, in their order; how many.
    pub fn finish(&mut self, me: InvocationId) -> usize {
        let mut calls = 0;
        while self.next(me, None) {
            calls += 1;
        }
        calls
    }

    /// Lets time pass, with all that is due in it.
    pub fn advance(&mut self, by: SignedDuration) {
        let end = self.world.now() + by;
        self.until(end);
        self.pass_to(end);
    }

    /// The promise that was broken, if any was.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.world.lock().watch.violation.clone()
    }

    /// What the functions answered since this was last asked; only a scripted history keeps it.
    pub fn answers(&mut self) -> Vec<Result<Report, TickError>> {
        self.answers.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// From now on, for so long, every call of this operation is refused.
    pub fn refuse(&self, operation: &'static str, kind: ErrorKind, time: SignedDuration) {
        let until = self.world.now() + time;
        self.world.lock().outages.push(Outage { operation: Some(operation), kind, until });
    }

    /// What happened so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.world.transcript().1
    }
}

fn on() -> Tags {
    [("snapkeep".to_owned(), String::new())].into()
}
