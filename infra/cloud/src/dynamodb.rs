//! DynamoDB in process: dynoxide behind a small proxy that can misbehave.
//!
//! dynoxide answers correctly and at once, which is exactly what a ledger must not count on. The
//! proxy in front of it throttles, fails, or loses the answer of a write that took effect, for
//! the next so many requests of an operation; it also counts requests, so that a test can hold
//! "an idle poll never scans" against the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, Uri, header};
use dynoxide::Database;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::server::{Server, end, listen, until_stopped};

/// What can go wrong with the embedded DynamoDB itself.
#[derive(Debug, thiserror::Error)]
pub enum DynamoDbError {
    /// No port to listen on.
    #[error("cannot listen for DynamoDB: {0}")]
    Listen(#[from] std::io::Error),
    /// The database refused.
    #[error("DynamoDB: {0}")]
    Database(#[from] dynoxide::DynoxideError),
    /// The table or an item is not of DynamoDB's form.
    #[error("not of DynamoDB's form: {0}")]
    Request(#[from] serde_json::Error),
}

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused without effect: `ProvisionedThroughputExceededException` (HTTP 400).
    Throttle,
    /// Refused without effect: `InternalServerError` (HTTP 500).
    Fail,
    /// Carried out, but the connection breaks before the answer is through.
    LoseResponse,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    operation: Option<String>,
    left: u32,
}

#[derive(Debug, Default)]
struct Front {
    planned: Vec<Planned>,
    requests: BTreeMap<String, u64>,
}

#[derive(Clone)]
struct Proxy {
    front: Arc<Mutex<Front>>,
    client: Client<HttpConnector, Body>,
    behind: SocketAddr,
}

/// A running DynamoDB; ends with [`DynamoDb::shutdown`] or when dropped.
pub struct DynamoDb {
    database: Database,
    front: Arc<Mutex<Front>>,
    proxy: Server,
    stop: watch::Sender<bool>,
    behind: JoinHandle<()>,
}

impl DynamoDb {
    /// Starts an empty in-memory database behind `listener`, with `clock` as its time.
    pub async fn start(listener: TcpListener, clock: Clock) -> Result<Self, DynamoDbError> {
        let database = Database::memory_with_clock(Arc::new(clock))?;
        // dynoxide keeps its router to itself, so it gets a port of its own behind the proxy.
        let inner = listen(None).await?;
        let address = inner.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let behind = tokio::spawn({
            let (database, stopped) = (database.clone(), until_stopped(stopped));
            async move {
                if let Err(error) =
                    dynoxide::server::serve_with_shutdown(inner, database, stopped).await
                {
                    tracing::error!(%error, "DynamoDB ended");
                }
            }
        });
        let front = Arc::new(Mutex::new(Front::default()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let proxy = Proxy { front: Arc::clone(&front), client, behind: address };
        let app = Router::new().fallback(forward).with_state(proxy);
        let proxy = Server::start("dynamodb", listener, app)?;
        Ok(Self { database, front, proxy, stop, behind })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// The endpoint URL for an SDK.
    #[must_use]
    pub fn url(&self) -> String {
        self.proxy.url()
    }

    /// The database itself, for looking at it past the proxy.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Makes a table from a CreateTable request, with items expiring by `ttl_attribute` if given.
    /// Returns the table's name.
    pub fn create_table(
        &self,
        request: Value,
        ttl_attribute: Option<&str>,
    ) -> Result<String, DynamoDbError> {
        let request: dynoxide::actions::create_table::CreateTableRequest =
            serde_json::from_value(request)?;
        let name = request.table_name.clone();
        self.database.create_table(request)?;
        if let Some(attribute) = ttl_attribute {
            self.database.update_time_to_live(serde_json::from_value(json!({
                "TableName": name,
                "TimeToLiveSpecification": {"AttributeName": attribute, "Enabled": true},
            }))?)?;
        }
        Ok(name)
    }

    /// All items of a table, as DynamoDB writes them.
    pub fn items(&self, table: &str) -> Result<Vec<Value>, DynamoDbError> {
        let (mut items, mut from) = (Vec::new(), Value::Null);
        loop {
            let mut request = json!({"TableName": table});
            if !from.is_null() {
                request["ExclusiveStartKey"] = from;
            }
            let page = self.database.scan(serde_json::from_value(request)?)?;
            let mut page = serde_json::to_value(page)?;
            if let Value::Array(found) = page["Items"].take() {
                items.extend(found);
            }
            from = page["LastEvaluatedKey"].take();
            if from.is_null() {
                return Ok(items);
            }
        }
    }

    /// Puts items into a table.
    pub fn put(&self, table: &str, items: Vec<Value>) -> Result<(), DynamoDbError> {
        for item in items {
            let request = json!({"TableName": table, "Item": item});
            self.database.put_item(serde_json::from_value(request)?)?;
        }
        Ok(())
    }

    /// Deletes what has expired by the simulated clock; returns how many items. AWS does this in
    /// the background, some time within days of the expiry.
    pub fn sweep_ttl(&self) -> Result<usize, DynamoDbError> {
        Ok(self.database.sweep_ttl()?)
    }

    /// Makes the next `requests` requests go wrong: all of them, or those of one `operation`
    /// (`"PutItem"`). Faults planned earlier come first.
    pub fn fault_next(&self, fault: Fault, requests: u32, operation: Option<&str>) {
        let operation = operation.map(str::to_owned);
        lock(&self.front).planned.push(Planned { fault, operation, left: requests });
    }

    /// [`DynamoDb::fault_next`] with [`Fault::Throttle`].
    pub fn throttle_next(&self, requests: u32, operation: Option<&str>) {
        self.fault_next(Fault::Throttle, requests, operation);
    }

    /// [`DynamoDb::fault_next`] with [`Fault::Fail`].
    pub fn fail_next(&self, requests: u32, operation: Option<&str>) {
        self.fault_next(Fault::Fail, requests, operation);
    }

    /// [`DynamoDb::fault_next`] with [`Fault::LoseResponse`].
    pub fn lose_next_response(&self, requests: u32, operation: Option<&str>) {
        self.fault_next(Fault::LoseResponse, requests, operation);
    }

    /// Forgets the faults that are still planned.
    pub fn clear_faults(&self) {
        lock(&self.front).planned.clear();
    }

    /// How many requests of each operation came in so far, those that went wrong included.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, u64> {
        lock(&self.front).requests.clone()
    }

    /// Ends it, within a second or so even if clients keep their connections busy.
    pub async fn shutdown(&mut self) {
        self.proxy.shutdown().await;
        self.stop.send_replace(true);
        end(&mut self.behind).await;
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.behind.abort();
    }
}

fn lock(front: &Mutex<Front>) -> MutexGuard<'_, Front> {
    front.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Front {
    /// Counts a request and takes the fault it is to suffer.
    fn admit(&mut self, operation: &str) -> Option<Fault> {
        *self.requests.entry(operation.to_owned()).or_default() += 1;
        self.planned.retain(|planned| planned.left > 0);
        let planned = self
            .planned
            .iter_mut()
            .find(|planned| planned.operation.as_deref().is_none_or(|name| name == operation))?;
        planned.left -= 1;
        Some(planned.fault)
    }
}

async fn forward(State(proxy): State<Proxy>, mut request: Request) -> Response<Body> {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    let operation = target.and_then(|target| target.split_once('.')).map(|(_, name)| name);
    let fault = operation.and_then(|operation| lock(&proxy.front).admit(operation));
    match fault {
        Some(Fault::Throttle) => {
            let message = "The level of configured provisioned throughput for the table was \
                           exceeded. Consider increasing your provisioning level with the \
                           UpdateTable API.";
            let code = "ProvisionedThroughputExceededException";
            return error(StatusCode::BAD_REQUEST, code, message);
        }
        Some(Fault::Fail) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return error(status, "InternalServerError", "Internal server error");
        }
        Some(Fault::LoseResponse) | None => {}
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri: Result<Uri, _> = format!("http://{}{path}", proxy.behind).parse();
    let Ok(uri) = uri else {
        return error(StatusCode::BAD_REQUEST, "ValidationException", "not a URI");
    };
    *request.uri_mut() = uri;
    match proxy.client.request(request).await {
        Ok(response) if fault == Some(Fault::LoseResponse) => {
            let (mut parts, _) = response.into_parts();
            // The head promises a body of some length and the connection breaks instead, which no
            // client can take for an answer.
            parts.headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from_static("1000"));
            let lost = futures_util::stream::once(async {
                Err::<String, _>(std::io::Error::other("the response is lost on purpose"))
            });
            Response::from_parts(parts, Body::from_stream(lost))
        }
        Ok(response) => response.map(Body::new),
        Err(failure) => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            error(status, "InternalServerError", &failure.to_string())
        }
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": message,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use jiff::SignedDuration;

    use super::*;

    struct Api {
        db: DynamoDb,
        clock: Clock,
        client: Client<HttpConnector, Body>,
    }

    async fn started() -> Api {
        let clock = Clock::stepped("2026-01-01T00:00:00Z".parse().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let db = DynamoDb::start(listener, clock.clone()).await.unwrap();
        let table = json!({
            "TableName": "ledger",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        });
        assert_eq!(db.create_table(table, Some("expires")).unwrap(), "ledger");
        Api { db, clock, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    impl Api {
        /// The answer's status and body, or `None` if it never came through.
        async fn call(&self, operation: &str, body: Value) -> Option<(StatusCode, Value)> {
            let request = axum::http::Request::post(self.db.url())
                .header("content-type", "application/x-amz-json-1.0")
                .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
                .header("x-amz-date", "20260101T000000Z")
                .header(
                    "authorization",
                    "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/dynamodb/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature=0",
                )
                .body(Body::from(body.to_string()))
                .unwrap();
            let response = self.client.request(request).await.ok()?;
            let status = response.status();
            let bytes = response.into_body().collect().await.ok()?.to_bytes();
            Some((status, serde_json::from_slice(&bytes).unwrap()))
        }

        async fn put(&self, key: &str) -> Option<(StatusCode, Value)> {
            let expires = self.clock.now().as_second() + 60;
            let item = json!({"pk": {"S": key}, "expires": {"N": expires.to_string()}});
            self.call("PutItem", json!({"TableName": "ledger", "Item": item})).await
        }

        async fn has(&self, key: &str) -> bool {
            let request = json!({"TableName": "ledger", "Key": {"pk": {"S": key}}});
            let (status, body) = self.call("GetItem", request).await.unwrap();
            assert_eq!(status, StatusCode::OK);
            body.get("Item").is_some()
        }
    }

    #[tokio::test]
    async fn items_expire_by_simulated_time_when_swept() {
        let mut api = started().await;
        assert_eq!(api.put("a").await.unwrap().0, StatusCode::OK);
        assert_eq!(api.db.sweep_ttl().unwrap(), 0);
        api.clock.advance(SignedDuration::from_mins(2));
        assert!(api.has("a").await, "expired items stay until swept");
        assert_eq!(api.db.sweep_ttl().unwrap(), 1);
        assert!(!api.has("a").await);
        assert_eq!(api.db.requests()["GetItem"], 2);
        tokio::time::timeout(Duration::from_secs(3), api.db.shutdown()).await.unwrap();
    }

    #[tokio::test]
    async fn faults_hit_the_next_requests_of_their_operation() {
        let api = started().await;
        api.db.throttle_next(1, Some("PutItem"));
        api.db.fail_next(1, Some("PutItem"));
        api.db.lose_next_response(1, Some("PutItem"));
        assert!(!api.has("a").await, "another operation is not hit");

        let (status, body) = api.put("a").await.unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let code = body["__type"].as_str().unwrap();
        assert!(code.ends_with("#ProvisionedThroughputExceededException"), "{code}");
        assert_eq!(api.put("a").await.unwrap().0, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!api.has("a").await, "a refused write has no effect");

        assert_eq!(api.put("a").await, None, "the answer is lost");
        assert!(api.has("a").await, "but the write took effect");
        assert_eq!(api.put("b").await.unwrap().0, StatusCode::OK);
    }
}
