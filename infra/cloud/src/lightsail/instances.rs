//! Instances, their tags, and their automatic snapshots.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::error::limit_tags;
use super::operations::About;
use super::paging::{Paging, list, page};
use super::shapes::{self, epoch};
use super::{ApiError, Call, Instance, Lightsail, Region, catalog};

/// How long an instance starts.
const STARTING: SignedDuration = SignedDuration::from_secs(20);
/// How many automatic snapshots stay.
const AUTO_KEPT: usize = 7;

pub(super) fn is_starting(instance: &Instance, now: Timestamp) -> bool {
    now < instance.created_at + STARTING
}

/// An automatic snapshot: a function of the add-on's hour and the day, so nothing has to be stored.
struct Auto {
    date: Date,
    begins: Timestamp,
    ends: Timestamp,
}

impl Instance {
    /// The automatic snapshots there are at `now`, the newest first.
    fn autos(&self, now: Timestamp, seconds: u32) -> Vec<Auto> {
        let Some(hour) = self.auto_hour else { return Vec::new() };
        // Somewhere within 45 minutes of the hour: each instance has its own minute.
        let minute = self.arn.bytes().fold(0u32, |sum, byte| sum * 31 % 45 + u32::from(byte)) % 45;
        let today = now.to_zoned(TimeZone::UTC).date();
        let days = std::iter::successors(Some(today), |day| day.yesterday().ok());
        days.take(AUTO_KEPT + 1)
            .filter_map(|date| {
                let civil = date.at(hour, i8::try_from(minute).ok()?, 0, 0);
                let begins = civil.to_zoned(TimeZone::UTC).ok()?.timestamp();
                Some(Auto {
                    date,
                    begins,
                    ends: begins + SignedDuration::from_secs(seconds.into()),
                })
            })
            .filter(|auto| auto.begins <= now && auto.begins >= self.auto_since)
            .take(AUTO_KEPT)
            .collect()
    }

    pub(super) fn auto_in_progress(&self, now: Timestamp, seconds: u32) -> bool {
        self.autos(now, seconds).first().is_some_and(|auto| now < auto.ends)
    }
}

impl Region {
    pub(super) fn check_names(&self, names: &[String]) -> Result<(), ApiError> {
        let mut taken = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            if !(2..=255).contains(&name.len())
                || !name.chars().all(legal)
                || !ends(name.chars().next())
                || !ends(name.chars().last())
            {
                return Err(ApiError::invalid(format!(
                    "`{name}` is not a valid resource name. Resource names must be at least 2 characters \
                     long and contain only alphanumerics, -, _, and ."
                )));
            }
            let known = self.instances.contains_key(name) || self.snapshots.contains_key(name);
            if known || names[..at].contains(name) {
                taken.push(name.as_str());
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let message = format!("Some names are already in use: {}", taken.join(", "));
        Err(ApiError::new("InvalidInputException", "NameExists", message))
    }
}

impl Lightsail {
    pub(super) fn pending_seconds(&self, gb: u32) -> u32 {
        let each = self.knobs.pending_seconds_per_gb.saturating_mul(gb);
        self.knobs.pending_seconds.saturating_add(each)
    }

    pub(super) fn create_instances(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let bundle = call.required("bundleId")?.to_owned();
        let blueprint = call.required("blueprintId")?.to_owned();
        let disk_gb = catalog::disk_gb(&bundle)
            .ok_or_else(|| ApiError::invalid(format!("The bundle id {bundle} is not valid")))?;
        if catalog::is_ipv6_only(&bundle) && call.optional("ipAddressType")? != Some("ipv6") {
            let message = format!("The bundle {bundle} needs the IP address type ipv6");
            return Err(ApiError::invalid(message));
        }
        self.launch(call, &bundle, &blueprint, disk_gb, "CreateInstance")
    }

