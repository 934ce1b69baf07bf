//! Instances.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::parameters::{Filter, missing, of_tags};
use super::{ApiError, Call, Instance, Lighthouse, catalog, show_tags, show_time};

/// How long an instance takes to run.
const STARTS: SignedDuration = SignedDuration::from_secs(60);

impl Instance {
    /// Its state.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> &'static str {
        match self.shutdown_since {
            Some(_) => "SHUTDOWN",
            None if now < self.created_at + STARTS => "PENDING",
            None => "RUNNING",
        }
    }

    fn show(&self, now: Timestamp) -> Value {
        json!({
            "InstanceId": self.id,
            "InstanceName": self.name,
            "InstanceState": self.state(now),
            "BundleId": self.bundle,
            "BlueprintId": self.blueprint,
            "CPU": 2,
            "Memory": 2,
            "InstanceChargeType": "PREPAID",
            "SystemDisk": {"DiskType": "CLOUD_SSD", "DiskSize": self.disk_gb, "DiskId": self.disk_id},
            "Zone": self.zone,
            "CreatedTime": show_time(self.created_at),
            "LatestOperation": "CreateInstances",
            "LatestOperationState": "SUCCESS",
            "Tags": show_tags(&self.tags),
        })
    }

    fn passes(&self, filter: &Filter, now: Timestamp) -> bool {
        let (name, values) = filter;
        let is = |text: &str| values.iter().any(|value| value == text);
        of_tags(&self.tags, filter).unwrap_or_else(|| match name.as_str() {
            "instance-name" => is(&self.name),
            "instance-state" => is(self.state(now)),
            "bundle-id" => is(&self.bundle),
            _ => is(&self.zone),
        })
    }
}

pub(super) fn malformed(id: &str) -> Result<(), ApiError> {
    if id.starts_with("lhins-") {
        return Ok(());
    }
    let message = format!("The instance ID `{id}` is malformed.");
    Err(ApiError::new("InvalidParameterValue.InstanceIdMalformed", message))
}

pub(super) fn not_found(id: &str) -> ApiError {
    let message = format!("The instance ID `{id}` does not exist.");
    ApiError::new("ResourceNotFound.InstanceIdNotFound", message)
}

impl Lighthouse {
    pub(super) fn create_instances(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let Call { now, region, parameters, .. } = call;
        parameters.only(&[
            "BundleId",
            "BlueprintId",
            "InstanceChargePrepaid",
            "InstanceName",
            "InstanceCount",
            "Zones",
            "ClientToken",
            "DryRun",
            "LoginConfiguration",
            "Tags",
            "AutoVoucher",
        ])?;
        let (bundle, blueprint) =
            (parameters.required("BundleId")?, parameters.required("BlueprintId")?);
        let disk_gb = catalog::disk_gb(&bundle).ok_or_else(|| {
            let message = format!("The bundle ID `{bundle}` does not exist.");
            ApiError::new("ResourceNotFound.BundleIdNotFound", message)
        })?;
        let tags = parameters.tags()?;
        let zone = parameters.texts("Zones")?.and_then(|zones| zones.into_iter().next());
        let zone = zone.unwrap_or_else(|| format!("{region}-1"));
        let name = parameters.text("InstanceName")?;
        let mut ids = Vec::new();
        for _ in 0..parameters.number("InstanceCount")?.unwrap_or(1).clamp(1, 15) {
            let (id, disk_id) = (self.id("lhins"), self.id("lhdisk"));
            let instance = Instance {
                id: id.clone(),
                name: name.clone().unwrap_or_else(|| format!("{blueprint}-{}", &id[6..])),
                zone: zone.clone(),
                bundle: bundle.clone(),
                blueprint: blueprint.clone(),
                created_at: *now,
                tags: tags.clone(),
                disk_id,
                disk_gb,
                shutdown_since: None,
            };
            self.at(region).instances.insert(id.clone(), instance);
            ids.push(id);
        }
        Ok(json!({ "InstanceIdSet": ids }))
    }

    pub(super) fn describe_instances(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let Call { now, region, parameters, .. } = call;
        parameters.only(&["InstanceIds", "Filters", "Offset", "Limit"])?;
        let ids = parameters.ids("InstanceIds", 100)?;
        let known = ["instance-name", "instance-state", "bundle-id", "zone"];
        let filters = parameters.filters(&known)?;
        one_of(ids.is_some(), !filters.is_empty(), "InstanceIds")?;
        ids.iter().flatten().try_for_each(|id| malformed(id))?;
        let page_size = self.knobs.page_size;
        let instances = &self.at(region).instances;
        if let Some(id) = ids.iter().flatten().find(|id| !instances.contains_key(*id)) {
            return Err(not_found(id));
        }
        let passes = |one: &&Instance| {
            ids.as_ref().is_none_or(|ids| ids.contains(&one.id))
                && filters.iter().all(|filter| one.passes(filter, *now))
        };
        let mut all: Vec<&Instance> = instances.values().filter(passes).collect();
        // Those that are to be reclaimed come first, then the newest.
        all.sort_by_key(|one| (one.shutdown_since.is_none(), std::cmp::Reverse(one.created_at)));
        let all = all.into_iter().map(|one| one.show(*now)).collect();
        parameters.page("InstanceSet", all, page_size)
    }

    /// The first time an instance is only about to be reclaimed; the second time it is gone.
    pub(super) fn terminate_instances(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["InstanceIds"])?;
        let ids = call.parameters.ids("InstanceIds", 100)?;
        let ids = ids.ok_or_else(|| missing("InstanceIds"))?;
        let outlive = self.knobs.snapshots_outlive_instances;
        let region = self.at(call.region);
        if let Some(id) = ids.iter().find(|id| !region.instances.contains_key(*id)) {
            return Err(not_found(id));
        }
        for id in ids {
            let Some(instance) = region.instances.get_mut(&id) else { continue };
            if instance.shutdown_since.is_none() {
                instance.shutdown_since = Some(call.now);
                continue;
            }
            region.instances.remove(&id);
            if !outlive {
                region.snapshots.retain(|_, snapshot| snapshot.instance_id != id);
            }
        }
        Ok(json!({}))
    }

    pub(super) fn modify_instances(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.parameters.only(&["InstanceIds", "InstanceName"])?;
        let ids = call.parameters.ids("InstanceIds", 100)?;
        let name = call.parameters.required("InstanceName")?;
        for id in ids.ok_or_else(|| missing("InstanceIds"))? {
            let found = self.at(call.region).instances.get_mut(&id);
            found.ok_or_else(|| not_found(&id))?.name.clone_from(&name);
        }
        Ok(json!({}))
    }
}

/// Ids and filters exclude one another.
pub(super) fn one_of(ids: bool, filters: bool, name: &str) -> Result<(), ApiError> {
    if ids && filters {
        let message = format!("{name} and Filters cannot be used together.");
        return Err(ApiError::new("InvalidParameter.ParameterConflict", message));
    }
    Ok(())
}
