//! Lightsail: three clients, split as IAM is, over one SDK client for each Region of each account.
//!
//! The SDK has no paginators for Lightsail, so `paging` turns pages by hand; `error` classifies
//! its errors and `mapping` turns its shapes into the core's. A list is complete or an error.

use aws_config::SdkConfig;
use snapkeep_app::ports::{Creator, Deleter, ErrorKind, Inventory, Order, ProviderError};
use snapkeep_domain::snapshot::{Instance, Snapshot};

mod clients;
mod error;
mod mapping;
mod paging;
#[cfg(test)]
mod tests;

use self::clients::Clients;
pub use clients::Accounts;
pub use error::classify;
pub(crate) use error::provider_error;

/// Reads what exists.
#[derive(Clone, Debug)]
pub struct LightsailInventory(Clients);

/// Makes snapshots.
#[derive(Clone, Debug)]
pub struct LightsailCreator(Clients);

/// Deletes snapshots.
#[derive(Clone, Debug)]
pub struct LightsailDeleter(Clients);

impl LightsailInventory {
    /// Of our own account and of these; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self(Clients::new(sdk, accounts))
    }
}

impl LightsailCreator {
    /// Of our own account and of these; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self(Clients::new(sdk, accounts))
    }
}

impl LightsailDeleter {
    /// Of our own account and of these; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self(Clients::new(sdk, accounts))
    }
}

impl Inventory for LightsailInventory {
    async fn regions(&self) -> Result<Vec<String>, ProviderError> {
        const OPERATION: &str = "GetRegions";
        let answer = self.0.home(OPERATION)?.get_regions().send().await;
        let answer = answer.map_err(|e| error::provider_error(OPERATION, &e))?;
        let name = |region: &aws_sdk_lightsail::types::Region| {
            let name = region.name().map(|name| name.as_str().to_owned());
            name.ok_or_else(|| mapping::incomplete(OPERATION, "a Region without a name"))
        };
        answer.regions().iter().map(name).collect()
    }

    fn places(&self, regions: Vec<String>) -> Vec<String> {
        self.0.places(regions)
    }

    async fn instances(&self, region: &str) -> Result<Vec<Instance>, ProviderError> {
        const OPERATION: &str = "GetInstances";
        let client = self.0.of(OPERATION, region)?;
        let fetch = |token: Option<String>| {
            let call = client.get_instances().set_page_token(token);
            async move {
                let answer = call.send().await.map_err(|e| error::provider_error(OPERATION, &e))?;
                Ok((answer.instances.unwrap_or_default(), answer.next_page_token))
            }
        };
        let found = paging::all(OPERATION, fetch).await?;
        let found = found.iter().map(|instance| {
            let found = mapping::instance(OPERATION, region, instance)?;
            self.0.belongs(OPERATION, region, &found.id.0).map(|()| found)
        });
        mapping::unique(found, |instance| instance.id.0.clone())
    }

    async fn instance(&self, region: &str, name: &str) -> Result<Option<Instance>, ProviderError> {
        const OPERATION: &str = "GetInstance";
        let answer = self.0.of(OPERATION, region)?.get_instance().instance_name(name).send().await;
        let Some(answer) = error::unless_missing(OPERATION, answer)? else { return Ok(None) };
        let found = mapping::answered(OPERATION, answer.instance)?;
        let found = mapping::instance(OPERATION, region, &found)?;
        mapping::same_name(OPERATION, name, &found.name)?;
        Ok(Some(found))
    }

    async fn snapshots(&self, region: &str) -> Result<Vec<Snapshot>, ProviderError> {
        const OPERATION: &str = "GetInstanceSnapshots";
        let client = self.0.of(OPERATION, region)?;
        let fetch = |token: Option<String>| {
            let call = client.get_instance_snapshots().set_page_token(token);
            async move {
                let answer = call.send().await.map_err(|e| error::provider_error(OPERATION, &e))?;
                Ok((answer.instance_snapshots.unwrap_or_default(), answer.next_page_token))
            }
        };
        let found = paging::all(OPERATION, fetch).await?;
        let found = found.iter().map(|snapshot| {
            let found = mapping::snapshot(OPERATION, region, snapshot)?;
            self.0.belongs(OPERATION, region, &found.id).map(|()| found)
        });
        mapping::unique(found, |snapshot| snapshot.id.clone())
    }

    async fn snapshot(&self, region: &str, name: &str) -> Result<Option<Snapshot>, ProviderError> {
        const OPERATION: &str = "GetInstanceSnapshot";
        let call =
            self.0.of(OPERATION, region)?.get_instance_snapshot().instance_snapshot_name(name);
        let answer = error::unless_missing(OPERATION, call.send().await)?;
        let Some(answer) = answer else { return Ok(None) };
        let found = mapping::answered(OPERATION, answer.instance_snapshot)?;
        let found = mapping::snapshot(OPERATION, region, &found)?;
        mapping::same_name(OPERATION, name, &found.name)?;
        Ok(Some(found))
    }
}

impl Creator for LightsailCreator {
    async fn create(&self, order: &Order) -> Result<(), ProviderError> {
        const OPERATION: &str = "CreateInstanceSnapshot";
        let call = self
            .0
            .of(OPERATION, &order.region)?
            .create_instance_snapshot()
            .instance_snapshot_name(&order.name)
            .instance_name(&order.instance)
            .set_tags(Some(mapping::tags_for(&order.tags)));
        // The snapshot's own state tells how it went on, so the operations returned are not needed.
        call.send().await.map(drop).map_err(|e| error::provider_error(OPERATION, &e))
    }
}

impl Deleter for LightsailDeleter {
    async fn delete(&self, region: &str, name: &str) -> Result<(), ProviderError> {
        const OPERATION: &str = "DeleteInstanceSnapshot";
        let call =
            self.0.of(OPERATION, region)?.delete_instance_snapshot().instance_snapshot_name(name);
        call.send().await.map(drop).map_err(|e| error::provider_error(OPERATION, &e))
    }
}

/// An answer that cannot be trusted: asking again may help, believing it may not.
fn distrust(operation: &'static str, code: &str, message: String) -> ProviderError {
    ProviderError { kind: ErrorKind::Indeterminate, operation, code: code.to_owned(), message }
}
