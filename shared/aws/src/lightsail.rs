//! Lightsail: three clients, split as the IAM rights are, over one SDK client for each Region of
//! each account.
//!
//! The SDK has no paginators for Lightsail: the callers turn the pages. `error` classifies
//! Lightsail's errors, and `mapping` converts its shapes to the core's.

use aws_config::SdkConfig;
use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, SnapshotRequest,
};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};

mod clients;
mod error;
mod mapping;
pub mod operator;
#[cfg(test)]
mod tests;

use self::clients::Clients;
pub use clients::Accounts;
pub use error::classify;
pub(crate) use error::provider_error;

/// Reads what exists at Lightsail.
#[derive(Clone, Debug)]
pub struct LightsailInventory(Clients);

/// Creates snapshots.
#[derive(Clone, Debug)]
pub struct LightsailCreator(Clients);

/// Deletes snapshots.
#[derive(Clone, Debug)]
pub struct LightsailDeleter(Clients);

impl LightsailInventory {
    /// Creates the client for our own account and these accounts; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self(Clients::new(sdk, accounts))
    }
}

impl LightsailCreator {
    /// Creates the client for our own account and these accounts; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self(Clients::new(sdk, accounts))
    }
}

impl LightsailDeleter {
    /// Creates the client for our own account and these accounts; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self(Clients::new(sdk, accounts))
    }
}

impl Inventory for LightsailInventory {
    async fn regions(&self, _provider: Option<&str>) -> Result<Vec<Place>, ProviderError> {
        const OPERATION: &str = "GetRegions";
        let answer = self.0.home(OPERATION)?.get_regions().send().await;
        let answer = answer.map_err(|e| error::provider_error(OPERATION, &e))?;
        let name = |region: &aws_sdk_lightsail::types::Region| {
            let name = region.name().map(|name| name.as_str());
            let name =
                name.ok_or_else(|| mapping::incomplete(OPERATION, "a Region without a name"))?;
            name.parse().map_err(|why: String| mapping::incomplete(OPERATION, &why))
        };
        answer.regions().iter().map(name).collect()
    }

    fn places(&self, regions: Vec<Place>) -> Vec<Place> {
        self.0.places(regions)
    }

    fn capabilities(&self, _place: &Place) -> Capabilities {
        // One namespace of names for each Region, tags from the beginning, deletions at once.
        Capabilities::default()
    }

    async fn instances(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Instance>, ProviderError> {
        const OPERATION: &str = "GetInstances";
        let later = token.is_some();
        let call = self.0.of(OPERATION, place)?.get_instances().set_page_token(token);
        let answer = call.send().await.map_err(|e| error::page_error(OPERATION, later, &e))?;
        let found = answer.instances.unwrap_or_default();
        let elements = found.iter().map(|instance| {
            let found = mapping::instance(OPERATION, place, instance)?;
            self.0.belongs(OPERATION, place, &found.id.0).map(|()| found)
        });
        Ok(page(elements, answer.next_page_token))
    }

    /// Lightsail takes the name alone; the caller compares the id.
    async fn instance(
        &self,
        place: &Place,
        _id: &ResourceId,
        name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        const OPERATION: &str = "GetInstance";
        let answer = self.0.of(OPERATION, place)?.get_instance().instance_name(name).send().await;
        let Some(answer) = error::unless_missing(OPERATION, answer)? else { return Ok(None) };
        let found = mapping::answered(OPERATION, answer.instance)?;
        let found = mapping::instance(OPERATION, place, &found)?;
        mapping::same_name(OPERATION, name, &found.name)?;
        Ok(Some(found))
    }

    async fn snapshots(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        const OPERATION: &str = "GetInstanceSnapshots";
        let later = token.is_some();
        let call = self.0.of(OPERATION, place)?.get_instance_snapshots().set_page_token(token);
        let answer = call.send().await.map_err(|e| error::page_error(OPERATION, later, &e))?;
        let found = answer.instance_snapshots.unwrap_or_default();
        let elements = found.iter().map(|snapshot| {
            let found = mapping::snapshot(OPERATION, place, snapshot)?;
            self.0.belongs(OPERATION, place, &found.id).map(|()| found)
        });
        Ok(page(elements, answer.next_page_token))
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        const OPERATION: &str = "GetInstanceSnapshot";
        let SnapshotRef { place, name, .. } = of;
        let call =
            self.0.of(OPERATION, place)?.get_instance_snapshot().instance_snapshot_name(name);
        let answer = error::unless_missing(OPERATION, call.send().await)?;
        let Some(answer) = answer else { return Ok(Vec::new()) };
        let found = mapping::answered(OPERATION, answer.instance_snapshot)?;
        let found = mapping::snapshot(OPERATION, place, &found)?;
        mapping::same_name(OPERATION, name, &found.name)?;
        Ok(vec![found])
    }
}

impl Creator for LightsailCreator {
    async fn create(&self, order: &SnapshotRequest) -> Result<Option<Box<str>>, ProviderError> {
        const OPERATION: &str = "CreateInstanceSnapshot";
        let call = self
            .0
            .of(OPERATION, &order.place)?
            .create_instance_snapshot()
            .instance_snapshot_name(&order.name)
            .instance_name(&order.instance)
            .set_tags(Some(mapping::tags_for(&order.tags)));
        // The snapshot's own state shows its progress, so the returned operations are not needed.
        call.send().await.map(|_| None).map_err(|e| error::provider_error(OPERATION, &e))
    }
}

impl Deleter for LightsailDeleter {
    async fn delete(&self, snapshot: &SnapshotRef) -> Result<(), ProviderError> {
        const OPERATION: &str = "DeleteInstanceSnapshot";
        let SnapshotRef { place, name, .. } = snapshot;
        let call =
            self.0.of(OPERATION, place)?.delete_instance_snapshot().instance_snapshot_name(name);
        call.send().await.map(drop).map_err(|e| error::provider_error(OPERATION, &e))
    }
}

/// A page of the elements that can be read, and the errors of the others.
fn page<T>(found: impl Iterator<Item = Result<T, ProviderError>>, next: Option<String>) -> Page<T> {
    let mut page = Page { elements: Vec::new(), broken: Vec::new(), next, total: None };
    for element in found {
        match element {
            Ok(element) => page.elements.push(element),
            Err(error) => page.broken.push(error),
        }
    }
    page
}

/// The error for an answer that cannot be trusted; asking again may help.
fn distrust(operation: &'static str, code: &str, message: String) -> ProviderError {
    ProviderError { kind: ErrorKind::Indeterminate, operation, code: code.to_owned(), message }
}
