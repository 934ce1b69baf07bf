//! The cloud's own books of snapshots, in one form for both providers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use snapkeep_cloud::embedded::Cloud;
use snapkeep_cloud::http::lock;
use snapkeep_cloud::{lighthouse, lightsail};
use snapkeep_domain::snapshot::MANAGED_BY;

use super::script::Cast;
use crate::BoxError;

/// A snapshot.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    /// What identifies it.
    pub(super) id: String,
    pub(super) name: String,
    /// The instance's name.
    pub(super) instance: String,
    pub(super) requested_at: Timestamp,
    pub(super) settles_at: Timestamp,
    /// Whether it becomes available.
    pub(super) is_good: bool,
    pub(super) gb: u32,
    pub(super) tags: BTreeMap<String, String>,
}

impl Shot {
    pub(super) fn is_ours(&self) -> bool {
        self.tags.get(MANAGED_BY).is_some_and(|value| value == "demo")
    }

    fn of_lightsail(region: &str, one: &lightsail::Snapshot) -> Self {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Shot {
            id: format!("{region}/{}", one.name),
            name: one.name.clone(),
            instance: one.from_name.clone(),
            requested_at: one.requested_at,
            settles_at: one.settles_at,
            is_good: one.fate.is_none(),
            gb: one.size_gb,
            tags: one.tags.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        }
    }

    fn of_lighthouse(instances: &BTreeMap<String, String>, one: &lighthouse::Snapshot) -> Self {
        Shot {
            id: one.id.clone(),
            name: one.name.clone(),
            instance: instances.get(&one.instance_id).cloned().unwrap_or_default(),
            requested_at: one.requested_at,
            settles_at: one.settles_at,
            is_good: one.fate.is_none(),
            gb: one.disk_gb,
            tags: one.tags.clone(),
        }
    }
}

/// Every snapshot that was made, that was deleted, and that is there and available.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) made: Vec<Shot>,
    pub(super) deleted: Vec<Shot>,
    pub(super) there: Vec<Shot>,
    /// The tags of the instances that are there, by name.
    pub(super) tags: BTreeMap<String, BTreeMap<String, String>>,
    /// Calls by operation.
    pub(super) calls: BTreeMap<String, u64>,
}

/// Reads the books as they are at `end`; `instances` has the names of Lighthouse's instances by id.
pub(super) fn read(
    cloud: &Cloud,
    cast: &[Cast],
    instances: &BTreeMap<String, String>,
    end: Timestamp,
) -> Result<Books, BoxError> {
    let mut books = Books::default();
    let lightsail = lock(cloud.lightsail());
    let lighthouse = cloud.lighthouse().lock().map_err(|_| "the embedded Lighthouse broke down")?;
    for event in &lightsail.events {
        let shot = Shot::of_lightsail(&event.region, &event.snapshot);
        match event.operation {
            "CreateInstanceSnapshot" => books.made.push(shot),
            _ => books.deleted.push(shot),
        }
    }
    for event in &lighthouse.events {
        let shot = Shot::of_lighthouse(instances, &event.snapshot);
        match event.operation {
            "CreateInstanceSnapshot" => books.made.push(shot),
            _ => books.deleted.push(shot),
        }
    }
    let regions: std::collections::BTreeSet<&str> = cast.iter().map(Cast::region).collect();
    for region in regions {
        let available =
            lightsail.snapshots(region).into_iter().filter(|s| s.state(end) == "available");
        books.there.extend(available.map(|one| Shot::of_lightsail(region, one)));
        let normal = |one: &&lighthouse::Snapshot| {
            one.state(end, &lighthouse.knobs) == "NORMAL"
                && one.fate.is_none()
                && one.gone_at.is_none()
        };
        let available = lighthouse.snapshots(region).into_iter().filter(normal);
        books.there.extend(available.map(|one| Shot::of_lighthouse(instances, one)));
        for instance in lightsail.instances(region) {
            let tags = instance.tags.iter();
            let tags = tags.map(|(key, value)| (key.clone(), value.clone().unwrap_or_default()));
            books.tags.insert(instance.name.clone(), tags.collect());
        }
        for instance in lighthouse.instances(region) {
            books.tags.insert(instance.name.clone(), instance.tags.clone());
        }
    }
    books.there.sort_by_key(|shot| shot.requested_at);
    books.calls = lightsail.calls.clone();
    for (operation, count) in &lighthouse.calls {
        *books.calls.entry(operation.clone()).or_default() += count;
    }
    Ok(books)
}
