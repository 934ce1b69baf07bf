//! What the service offers: Regions, bundles, blueprints.

use serde_json::{Value, json};

use super::knobs::LighthouseKnobs;
use super::{ApiError, Call};

/// Bundle, disk in GB.
const BUNDLES: [(&str, u32); 4] = [
    ("bundle_starter_nmc_lin_med2_01", 20),
    ("bundle2022_gen_lin_01", 40),
    ("bundle2022_gen_lin_02", 60),
    ("storage_bundle_01", 200),
];

/// The disk of a bundle, if there is such a bundle.
pub(super) fn disk_gb(bundle: &str) -> Option<u32> {
    BUNDLES.iter().find(|(id, _)| *id == bundle).map(|(_, disk)| *disk)
}

/// Storage bundles have no snapshots.
pub(super) fn is_storage(bundle: &str) -> bool {
    bundle.starts_with("storage_")
}

pub(super) fn regions(knobs: &LighthouseKnobs, call: &Call<'_>) -> Result<Value, ApiError> {
    call.parameters.only(&[])?;
    let region = |name: &String| {
        json!({"Region": name, "RegionName": name, "RegionState": "AVAILABLE",
            "IsChinaMainland": name.starts_with("ap-") && !["ap-hongkong", "ap-tokyo"].contains(&name.as_str())})
    };
    let all: Vec<Value> = knobs.regions.iter().map(region).collect();
    Ok(json!({"TotalCount": all.len(), "RegionSet": all}))
}

pub(super) fn bundles(call: &Call<'_>) -> Result<Value, ApiError> {
    call.parameters.only(&["BundleIds", "Filters", "Zones", "Offset", "Limit"])?;
    let bundle = |(id, disk): &(&str, u32)| {
        json!({"BundleId": id, "SystemDiskSize": disk, "SystemDiskType": "CLOUD_SSD", "CPU": 2,
            "Memory": 2, "BundleSalesState": "AVAILABLE", "SupportLinuxUnixPlatform": true})
    };
    call.parameters.page("BundleSet", BUNDLES.iter().map(bundle).collect(), 100)
}

pub(super) fn blueprints(call: &Call<'_>) -> Result<Value, ApiError> {
    call.parameters.only(&["BlueprintIds", "Filters", "Offset", "Limit"])?;
    let all = vec![
        json!({"BlueprintId": "lhbp-f1lkcd41", "DisplayTitle": "Debian", "OsName": "Debian 12",
        "Platform": "DEBIAN", "PlatformType": "LINUX_UNIX", "BlueprintState": "NORMAL",
        "RequiredSystemDiskSize": 20}),
    ];
    call.parameters.page("BlueprintSet", all, 100)
}
