//! The wire on the embedded Lightsail: awsJson1_1 over HTTP, signed in form.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::accounts::Accounts;
use crate::knobs::ErrorForm;
use crate::lightsail::{Answer, ApiError, Lightsail};

const TARGET: &str = "Lightsail_20161128.";
/// Longest request: an instance's user data is 16 KB, so this is plenty.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A Lightsail that many share.
pub type Shared = Arc<Mutex<Lightsail>>;

/// Takes the lock; what a panicking holder left is still a Lightsail.
pub fn lock(shared: &Shared) -> MutexGuard<'_, Lightsail> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Service<N> {
    accounts: Accounts,
    now: N,
    /// How many requests there were.
    count: Arc<AtomicU64>,
}

/// The service on `POST /`; whose it is says the access key.
pub fn router<N>(accounts: Accounts, now: N) -> Router
where
    N: Fn() -> Timestamp + Clone + Send + Sync + 'static,
{
    Router::new()
        .route("/", post(handle::<N>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Service { accounts, now, count: Arc::default() })
}

async fn handle<N>(State(service): State<Service<N>>, headers: HeaderMap, body: Bytes) -> Response
where
    N: Fn() -> Timestamp + Clone + Send + Sync + 'static,
{
    // The effect is at once, and the lock is free again; only the answer waits.
    let (mut response, wait) = answer(&service.accounts, (service.now)(), &headers, &body);
    let count = service.count.fetch_add(1, Ordering::Relaxed);
    let id = format!("00000000-0000-4000-8000-{:012x}", count + 1);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The answer to a call, and how long it takes in real time.
fn answer(
    accounts: &Accounts,
    now: Timestamp,
    headers: &HeaderMap,
    body: &[u8],
) -> (Response, Duration) {
    let signed = scope_of(headers, "lightsail");
    let caller = signed.as_ref().map_or("", |scope| &scope.access_key);
    let shared = accounts.of_caller(caller);
    let mut lightsail = lock(&shared);
    let (form, not_found) = (lightsail.knobs.error_form, lightsail.knobs.not_found_status);
    let mut wait = Duration::ZERO;
    let answer = signed.and_then(|scope| {
        let operation = operation_of(headers, TARGET)?;
        wait = lightsail.knobs.latency_of(&scope.region, &operation);
        lightsail.admit(Instant::now(), &scope.region, &operation)?;
        let body = read_json(body)?;
        lightsail.call(now, &scope.region, &operation, &body)
    });
    drop(lightsail);
    let response = match answer {
        Ok(Answer::Body(body)) => Response::new(Body::from(body.to_string())),
        Ok(Answer::Broken) => broken(),
        Ok(Answer::Hung(time)) => {
            wait = time;
            broken()
        }
        Err(error) => refusal(&error, form, not_found),
    };
    (response, wait)
}

/// A body that breaks off: hyper closes the connection, and the client has no answer.
fn broken() -> Response {
    let broken: Result<Bytes, std::io::Error> = Err(std::io::ErrorKind::ConnectionReset.into());
    Response::new(Body::from_stream(stream::iter([broken])))
}

/// The body of a request in JSON; an empty one has no members.
pub(crate) fn read_json(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new("SerializationException", "", format!("malformed JSON: {error}"))
    })
}

/// An error in JSON.
pub(crate) fn refusal(error: &ApiError, form: ErrorForm, not_found: u16) -> Response {
    let mut body = json!({"__type": error.kind, "message": error.message});
    if form == ErrorForm::TypeAndCode {
        body["code"] = error.code.into();
        body["docs"] = "https://docs.aws.amazon.com/lightsail/".into();
        body["tip"] = "".into();
    }
    let status = match error.kind {
        "ServiceException" => 500,
        "NotFoundException" => not_found,
        "MissingAuthenticationTokenException" | "InvalidSignatureException" => 403,
        _ => 400,
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    if form == ErrorForm::Header
        && let Ok(kind) = HeaderValue::from_str(error.kind)
    {
        response.headers_mut().insert("x-amzn-errortype", kind);
    }
    response
}

/// What a signature says of its request.
pub(crate) struct Scope {
    pub(crate) access_key: String,
    pub(crate) region: String,
}

/// The signature's credential scope. Any credentials do, so long as the request is signed.
pub(crate) fn scope_of(headers: &HeaderMap, service: &str) -> Result<Scope, ApiError> {
    let Some(authorization) = headers.get(header::AUTHORIZATION) else {
        let message = "Missing Authentication Token";
        return Err(ApiError::new("MissingAuthenticationTokenException", "", message));
    };
    let bad = |what: &str| {
        let message = format!("the Authorization header is no SigV4 signature: {what}");
        ApiError::new("InvalidSignatureException", "", message)
    };
    let text = authorization.to_str().map_err(|_| bad("it is not text"))?;
    let parts = text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| bad("its algorithm"))?;
    let part = |name: &str| {
        let found = parts.split(',').find_map(|part| part.trim().strip_prefix(name));
        found.ok_or_else(|| bad(&format!("no {name}")))
    };
    let scope: Vec<&str> = part("Credential=")?.split('/').collect();
    let signature = part("Signature=")?;
    part("SignedHeaders=")?;
    if signature.len() != 64 || !signature.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad("its signature is not 64 hex digits"));
    }
    match scope[..] {
        [id, date, region, of, "aws4_request"] if of == service => {
            if id.is_empty() || date.len() != 8 || region.is_empty() {
                return Err(bad("its credential scope"));
            }
            Ok(Scope { access_key: id.to_owned(), region: region.to_owned() })
        }
        [_, _, _, other, "aws4_request"] => {
            Err(bad(&format!("it is scoped to the service {other}, not to {service}")))
        }
        _ => Err(bad("its credential scope")),
    }
}

/// The operation that a request in JSON asks for: its target begins with the service's name.
pub(crate) fn operation_of(headers: &HeaderMap, service: &str) -> Result<String, ApiError> {
    // With another content type, AWS does not look at the target at all.
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let target = text("x-amz-target").filter(|_| text("content-type").is_some_and(is_aws_json));
    target.and_then(|target| target.strip_prefix(service)).map(str::to_owned).ok_or_else(|| {
        let message = format!(
            "X-Amz-Target must be {service}<operation>, and Content-Type application/x-amz-json-1.1"
        );
        ApiError::new("UnknownOperationException", "", message)
    })
}

/// Whether a content type is AWS's JSON, whatever parameters it has.
fn is_aws_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-amz-json-1.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_counts_only_with_the_content_type_of_aws() {
        let asked = |content_type: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers
                .insert("x-amz-target", HeaderValue::from_static("Lightsail_20161128.GetRegions"));
            if let Some(kind) = content_type {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            operation_of(&headers, TARGET)
        };
        for good in ["application/x-amz-json-1.1", "Application/X-Amz-JSON-1.1; charset=utf-8"] {
            assert_eq!(asked(Some(good)).unwrap(), "GetRegions", "{good}");
        }
        for bad in [None, Some("application/json"), Some("application/x-www-form-urlencoded")] {
            assert_eq!(asked(bad).unwrap_err().kind, "UnknownOperationException", "{bad:?}");
        }
    }
}
