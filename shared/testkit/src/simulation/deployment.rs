//! The deployments of a history, each as somebody has configured it.

use std::collections::BTreeMap;

use fastrand::Rng;
use snapkeep_domain::settings::{Role, Settings};

use super::people::{KEEPS, SCHEDULES};
use super::world::settings;

/// A deployment: its variables, as whoever deploys it has set them.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// Its variables.
    pub vars: BTreeMap<String, String>,
    /// Minutes between the ticks of create, poll and prune.
    pub cadence: [u32; 3],
}

impl Deployment {
    /// What `prune` reads.
    pub(super) fn settings(&self) -> Settings {
        settings(&self.vars, Role::Prune).unwrap()
    }

    /// Draws its variables.
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
        let mut minutes = |choices: [u32; 3]| choices[rng.usize(0..3)];
        let cadence = [minutes([30, 60, 60]), minutes([10, 20, 30]), minutes([60, 120, 180])];
        Deployment { id: id.to_owned(), vars, cadence }
    }
}
