//! Calls: one signed POST each, without retries, because the pace of its place must hear of each
//! answer. Only a call whose keys were refused is made again, with new ones if there are any.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use snapkeep_app::ports::{ErrorKind, ProviderError};

use crate::error::{Effect, classify, distrust, hint};
use crate::keys::{KeyRing, KeySource, Keys};
use crate::settings::Endpoint;
use crate::shapes::{Envelope, Refusal};
use crate::sign::{Request, authorization};

const SERVICE: &str = "lighthouse";
const VERSION: &str = "2020-03-24";
const CONTENT_TYPE: &str = "application/json";
/// No call is waited for longer.
const CALL_TIME: Duration = Duration::from_secs(12);

/// A client of the API, for every Region.
#[derive(Clone, Debug)]
pub struct Client {
    connector: SharedHttpConnector,
    endpoint: Endpoint,
    keys: KeyRing,
    /// The system's time, which requests are signed with: the service compares it with its own.
    now: fn() -> Timestamp,
}

/// An operation, and what it may have done when its answer is an internal error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) effect: Effect,
}

impl Client {
    /// A client on this endpoint; nothing is called yet.
    #[must_use]
    pub fn new(endpoint: Endpoint, keys: Arc<dyn KeySource>, now: fn() -> Timestamp) -> Self {
        let settings =
            HttpConnectorSettings::builder().connect_timeout(Duration::from_secs(3)).build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build();
        Self::over(SharedHttpConnector::new(connector), endpoint, keys, now)
    }

    /// A client over this connector.
    pub(crate) fn over(
        connector: SharedHttpConnector,
        endpoint: Endpoint,
        keys: Arc<dyn KeySource>,
        now: fn() -> Timestamp,
    ) -> Self {
        Client { connector, endpoint, keys: KeyRing::new(keys), now }
    }

    /// Makes one call.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        operation: Operation,
        region: &str,
        body: &Value,
    ) -> Result<T, ProviderError> {
        let no_keys = |message: String| ProviderError {
            kind: ErrorKind::Denied,
            operation: operation.name,
            code: "NoKeys".to_owned(),
            message,
        };
        let keys = self.keys.keys().await.map_err(no_keys)?;
        let answer = self.signed(operation, region, body, &keys).await;
        let refused = |error: &ProviderError| error.code.starts_with("AuthFailure");
        let answer = match answer {
            Err(error) if refused(&error) => {
                match self.keys.instead_of(&keys).await.map_err(no_keys)? {
                    Some(others) => self.signed(operation, region, body, &others).await,
                    None => Err(error),
                }
            }
            answer => answer,
        };
        let unreadable = |error| distrust(operation.name, "UnreadableAnswer", format!("{error}"));
        serde_json::from_value(answer?).map_err(unreadable)
    }

    async fn signed(
        &self,
        operation: Operation,
        region: &str,
        body: &Value,
        keys: &Keys,
    ) -> Result<Value, ProviderError> {
        let not_sent = |error: String| ProviderError {
            kind: ErrorKind::Refused,
            operation: operation.name,
            code: "NotSent".to_owned(),
            message: error,
        };
        let request = self.request(operation, region, body, keys).map_err(not_sent)?;
        let no_answer = |error: String| distrust(operation.name, "NoAnswer", error);
        let call = async {
            let answer = self.connector.call(request).await;
            let answer = answer.map_err(|error| no_answer(chain(&error)))?;
            let status = answer.status().as_u16();
            let body = ByteStream::new(answer.into_body()).collect().await;
            let body = body.map_err(|error| no_answer(chain(&error)))?;
            Ok((status, body.into_bytes()))
        };
        let (status, bytes) = match tokio::time::timeout(CALL_TIME, call).await {
            Ok(answer) => answer?,
            Err(_) => return Err(no_answer(format!("none came within {} s", CALL_TIME.as_secs()))),
        };
        let Ok(Envelope { response }) = serde_json::from_slice(&bytes) else {
            return Err(not_of_the_service(operation, status));
        };
        match response.get("Error") {
            None => Ok(response),
            Some(error) => Err(refusal(operation, error)),
        }
    }

    fn request(
        &self,
        operation: Operation,
        region: &str,
        body: &Value,
        keys: &Keys,
    ) -> Result<HttpRequest, String> {
        let text = body.to_string();
        let at = (self.now)();
        let host = self.endpoint.host();
        let signed = Request {
            service: SERVICE,
            host,
            content_type: CONTENT_TYPE,
            body: text.as_bytes(),
            at,
        };
        let authorization = authorization(&signed, &keys.secret_id, &keys.secret_key);
        let mut request = HttpRequest::new(SdkBody::from(text));
        request.set_method("POST").map_err(|error| error.to_string())?;
        request.set_uri(self.endpoint.url()).map_err(|error| error.to_string())?;
        let mut headers = vec![
            ("authorization", authorization),
            ("content-type", CONTENT_TYPE.to_owned()),
            ("host", host.to_owned()),
            ("x-tc-action", operation.name.to_owned()),
            ("x-tc-version", VERSION.to_owned()),
            ("x-tc-timestamp", at.as_second().to_string()),
            ("x-tc-region", region.to_owned()),
            ("x-tc-language", "en-US".to_owned()),
        ];
        headers.extend(keys.token.clone().map(|token| ("x-tc-token", token)));
        for (name, value) in headers {
            let header = request.headers_mut().try_insert(name, value);
            header.map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(request)
    }
}

/// An answer that is not the service's own: of a proxy, for example.
fn not_of_the_service(operation: Operation, status: u16) -> ProviderError {
    let kind = match status {
        429 => ErrorKind::Throttled,
        401 | 403 => ErrorKind::Denied,
        // A success that cannot be read is not a refusal either.
        200..=299 | 500..=599 => ErrorKind::Indeterminate,
        _ => ErrorKind::Refused,
    };
    let message = "the answer is not one of Lighthouse".to_owned();
    ProviderError { kind, operation: operation.name, code: format!("HTTP {status}"), message }
}

fn refusal(operation: Operation, error: &Value) -> ProviderError {
    match Refusal::deserialize_from(error) {
        Some(Refusal { code, message }) => ProviderError {
            kind: classify(&code, &message, operation.effect),
            operation: operation.name,
            message: format!("{message}{}", hint(&code)),
            code,
        },
        None => distrust(operation.name, "UnreadableError", error.to_string()),
    }
}

impl Refusal {
    fn deserialize_from(error: &Value) -> Option<Self> {
        serde_json::from_value(error.clone()).ok()
    }
}

/// The text of an error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
