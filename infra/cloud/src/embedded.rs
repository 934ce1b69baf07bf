//! The whole embedded cloud: everything started on loopback, ended together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dynoxide::Database;
use futures_util::future::join_all;
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::accounts::{self, Accounts};
use crate::clock::Clock;
use crate::control;
pub use crate::dynamodb::{DynamoDb, DynamoDbError};
use crate::http::{self, Shared};
use crate::knobs::Knobs;
use crate::lambda::service::{self, Functions};
use crate::lambda::{Function, FunctionConfig, LineSink};
use crate::lightsail::Lightsail;
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
    /// Of DynamoDB.
    pub dynamodb: Option<u16>,
    /// Of the clock.
    pub clock: Option<u16>,
}

/// What to start.
#[derive(Clone, Debug)]
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
        }
    }
}

/// Where a running cloud is found; as JSON, the content of the ready file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The URL of Lightsail, for every Region.
    pub lightsail: String,
    /// The URL of STS, which assumes the roles of the knob `roles`.
    pub sts: String,
    /// The URL of DynamoDB.
    pub dynamodb: String,
    /// The URL of the clock.
    pub clock: String,
    /// The URL of Lambda's API: the clock runs the functions.
    pub lambda: String,
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
    dynamodb: DynamoDb,
    control: Server,
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
        let CloudConfig { clock, region, table, ttl_attribute, ports, knobs } = config;
        let state: Shared = Arc::new(Mutex::new(Lightsail::new(knobs)));
        let accounts = Accounts::new(state.clone());
        let now = clock.clone();
        let lightsail = http::router(accounts.clone(), move || now.now())
            .merge(accounts::router(accounts.clone()));
        // All ports first: nothing runs yet if one of them is taken.
        let at_lightsail = listen(ports.lightsail).await.map_err(failed("Lightsail"))?;
        let at_dynamodb = listen(ports.dynamodb).await.map_err(failed("DynamoDB"))?;
        let at_clock = listen(ports.clock).await.map_err(failed("the clock"))?;
        let dynamodb = DynamoDb::start(at_dynamodb, clock.clone()).await?;
        let table = dynamodb.create_table(table, ttl_attribute.as_deref())?;
        let lightsail =
            Server::start("lightsail", at_lightsail, lightsail).map_err(failed("Lightsail"))?;
        let functions = Functions::default();
        let control = control::router(&clock, state.clone());
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
            dynamodb,
            control,
            sweeper,
            functions,
        })
    }

    /// The simulated time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The Lightsail itself, to look at and to make misbehave.
    #[must_use]
    pub fn lightsail(&self) -> &Shared {
        &self.state
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

    /// Where everything is.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            lightsail: self.lightsail.url(),
            sts: format!("{}/sts", self.lightsail.url()),
            dynamodb: self.dynamodb.url(),
            clock: self.control.url(),
            lambda: self.control.url(),
            table: self.table.clone(),
        }
    }

    /// The environment of a function with these deployment settings that works on this cloud.
    #[must_use]
    pub fn function_env(&self, settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let endpoints = self.endpoints();
        let mut env = settings.clone();
        env.extend(
            [
                ("AWS_ENDPOINT_URL_LIGHTSAIL", endpoints.lightsail.as_str()),
                ("AWS_ENDPOINT_URL_STS", &endpoints.sts),
                ("AWS_ENDPOINT_URL_DYNAMODB", &endpoints.dynamodb),
                ("SNAPKEEP_CLOCK_URL", &endpoints.clock),
                ("SNAPKEEP_LEDGER_TABLE", &endpoints.table),
                // Any will do, but an SDK signs nothing without.
                ("AWS_ACCESS_KEY_ID", "embedded"),
                ("AWS_SECRET_ACCESS_KEY", "embedded"),
                ("AWS_REGION", &self.region),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
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

    /// Ends everything, processes first, within seconds.
    pub async fn shutdown(mut self) {
        self.sweeper.abort();
        let functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        join_all(functions.iter().map(Function::shutdown)).await;
        tokio::join!(self.lightsail.shutdown(), self.control.shutdown(), self.dynamodb.shutdown(),);
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
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};
    use http_body_util::BodyExt;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use serde_json::json;

    use super::*;

    async fn started() -> Cloud {
        let table = json!({
            "TableName": "ledger",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        });
        let clock = Clock::stepped("2026-01-01T00:00:00Z".parse().unwrap());
        let mut config = CloudConfig::new(clock, table);
        config.ttl_attribute = Some("expires".to_owned());
        Cloud::start(config).await.unwrap()
    }

    async fn call(method: Method, url: String, body: &str) -> (u16, String) {
        let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
        let request =
            Request::builder().method(method).uri(url).body(Body::from(body.to_owned())).unwrap();
        let response = client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn all_of_it_answers_and_ends() {
        let cloud = started().await;
        let endpoints = cloud.endpoints();
        let written = serde_json::to_value(&endpoints).unwrap();
        let keys: Vec<_> = written.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["clock", "dynamodb", "lambda", "lightsail", "sts", "table"]);

        let clock = |path: &str| format!("{}{path}", endpoints.clock);
        let time = |text: &str| (200, text.to_owned());
        assert_eq!(call(Method::GET, clock("/"), "").await, time("2026-01-01T00:00:00Z"));
        let moved = call(Method::POST, clock("/advance"), "90").await;
        assert_eq!(moved, time("2026-01-01T00:01:30Z"));
        assert_eq!(call(Method::POST, clock("/advance"), "soon").await.0, 400);
        let turned = call(Method::PUT, clock("/knobs"), r#"{"page_size": 3}"#).await;
        assert!(turned.0 == 200 && turned.1.contains(r#""page_size":3"#), "{turned:?}");
        assert_eq!(http::lock(cloud.lightsail()).knobs.page_size, 3);
        for bad in ["3", r#"{"page_sise": 3}"#, r#"{"page_size": "many"}"#] {
            assert_eq!(call(Method::PUT, clock("/knobs"), bad).await.0, 400, "{bad}");
        }
        assert_eq!(call(Method::GET, clock("/knobs"), "").await, turned);
        assert_eq!(call(Method::POST, endpoints.lightsail.clone(), "{}").await.0, 403);
        assert_eq!(call(Method::GET, endpoints.dynamodb.clone(), "").await.0, 200);
        cloud.clock().set("2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(call(Method::GET, clock("/"), "").await, time("2026-01-01T00:00:00Z"));

        tokio::time::timeout(Duration::from_secs(5), cloud.shutdown()).await.unwrap();
        for url in [endpoints.lightsail, endpoints.dynamodb, endpoints.clock] {
            let address = url.trim_start_matches("http://").to_owned();
            assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_said_and_functions_get_the_cloud() {
        let cloud = started().await;
        let settings = BTreeMap::from([("SNAPKEEP_KEEP".to_owned(), "7d".to_owned())]);
        let env = cloud.function_env(&settings);
        assert_eq!(env["SNAPKEEP_KEEP"], "7d");
        assert_eq!(env["SNAPKEEP_LEDGER_TABLE"], "ledger");
        assert_eq!(env["SNAPKEEP_CLOCK_URL"], cloud.endpoints().clock);

        let script = r#"
import json, os, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    id = http.urlopen(api + "next").headers["Lambda-Runtime-Aws-Request-Id"]
    now = http.urlopen(os.environ["SNAPKEEP_CLOCK_URL"]).read().decode()
    http.urlopen(api + id + "/response", json.dumps(now).encode())
"#;
        let mut config = FunctionConfig::new("now", "python3");
        config.args = ["-S", "-E", "-c", script].map(str::to_owned).to_vec();
        let function = cloud.deploy(config, None);
        let invocation = function.invoke(json!({})).await;
        assert_eq!(invocation.outcome.success(), Some(&json!("2026-01-01T00:00:00Z")));

        let port = cloud.endpoints().clock.rsplit(':').next().unwrap().parse().unwrap();
        let mut config = CloudConfig::new(Clock::real(), json!({}));
        config.ports.clock = Some(port);
        let refused = Cloud::start(config).await;
        assert!(refused.err().unwrap().to_string().starts_with("cannot listen for the clock"));
        cloud.shutdown().await;
        let after = function.invoke(json!({})).await;
        assert!(after.outcome.is_failure());
    }
}
