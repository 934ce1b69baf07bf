//! What the service offers: Regions, bundles, blueprints.

use serde_json::{Value, json};

use super::Call;
use crate::knobs::Knobs;

/// Bundle, disk in GB, dollars a month.
const BUNDLES: [(&str, u32, f64); 6] = [
    ("nano_ipv6_3_0", 20, 3.5),
    ("nano_3_0", 20, 5.0),
    ("micro_3_0", 40, 7.0),
    ("small_3_0", 60, 12.0),
    ("medium_3_0", 80, 24.0),
    ("large_3_0", 160, 44.0),
];

/// The disk of a bundle, if there is such a bundle.
pub(super) fn disk_gb(bundle: &str) -> Option<u32> {
    BUNDLES.iter().find(|(id, ..)| *id == bundle).map(|(_, disk, _)| *disk)
}

/// Whether its instances have no IPv4 address; then they must be asked for as such.
pub(super) fn is_ipv6_only(bundle: &str) -> bool {
    bundle.contains("_ipv6_")
}

pub(super) fn bundles() -> Value {
    let bundle = |(id, disk, price): &(&str, u32, f64)| {
        let name = id.split('_').next().unwrap_or_default();
        json!({"bundleId": id, "name": name, "diskSizeInGb": disk, "price": price, "cpuCount": 2,
            "ramSizeInGb": 0.5, "transferPerMonthInGb": 1024, "isActive": true, "power": 300,
            "instanceType": name, "supportedPlatforms": ["LINUX_UNIX"],
            "publicIpv4AddressCount": u8::from(!is_ipv6_only(id))})
    };
    let bundles: Value = BUNDLES.iter().map(bundle).collect();
    json!({ "bundles": bundles })
}

pub(super) fn blueprints() -> Value {
    let blueprint = |id: &&str| {
        json!({"blueprintId": id, "name": id, "group": id, "type": "os", "isActive": true,
            "minPower": 0, "platform": "LINUX_UNIX", "description": id, "version": "1"})
    };
    let ids = ["debian_12", "ubuntu_24_04", "amazon_linux_2023"];
    let blueprints: Value = ids.iter().map(blueprint).collect();
    json!({ "blueprints": blueprints })
}

pub(super) fn regions(knobs: &Knobs, call: &Call<'_>) -> Value {
    let zones = call.body.get("includeAvailabilityZones") == Some(&Value::Bool(true));
    let region = |name: &String| {
        let mut region = json!({"name": name, "displayName": name, "continentCode": "NA",
            "description": format!("the embedded cloud's {name}")});
        if zones {
            region["availabilityZones"] = ["a", "b"]
                .map(|zone| json!({"zoneName": format!("{name}{zone}"), "state": "available"}))
                .into_iter()
                .collect();
        }
        region
    };
    let named = knobs.regions.iter().filter(|name| !knobs.unnamed_regions.contains(name));
    let regions: Value = named.map(region).collect();
    json!({ "regions": regions })
}
