//! Snapshots and their quota.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::instances::{malformed, not_found, one_of};
use super::knobs::{LighthouseKnobs, SnapshotTags};
use super::parameters::{Filter, missing, of_tags};
use super::{ApiError, Call, Event, Lighthouse, Snapshot, Tags, catalog, show_tags, show_time};
use crate::knobs::FaultKind;

/// How long a rollback takes.
const ROLLBACK: SignedDuration = SignedDuration::from_secs(120);

impl Snapshot {
    /// `CREATING`, `NORMAL` or `ROLLBACKING`.
    #[must_use]
    pub fn state<'a>(&self, now: Timestamp, knobs: &'a LighthouseKnobs) -> &'a str {
        match self.fate {
            Some(FaultKind::StuckPending) => "CREATING",
            _ if now < self.settles_at => "CREATING",
            Some(FaultKind::FailSnapshot) => &knobs.failed_state,
            _ if self.rollback_until.is_some_and(|until| now < until) => "ROLLBACKING",
            _ => "NORMAL",
        }
    }

    fn operation(&self, now: Timestamp) -> (&'static str, &'static str) {
        match self.rollback_until {
            Some(until) if now < until => ("RollbackInstanceSnapshot", "OPERATING"),
            Some(_) => ("RollbackInstanceSnapshot", "SUCCESS"),
            None if self.fate == Some(FaultKind::StuckPending) || now < self.settles_at => {
                ("CreateInstanceSnapshot", "OPERATING")
            }
            None if self.fate == Some(FaultKind::FailSnapshot) => {
                ("CreateInstanceSnapshot", "FAILED")
            }
            None => ("CreateInstanceSnapshot", "SUCCESS"),
        }
    }

    fn show(&self, now: Timestamp, knobs: &LighthouseKnobs) -> Value {
        let (operation, outcome) = self.operation(now);
        let state = self.state(now, knobs);
        json!({
            "SnapshotId": self.id,
            "DiskUsage": "SYSTEM_DISK",
            "DiskId": self.disk_id,
            "DiskSize": self.disk_gb,
            "SnapshotName": self.name,
            "SnapshotState": state,
            "Percent": if state == "NORMAL" { 100 } else { 50 },
            "LatestOperation": operation,
            "LatestOperationState": outcome,
            "LatestOperationRequestId": self.id,
            "CreatedTime": show_time(self.requested_at),
            "Tags": show_tags(&self.tags),
        })
    }

    fn passes(&self, filter: &Filter) -> bool {
        let (name, values) = filter;
        let is = |text: &str| values.iter().any(|value| value == text);
        of_tags(&self.tags, filter).unwrap_or_else(|| match name.as_str() {
            "snapshot-id" => is(&self.id),
            "disk-id" => is(&self.disk_id),
            "snapshot-name" => is(&self.name),
            _ => is(&self.instance_id),
        })
    }
}

fn no_such_snapshot(id: &str) -> ApiError {
    let message = format!("The snapshot ID `{id}` does not exist.");
    ApiError::new("ResourceNotFound.SnapshotIdNotFound", message)
}

fn well_formed(id: &str) -> Result<(), ApiError> {
    if id.starts_with("lhsnap-") {
        return Ok(());
    }
    let message = format!("The snapshot ID `{id}` is malformed.");
    Err(ApiError::new("InvalidParameterValue.SnapshotIdMalformed", message))
}

