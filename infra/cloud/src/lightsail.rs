//! The embedded Lightsail: one pure, clock-free, deterministic struct. [`crate::http`] puts the wire on it.
//!
//! Names, Regions, pages, tags, operations and states over time are those of the real service as far as
//! they are known; what is not known is a [knob](crate::knobs::Knobs).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::knobs::{FaultKind, Knobs, strike};
use crate::rates::Buckets;

mod catalog;
mod error;
mod instances;
mod operations;
mod paging;
mod shapes;
mod snapshots;

pub use error::ApiError;

/// The account of an embedded Lightsail, unless it is told another.
pub const ACCOUNT: &str = "111122223333";

/// Tags: key-only ones have no value.
pub type Tags = BTreeMap<String, Option<String>>;

/// An instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its zone.
    pub zone: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its tags.
    pub tags: Tags,
    /// Its image.
    pub blueprint: String,
    /// Its plan.
    pub bundle: String,
    /// Size of its disk.
    pub disk_gb: u32,
    /// The hour of its automatic snapshots, if the add-on is on.
    pub auto_hour: Option<i8>,
    /// Since when the add-on is on.
    pub auto_since: Timestamp,
}

/// A manual snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it is no longer pending.
    pub settles_at: Timestamp,
    /// How it settles.
    pub fate: Option<FaultKind>,
    /// Its tags.
    pub tags: Tags,
    /// The instance's name.
    pub from_name: String,
    /// The instance's ARN.
    pub from_arn: String,
    /// The instance's image.
    pub from_blueprint: String,
    /// The instance's plan.
    pub from_bundle: String,
    /// Size of the instance's disks.
    pub size_gb: u32,
}

impl Snapshot {
    /// `pending`, `available` or `error`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        match self.fate {
            Some(FaultKind::StuckPending) => "pending",
            _ if now < self.settles_at => "pending",
            Some(FaultKind::FailSnapshot) => "error",
            _ => "available",
        }
    }

    /// What the service says: later than the request.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.requested_at + SignedDuration::from_secs(30)
    }

    fn vanished(&self, now: Timestamp) -> bool {
        self.fate == Some(FaultKind::Vanish)
            && now >= self.requested_at + SignedDuration::from_secs(20)
    }
}

/// What an effect on a snapshot was, for tests and the demo to look at.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub region: String,
    /// `CreateInstanceSnapshot` or `DeleteInstanceSnapshot`.
    pub operation: &'static str,
    /// The snapshot.
    pub snapshot: Snapshot,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Region {
    instances: BTreeMap<String, Instance>,
    snapshots: BTreeMap<String, Snapshot>,
    /// Whether a snapshot is to vanish: a Region may have too many to look through in each call.
    vanishing: bool,
    #[serde(skip)]
    operations: Vec<operations::Operation>,
}

/// What a call comes to, before it is put on the wire.
#[derive(Debug)]
pub enum Answer {
    /// A response.
    Body(Value),
    /// The connection breaks; the effect may have happened.
    Broken,
    /// No effect; the connection breaks after so much real time.
    Hung(Duration),
}

/// The whole service. Serialised, it is what outlives a restart: what it counted and noted does not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Lightsail {
    /// The knobs; turn them at any time.
    pub knobs: Knobs,
    /// Calls by operation, refused ones included.
    #[serde(skip)]
    pub calls: BTreeMap<String, u64>,
    /// Those of the calls that were throttled, by a rate or by a fault.
    #[serde(skip)]
    pub throttled: BTreeMap<String, u64>,
    /// Every snapshot made and deleted, in order.
    #[serde(skip)]
    pub events: Vec<Event>,
    regions: BTreeMap<String, Region>,
    made: u64,
    account: String,
    #[serde(skip)]
    buckets: Buckets,
}

/// What one call works on.
struct Call<'a> {
    now: Timestamp,
    region: &'a str,
    body: &'a serde_json::Map<String, Value>,
    fate: Option<FaultKind>,
}

/// The operations that it has.
pub(crate) const OPERATIONS: [&str; 21] = [
    "CreateInstances",
    "GetInstances",
    "GetInstance",
    "GetInstanceState",
    "DeleteInstance",
    "EnableAddOn",
    "DisableAddOn",
    "GetAutoSnapshots",
    "CreateInstanceSnapshot",
    "CreateInstancesFromSnapshot",
    "GetInstanceSnapshot",
    "GetInstanceSnapshots",
    "DeleteInstanceSnapshot",
    "TagResource",
    "UntagResource",
    "GetOperation",
    "GetOperations",
    "GetOperationsForResource",
    "GetRegions",
    "GetBundles",
    "GetBlueprints",
];

impl Lightsail {
    /// An empty service.
    #[must_use]
    pub fn new(knobs: Knobs) -> Self {
        Lightsail { knobs, account: ACCOUNT.to_owned(), ..Lightsail::default() }
    }

    /// In another account.
    #[must_use]
    pub fn of_account(self, account: &str) -> Self {
        Lightsail { account: account.to_owned(), ..self }
    }

