//! What the `snapkeep` command does at Lightsail with the rights of whoever calls it: it tags,
//! launches from a snapshot, and deletes what it launched. No function has any of it.

use aws_config::SdkConfig;
use aws_sdk_lightsail::{Client, types};
use snapkeep_app::ports::ProviderError;
use snapkeep_domain::place::Place;
use snapkeep_domain::snapshot::Tags;

use super::clients::Clients;
use super::{Accounts, error, mapping};

/// Acts in one place of the caller's own account.
#[derive(Clone, Debug)]
pub struct LightsailOperator {
    client: Client,
    place: Place,
}

/// An instance with what a copy of it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its ARN.
    pub id: String,
    /// Its availability zone.
    pub zone: String,
    /// The bundle: its size.
    pub bundle: String,
    /// The key pair that opens it.
    pub key_pair: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its state, in the provider's word: `pending`, `running`, …
    pub state: String,
    /// Its public IPv4 address.
    pub address: Option<String>,
    /// Whether that address is a static one.
    pub has_static_ip: bool,
    /// The disks that are attached to it besides its own.
    pub disks: Vec<String>,
}

/// A snapshot with what an instance of it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The bundle of the instance that it was taken of.
    pub bundle: Option<String>,
    /// Whether it is available.
    pub available: bool,
    /// Its tags.
    pub tags: Tags,
    /// The names of the attached disks that it has, too.
    pub disks: Vec<String>,
}

/// An instance to launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The name of the snapshot.
    pub snapshot: String,
    /// The name of the instance.
    pub name: String,
    /// The availability zone.
    pub zone: String,
    /// The bundle.
    pub bundle: String,
    /// The key pair; without it the Region's default one.
    pub key_pair: Option<String>,
    /// The tags.
    pub tags: Tags,
}

impl LightsailOperator {
    /// The client for this place; nothing is called yet.
    ///
    /// # Errors
    /// If the place belongs to another account.
    pub fn new(sdk: &SdkConfig, place: &Place) -> Result<Self, ProviderError> {
        // One attempt a call: whoever calls knows what may be repeated.
        let client = Clients::new(sdk, &Accounts::default()).of("CreateClient", place)?;
        Ok(LightsailOperator { client, place: place.clone() })
    }

    /// The instance of this name.
    ///
    /// # Errors
    /// If the provider does not say.
    pub async fn instance(&self, name: &str) -> Result<Option<Machine>, ProviderError> {
        const OPERATION: &str = "GetInstance";
        let answer = self.client.get_instance().instance_name(name).send().await;
        let Some(answer) = error::unless_missing(OPERATION, answer)? else { return Ok(None) };
        let shape = mapping::answered(OPERATION, answer.instance)?;
        let found = mapping::instance(OPERATION, &self.place, &shape)?;
        mapping::same_name(OPERATION, name, &found.name)?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let disks = shape.hardware().map(types::InstanceHardware::disks).unwrap_or_default();
        Ok(Some(Machine {
            id: found.id.0,
            zone: text(shape.location().and_then(types::ResourceLocation::availability_zone)),
            bundle: text(shape.bundle_id()),
            key_pair: shape.ssh_key_name().map(str::to_owned),
            tags: found.tags,
            state: text(shape.state().and_then(types::InstanceState::name)),
            address: shape.public_ip_address().map(str::to_owned),
            has_static_ip: shape.is_static_ip() == Some(true),
            disks: other_disks(disks),
        }))
    }

    /// The snapshot of this name.
    ///
    /// # Errors
    /// If the provider does not say.
    pub async fn snapshot(&self, name: &str) -> Result<Option<Image>, ProviderError> {
        const OPERATION: &str = "GetInstanceSnapshot";
        let call = self.client.get_instance_snapshot().instance_snapshot_name(name);
        let answer = error::unless_missing(OPERATION, call.send().await)?;
        let Some(answer) = answer else { return Ok(None) };
        let shape = mapping::answered(OPERATION, answer.instance_snapshot)?;
        let found = mapping::snapshot(OPERATION, &self.place, &shape)?;
        mapping::same_name(OPERATION, name, &found.name)?;
        Ok(Some(Image {
            bundle: shape.from_bundle_id().map(str::to_owned),
            available: shape.state().is_some_and(|state| state.as_str() == "available"),
            tags: found.tags,
            disks: other_disks(shape.from_attached_disks()),
        }))
    }

