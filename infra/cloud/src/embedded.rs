//! The whole embedded cloud: everything started on loopback, ended together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dynoxide::Database;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::accounts::{self, Accounts};
use crate::clock::Clock;
use crate::control;
pub use crate::dynamodb::{DynamoDb, DynamoDbError};
use crate::events::{EventRule, Events, wire};
use crate::http::{self, Shared};
use crate::knobs::Knobs;
use crate::lambda::service::{self, Functions};
use crate::lambda::{Function, FunctionConfig, LineSink};
use crate::lighthouse::knobs::LighthouseKnobs;
use crate::lighthouse::{self, Lighthouse};
use crate::lightsail::{ACCOUNT, Lightsail};
use crate::secrets::{self, Secrets};
use crate::server::{Server, listen};

/// How often expired items go, in simulated time; AWS promises only "within days".
const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// But not more often than this in real time, however fast the clock.
const SWEEP_PAUSE: Duration = Duration::from_millis(200);

/// Why the cloud did not start.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// A port is taken, or there is none.
    #[error("cannot listen for {service}: {source}")]
    Listen {
        /// Which part of the cloud.
        service: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// DynamoDB did not start, or refused the table.
    #[error(transparent)]
    DynamoDb(#[from] DynamoDbError),
}

/// The ports to listen on; a free one where none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Of Lightsail.
    pub lightsail: Option<u16>,
    /// Of Lighthouse.
    pub lighthouse: Option<u16>,
    /// Of DynamoDB.
    pub dynamodb: Option<u16>,
    /// Of the clock.
    pub clock: Option<u16>,
    /// Of the event bus and the topic.
    pub events: Option<u16>,
}

/// What to start.
#[derive(Debug)]
pub struct CloudConfig {
    /// The simulated time.
    pub clock: Clock,
    /// The Region that functions run in. Lightsail serves them all.
    pub region: String,
    /// The CreateTable request of the ledger's table.
    pub table: Value,
    /// The attribute by which the table's items expire.
    pub ttl_attribute: Option<String>,
    /// Where to listen.
    pub ports: Ports,
    /// Faults, limits and unknowns of the embedded Lightsail.
    pub knobs: Knobs,
    /// Those of the embedded Lighthouse.
    pub lighthouse_knobs: LighthouseKnobs,
    /// Which events on the bus invoke which function.
    pub event_rules: Vec<EventRule>,
    /// What an earlier cloud left: its accounts with their knobs, and its ledger. Its time is the caller's to
    /// set.
    pub saved: Option<Saved>,
}

/// What outlives a restart: everything that was made, and the ledger. Notices, calls and operations are
/// forgotten.
#[derive(Debug, Serialize, Deserialize)]
pub struct Saved {
    /// The simulated time.
    pub at: Timestamp,
    accounts: BTreeMap<String, Lightsail>,
    #[serde(default)]
    lighthouse: Option<Lighthouse>,
    items: Vec<Value>,
}

impl CloudConfig {
    /// A cloud in us-east-1, on free ports, with a table whose items do not expire.
    #[must_use]
    pub fn new(clock: Clock, table: Value) -> Self {
        Self {
            clock,
            region: "us-east-1".to_owned(),
            table,
            ttl_attribute: None,
            ports: Ports::default(),
            knobs: Knobs::default(),
            lighthouse_knobs: LighthouseKnobs::default(),
            event_rules: Vec::new(),
            saved: None,
        }
    }
}

/// Where a running cloud is found; as JSON, the content of the ready file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The URL of Lightsail, for every Region.
    pub lightsail: String,
    /// The URL of Tencent Cloud Lighthouse, for every Region.
    pub lighthouse: String,
    /// The URL of STS, which assumes the roles of the knob `roles`.
    pub sts: String,
    /// The URL of DynamoDB.
    pub dynamodb: String,
    /// The URL of the clock.
    pub clock: String,
    /// The URL of Lambda's API: the clock runs the functions.
    pub lambda: String,
    /// The URL of EventBridge's PutEvents and of SNS's Publish.
    pub events: String,
    /// The URL of Secrets Manager.
    pub secrets: String,
    /// The name of the ledger's table.
    pub table: String,
}