    pub(super) fn create_from_snapshot(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let bundle = call.required("bundleId")?.to_owned();
        let name = call.required("instanceSnapshotName")?;
        let found = self.at(call.region).snapshots.get(name);
        let snapshot = found.ok_or_else(|| ApiError::missing("InstanceSnapshot", name))?.clone();
        if snapshot.state(call.now) != "available" {
            return Err(ApiError::invalid(format!("The snapshot {name} is not available")));
        }
        let disk_gb = catalog::disk_gb(&bundle)
            .ok_or_else(|| ApiError::invalid(format!("The bundle id {bundle} is not valid")))?;
        if disk_gb < snapshot.size_gb {
            let message = format!("The bundle {bundle} is smaller than the snapshot {name}");
            return Err(ApiError::invalid(message));
        }
        let blueprint = &snapshot.from_blueprint;
        self.launch(call, &bundle, blueprint, disk_gb, "CreateInstancesFromSnapshot")
    }

    fn launch(
        &mut self,
        call: &Call<'_>,
        bundle: &str,
        blueprint: &str,
        disk_gb: u32,
        kind: &'static str,
    ) -> Result<Value, ApiError> {
        let names = call.strings("instanceNames")?;
        let zone = call.required("availabilityZone")?.to_owned();
        if !zone.starts_with(call.region) {
            let message = format!("The availability zone {zone} is not in {}", call.region);
            return Err(ApiError::invalid(message));
        }
        if names.is_empty() {
            return Err(ApiError::invalid("instanceNames must name an instance"));
        }
        let tags = call.tags()?;
        limit_tags(&tags)?;
        let auto_hour = match call.body.get("addOns").and_then(Value::as_array) {
            Some(add_ons) => add_ons.iter().find_map(|add_on| auto_hour(add_on).transpose()),
            None => None,
        }
        .transpose()?;
        self.at(call.region).check_names(&names)?;
        let mut operations = Vec::new();
        for name in names {
            let arn = self.arn(call.region, "Instance");
            let instance = Instance {
                name: name.clone(),
                arn,
                zone: zone.clone(),
                created_at: call.now,
                tags: tags.clone(),
                blueprint: blueprint.to_owned(),
                bundle: bundle.to_owned(),
                disk_gb,
                auto_hour,
                auto_since: call.now,
            };
            self.at(call.region).instances.insert(name.clone(), instance);
            operations.push(self.operation(
                call,
                &About {
                    kind,
                    resource: &name,
                    resource_type: "Instance",
                    zone: &zone,
                    details: "",
                    done_at: call.now + STARTING,
                    failed: false,
                },
            ));
        }
        Ok(json!({ "operations": operations }))
    }

    pub(super) fn instance(
        &mut self,
        call: &Call<'_>,
        member: &str,
    ) -> Result<&mut Instance, ApiError> {
        let name = call.required(member)?;
        let found = self.at(call.region).instances.get_mut(name);
        found.ok_or_else(|| ApiError::missing("Instance", name))
    }

    pub(super) fn get_instance(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let instance = self.instance(call, "instanceName")?;
        Ok(json!({"instance": shapes::instance(instance, call.region, call.now)}))
    }

    pub(super) fn get_instance_state(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let instance = self.instance(call, "instanceName")?;
        Ok(json!({"state": shapes::state(instance, call.now)}))
    }

    pub(super) fn get_instances(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let paging = Paging::new(&self.knobs);
        let instances = self.at(call.region).instances.values();
        let items = instances.map(|i| (i.created_at, i.name.as_str(), i)).collect();
        let (items, token) = page(items, call, &paging)?;
        let show = |i: &Instance| shapes::instance(i, call.region, call.now);
        Ok(list("instances", items.into_iter().map(show).collect(), token))
    }

    pub(super) fn delete_instance(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let instance = self.instance(call, "instanceName")?;
        let (name, zone) = (instance.name.clone(), instance.zone.clone());
        let force = call.body.get("forceDeleteAddOns") == Some(&Value::Bool(true));
        if instance.auto_hour.is_some() && !force {
            return Err(ApiError::invalid(format!(
                "{name} has add-ons; use forceDeleteAddOns to delete them with it"
            )));
        }
        self.at(call.region).instances.remove(&name);
        Ok(json!({"operations": [self.done(call, "DeleteInstance", &name, "Instance", &zone)]}))
    }