impl Lighthouse {
    pub(super) fn create_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let Call { now, region, parameters, fate } = call;
        let tagged = self.knobs.snapshot_tags;
        let known = ["InstanceId", "SnapshotName", "Tags"];
        parameters.only(&known[..if tagged == SnapshotTags::Refused { 2 } else { 3 }])?;
        let instance_id = parameters.required("InstanceId")?;
        malformed(&instance_id)?;
        let name = parameters.text("SnapshotName")?.unwrap_or_else(|| "snapshot".to_owned());
        if name.chars().count() > 60 {
            let message = "The snapshot name has more than 60 characters.";
            return Err(ApiError::new("InvalidParameterValue.SnapshotNameTooLong", message));
        }
        let tags = parameters.tags()?;
        let tags = if tagged == SnapshotTags::Kept { tags } else { Tags::new() };
        let knobs = self.knobs.clone();
        let home = self.at(region);
        let instance = home.instances.get(&instance_id).ok_or_else(|| not_found(&instance_id))?;
        let (disk_id, disk_gb) = (instance.disk_id.clone(), instance.disk_gb);
        if catalog::is_storage(&instance.bundle) {
            let code = "OperationDenied.OperationDeniedCreateSnapshotForStorageBundle";
            return Err(ApiError::new(code, "A storage bundle has no snapshots."));
        }
        if instance.state(*now) != "RUNNING" {
            let message =
                format!("The instance `{instance_id}` is in the state {}.", instance.state(*now));
            return Err(ApiError::new("UnsupportedOperation.InvalidInstanceState", message));
        }
        let being_made = |one: &&Snapshot| {
            one.instance_id == instance_id && one.state(*now, &knobs) == "CREATING"
        };
        if let Some(other) = home.snapshots.values().find(being_made) {
            let message = format!("The latest operation of {} has not finished.", other.id);
            return Err(ApiError::new("UnsupportedOperation.LatestOperationUnfinished", message));
        }
        if home.snapshots.len() >= knobs.snapshot_quota {
            let message = format!("The quota of {} snapshots is exceeded.", knobs.snapshot_quota);
            return Err(ApiError::new("LimitExceeded.SnapshotQuotaLimitExceeded", message));
        }
        let takes = knobs.pending_seconds + knobs.pending_seconds_per_gb * disk_gb;
        let id = self.id("lhsnap");
        let snapshot = Snapshot {
            id: id.clone(),
            name,
            disk_id,
            instance_id,
            disk_gb,
            requested_at: *now,
            settles_at: *now + SignedDuration::from_secs(takes.into()),
            // The other faults are not the snapshot's.
            fate: fate.filter(|fate| {
                use FaultKind::{FailSnapshot, StuckPending, Vanish};
                matches!(fate, FailSnapshot | StuckPending | Vanish)
            }),
            rollback_until: None,
            gone_at: None,
            tags,
        };
        self.note(call, "CreateInstanceSnapshot", &snapshot);
        self.at(region).snapshots.insert(id.clone(), snapshot);
        Ok(json!({ "SnapshotId": id }))
    }

    fn note(&mut self, call: &Call<'_>, operation: &'static str, snapshot: &Snapshot) {
        let region = call.region.to_owned();
        self.events.push(Event { at: call.now, region, operation, snapshot: snapshot.clone() });
    }

    pub(super) fn describe_snapshots(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let Call { now, region, parameters, .. } = call;
        parameters.only(&["SnapshotIds", "Filters", "Offset", "Limit"])?;
        let ids = parameters.ids("SnapshotIds", 100)?;
        let known = ["snapshot-id", "disk-id", "snapshot-name", "instance-id"];
        let filters = parameters.filters(&known)?;
        one_of(ids.is_some(), !filters.is_empty(), "SnapshotIds")?;
        ids.iter().flatten().try_for_each(|id| well_formed(id))?;
        let knobs = self.knobs.clone();
        let lag = SignedDuration::from_secs(knobs.list_lag_seconds.into());
        let passes = |one: &&Snapshot| {
            *now >= one.requested_at + lag
                && ids.as_ref().is_none_or(|ids| ids.contains(&one.id))
                && filters.iter().all(|filter| one.passes(filter))
        };
        let mut all: Vec<&Snapshot> = self.at(region).snapshots.values().filter(passes).collect();
        all.sort_by_key(|one| (std::cmp::Reverse(one.requested_at), one.id.clone()));
        let all = all.into_iter().map(|one| one.show(*now, &knobs)).collect();
        parameters.page("SnapshotSet", all, knobs.page_size)
    }

    /// All or none of them; they are gone some time later.
    pub(super) fn delete_snapshots(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["SnapshotIds"])?;
        let ids = call.parameters.ids("SnapshotIds", 10)?;
        let ids = ids.filter(|ids| !ids.is_empty()).ok_or_else(|| missing("SnapshotIds"))?;
        ids.iter().try_for_each(|id| well_formed(id))?;
        if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
            let message = "SnapshotIds has an element twice.";
            return Err(ApiError::new("InvalidParameterValue.Duplicated", message));
        }
        let knobs = self.knobs.clone();
        for id in &ids {
            let found = self.at(call.region).snapshots.get(id);
            let snapshot = found.ok_or_else(|| no_such_snapshot(id))?;
            if snapshot.gone_at.is_some() {
                let message = format!("The snapshot {id} is being deleted.");
                return Err(ApiError::new("UnsupportedOperation.SnapshotBusy", message));
            }
            let state = snapshot.state(call.now, &knobs);
            if state != "NORMAL" {
                let message = format!("The snapshot {id} is in the state {state}.");
                return Err(ApiError::new("UnsupportedOperation.InvalidSnapshotState", message));
            }
        }
        let gone_at = call.now + SignedDuration::from_secs(knobs.delete_seconds.into());
        for id in ids {
            let Some(snapshot) = self.at(call.region).snapshots.get_mut(&id) else { continue };
            snapshot.gone_at = Some(gone_at);
            let snapshot = snapshot.clone();
            self.note(call, "DeleteSnapshots", &snapshot);
        }
        self.pass(call.now);
        Ok(json!({}))
    }

    pub(super) fn modify_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["SnapshotId", "SnapshotName"])?;
        let id = call.parameters.required("SnapshotId")?;
        let name = call.parameters.required("SnapshotName")?;
        let found = self.at(call.region).snapshots.get_mut(&id);
        found.ok_or_else(|| no_such_snapshot(&id))?.name = name;
        Ok(json!({}))
    }

    /// Rolls an instance back in place.
    pub(super) fn apply_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["InstanceId", "SnapshotId"])?;
        let instance_id = call.parameters.required("InstanceId")?;
        let id = call.parameters.required("SnapshotId")?;
        let knobs = self.knobs.clone();
        let home = self.at(call.region);
        if !home.instances.contains_key(&instance_id) {
            return Err(not_found(&instance_id));
        }
        let snapshot = home.snapshots.get_mut(&id).ok_or_else(|| no_such_snapshot(&id))?;
        if snapshot.state(call.now, &knobs) != "NORMAL" || snapshot.instance_id != instance_id {
            let message = format!("The snapshot {id} cannot be applied to {instance_id}.");
            return Err(ApiError::new("UnsupportedOperation.InvalidSnapshotState", message));
        }
        snapshot.rollback_until = Some(call.now + ROLLBACK);
        Ok(json!({}))
    }

    pub(super) fn denied_actions(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["SnapshotIds"])?;
        let ids = call.parameters.ids("SnapshotIds", 100)?;
        let knobs = self.knobs.clone();
        let mut all = Vec::new();
        for id in ids.ok_or_else(|| missing("SnapshotIds"))? {
            let found = self.at(call.region).snapshots.get(&id);
            let snapshot = found.ok_or_else(|| no_such_snapshot(&id))?;
            let state = snapshot.state(call.now, &knobs);
            let denied = |action: &str| {
                json!({"Action": action, "Code": "UnsupportedOperation.InvalidSnapshotState",
                    "Message": format!("the state is {state}")})
            };
            let actions: Vec<Value> = match state {
                "NORMAL" => Vec::new(),
                _ => ["ApplyInstanceSnapshot", "DeleteSnapshots"].map(denied).to_vec(),
            };
            all.push(json!({"SnapshotId": id, "DeniedActions": actions}));
        }
        Ok(json!({ "SnapshotDeniedActionSet": all }))
    }

    pub(super) fn quotas(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["ResourceNames"])?;
        let names = call.parameters.texts("ResourceNames")?;
        let total = self.knobs.snapshot_quota;
        let used = self.at(call.region).snapshots.len();
        let mut all = Vec::new();
        for name in names.ok_or_else(|| missing("ResourceNames"))? {
            if name != "SNAPSHOT" {
                let message = format!("The resource name `{name}` is not supported.");
                return Err(ApiError::new("InvalidParameterValue", message));
            }
            all.push(json!({"ResourceName": name, "ResourceQuotaTotal": total,
                "ResourceQuotaAvailable": total.saturating_sub(used)}));
        }
        Ok(json!({ "GeneralResourceQuotaSet": all }))
    }
}