/// A running cloud. Everything in it ends with [`Cloud::shutdown`], or when it is dropped.
pub struct Cloud {
    clock: Clock,
    state: Shared,
    accounts: Accounts,
    region: String,
    table: String,
    lightsail: Server,
    lighthouse_state: lighthouse::Shared,
    lighthouse: Server,
    dynamodb: DynamoDb,
    control: Server,
    events: Events,
    bus: Server,
    secrets: Secrets,
    secrets_server: Server,
    sweeper: JoinHandle<()>,
    functions: Functions,
}

impl Cloud {
    /// Starts everything; returns when all of it answers.
    ///
    /// # Errors
    /// When a port is taken, or the table cannot be made.
    pub async fn start(config: CloudConfig) -> Result<Self, CloudError> {
        let failed = |service| move |source| CloudError::Listen { service, source };
        let CloudConfig { clock, region, table, ttl_attribute, ports, knobs, .. } = config;
        let CloudConfig { lighthouse_knobs, event_rules, saved, .. } = config;
        let (mut others, lighthouse, items) = saved
            .map_or_else(Default::default, |saved| (saved.accounts, saved.lighthouse, saved.items));
        let lighthouse = lighthouse.unwrap_or_else(|| Lighthouse::new(lighthouse_knobs));
        let lighthouse_state: lighthouse::Shared = Arc::new(Mutex::new(lighthouse));
        let home = others.remove(ACCOUNT).unwrap_or_else(|| Lightsail::new(knobs));
        let state: Shared = Arc::new(Mutex::new(home));
        let accounts = Accounts::new(state.clone());
        others.into_iter().for_each(|(account, of)| accounts.restore(account, of));
        let now = clock.clone();
        let lightsail = http::router(accounts.clone(), move || now.now())
            .merge(accounts::router(accounts.clone()));
        // All ports first: nothing runs yet if one of them is taken.
        let at_lightsail = listen(ports.lightsail).await.map_err(failed("Lightsail"))?;
        let at_lighthouse = listen(ports.lighthouse).await.map_err(failed("Lighthouse"))?;
        let at_dynamodb = listen(ports.dynamodb).await.map_err(failed("DynamoDB"))?;
        let at_clock = listen(ports.clock).await.map_err(failed("the clock"))?;
        let at_bus = listen(ports.events).await.map_err(failed("the event bus"))?;
        let dynamodb = DynamoDb::start(at_dynamodb, clock.clone()).await?;
        let table = dynamodb.create_table(table, ttl_attribute.as_deref())?;
        dynamodb.put(&table, items)?;
        let lightsail =
            Server::start("lightsail", at_lightsail, lightsail).map_err(failed("Lightsail"))?;
        let served = lighthouse::wire::router(lighthouse_state.clone(), clock.clone());
        let lighthouse =
            Server::start("lighthouse", at_lighthouse, served).map_err(failed("Lighthouse"))?;
        let secrets = Secrets::default();
        let at_secrets = listen(None).await.map_err(failed("Secrets Manager"))?;
        let served = secrets::router(secrets.clone());
        let secrets_server =
            Server::start("secrets", at_secrets, served).map_err(failed("Secrets Manager"))?;
        let functions = Functions::default();
        let events = Events::new(event_rules);
        let bus = wire::router(events.clone(), clock.clone());
        let bus = Server::start("events", at_bus, bus).map_err(failed("the event bus"))?;
        let control =
            control::router(&clock, accounts.clone(), lighthouse_state.clone(), events.clone());
        let control = control.merge(service::router(functions.clone()));
        let control = Server::start("clock", at_clock, control).map_err(failed("the clock"))?;
        let sweeper = tokio::spawn(sweep(clock.clone(), dynamodb.database().clone()));
        Ok(Self {
            clock,
            state,
            accounts,
            region,
            table,
            lightsail,
            lighthouse_state,
            lighthouse,
            dynamodb,
            control,
            events,
            bus,
            secrets,
            secrets_server,
            sweeper,
            functions,
        })
    }

    /// The simulated time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Turns the knobs of the first account.
    pub fn turn(&self, knobs: Knobs) {
        http::lock(&self.state).knobs = knobs;
    }

    /// The Lightsail itself, to look at and to make misbehave.
    #[must_use]
    pub fn lightsail(&self) -> &Shared {
        &self.state
    }

