//! The providers that are looked after, as one: each call goes to the provider of its place.
//!
//! Lightsail is the provider without a name. Lighthouse is looked after if `SNAPKEEP_PROVIDERS` names
//! it; what is wrong with its variables fails its own calls only.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_config::SdkConfig;
use futures_util::future::BoxFuture;
use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, Quota, SnapshotRequest,
};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{BadSettings, Provider, Settings};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};
use snapkeep_tencent::client::Client;
use snapkeep_tencent::keys::{KeySource, Keys};
use snapkeep_tencent::settings::{self as tencent, LighthouseSettings};
use snapkeep_tencent::{
    LighthouseCreator, LighthouseDeleter, LighthouseInventory, PROVIDER as LIGHTHOUSE,
};

use crate::lightsail::{Accounts, LightsailCreator, LightsailDeleter, LightsailInventory};
use crate::sdk;

/// The variable that names the providers.
pub const PROVIDERS: &str = "SNAPKEEP_PROVIDERS";
/// Lightsail's name there.
const LIGHTSAIL: &str = "lightsail";

/// The variables that are read here, and not by the core.
#[must_use]
pub fn variables() -> Vec<&'static str> {
    [PROVIDERS].into_iter().chain(tencent::VARIABLES).collect()
}

/// Reads all variables of a function: the core's, and the providers'.
///
/// # Errors
/// When a variable that the function uses is missing or invalid. A provider's own variables fail
/// only the provider's places.
pub fn read_settings(
    vars: &BTreeMap<String, String>,
    function: Function,
) -> Result<(Settings, Providers), BadSettings> {
    let ours = variables();
    let mut cores = vars.clone();
    cores.retain(|key, _| !ours.contains(&key.as_str()));
    let mut settings = Settings::read(&cores, function)?;
    let providers = Providers::read(vars, function);
    providers.apply(&mut settings);
    Ok((settings, providers))
}

/// The providers that the environment names, and Lighthouse's settings if it is one of them.
#[derive(Clone, Debug)]
pub struct Providers {
    lightsail: bool,
    lighthouse: Option<LighthouseSettings>,
    problems: Vec<Finding>,
}

