//! The embedded Tencent Cloud Lighthouse: one pure, clock-free, deterministic struct. `wire` puts the wire on it.
//!
//! Names, states, quotas and errors are those of the API 2020-03-24 as far as they are known; what is not known is a
//! [knob](knobs::LighthouseKnobs).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::knobs::{FaultKind, strike};
pub use crate::lightsail::Answer;
use crate::rates::Buckets;

mod catalog;
mod instances;
pub mod knobs;
mod parameters;
mod snapshots;
pub(crate) mod wire;

use knobs::LighthouseKnobs;
use parameters::Parameters;

/// A Lighthouse that many share.
pub type Shared = Arc<Mutex<Lighthouse>>;

/// Tags.
pub type Tags = BTreeMap<String, String>;

/// An error of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Its code.
    pub code: String,
    /// Its message.
    pub message: String,
}

impl ApiError {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        ApiError { code: code.to_owned(), message: message.into() }
    }
}

/// An instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its name, which may be changed, and which others may have too.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// Its plan.
    pub bundle: String,
    /// Its image.
    pub blueprint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its tags.
    pub tags: Tags,
    /// The id of its system disk.
    pub disk_id: String,
    /// The size of that.
    pub disk_gb: u32,
    /// Since when it is about to be reclaimed.
    pub shutdown_since: Option<Timestamp>,
}

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: String,
    /// Its name, which others may have too.
    pub name: String,
    /// The disk that it was taken of.
    pub disk_id: String,
    /// The instance that it was taken of, which the service does not show.
    pub instance_id: String,
    /// The size of the disk.
    pub disk_gb: u32,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it is no longer in the making.
    pub settles_at: Timestamp,
    /// How it settles.
    pub fate: Option<FaultKind>,
    /// Until when the instance is being rolled back to it.
    pub rollback_until: Option<Timestamp>,
    /// When it is gone, if its deletion was asked for.
    pub gone_at: Option<Timestamp>,
    /// Its tags.
    pub tags: Tags,
}

/// What an effect on a snapshot was, for tests and the demo to look at.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub region: String,
    /// `CreateInstanceSnapshot` or `DeleteSnapshots`.
    pub operation: &'static str,
    /// The snapshot.
    pub snapshot: Snapshot,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Region {
    instances: BTreeMap<String, Instance>,
    snapshots: BTreeMap<String, Snapshot>,
}

/// The whole service. Serialised, it is what outlives a restart.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Lighthouse {
    /// The knobs; turn them at any time.
    pub knobs: LighthouseKnobs,
    /// Calls by operation, refused ones included.
    #[serde(skip)]
    pub calls: BTreeMap<String, u64>,
    /// Those of the calls that were throttled.
    #[serde(skip)]
    pub throttled: BTreeMap<String, u64>,
    /// Every snapshot made and deleted, in order.
    #[serde(skip)]
    pub events: Vec<Event>,
    regions: BTreeMap<String, Region>,
    made: u64,
    #[serde(skip)]
    buckets: Buckets,
}

/// What one call works on.
struct Call<'a> {
    now: Timestamp,
    region: &'a str,
    parameters: Parameters<'a>,
    fate: Option<FaultKind>,
}

/// The operations that it has.
pub(crate) const OPERATIONS: [&str; 14] = [
    "CreateInstances",
    "DescribeInstances",
    "TerminateInstances",
    "ModifyInstancesAttribute",
    "CreateInstanceSnapshot",
    "DescribeSnapshots",
    "DeleteSnapshots",
    "ModifySnapshotAttribute",
    "ApplyInstanceSnapshot",
    "DescribeSnapshotsDeniedActions",
    "DescribeRegions",
    "DescribeGeneralResourceQuotas",
    "DescribeBundles",
    "DescribeBlueprints",
];

impl Lighthouse {
    /// An empty service.
    #[must_use]
    pub fn new(knobs: LighthouseKnobs) -> Self {
        Lighthouse { knobs, ..Lighthouse::default() }
    }

    /// Whether the knob `rates` lets a call through that comes at the real time `at`. One that it does not is counted
    /// here and must not go on to [`Lighthouse::call`].
    ///
    /// # Errors
    /// When there were too many calls.
    pub fn admit(&mut self, at: Instant, region: &str, operation: &str) -> Result<(), ApiError> {
        if self.buckets.take(&self.knobs.rates, at, region, operation) {
            return Ok(());
        }
        *self.calls.entry(operation.to_owned()).or_default() += 1;
        Err(self.throttle(operation))
    }

    fn throttle(&mut self, operation: &str) -> ApiError {
        *self.throttled.entry(operation.to_owned()).or_default() += 1;
        let message =
            format!("Your current request times of {operation} exceed the limit per second.");
        ApiError::new("RequestLimitExceeded", message)
    }

