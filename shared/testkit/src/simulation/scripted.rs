//! Histories that a test writes itself: nothing goes wrong except what the test does.

use fastrand::Rng;
use jiff::SignedDuration;
use snapkeep_app::ports::ErrorKind;
use snapkeep_app::report::{Report, TickError};
use snapkeep_domain::function::Function;

use super::deployment::Deployment;
use super::ports::Fault;
use super::properties::Violation;
use super::rates::Rates;
use super::turns::{Call, InvocationId};
use super::world::{Outage, World};
use super::{Options, Profile, REGIONS, START, Simulation, on};
use crate::memory::MemoryProvider;

impl Simulation {
    /// A world in which nothing goes wrong by itself: for scripted histories.
    #[must_use]
    pub fn scripted(profile: Profile, vars: &[(&str, &str)], instances: &[&str]) -> Self {
        let provider = MemoryProvider::new(&REGIONS, START.parse().unwrap())
            .with_capabilities(profile.capabilities());
        for name in instances {
            provider.launch(REGIONS[0], name, on());
        }
        let rates = Rates { page_size: 20, ..Rates::default() };
        let options = Options { profile, trace: true, ..Options::default() };
        let world = World::new(provider, 1, Rng::with_seed(0), rates, options);
        world.lock().healthy = true;
        let own = vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let vars = own.chain([("SNAPKEEP_LEDGER_TABLE".to_owned(), "ledger".to_owned())]).collect();
        let id = "snapkeep".to_owned();
        let mut simulation = Self::of(world, vec![Deployment { id, vars, cadence: [30, 20, 60] }]);
        simulation.answers = Some(Vec::new());
        simulation
    }

    /// Runs a function to its end, alone.
    pub fn run_alone(&mut self, function: Function) {
        if let Some(me) = self.start(function, 0) {
            self.finish(me);
        }
    }

    /// Lets an invocation make its next call, which meets `fault`; returns whether there was a
    /// call.
    pub fn next(&mut self, me: InvocationId, fault: Option<Fault>) -> bool {
        if self.upcoming(me).is_none() {
            return false;
        }
        let waiting = self.world.turns.waiting();
        let Some((call, _)) = waiting.into_iter().find(|(_, of)| *of == me) else { return false };
        self.world.lock().scripted = fault;
        self.step(call, me);
        self.world.lock().scripted = None;
        true
    }

    /// The next call of an invocation; time passes until it comes.
    pub fn upcoming(&mut self, me: InvocationId) -> Option<Call> {
        loop {
            if let Some(call) = self.world.turns.first(me) {
                return Some(call);
            }
            match self.world.turns.next_nap(Some(me)) {
                Some(nap) if self.ticks.contains_key(&me) => self.pass_to(nap),
                _ => return None,
            }
        }
    }

    /// Lets an invocation make all its calls, in their order; returns how many.
    pub fn finish(&mut self, me: InvocationId) -> usize {
        let mut calls = 0;
        while self.next(me, None) {
            calls += 1;
        }
        calls
    }

    /// Lets time pass, with everything that is due in it.
    pub fn advance(&mut self, by: SignedDuration) {
        let end = self.world.now() + by;
        self.until(end);
        self.pass_to(end);
    }

    /// The broken promise, if any.
    #[must_use]
    pub fn violation(&self) -> Option<Violation> {
        self.world.lock().watch.violation.clone()
    }

    /// The functions' answers since the last call; only a scripted history keeps them.
    pub fn answers(&mut self) -> Vec<Result<Report, TickError>> {
        self.answers.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Loses the ledger. Where names do not identify snapshots, a slot may be taken twice afterwards.
    pub fn lose_ledger(&self) {
        self.world.ledgers[0].clear();
        if !self.world.provider.can().unique_names {
            self.world.lock().watch.ledger_lost = Some(self.world.now());
        }
    }

    /// Refuses every call of this operation for this time.
    pub fn refuse(&self, operation: &'static str, kind: ErrorKind, time: SignedDuration) {
        let until = self.world.now() + time;
        self.world.lock().outages.push(Outage {
            operation: Some(operation),
            region: None,
            kind,
            until,
        });
    }

    /// Refuses every call to the provider in this Region for this time.
    pub fn refuse_in(&self, region: &str, kind: ErrorKind, time: SignedDuration) {
        let (region, until) = (Some(region.to_owned()), self.world.now() + time);
        self.world.lock().outages.push(Outage { operation: None, region, kind, until });
    }

    /// The transcript so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.world.transcript().1
    }
}
