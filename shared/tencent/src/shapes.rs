//! The shapes of the calls, as far as they are read.

use serde::{Deserialize, Serialize};

/// `DescribeInstances`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Instances {
    pub(crate) total_count: usize,
    #[serde(default)]
    pub(crate) instance_set: Vec<serde_json::Value>,
}

/// An instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Instance {
    pub(crate) instance_id: String,
    #[serde(default)]
    pub(crate) instance_name: Option<String>,
    #[serde(default)]
    pub(crate) instance_state: Option<String>,
    #[serde(default)]
    pub(crate) system_disk: Option<Disk>,
    #[serde(default)]
    pub(crate) created_time: Option<String>,
    #[serde(default)]
    pub(crate) tags: Option<Vec<Tag>>,
}

/// A system disk.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Disk {
    #[serde(default)]
    pub(crate) disk_id: Option<String>,
    #[serde(default)]
    pub(crate) disk_size: Option<u32>,
}

/// A tag.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Tag {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: Option<String>,
}

/// `DescribeSnapshots`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Snapshots {
    pub(crate) total_count: usize,
    #[serde(default)]
    pub(crate) snapshot_set: Vec<serde_json::Value>,
}

/// A snapshot.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Snapshot {
    pub(crate) snapshot_id: String,
    #[serde(default)]
    pub(crate) disk_id: Option<String>,
    #[serde(default)]
    pub(crate) disk_size: Option<u32>,
    #[serde(default)]
    pub(crate) snapshot_name: Option<String>,
    #[serde(default)]
    pub(crate) snapshot_state: Option<String>,
    #[serde(default)]
    pub(crate) latest_operation: Option<String>,
    #[serde(default)]
    pub(crate) latest_operation_state: Option<String>,
    pub(crate) created_time: String,
    #[serde(default)]
    pub(crate) tags: Option<Vec<Tag>>,
}

/// `CreateInstanceSnapshot`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Created {
    pub(crate) snapshot_id: String,
}

/// `DescribeRegions`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Regions {
    #[serde(default)]
    pub(crate) region_set: Vec<Region>,
}

/// A Region.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Region {
    pub(crate) region: String,
    #[serde(default)]
    pub(crate) region_state: Option<String>,
}

/// `DescribeGeneralResourceQuotas`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Quotas {
    #[serde(default)]
    pub(crate) general_resource_quota_set: Vec<Quota>,
}

/// A quota.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Quota {
    #[serde(default)]
    pub(crate) resource_name: Option<String>,
    pub(crate) resource_quota_available: u64,
    pub(crate) resource_quota_total: u64,
}

/// `DeleteSnapshots` answers nothing.
#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

/// What every answer is wrapped in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Envelope {
    pub(crate) response: serde_json::Value,
}

/// An error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Refusal {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
}
