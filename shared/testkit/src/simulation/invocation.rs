//! A running invocation, as the properties see it: what it was told, and what it did so far.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use snapkeep_app::ports::ErrorKind;
use snapkeep_domain::record::Record;
use snapkeep_domain::settings::{Role, Settings};
use snapkeep_domain::snapshot::{Instance, Ownership, ResourceId, Snapshot, SnapshotState};

use super::ports::Fault;

/// A running invocation and what it was told.
#[derive(Debug)]
pub(super) struct Doing {
    pub(super) role: Role,
    /// The settings as deployed.
    pub(super) settings: Settings,
    /// What its clock says.
    pub(super) now: Timestamp,
    /// When it began.
    pub(super) started: Timestamp,
    /// When it begins no further item.
    pub(super) stop_at: Timestamp,
    /// The record format of its version.
    pub(super) format: u32,
    pub(super) instances: BTreeMap<String, Vec<Instance>>,
    pub(super) snapshots: BTreeMap<String, Vec<Snapshot>>,
    /// Instances asked for by name.
    pub(super) asked: BTreeMap<(String, String), Option<Instance>>,
    /// Snapshots asked for by name.
    pub(super) looks: BTreeMap<(String, String), Option<Snapshot>>,
    /// What it marked: the records as they were before.
    pub(super) marked: BTreeMap<ResourceId, Vec<Record>>,
    /// Calls that went wrong, and must show in its report.
    pub(super) faults: u32,
    /// Resources whose slot it claimed, so that it alone can report what was missed before.
    pub(super) claimed: BTreeSet<ResourceId>,
}

impl Doing {
    pub(super) fn new(
        role: Role,
        settings: Settings,
        now: Timestamp,
        started: Timestamp,
        stop_at: Timestamp,
        format: u32,
    ) -> Self {
        Doing {
            role,
            settings,
            now,
            started,
            stop_at,
            format,
            instances: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            asked: BTreeMap::new(),
            looks: BTreeMap::new(),
            marked: BTreeMap::new(),
            faults: 0,
            claimed: BTreeSet::new(),
        }
    }

    /// Counts what it must report.
    pub(super) fn met(&mut self, fault: Option<Fault>) {
        if matches!(fault, Some(Fault::Before(kind)) if kind != ErrorKind::RegionNotEnabled)
            || fault == Some(Fault::After)
        {
            self.faults += 1;
        }
    }

    /// The available snapshots of ours that its lists and looks showed of a resource, the newest first.
    pub(super) fn available(&self, resource: &ResourceId) -> Vec<(Timestamp, &Snapshot)> {
        let listed = self.snapshots.values().flatten();
        let looked = self.looks.values().flatten();
        let mut seen = BTreeSet::new();
        let mut found: Vec<_> = listed
            .chain(looked)
            .filter_map(|s| Some((slot_of(s, resource, &self.settings.deployment)?, s)))
            .filter(|(_, s)| seen.insert(&s.id))
            .collect();
        found.sort_by(|a, b| (b.0, &b.1.name).cmp(&(a.0, &a.1.name)));
        found
    }

    /// The instance as it was shown: `None` when nothing showed it.
    pub(super) fn instance(&self, resource: &ResourceId) -> Option<&Instance> {
        let listed = self.instances.values().flatten();
        let asked = self.asked.values().flatten();
        listed.chain(asked).find(|instance| instance.id == *resource)
    }
}

/// The slot of an available snapshot that this deployment made of this resource; of any other, none.
pub(super) fn slot_of(
    snapshot: &Snapshot,
    resource: &ResourceId,
    deployment: &str,
) -> Option<Timestamp> {
    match snapshot.ownership(deployment) {
        Ownership::Ours { slot, .. }
            if snapshot.source == *resource && snapshot.state == SnapshotState::Available =>
        {
            Some(slot.timestamp())
        }
        _ => None,
    }
}
