//! The account as the person sees it who tries a deployment out.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_sdk_lightsail::Client;
use aws_sdk_lightsail::types::{InstancePlatform, Tag};
use snapkeep_app::pages;
use snapkeep_app::ports::{Deleter, ErrorKind, Inventory};
use snapkeep_aws::clock::Clock;
use snapkeep_aws::lightsail::{Accounts, LightsailDeleter, LightsailInventory};
use snapkeep_aws::{environment, sdk};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};

use super::SNAPSHOTS;
use crate::{BoxError, operate};

/// What a GB of snapshots costs a month: <https://aws.amazon.com/lightsail/pricing/>.
const SNAPSHOT_GB_MONTH: f64 = 0.05;
/// Hours a month, as prices count.
const MONTH_HOURS: f64 = 730.0;

/// What the instance is made of.
pub(super) struct Plan {
    pub(super) bundle: String,
    blueprint: String,
}

/// The account and Region of the standard AWS variables.
pub(super) struct Account {
    pub(super) sdk: SdkConfig,
    pub(super) region: Place,
    pub(super) zone: String,
    pub(super) clock: Clock,
    client: Client,
    inventory: LightsailInventory,
    deleter: LightsailDeleter,
}

impl Account {
    pub(super) async fn of_environment(zone: Option<&str>) -> Result<Self, BoxError> {
        let vars = environment::vars();
        let filled = |key: &str| vars.get(key).filter(|text| !text.trim().is_empty()).cloned();
        let clock = Clock::from_vars(filled, None)?;
        let sdk = operate::sdk().await?;
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        let region: Place = region.parse()?;
        let nobody_else = Accounts::default();
        Ok(Account {
            zone: zone.map_or_else(|| format!("{region}a"), str::to_owned),
            client: Client::new(&sdk),
            inventory: LightsailInventory::new(&sdk, &nobody_else),
            deleter: LightsailDeleter::new(&sdk, &nobody_else),
            sdk,
            region,
            clock,
        })
    }