    pub(super) fn enable_add_on(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let request = call.body.get("addOnRequest").unwrap_or(&Value::Null);
        let hour = auto_hour(request)?;
        let hour = hour.ok_or_else(|| ApiError::invalid("addOnType must be AutoSnapshot"))?;
        let now = call.now;
        let instance = self.instance(call, "resourceName")?;
        instance.auto_hour = Some(hour);
        instance.auto_since = now;
        let (name, zone) = (instance.name.clone(), instance.zone.clone());
        Ok(json!({"operations": [self.done(call, "EnableAddOn", &name, "Instance", &zone)]}))
    }

    pub(super) fn disable_add_on(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        call.required("addOnType")?;
        let instance = self.instance(call, "resourceName")?;
        instance.auto_hour = None;
        let (name, zone) = (instance.name.clone(), instance.zone.clone());
        Ok(json!({"operations": [self.done(call, "DisableAddOn", &name, "Instance", &zone)]}))
    }

    pub(super) fn get_auto_snapshots(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let instance = self.instance(call, "resourceName")?.clone();
        let seconds = self.pending_seconds(instance.disk_gb);
        let show = |auto: Auto| {
            json!({
                "date": auto.date.to_string(),
                "createdAt": epoch(auto.begins),
                "status": if call.now < auto.ends { "InProgress" } else { "Success" },
                "fromAttachedDisks": [],
            })
        };
        let autos: Vec<Value> = instance.autos(call.now, seconds).into_iter().map(show).collect();
        Ok(
            json!({"resourceName": instance.name, "resourceType": "Instance", "autoSnapshots": autos}),
        )
    }

    pub(super) fn tag_resource(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let (new, name) = (call.tags()?, call.required("resourceName")?.to_owned());
        let tags = self.tags_of(call, &name)?;
        let mut all = tags.clone();
        all.extend(new);
        limit_tags(&all)?;
        *tags = all;
        Ok(json!({"operations": [self.done(call, "TagResource", &name, "Instance", "all")]}))
    }

    pub(super) fn untag_resource(&mut self, call: &Call<'_>) -> Result<Value, ApiError> {
        let (keys, name) = (call.strings("tagKeys")?, call.required("resourceName")?.to_owned());
        self.tags_of(call, &name)?.retain(|key, _| !keys.contains(key));
        Ok(json!({"operations": [self.done(call, "UntagResource", &name, "Instance", "all")]}))
    }

    fn tags_of(&mut self, call: &Call<'_>, name: &str) -> Result<&mut super::Tags, ApiError> {
        let region = self.at(call.region);
        let of_instance = region.instances.get_mut(name).map(|instance| &mut instance.tags);
        let tags = of_instance
            .or_else(|| region.snapshots.get_mut(name).map(|snapshot| &mut snapshot.tags));
        tags.ok_or_else(|| ApiError::missing("Resource", name))
    }

    /// An operation that is over at once.
    pub(super) fn done(
        &mut self,
        call: &Call<'_>,
        kind: &'static str,
        resource: &str,
        resource_type: &'static str,
        zone: &str,
    ) -> Value {
        let done_at = call.now;
        let about =
            About { kind, resource, resource_type, zone, details: "", done_at, failed: false };
        self.operation(call, &about)
    }
}

/// The hour that an add-on request asks for, if it is one for automatic snapshots.
fn auto_hour(request: &Value) -> Result<Option<i8>, ApiError> {
    if request["addOnType"] != "AutoSnapshot" {
        return Ok(None);
    }
    let time = request["autoSnapshotAddOnRequest"]["snapshotTimeOfDay"].as_str().unwrap_or("06:00");
    let hour = time.strip_suffix(":00").filter(|hour| hour.len() == 2);
    let hour = hour.and_then(|hour| hour.parse().ok()).filter(|hour| (0..24).contains(hour));
    hour.map(Some)
        .ok_or_else(|| ApiError::invalid(format!("`{time}` is no time of day in the form HH:00")))
}
