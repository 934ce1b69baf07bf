//! The wire on the embedded Lighthouse: JSON over HTTP, signed by TC3-HMAC-SHA256, which is verified. Errors are
//! HTTP 200.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::post;
use futures_util::stream;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Answer, ApiError, Lighthouse, Shared};
use crate::clock::Clock;
use crate::lambda::new_request_id;

const VERSION: &str = "2020-03-24";
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Takes the lock; what a panicking holder left is still a Lighthouse.
pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Lighthouse> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Service {
    lighthouse: Shared,
    clock: Clock,
}

/// The service on `POST /`.
pub(crate) fn router(lighthouse: Shared, clock: Clock) -> Router {
    Router::new()
        .route("/", post(handle))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Service { lighthouse, clock })
}

async fn handle(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    // The effect is at once, and the lock is free again; only the answer waits.
    let mut wait = Duration::ZERO;
    let answer = answer(&service, &headers, &body, &mut wait);
    if let Ok(Answer::Hung(time)) = &answer {
        wait = *time;
    }
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let id = new_request_id();
    let body = match answer {
        Ok(Answer::Body(mut body)) => {
            body["RequestId"] = id.into();
            body
        }
        Ok(Answer::Broken | Answer::Hung(_)) => return broken(),
        Err(ApiError { code, message }) => {
            json!({"Error": {"Code": code, "Message": message}, "RequestId": id})
        }
    };
    let mut response = Response::new(Body::from(json!({ "Response": body }).to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A body that breaks off: the client has no answer.
fn broken() -> Response {
    let broken: Result<Bytes, std::io::Error> = Err(std::io::ErrorKind::ConnectionReset.into());
    Response::new(Body::from_stream(stream::iter([broken])))
}

fn answer(
    service: &Service,
    headers: &HeaderMap,
    body: &[u8],
    wait: &mut Duration,
) -> Result<Answer, ApiError> {
    let mut lighthouse = lock(&service.lighthouse);
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let needed = |name: &str| {
        let message = format!("The request header {name} is missing.");
        text(name).ok_or_else(|| ApiError::new("MissingParameter", message))
    };
    let operation = needed("x-tc-action")?;
    if needed("x-tc-version")? != VERSION {
        let message = format!("The version must be {VERSION}.");
        return Err(ApiError::new("NoSuchVersion", message));
    }
    verify(&lighthouse, headers, body)?;
    let region = needed("x-tc-region")?;
    *wait = lighthouse.knobs.latency_of(region, operation);
    lighthouse.admit(Instant::now(), region, operation)?;
    let parameters: Map<String, Value> = match body {
        [] => Map::new(),
        body => serde_json::from_slice(body).map_err(|error| {
            ApiError::new("InvalidParameter", format!("The body is no JSON object: {error}"))
        })?,
    };
    lighthouse.call(service.clock.now(), region, operation, &parameters)
}

/// Verifies the signature: keys that there are, a time close to the real one, and the request as it came.
fn verify(lighthouse: &Lighthouse, headers: &HeaderMap, body: &[u8]) -> Result<(), ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let invalid = |what: &str| {
        let message = format!("The Authorization header is invalid: {what}.");
        ApiError::new("AuthFailure.InvalidAuthorization", message)
    };
    let authorization = text("authorization").strip_prefix("TC3-HMAC-SHA256 ");
    let authorization = authorization.ok_or_else(|| invalid("it is not TC3-HMAC-SHA256"))?;
    let part = |name: &str| {
        let found = authorization.split(',').find_map(|part| part.trim().strip_prefix(name));
        found.ok_or_else(|| invalid(&format!("it has no {name}")))
    };
    let scope: Vec<&str> = part("Credential=")?.split('/').collect();
    let [secret_id, date, service, "tc3_request"] = scope[..] else {
        return Err(invalid("its scope is not complete"));
    };
    // Some SDKs take the service's name from the host, which is no name of a service here.
    if service != "lighthouse" && text("host").split('.').next() != Some(service) {
        return Err(invalid("its scope is not that of lighthouse"));
    }
    let Some(secret_key) = lighthouse.knobs.keys.get(secret_id) else {
        let message = "The SecretId is not found. Please ensure that your SecretId is correct.";
        return Err(ApiError::new("AuthFailure.SecretIdNotFound", message));
    };
    let stamp = text("x-tc-timestamp");
    let at = stamp.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    let at: Timestamp = at.ok_or_else(|| invalid("X-TC-Timestamp is no number"))?;
    let skew = i64::from(lighthouse.knobs.clock_skew_seconds);
    if (Timestamp::now().as_second() - at.as_second()).abs() > skew
        || at.strftime("%Y-%m-%d").to_string() != date
    {
        let message =
            "The signature has expired: the request's time differs too much from the server's.";
        return Err(ApiError::new("AuthFailure.SignatureExpire", message));
    }
    let signed = part("SignedHeaders=")?;
    if !["content-type", "host"].iter().all(|name| signed.split(';').any(|one| one == *name)) {
        return Err(invalid("content-type and host must be signed"));
    }
    // The public service has no port, and SDKs differ in whether they sign one.
    let host = text("host");
    let hosts = [host, host.rsplit_once(':').map_or(host, |(name, _)| name)];
    let expected = hosts.map(|host| {
        let lines: String = signed.split(';').fold(String::new(), |lines, name| {
            let value = if name == "host" { host } else { text(name).trim() };
            lines + &format!("{name}:{value}\n")
        });
        let canonical = format!("POST\n/\n\n{lines}\n{signed}\n{}", digest(body));
        let to_sign = format!(
            "TC3-HMAC-SHA256\n{stamp}\n{date}/{service}/tc3_request\n{}",
            digest(canonical.as_bytes())
        );
        let words = [date, service, "tc3_request", &to_sign];
        let key = format!("TC3{secret_key}").into_bytes();
        hex(&words.iter().fold(key, |key, word| keyed(&key, word.as_bytes())))
    });
    let signature = part("Signature=")?;
    if expected.iter().any(|one| one == signature) {
        return Ok(());
    }
    let message =
        "The provided credentials could not be validated. Please check your signature is correct.";
    Err(ApiError::new("AuthFailure.SignatureFailure", message))
}

fn keyed(key: &[u8], text: &[u8]) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