    /// The cheapest instance there is, and what an hour of the trial costs, in words.
    pub(super) async fn cheapest(&self) -> Result<(Plan, String), BoxError> {
        let linux = InstancePlatform::LinuxUnix;
        let bundles = self.client.get_bundles().send().await.map_err(|error| sdk::chain(&error))?;
        let bundles = bundles.bundles.unwrap_or_default();
        let bundle = bundles
            .iter()
            .filter(|bundle| bundle.is_active() == Some(true))
            .filter(|bundle| bundle.supported_platforms().contains(&linux))
            // One with IPv6 only would have to be asked for as such.
            .filter(|bundle| bundle.public_ipv4_address_count() != Some(0))
            .min_by(|a, b| {
                let price =
                    |bundle: &aws_sdk_lightsail::types::Bundle| bundle.price().unwrap_or(f32::MAX);
                price(a).total_cmp(&price(b))
            })
            .ok_or("this Region offers no bundle for Linux")?;
        let blueprints =
            self.client.get_blueprints().send().await.map_err(|error| sdk::chain(&error))?;
        let blueprints = blueprints.blueprints.unwrap_or_default();
        let blueprint = blueprints
            .iter()
            .filter(|blueprint| blueprint.is_active() == Some(true))
            .filter(|blueprint| blueprint.platform() == Some(&linux))
            .filter(|blueprint| blueprint.min_power() <= bundle.power())
            .filter(|blueprint| blueprint.r#type().map(|kind| kind.as_str()) == Some("os"))
            .find_map(|blueprint| blueprint.blueprint_id())
            .ok_or("this Region offers no blueprint of Linux")?;
        let id = bundle.bundle_id().unwrap_or_default();
        let month = f64::from(bundle.price().unwrap_or_default());
        let gb = f64::from(bundle.disk_size_in_gb().unwrap_or_default());
        let snapshots =
            f64::from(u8::try_from(SNAPSHOTS).unwrap_or(u8::MAX)) * gb * SNAPSHOT_GB_MONTH;
        let cost = format!(
            "about ${:.3} for each hour that it takes (the bundle is ${month} a month, snapshots at most \
             ${SNAPSHOT_GB_MONTH} for a GB and month)",
            (month + snapshots) / MONTH_HOURS
        );
        Ok((Plan { bundle: id.to_owned(), blueprint: blueprint.to_owned() }, cost))
    }

    pub(super) async fn launch(
        &self,
        name: &str,
        plan: &Plan,
        tags: &[(String, &str)],
    ) -> Result<(), BoxError> {
        let call = self
            .client
            .create_instances()
            .instance_names(name)
            .availability_zone(&self.zone)
            .blueprint_id(&plan.blueprint)
            .bundle_id(&plan.bundle)
            .set_tags(Some(tags.iter().map(|(key, value)| tag(key, value)).collect()));
        call.send().await.map(drop).map_err(|error| sdk::chain(&error).into())
    }

    /// Lightsail asks for an instance by its name alone.
    async fn instance(&self, name: &str) -> Result<Option<Instance>, BoxError> {
        let any = ResourceId(String::new());
        Ok(self.inventory.instance(&self.region, &any, name).await?)
    }

    pub(super) async fn runs(&self, name: &str) -> Result<bool, BoxError> {
        // It may not show at once.
        if self.instance(name).await?.is_none() {
            return Ok(false);
        }
        let state = self.client.get_instance_state().instance_name(name).send().await;
        let state = state.map_err(|error| sdk::chain(&error))?.state;
        Ok(state.and_then(|state| state.name).as_deref() == Some("running"))
    }

    /// Tags an instance or a snapshot.
    pub(super) async fn tag(&self, name: &str, tags: &[(String, &str)]) -> Result<(), BoxError> {
        let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
        let call = self.client.tag_resource().resource_name(name).set_tags(Some(tags));
        call.send().await.map(drop).map_err(|error| sdk::chain(&error).into())
    }

    pub(super) async fn find(&self, snapshot: &str) -> Result<Option<Snapshot>, BoxError> {
        let of = SnapshotRef {
            place: self.region.clone(),
            source: ResourceId(String::new()),
            name: snapshot.to_owned(),
            id: None,
        };
        Ok(self.inventory.look_up(&of).await?.into_iter().next())
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>, BoxError> {
        let page = |token| self.inventory.snapshots(&self.region, token);
        Ok(pages::all("GetInstanceSnapshots", page).await?)
    }

    pub(super) async fn snapshots_of(&self, instance: &str) -> Result<Vec<Snapshot>, BoxError> {
        let mut all = self.snapshots().await?;
        all.retain(|snapshot| snapshot.source_name == instance);
        Ok(all)
    }

    /// The names of all instances and snapshots of the Region.
    pub(super) async fn names(&self) -> Result<BTreeSet<String>, BoxError> {
        let page = |token| self.inventory.instances(&self.region, token);
        let instances = pages::all("GetInstances", page).await?;
        let snapshots = self.snapshots().await?;
        let names = instances.into_iter().map(|instance| instance.name);
        Ok(names.chain(snapshots.into_iter().map(|snapshot| snapshot.name)).collect())
    }

    /// Deletes the instance of this name and its snapshots; how many things there still were.
    pub(super) async fn remove(&self, name: &str) -> Result<usize, BoxError> {
        let (mut left, mut refused) = (0, None);
        // The instance first, so that nobody takes another snapshot of it.
        if self.instance(name).await?.is_some() {
            left += 1;
            let answer = self.client.delete_instance().instance_name(name).send().await;
            refused = answer.err().map(|error| sdk::chain(&error));
        }
        for snapshot in self.snapshots_of(name).await? {
            left += 1;
            match self.deleter.delete(&snapshot.reference(&Capabilities::default())).await {
                Err(error) if error.kind != ErrorKind::NotFound => {
                    refused = Some(error.to_string())
                }
                _ => {}
            }
        }
        refused.map_or(Ok(left), |error| Err(error.into()))
    }
}

fn tag(key: &str, value: &str) -> Tag {
    // An empty value is a key-only tag.
    Tag::builder().key(key).set_value(Some(value.to_owned()).filter(|v| !v.is_empty())).build()
}