impl Providers {
    /// Reads the variables.
    fn read(vars: &BTreeMap<String, String>, function: Function) -> Self {
        let variable = |key: &str| {
            let text = vars.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let text = variable(PROVIDERS).unwrap_or_else(|| LIGHTSAIL.to_owned());
        let names: Vec<&str> = text.split_ascii_whitespace().collect();
        let unknown = names.iter().find(|name| ![LIGHTSAIL, LIGHTHOUSE].contains(name));
        let problems = unknown.map(|name| {
            let form = format!("{LIGHTSAIL}, {LIGHTHOUSE}, or both with a space between");
            let message = format!(
                "invalid {PROVIDERS}=`{text}`: `{name}` is no provider; expected {form}; no place of it is \
                 served"
            );
            let finding = Finding::new(Code::BadProvider, message).key(PROVIDERS);
            finding.value(text.clone()).fix(format!("set {PROVIDERS} to {form}"))
        });
        let problems: Vec<Finding> = problems.into_iter().collect();
        let lighthouse = names.contains(&LIGHTHOUSE);
        Providers {
            // In doubt, snapshots are taken.
            lightsail: names.contains(&LIGHTSAIL) || !lighthouse,
            lighthouse: lighthouse.then(|| LighthouseSettings::read(variable, function)),
            problems,
        }
    }

    /// Adds the providers to settings that know only the one without a name.
    fn apply(&self, settings: &mut Settings) {
        if !self.lightsail {
            settings.providers.clear();
        }
        settings.problems.extend(self.problems.iter().cloned());
        if let Some(lighthouse) = &self.lighthouse {
            settings.problems.extend(lighthouse.problems.iter().cloned());
            settings.providers.push(Provider {
                name: Some(LIGHTHOUSE),
                regions: lighthouse.regions.clone(),
                regions_variable: tencent::REGIONS,
            });
        }
    }

    /// The variable of an endpoint that is not on this machine, and its value.
    #[must_use]
    pub fn endpoint_elsewhere(&self) -> Option<(&'static str, String)> {
        let endpoint = &self.lighthouse.as_ref()?.endpoint;
        (!endpoint.is_loopback()).then(|| (tencent::ENDPOINT, endpoint.url().to_owned()))
    }

    /// The client of Lighthouse; nothing is called yet.
    fn lighthouse(&self, sdk: &SdkConfig, vars: &BTreeMap<String, String>) -> Other<Client> {
        let Some(settings) = &self.lighthouse else { return Other::Off };
        if let Some(problem) = settings.problems.first() {
            return Other::Broken(problem.message.clone());
        }
        let variable = |key: &str| vars.get(key).filter(|text| !text.is_empty()).cloned();
        let keys: Arc<dyn KeySource> = match (&settings.secret, Keys::of_variables(variable)) {
            (Some(id), _) => {
                let client = aws_sdk_secretsmanager::Client::new(sdk);
                Arc::new(Secret { client, id: id.clone() })
            }
            (None, Ok(Some(keys))) => Arc::new(keys),
            (None, Ok(None)) => Arc::new(format!(
                "there are no keys: set {} to a secret with {}",
                tencent::SECRET,
                snapkeep_tencent::keys::FORM
            )),
            (None, Err(why)) => Arc::new(why),
        };
        Other::On(Client::new(settings.endpoint.clone(), keys, crate::clock::system))
    }
}

/// The keys in a secret of AWS Secrets Manager.
#[derive(Debug)]
struct Secret {
    client: aws_sdk_secretsmanager::Client,
    id: String,
}

impl KeySource for Secret {
    fn read(&self) -> BoxFuture<'_, Result<Keys, String>> {
        Box::pin(async {
            let variable = tencent::SECRET;
            let answer = self.client.get_secret_value().secret_id(&self.id).send().await;
            let secret = answer.map_err(|error| {
                let error = sdk::chain(&error);
                format!("the secret {} of {variable} cannot be read: {error}", self.id)
            })?;
            let text = secret.secret_string().unwrap_or_default();
            Keys::parse(text).map_err(|form| {
                format!("the secret {} of {variable} has no keys of Tencent Cloud: {form}", self.id)
            })
        })
    }
}

/// A provider besides Lightsail.
#[derive(Clone, Debug)]
enum Other<T> {
    /// It is not looked after.
    Off,
    /// Its variables are invalid, for this reason.
    Broken(String),
    /// It is looked after.
    On(T),
}

impl<T> Other<T> {
    fn map<U>(self, make: impl FnOnce(T) -> U) -> Other<U> {
        match self {
            Other::Off => Other::Off,
            Other::Broken(why) => Other::Broken(why),
            Other::On(client) => Other::On(make(client)),
        }
    }

    fn get(&self, operation: &'static str) -> Result<&T, ProviderError> {
        let (code, message) = match self {
            Other::On(client) => return Ok(client),
            Other::Broken(why) => ("BadConfiguration", why.clone()),
            Other::Off => {
                ("NotConfigured", format!("{LIGHTHOUSE} is not among {PROVIDERS}; add it again"))
            }
        };
        Err(ProviderError { kind: ErrorKind::Denied, operation, code: code.to_owned(), message })
    }
}

/// Calls the client of the provider of a place.
macro_rules! to {
    ($self:ident, $provider:expr, $operation:literal, |$client:ident| $call:expr) => {
        match $provider {
            None => {
                let $client = &$self.lightsail;
                $call
            }
            Some(_) => {
                let $client = $self.lighthouse.get($operation)?;
                $call
            }
        }
    };
}

/// Reads what exists at the providers.
#[derive(Clone, Debug)]
pub struct Inventories {
    lightsail: LightsailInventory,
    lighthouse: Other<LighthouseInventory>,
}

