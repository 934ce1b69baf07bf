//! Manual snapshots.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::error::limit_tags;
use super::instances::is_starting;
use super::operations::About;
use super::paging::{Paging, list, page};
use super::{ApiError, Call, Event, Instance, Lightsail, Snapshot, shapes};
use crate::knobs::FaultKind;

impl Lightsail {
    pub(super) fn create_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let name = call.required("instanceSnapshotName")?.to_owned();
        let tags = call.tags()?;
        limit_tags(&tags)?;
        let instance = self.instance(call, "instanceName")?.clone();
        self.at(call.region).check_names(std::slice::from_ref(&name))?;
        let seconds = self.pending_seconds(instance.disk_gb);
        self.refuse_snapshot(call, &instance, seconds)?;
        let fate = call.fate.filter(|fate| {
            matches!(fate, FaultKind::FailSnapshot | FaultKind::StuckPending | FaultKind::Vanish)
        });
        let snapshot = Snapshot {
            name: name.clone(),
            arn: self.arn(call.region, "InstanceSnapshot"),
            requested_at: call.now,
            settles_at: call.now + SignedDuration::from_secs(seconds.into()),
            fate,
            tags,
            from_name: instance.name.clone(),
            from_arn: instance.arn.clone(),
            from_blueprint: instance.blueprint.clone(),
            from_bundle: instance.bundle.clone(),
            size_gb: instance.disk_gb,
        };
        let (done_at, failed) = (snapshot.settles_at, fate.is_some());
        self.note(call, "CreateInstanceSnapshot", &snapshot);
        let region = self.at(call.region);
        region.vanishing |= fate == Some(FaultKind::Vanish);
        region.snapshots.insert(name.clone(), snapshot);
        let about = |resource, resource_type, zone, details| About {
            kind: "CreateInstanceSnapshot",
            resource,
            resource_type,
            zone,
            details,
            done_at,
            failed,
        };
        let of_snapshot = about(&name, "InstanceSnapshot", "all", &instance.name);
        let of_instance = about(&instance.name, "Instance", &instance.zone, &name);
        let operations = [self.operation(call, &of_snapshot), self.operation(call, &of_instance)];
        Ok(json!({ "operations": operations }))
    }

    /// Why the service does not take a snapshot of this instance now.
    fn refuse_snapshot(
        &mut self,
        call: &Call<'_>,
        instance: &Instance,
        seconds: u32,
    ) -> Result<(), ApiError> {
        if is_starting(instance, call.now) {
            return Err(ApiError::new(
                "OperationFailureException",
                "",
                format!("The instance {} is not in a valid state: pending", instance.name),
            ));
        }
        if instance.auto_in_progress(call.now, seconds) {
            return Err(ApiError::invalid(format!(
                "An automatic snapshot of {} is in progress. Please wait for it to complete before \
                 trying again",
                instance.name
            )));
        }
        let quota = self.knobs.snapshot_quota;
        let refuse = self.knobs.refuse_concurrent_snapshots;
        let snapshots = &self.at(call.region).snapshots;
        if quota.is_some_and(|quota| snapshots.len() >= quota) {
            return Err(ApiError::invalid(
                "Sorry, you've either reached or will exceed your maximum limit of snapshots",
            ));
        }
        let pending = |s: &Snapshot| s.from_arn == instance.arn && s.state(call.now) == "pending";
        if refuse && snapshots.values().any(pending) {
            return Err(ApiError::new(
                "OperationFailureException",
                "",
                "A snapshot of this instance is being made. Please try again in a few minutes",
            ));
        }
        Ok(())
    }

    pub(super) fn get_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let name = call.required("instanceSnapshotName")?;
        let found = self.at(call.region).snapshots.get(name);
        let found = found.ok_or_else(|| ApiError::missing("InstanceSnapshot", name))?;
        Ok(json!({"instanceSnapshot": shapes::snapshot(found, call.region, call.now)}))
    }

    pub(super) fn get_snapshots(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let paging = Paging::new(&self.knobs);
        let lag = SignedDuration::from_secs(self.knobs.list_lag_seconds.into());
        let snapshots = self.at(call.region).snapshots.values();
        let visible = snapshots.filter(|s| s.requested_at + lag <= call.now);
        let items = visible.map(|s| (s.created_at(), s.name.as_str(), s)).collect();
        let (items, token) = page(items, call, &paging)?;
        let show = |s: &Snapshot| shapes::snapshot(s, call.region, call.now);
        Ok(list("instanceSnapshots", items.into_iter().map(show).collect(), token))
    }

    pub(super) fn delete_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let name = call.required("instanceSnapshotName")?;
        let refuse = self.knobs.refuse_delete_pending;
        let region = self.at(call.region);
        let found = region.snapshots.get(name);
        let found = found.ok_or_else(|| ApiError::missing("InstanceSnapshot", name))?;
        if refuse && found.state(call.now) == "pending" {
            return Err(ApiError::new(
                "OperationFailureException",
                "",
                format!("The snapshot {name} is pending. Please try again in a few minutes"),
            ));
        }
        if let Some(gone) = region.snapshots.remove(name) {
            self.note(call, "DeleteInstanceSnapshot", &gone);
        }
        let operation = self.done(call, "DeleteInstanceSnapshot", name, "InstanceSnapshot", "all");
        Ok(json!({"operations": [operation]}))
    }

    fn note(&mut self, call: &Call<'_>, operation: &'static str, snapshot: &Snapshot) {
        self.events.push(Event {
            at: call.now,
            region: call.region.to_owned(),
            operation,
            snapshot: snapshot.clone(),
        });
    }
}