    /// Answers one call.
    ///
    /// # Errors
    /// As the service does.
    pub fn call(
        &mut self,
        now: Timestamp,
        region: &str,
        operation: &str,
        body: &Map<String, Value>,
    ) -> Result<Answer, ApiError> {
        *self.calls.entry(operation.to_owned()).or_default() += 1;
        if !OPERATIONS.contains(&operation) {
            let message = format!("The request action={operation} is invalid or is not found.");
            return Err(ApiError::new("InvalidAction", message));
        }
        if !self.knobs.regions.iter().any(|name| name == region) {
            let message = format!("The request region {region} is not supported.");
            return Err(ApiError::new("UnsupportedRegion", message));
        }
        let text = Value::Object(body.clone()).to_string();
        let named = |wanted: &str| text.contains(wanted);
        let fault = strike(&mut self.knobs.faults, now, region, operation, named);
        let fate = fault.map(|(kind, _)| kind);
        match fault {
            Some((FaultKind::Throttle, _)) => return Err(self.throttle(operation)),
            Some((FaultKind::ServerError, _)) => {
                let message = "An internal error has occurred. Retry your request.";
                return Err(ApiError::new("InternalError", message));
            }
            Some((FaultKind::Denied, _)) => {
                let message = "You are not authorized to perform operation (CAM).";
                return Err(ApiError::new("UnauthorizedOperation.NoPermission", message));
            }
            Some((FaultKind::Dropped, _)) => return Ok(Answer::Broken),
            Some((FaultKind::Hang, time)) => return Ok(Answer::Hung(time)),
            _ => {}
        }
        self.pass(now);
        let call = Call { now, region, parameters: Parameters(body), fate };
        let answer = self.dispatch(operation, &call)?;
        match fate {
            Some(FaultKind::LostResponse) => Ok(Answer::Broken),
            _ => Ok(Answer::Body(answer)),
        }
    }

    fn dispatch(&mut self, operation: &str, call: &Call<'_>) -> Result<Value, ApiError> {
        match operation {
            "CreateInstances" => self.create_instances(call),
            "DescribeInstances" => self.describe_instances(call),
            "TerminateInstances" => self.terminate_instances(call),
            "ModifyInstancesAttribute" => self.modify_instances(call),
            "CreateInstanceSnapshot" => self.create_snapshot(call),
            "DescribeSnapshots" => self.describe_snapshots(call),
            "DeleteSnapshots" => self.delete_snapshots(call),
            "ModifySnapshotAttribute" => self.modify_snapshot(call),
            "ApplyInstanceSnapshot" => self.apply_snapshot(call),
            "DescribeSnapshotsDeniedActions" => self.denied_actions(call),
            "DescribeGeneralResourceQuotas" => self.quotas(call),
            "DescribeRegions" => catalog::regions(&self.knobs, call),
            "DescribeBundles" => catalog::bundles(call),
            _ => catalog::blueprints(call),
        }
    }

    /// Carries out what is due by now.
    fn pass(&mut self, now: Timestamp) {
        for region in self.regions.values_mut() {
            region.snapshots.retain(|_, one| {
                let vanished = one.fate == Some(FaultKind::Vanish) && now >= one.settles_at;
                one.gone_at.is_none_or(|gone| now < gone) && !vanished
            });
        }
    }

    fn at(&mut self, region: &str) -> &mut Region {
        self.regions.entry(region.to_owned()).or_default()
    }

    /// An id that nothing else has: the same run gives the same ones.
    fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        // A multiplication by an odd number loses nothing: eight letters and digits that look like the service's.
        let mut number = self.made.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        let mut text = String::new();
        for _ in 0..8 {
            let digit = u32::try_from(number % 36).unwrap_or_default();
            text.extend(char::from_digit(digit, 36));
            number /= 36;
        }
        format!("{kind}-{text}")
    }

    /// The instances of a Region, by id.
    #[must_use]
    pub fn instances(&self, region: &str) -> Vec<&Instance> {
        self.regions.get(region).map(|r| r.instances.values().collect()).unwrap_or_default()
    }

    /// The snapshots of a Region, by id.
    #[must_use]
    pub fn snapshots(&self, region: &str) -> Vec<&Snapshot> {
        self.regions.get(region).map(|r| r.snapshots.values().collect()).unwrap_or_default()
    }

    /// An instance to change behind the service's back.
    pub fn instance_mut(&mut self, region: &str, id: &str) -> Option<&mut Instance> {
        self.regions.get_mut(region)?.instances.get_mut(id)
    }

    /// A snapshot to change behind the service's back.
    pub fn snapshot_mut(&mut self, region: &str, id: &str) -> Option<&mut Snapshot> {
        self.regions.get_mut(region)?.snapshots.get_mut(id)
    }

    /// Puts a snapshot beside the others, as if somebody else had made it.
    pub fn insert_snapshot(&mut self, region: &str, snapshot: Snapshot) {
        self.at(region).snapshots.insert(snapshot.id.clone(), snapshot);
    }
}

/// Tags as the service shows them.
fn show_tags(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

/// A time as the service writes it.
fn show_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
