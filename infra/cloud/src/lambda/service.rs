//! Lambda's own API, as far as people and tools need it to try functions out: Invoke, ListFunctions and
//! GetFunctionConfiguration, over REST-JSON.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{Function, Outcome};
use crate::http::scope_of;

/// The functions that were deployed, which many share.
pub(crate) type Functions = Arc<Mutex<Vec<Function>>>;

const ROOT: &str = "/2015-03-31/functions";

pub(crate) fn router(functions: Functions) -> Router {
    Router::new()
        .route(ROOT, get(list))
        .route(&format!("{ROOT}/"), get(list))
        .route(&format!("{ROOT}/{{name}}/configuration"), get(configuration))
        .route(&format!("{ROOT}/{{name}}/invocations"), post(invoke))
        .with_state(functions)
}

/// An error as the service words it.
struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"Type": "User", "message": self.message, "Message": self.message});
        (self.status, [("x-amzn-errortype", self.kind)], axum::Json(body)).into_response()
    }
}

async fn list(
    State(functions): State<Functions>,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, Refusal> {
    signed(&headers)?;
    let functions = functions.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<Value> = functions.iter().map(describe).collect();
    Ok(axum::Json(json!({ "Functions": all })))
}

async fn configuration(
    State(functions): State<Functions>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<axum::Json<Value>, Refusal> {
    signed(&headers)?;
    Ok(axum::Json(describe(&find(&functions, &name)?)))
}

async fn invoke(
    State(functions): State<Functions>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    signed(&headers)?;
    let function = find(&functions, &name)?;
    let event = match body.is_empty() {
        true => json!({}),
        false => serde_json::from_slice(&body).map_err(|error| Refusal {
            status: StatusCode::BAD_REQUEST,
            kind: "InvalidRequestContentException",
            message: format!("Could not parse request body into json: {error}"),
        })?,
    };
    let kind = headers.get("x-amz-invocation-type").and_then(|kind| kind.to_str().ok());
    if kind == Some("DryRun") {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    if kind == Some("Event") {
        tokio::spawn(async move { drop(function.invoke(event).await) });
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    let (payload, message) = match function.invoke(event).await.outcome {
        Outcome::Success(answer) => return Ok(axum::Json(answer).into_response()),
        Outcome::Error { payload, .. } => (Some(payload), String::new()),
        Outcome::InitError { message } => (None, message),
        Outcome::Crashed { status } => (None, format!("the process ended: {status}")),
        Outcome::TimedOut => (None, "Task timed out".to_owned()),
    };
    let unhandled = json!({"errorType": "Runtime.ExitError", "errorMessage": message});
    let payload = payload.unwrap_or(unhandled);
    Ok(([("x-amz-function-error", "Unhandled")], axum::Json(payload)).into_response())
}

/// By its name, or its ARN.
fn find(functions: &Functions, name: &str) -> Result<Function, Refusal> {
    let functions = functions.lock().unwrap_or_else(PoisonError::into_inner);
    // The last of a name is the one that was deployed last.
    let found = functions.iter().rev().find(|f| f.name() == name || f.arn() == name);
    found.cloned().ok_or_else(|| Refusal {
        status: StatusCode::NOT_FOUND,
        kind: "ResourceNotFoundException",
        message: format!("Function not found: {name}"),
    })
}

fn describe(function: &Function) -> Value {
    let config = &function.shared.config;
    json!({
        "FunctionName": config.name,
        "FunctionArn": config.arn(),
        "Runtime": "provided.al2023",
        "Handler": "bootstrap",
        "Timeout": config.timeout.as_secs(),
        "State": "Active",
        "Environment": {"Variables": config.env},
    })
}

fn signed(headers: &HeaderMap) -> Result<(), Refusal> {
    scope_of(headers, "lambda").map(drop).map_err(|error| Refusal {
        status: StatusCode::FORBIDDEN,
        kind: error.kind,
        message: error.message,
    })
}