    /// Whether the knob `rates` lets a call through that comes at the real time `at`. One that it does not
    /// is counted here and must not go on to [`Lightsail::call`].
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
        ApiError::new("ThrottlingException", "", "Rate exceeded")
    }

    /// Answers one call. `region` is the Region of the signature.
    ///
    /// # Errors
    /// As the service does.
    pub fn call(
        &mut self,
        now: Timestamp,
        region: &str,
        operation: &str,
        body: &Value,
    ) -> Result<Answer, ApiError> {
        *self.calls.entry(operation.to_owned()).or_default() += 1;
        if !self.knobs.has_region(region) {
            let message = format!("there is no Region {region}");
            return Err(ApiError::new("UnrecognizedClientException", "", message));
        }
        if self.knobs.disabled_regions.iter().any(|name| name == region) {
            let message = format!("Region {region} is not set up for this account.");
            return Err(ApiError::new("RegionSetupInProgressException", "", message));
        }
        let Value::Object(members) = body else {
            return Err(ApiError::new("SerializationException", "", "the body is no JSON object"));
        };
        let named = |wanted: &str| names(body, wanted);
        let fault = strike(&mut self.knobs.faults, now, region, operation, named);
        let fate = fault.map(|(kind, _)| kind);
        match fate {
            Some(FaultKind::Throttle) => return Err(self.throttle(operation)),
            Some(FaultKind::ServerError) => {
                return Err(ApiError::new("ServiceException", "", "An internal error occurred"));
            }
            Some(FaultKind::Denied) => {
                let message = format!("User is not authorized to perform: lightsail:{operation}");
                return Err(ApiError::new("AccessDeniedException", "", message));
            }
            Some(FaultKind::Dropped) => return Ok(Answer::Broken),
            _ => {}
        }
        if let Some((FaultKind::Hang, time)) = fault {
            return Ok(Answer::Hung(time));
        }
        if let Some(region) = self.regions.get_mut(region).filter(|region| region.vanishing) {
            region.snapshots.retain(|_, snapshot| !snapshot.vanished(now));
        }
        let call = Call { now, region, body: members, fate };
        let answer = self.dispatch(operation, &call)?;
        if fate == Some(FaultKind::LostResponse) {
            return Ok(Answer::Broken);
        }
        Ok(Answer::Body(answer))
    }

    fn dispatch(&mut self, operation: &str, call: &Call<'_>) -> Result<Value, ApiError> {
        match operation {
            "CreateInstances" => self.create_instances(call),
            "GetInstances" => self.get_instances(call),
            "GetInstance" => self.get_instance(call),
            "GetInstanceState" => self.get_instance_state(call),
            "DeleteInstance" => self.delete_instance(call),
            "EnableAddOn" => self.enable_add_on(call),
            "DisableAddOn" => self.disable_add_on(call),
            "GetAutoSnapshots" => self.get_auto_snapshots(call),
            "CreateInstanceSnapshot" => self.create_snapshot(call),
            "CreateInstancesFromSnapshot" => self.create_from_snapshot(call),
            "GetInstanceSnapshot" => self.get_snapshot(call),
            "GetInstanceSnapshots" => self.get_snapshots(call),
            "DeleteInstanceSnapshot" => self.delete_snapshot(call),
            "TagResource" => self.tag_resource(call),
            "UntagResource" => self.untag_resource(call),
            "GetOperation" => self.get_operation(call),
            "GetOperations" => self.get_operations(call, None),
            "GetOperationsForResource" => self.get_operations_for_resource(call),
            "GetRegions" => Ok(catalog::regions(&self.knobs, call)),
            "GetBundles" => Ok(catalog::bundles()),
            "GetBlueprints" => Ok(catalog::blueprints()),
            other => Err(ApiError::new(
                "UnknownOperationException",
                "",
                format!("the embedded cloud does not have the operation {other}"),
            )),
        }
    }

    /// The instances of a Region.
    #[must_use]
    pub fn instances(&self, region: &str) -> Vec<&Instance> {
        self.regions.get(region).map(|r| r.instances.values().collect()).unwrap_or_default()
    }

    /// The snapshots of a Region.
    #[must_use]
    pub fn snapshots(&self, region: &str) -> Vec<&Snapshot> {
        self.regions.get(region).map(|r| r.snapshots.values().collect()).unwrap_or_default()
    }

    /// The tags of an instance, if there is one of that name.
    #[must_use]
    pub fn tags_of_instance(&self, region: &str, instance: &str) -> Option<Tags> {
        Some(self.regions.get(region)?.instances.get(instance)?.tags.clone())
    }

    /// A snapshot to change behind the service's back.
    pub fn snapshot_mut(&mut self, region: &str, name: &str) -> Option<&mut Snapshot> {
        self.regions.get_mut(region)?.snapshots.get_mut(name)
    }

    fn at(&mut self, region: &str) -> &mut Region {
        self.regions.entry(region.to_owned()).or_default()
    }

    /// A UUID that no other thing of this service has: the same run gives the same ones.
    fn uuid(&mut self) -> String {
        self.made += 1;
        // SplitMix64: spreads a counter over all bits.
        let mix = |seed: u64| {
            let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            x ^ (x >> 31)
        };
        let (a, b) = (mix(self.made), mix(self.made ^ 0xffff_0000));
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 48 & 0xfff,
            b & 0xffff_ffff_ffff
        )
    }

    fn arn(&mut self, region: &str, kind: &str) -> String {
        let uuid = self.uuid();
        format!("arn:aws:lightsail:{region}:{}:{kind}/{uuid}", self.account)
    }
}

/// Whether any text in the body contains this name.
fn names(body: &Value, wanted: &str) -> bool {
    match body {
        Value::String(text) => text.contains(wanted),
        Value::Array(list) => list.iter().any(|value| names(value, wanted)),
        Value::Object(members) => members.values().any(|value| names(value, wanted)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