    /// The Lighthouse itself, to look at and to make misbehave.
    #[must_use]
    pub fn lighthouse(&self) -> &lighthouse::Shared {
        &self.lighthouse_state
    }

    /// The secrets of Secrets Manager.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The other accounts, which roles lead to.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The ledger's DynamoDB, to look at and to make misbehave.
    #[must_use]
    pub fn dynamodb(&self) -> &DynamoDb {
        &self.dynamodb
    }

    /// The event bus and the topic: what was published, and what that is to invoke.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Where everything is.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            lightsail: self.lightsail.url(),
            lighthouse: self.lighthouse.url(),
            sts: format!("{}/sts", self.lightsail.url()),
            dynamodb: self.dynamodb.url(),
            clock: self.control.url(),
            lambda: self.control.url(),
            events: self.bus.url(),
            secrets: self.secrets_server.url(),
            table: self.table.clone(),
        }
    }

    /// The environment of a function with these settings, by which it finds this cloud instead of AWS.
    #[must_use]
    pub fn function_env(&self, settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let endpoints = self.endpoints();
        let mut env = settings.clone();
        env.extend(
            [
                ("AWS_ENDPOINT_URL_LIGHTSAIL", endpoints.lightsail.as_str()),
                ("AWS_ENDPOINT_URL_STS", &endpoints.sts),
                ("AWS_ENDPOINT_URL_DYNAMODB", &endpoints.dynamodb),
                // Any will do, but an SDK signs nothing without.
                ("AWS_ACCESS_KEY_ID", "embedded"),
                ("AWS_SECRET_ACCESS_KEY", "embedded"),
                ("AWS_REGION", &self.region),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        // Who is told may well be elsewhere.
        env.entry("AWS_ENDPOINT_URL_SECRETS_MANAGER".to_owned())
            .or_insert_with(|| endpoints.secrets.clone());
        for name in ["AWS_ENDPOINT_URL_EVENTBRIDGE", "AWS_ENDPOINT_URL_SNS"] {
            env.entry(name.to_owned()).or_insert_with(|| endpoints.events.clone());
        }
        env
    }

    /// Deploys a function: `config` with [`Cloud::function_env`] of its own environment. Its
    /// processes end with the cloud.
    pub fn deploy(&self, mut config: FunctionConfig, sink: Option<LineSink>) -> Function {
        config.env = self.function_env(&config.env);
        let function = match sink {
            Some(sink) => Function::with_sink(config, sink),
            None => Function::new(config),
        };
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        functions.push(function.clone());
        function
    }

    /// Everything that is to outlive a restart, as JSON of a [`Saved`]. Lightsail waits meanwhile, so that the
    /// ledger never says that something was made that is not there.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn save(&self) -> Result<Value, DynamoDbError> {
        let all = self.accounts.all();
        let all: BTreeMap<_, _> = all.iter().map(|(id, of)| (id, http::lock(of))).collect();
        let accounts: BTreeMap<_, &Lightsail> = all.iter().map(|(id, of)| (*id, &**of)).collect();
        let lighthouse = lighthouse::wire::lock(&self.lighthouse_state);
        let items = self.dynamodb.items(&self.table)?;
        let at = self.clock.now();
        Ok(serde_json::json!({
            "at": at,
            "accounts": accounts,
            "lighthouse": &*lighthouse,
            "items": items,
        }))
    }

    /// Ends everything, processes first, within seconds.
    pub async fn shutdown(mut self) {
        self.sweeper.abort();
        let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(functions.iter().map(Function::shutdown)).await;
        tokio::join!(
            self.lightsail.shutdown(),
            self.lighthouse.shutdown(),
            self.control.shutdown(),
            self.bus.shutdown(),
            self.secrets_server.shutdown(),
            self.dynamodb.shutdown(),
        );
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// Deletes expired items as time passes, since dynoxide does not by itself.
async fn sweep(clock: Clock, database: Database) {
    loop {
        let next = clock.now().saturating_add(SWEEP_EVERY).unwrap_or_else(|_| clock.now());
        clock.until(next).await;
        let database = database.clone();
        // SQLite blocks.
        match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "expired items stay for now"),
            Err(_) => return,
        }
        tokio::time::sleep(SWEEP_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
