//! The HTTP side of the Lambda Runtime API for one instance.
//!
//! One listener an instance, as on AWS, where each runs in a sandbox of its own: the process needs
//! no identity on the wire. What it says goes to the invocation that is waiting for it.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// Lambda's limit of a synchronous response, and a little for the error's own JSON.
const LARGEST_BODY: usize = 6 * 1024 * 1024 + 1024;

/// What a process says over its API.
#[derive(Debug)]
pub(super) enum Said {
    /// It asks for an event.
    AskedNext,
    /// Its answer to the event.
    Response(Bytes),
    /// The event's handling failed.
    Error { error_type: Option<String>, body: Bytes },
    /// It could not get ready.
    InitError { error_type: Option<String>, body: Bytes },
}

/// An event on its way to the process.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) request_id: String,
    pub(super) deadline_ms: u64,
    pub(super) arn: String,
    pub(super) event: String,
}

#[derive(Clone)]
struct Api {
    said: mpsc::UnboundedSender<Said>,
    deliveries: Arc<AsyncMutex<mpsc::UnboundedReceiver<Delivery>>>,
    /// The request the process has in hand; an answer to any other is refused.
    current: Arc<Mutex<Option<String>>>,
}

pub(super) fn router(
    said: mpsc::UnboundedSender<Said>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
) -> Router {
    let deliveries = Arc::new(AsyncMutex::new(deliveries));
    let api = Api { said, deliveries, current: Arc::default() };
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(api)
}

async fn next(State(api): State<Api>) -> Response {
    let _ = api.said.send(Said::AskedNext);
    // Cancelled with the connection, an event that is not yet taken stays in the channel.
    let Some(delivery) = api.deliveries.lock().await.recv().await else {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "Shutdown", "the instance ends");
    };
    let trace = format!(
        "Root=1-{:08x}-{:.24};Sampled=0",
        delivery.deadline_ms / 1000,
        delivery.request_id.replace('-', "")
    );
    api.set_current(Some(delivery.request_id.clone()));
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", delivery.request_id),
        ("lambda-runtime-deadline-ms", delivery.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", delivery.arn),
        ("lambda-runtime-trace-id", trace),
    ];
    (headers, delivery.event).into_response()
}

async fn response(State(api): State<Api>, Path(id): Path<String>, body: Bytes) -> Response {
    api.accept(&id, Said::Response(body))
}

async fn error(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    api.accept(&id, Said::Error { error_type: error_type(&headers), body })
}

async fn init_error(State(api): State<Api>, headers: HeaderMap, body: Bytes) -> Response {
    let _ = api.said.send(Said::InitError { error_type: error_type(&headers), body });
    accepted()
}

impl Api {
    fn accept(&self, id: &str, said: Said) -> Response {
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.as_deref() != Some(id) {
                let message = format!("{id} is not being handled");
                return refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", &message);
            }
            *current = None;
        }
        // Sent before the process gets its reply: it cannot have exited yet because of it.
        let _ = self.said.send(said);
        accepted()
    }

    fn set_current(&self, id: Option<String>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }
}

fn error_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("lambda-runtime-function-error-type")?;
    value.to_str().ok().map(str::to_owned)
}

fn accepted() -> Response {
    let kind = [("content-type", "application/json")];
    (StatusCode::ACCEPTED, kind, r#"{"status":"OK"}"#).into_response()
}

fn refuse(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = json!({"errorType": error_type, "errorMessage": message});
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}