    /// Sets one tag of an instance or a snapshot.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub async fn tag(&self, name: &str, key: &str, value: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "TagResource";
        let tags = [(key.to_owned(), value.to_owned())].into();
        let tags = Some(mapping::tags_for(&tags));
        let call = self.client.tag_resource().resource_name(name).set_tags(tags);
        call.send().await.map(drop).map_err(|error| error::provider_error(OPERATION, &error))
    }

    /// Removes one tag of an instance or a snapshot.
    ///
    /// # Errors
    /// If the provider does not remove it.
    pub async fn untag(&self, name: &str, key: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "UntagResource";
        let call = self.client.untag_resource().resource_name(name).tag_keys(key);
        call.send().await.map(drop).map_err(|error| error::provider_error(OPERATION, &error))
    }

    /// What a bundle costs in a month, in dollars; `None` if the Region has none of this id.
    ///
    /// # Errors
    /// If the provider does not say.
    pub async fn price(&self, bundle: &str) -> Result<Option<f64>, ProviderError> {
        const OPERATION: &str = "GetBundles";
        let mut token = None;
        loop {
            let call = self.client.get_bundles().include_inactive(true).set_page_token(token);
            let answer = call.send().await.map_err(|e| error::provider_error(OPERATION, &e))?;
            let mut bundles = answer.bundles().iter();
            if let Some(found) = bundles.find(|one| one.bundle_id() == Some(bundle)) {
                // A price is a decimal number, which a float of 32 bits does not show as such.
                return Ok(found.price().and_then(|price| price.to_string().parse().ok()));
            }
            token = answer.next_page_token;
            if token.is_none() {
                return Ok(None);
            }
        }
    }

    /// The place's first availability zone that is available.
    ///
    /// # Errors
    /// If the provider does not say.
    pub async fn zone(&self) -> Result<Option<String>, ProviderError> {
        const OPERATION: &str = "GetRegions";
        let call = self.client.get_regions().include_availability_zones(true);
        let answer = call.send().await.map_err(|e| error::provider_error(OPERATION, &e))?;
        let own = answer
            .regions()
            .iter()
            .find(|region| region.name().is_some_and(|name| name.as_str() == self.place.region()));
        let zones = own.map(types::Region::availability_zones).unwrap_or_default().iter();
        let mut open = zones.filter(|zone| zone.state().is_none_or(|state| state == "available"));
        Ok(open.find_map(|zone| zone.zone_name().map(str::to_owned)))
    }

    /// Launches an instance from a snapshot.
    ///
    /// # Errors
    /// If the provider does not take it; an indeterminate error may have had the effect.
    pub async fn launch(&self, launch: &Launch) -> Result<(), ProviderError> {
        const OPERATION: &str = "CreateInstancesFromSnapshot";
        let call = self
            .client
            .create_instances_from_snapshot()
            .instance_snapshot_name(&launch.snapshot)
            .instance_names(&launch.name)
            .availability_zone(&launch.zone)
            .bundle_id(&launch.bundle)
            .set_key_pair_name(launch.key_pair.clone())
            .set_tags(Some(mapping::tags_for(&launch.tags)));
        call.send().await.map(drop).map_err(|error| error::provider_error(OPERATION, &error))
    }

    /// Deletes the instance of this name.
    ///
    /// # Errors
    /// If the provider does not take it.
    pub async fn delete_instance(&self, name: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "DeleteInstance";
        let call = self.client.delete_instance().instance_name(name);
        call.send().await.map(drop).map_err(|error| error::provider_error(OPERATION, &error))
    }
}

/// The names of the disks besides the instance's own.
fn other_disks(disks: &[types::Disk]) -> Vec<String> {
    let others = disks.iter().filter(|disk| disk.is_system_disk() != Some(true));
    others.map(|disk| disk.name().or(disk.path()).unwrap_or("a disk").to_owned()).collect()
}
