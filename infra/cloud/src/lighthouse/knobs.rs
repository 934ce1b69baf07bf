//! What is not known of the real Lighthouse, or is to go wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::OPERATIONS;
use crate::knobs::{Fault, Latency, Rate, check, check_page_size, latency_of};

/// What becomes of the tags of CreateInstanceSnapshot: the pages of the international site do not have the parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotTags {
    /// They are set and shown.
    #[default]
    Kept,
    /// They are accepted and never shown.
    Dropped,
    /// The parameter is refused: `UnknownParameter`.
    Refused,
}

/// All knobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LighthouseKnobs {
    /// The Regions there are.
    pub regions: Vec<String>,
    /// The keys that are accepted: each SecretId with its SecretKey.
    pub keys: BTreeMap<String, String>,
    /// How many real seconds a request's timestamp may differ from the time here.
    pub clock_skew_seconds: u32,
    /// Elements a page has at most, whatever its `Limit` says.
    pub page_size: usize,
    /// How many snapshots a Region may have.
    pub snapshot_quota: usize,
    /// Seconds that a snapshot is in the making at least.
    pub pending_seconds: u32,
    /// Seconds that each GB of disk adds to that.
    pub pending_seconds_per_gb: u32,
    /// Seconds until a deleted snapshot is gone.
    pub delete_seconds: u32,
    /// Seconds until a new snapshot shows.
    pub list_lag_seconds: u32,
    /// What becomes of the tags of a snapshot.
    pub snapshot_tags: SnapshotTags,
    /// The state of a snapshot that could not be made.
    pub failed_state: String,
    /// Whether snapshots outlive their instance.
    pub snapshots_outlive_instances: bool,
    /// How long calls take; the first entry that concerns a call counts.
    pub latency: Vec<Latency>,
    /// How many calls are let through; the first entry that concerns a call counts.
    pub rates: Vec<Rate>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// The keys that are accepted unless others are set. They are no secret: the whole cloud is on this machine.
pub const SECRET_ID: &str = "AKIDEMBEDDED";
/// The key that belongs to [`SECRET_ID`].
pub const SECRET_KEY: &str = "embedded";

impl LighthouseKnobs {
    /// How long a call takes, in real time.
    pub(crate) fn latency_of(&self, region: &str, operation: &str) -> Duration {
        latency_of(&self.latency, region, operation)
    }

    /// What is wrong with them, though each can be read.
    ///
    /// # Errors
    /// The value, and what is expected.
    pub fn check(&self) -> Result<(), String> {
        let LighthouseKnobs { faults, latency, rates, regions, .. } = self;
        let has_region = |region: &str| regions.iter().any(|name| name == region);
        check((faults, latency, rates), &OPERATIONS, has_region)?;
        check_page_size(self.page_size)
    }
}

impl Default for LighthouseKnobs {
    fn default() -> Self {
        let regions = "ap-beijing ap-chengdu ap-guangzhou ap-hongkong ap-jakarta ap-mumbai ap-nanjing ap-seoul \
                       ap-shanghai ap-singapore ap-tokyo eu-frankfurt na-siliconvalley";
        LighthouseKnobs {
            regions: regions.split_whitespace().map(str::to_owned).collect(),
            keys: [(SECRET_ID.to_owned(), SECRET_KEY.to_owned())].into(),
            clock_skew_seconds: 300,
            page_size: 100,
            snapshot_quota: 500,
            pending_seconds: 40,
            pending_seconds_per_gb: 2,
            delete_seconds: 5,
            list_lag_seconds: 0,
            snapshot_tags: SnapshotTags::Kept,
            failed_state: "NORMAL".to_owned(),
            snapshots_outlive_instances: true,
            latency: Vec::new(),
            rates: Vec::new(),
            faults: Vec::new(),
        }
    }
}
