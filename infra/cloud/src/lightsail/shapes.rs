//! How things look on the wire. Absent members are omitted, never null.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ACCOUNT, Instance, Snapshot, Tags};
use crate::lightsail::instances::is_starting;

/// Epoch seconds with up to three decimals.
pub(super) fn epoch(time: Timestamp) -> Value {
    let milliseconds = time.as_millisecond();
    if milliseconds % 1000 == 0 {
        (milliseconds / 1000).into()
    } else {
        (milliseconds as f64 / 1000.0).into()
    }
}

fn tags(tags: &Tags) -> Value {
    let tag = |(key, value): (&String, &Option<String>)| match value {
        Some(value) => json!({"key": key, "value": value}),
        None => json!({ "key": key }),
    };
    tags.iter().map(tag).collect()
}

fn disk(size_gb: u32) -> Value {
    json!({"path": "/dev/xvda", "sizeInGb": size_gb, "isSystemDisk": true, "iops": 100,
        "attachmentState": "attached", "isAttached": true})
}

pub(super) fn state(instance: &Instance, now: Timestamp) -> Value {
    if is_starting(instance, now) {
        json!({"code": 0, "name": "pending"})
    } else {
        json!({"code": 16, "name": "running"})
    }
}

pub(super) fn instance(instance: &Instance, region: &str, now: Timestamp) -> Value {
    let mut shown = json!({
        "name": instance.name,
        "arn": instance.arn,
        "supportCode": format!("{ACCOUNT}/i-{}", id_of(&instance.arn)),
        "createdAt": epoch(instance.created_at),
        "location": {"availabilityZone": instance.zone, "regionName": region},
        "resourceType": "Instance",
        "tags": tags(&instance.tags),
        "blueprintId": instance.blueprint,
        "blueprintName": instance.blueprint,
        "bundleId": instance.bundle,
        "isStaticIp": false,
        "privateIpAddress": "172.26.0.10",
        "publicIpAddress": "192.0.2.10",
        "ipAddressType": "dualstack",
        "hardware": {"cpuCount": 2, "disks": [disk(instance.disk_gb)], "ramSizeInGb": 0.5},
        "networking": {"monthlyTransfer": {"gbPerMonthAllocated": 1024}, "ports": []},
        "state": state(instance, now),
        "username": "admin",
        "sshKeyName": "LightsailDefaultKeyPair",
    });
    if let Some(hour) = instance.auto_hour {
        let time = format!("{hour:02}:00");
        shown["addOns"] = json!([{"name": "AutoSnapshot", "status": "Enabled",
            "snapshotTimeOfDay": time, "nextSnapshotTimeOfDay": time}]);
    }
    shown
}

pub(super) fn snapshot(snapshot: &Snapshot, region: &str, now: Timestamp) -> Value {
    json!({
        "name": snapshot.name,
        "arn": snapshot.arn,
        "supportCode": format!("{ACCOUNT}/ami-{}", id_of(&snapshot.arn)),
        "createdAt": epoch(snapshot.created_at()),
        "location": {"availabilityZone": "all", "regionName": region},
        "resourceType": "InstanceSnapshot",
        "tags": tags(&snapshot.tags),
        "state": snapshot.state(now),
        "fromAttachedDisks": [],
        "fromInstanceName": snapshot.from_name,
        "fromInstanceArn": snapshot.from_arn,
        "fromBlueprintId": snapshot.from_blueprint,
        "fromBundleId": snapshot.from_bundle,
        "isFromAutoSnapshot": false,
        "sizeInGb": snapshot.size_gb,
    })
}

/// The first 17 hex digits of an ARN's UUID, as ids of this kind have them.
fn id_of(arn: &str) -> String {
    let uuid = arn.rsplit('/').next().unwrap_or_default();
    uuid.chars().filter(char::is_ascii_hexdigit).take(17).collect()
}
