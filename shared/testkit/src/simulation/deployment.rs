//! The deployments of a history, each with its configuration.

use std::collections::BTreeMap;

use fastrand::Rng;
use snapkeep_app::ports::ErrorKind;
use snapkeep_domain::function::Function;
use snapkeep_domain::policy::settings::Settings;

use super::operators::{KEEPS, SCHEDULES};
use super::rates::Rates;
use super::service::Capacity;
use super::world::settings;

/// The named policies; the last one cannot be read.
const POLICIES: &str =
    "gold: schedule=every-2h keep=hourly=3 daily=2; silver: keep=last=2; lead: keep=many";

/// A deployment with the variables that its operator set.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// Its variables.
    pub vars: BTreeMap<String, String>,
    /// The minutes between the ticks of create, poll and prune.
    pub cadence: [u32; 3],
}

impl Deployment {
    /// The settings of `prune`.
    pub(super) fn settings(&self) -> Settings {
        settings(&self.vars, Function::Prune).unwrap()
    }

    /// Prepares for hundreds of instances, in a service without stale answers; returns how many.
    pub(super) fn fleet(&mut self, rates: &mut Rates, rng: &mut Rng) -> usize {
        self.set("SNAPKEEP_SCHEDULE", ["every-6h", "daily@03:00"][rng.usize(0..2)]);
        self.set("SNAPKEEP_KEEP", "last=2");
        (rates.stale, rates.page_size) = (0, 20);
        rng.usize(100..=300)
    }

    /// Prepares for more instances than the service lets through in a slot, and for no other fault;
    /// returns how many.
    pub(super) fn scarcity(&mut self, rates: &mut Rates, rng: &mut Rng) -> usize {
        self.set("SNAPKEEP_SCHEDULE", "hourly");
        let an_hour = rng.usize(1..=4);
        let kind = [ErrorKind::Throttled, ErrorKind::Quota][rng.usize(0..2)];
        let capacity = Some(Capacity { an_hour, kind });
        *rates = Rates { capacity, page_size: rates.page_size, ..Rates::default() };
        an_hour + rng.usize(1..=8)
    }

    fn set(&mut self, key: &str, value: &str) {
        self.vars.insert(key.to_owned(), value.to_owned());
    }

    /// Draws a deployment.
    pub(super) fn draw(id: &str, rng: &mut Rng) -> Self {
        let mut vars = BTreeMap::new();
        let mut one = |key: &str, values: &[&str]| {
            let value = values[rng.usize(0..values.len())];
            vars.insert(key.to_owned(), value.to_owned());
        };
        one("SNAPKEEP_LEDGER_TABLE", &["ledger"]);
        one("SNAPKEEP_DEPLOYMENT", &[id]);
        one("SNAPKEEP_SCHEDULE", SCHEDULES);
        one("SNAPKEEP_KEEP", KEEPS);
        one("SNAPKEEP_TIMEZONE", &["UTC", "UTC", "Europe/Berlin", "Australia/Lord_Howe"]);
        one("SNAPKEEP_MIN_KEEP", &["1", "1", "2", "3", "daily=2"]);
        one("SNAPKEEP_GRACE", &["1h", "3h", "12h"]);
        one("SNAPKEEP_MAX_DELETE_PERCENT", &["0", "20", "50", "100"]);
        one("SNAPKEEP_ORPHAN_KEEP", &["", "6h", "1d"]);
        one("SNAPKEEP_PENDING_TIMEOUT", &["1h", "6h"]);
        one("SNAPKEEP_POLICIES", &["", POLICIES]);
        one("SNAPKEEP_MAX_DELETES", &["", "", "1", "2", "5"]);
        one("SNAPKEEP_DRY_RUN", &["", "", "", "", "", "", "on"]);
        let mut minutes = |choices: [u32; 3]| choices[rng.usize(0..3)];
        let cadence = [minutes([30, 60, 60]), minutes([10, 20, 30]), minutes([60, 120, 180])];
        Deployment { id: id.to_owned(), vars, cadence }
    }
}