/// Creates snapshots at the providers.
#[derive(Clone, Debug)]
pub struct Creators {
    lightsail: LightsailCreator,
    lighthouse: Other<LighthouseCreator>,
}

/// Deletes snapshots at the providers.
#[derive(Clone, Debug)]
pub struct Deleters {
    lightsail: LightsailDeleter,
    lighthouse: Other<LighthouseDeleter>,
}

/// What clients are made of.
#[derive(Clone, Debug)]
pub struct Access {
    sdk: SdkConfig,
    accounts: Accounts,
    /// One client, so that its keys are read once.
    lighthouse: Other<Client>,
}

impl Access {
    /// Access to these providers; nothing is called yet.
    #[must_use]
    pub fn new(
        sdk: &SdkConfig,
        accounts: Accounts,
        providers: &Providers,
        vars: &BTreeMap<String, String>,
    ) -> Self {
        Access { sdk: sdk.clone(), accounts, lighthouse: providers.lighthouse(sdk, vars) }
    }

    /// The client that reads.
    #[must_use]
    pub fn inventories(&self) -> Inventories {
        Inventories {
            lightsail: LightsailInventory::new(&self.sdk, &self.accounts),
            lighthouse: self.lighthouse.clone().map(LighthouseInventory::new),
        }
    }

    /// The client that creates.
    #[must_use]
    pub fn creators(&self) -> Creators {
        Creators {
            lightsail: LightsailCreator::new(&self.sdk, &self.accounts),
            lighthouse: self.lighthouse.clone().map(LighthouseCreator::new),
        }
    }

    /// The client that deletes.
    #[must_use]
    pub fn deleters(&self) -> Deleters {
        Deleters {
            lightsail: LightsailDeleter::new(&self.sdk, &self.accounts),
            lighthouse: self.lighthouse.clone().map(LighthouseDeleter::new),
        }
    }
}

impl Inventory for Inventories {
    async fn regions(&self, provider: Option<&str>) -> Result<Vec<Place>, ProviderError> {
        to!(self, provider, "DescribeRegions", |client| client.regions(provider).await)
    }

    fn places(&self, regions: Vec<Place>) -> Vec<Place> {
        let (theirs, others) = regions.into_iter().partition(|place| place.provider().is_none());
        let mut places = self.lightsail.places(theirs);
        places.extend::<Vec<Place>>(others);
        places
    }

    fn capabilities(&self, place: &Place) -> Capabilities {
        match place.provider() {
            None => self.lightsail.capabilities(place),
            Some(_) => snapkeep_tencent::capabilities(),
        }
    }

    async fn instances(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Instance>, ProviderError> {
        to!(self, place.provider(), "DescribeInstances", |client| {
            client.instances(place, token).await
        })
    }

    async fn instance(
        &self,
        place: &Place,
        id: &ResourceId,
        name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        to!(self, place.provider(), "DescribeInstances", |client| {
            client.instance(place, id, name).await
        })
    }

    async fn snapshots(
        &self,
        place: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        to!(self, place.provider(), "DescribeSnapshots", |client| {
            client.snapshots(place, token).await
        })
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        to!(self, of.place.provider(), "DescribeSnapshots", |client| client.look_up(of).await)
    }

    async fn quota(&self, place: &Place) -> Result<Option<Quota>, ProviderError> {
        to!(self, place.provider(), "DescribeGeneralResourceQuotas", |client| {
            client.quota(place).await
        })
    }
}

impl Creator for Creators {
    async fn create(&self, order: &SnapshotRequest) -> Result<Option<Box<str>>, ProviderError> {
        to!(self, order.place.provider(), "CreateInstanceSnapshot", |client| {
            client.create(order).await
        })
    }
}

impl Deleter for Deleters {
    async fn delete(&self, snapshot: &SnapshotRef) -> Result<(), ProviderError> {
        to!(self, snapshot.place.provider(), "DeleteSnapshots", |client| {
            client.delete(snapshot).await
        })
    }
}
