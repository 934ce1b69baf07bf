//! What all SDK clients share: one configuration, and one reading of their errors.

use std::error::Error;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// The SDK's configuration: Region, credentials, endpoints and number of attempts come from the
/// standard AWS variables, HTTPS from rustls on ring; the time of a call is limited.
pub async fn sdk_config() -> SdkConfig {
    // An attempt that hangs must leave time for another, and all attempts for the other items.
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(12))
        .operation_timeout(Duration::from_secs(30))
        .build();
    let loader = aws_config::defaults(BehaviorVersion::latest());
    loader.http_client(http_client()).timeout_config(timeouts).load().await
}

/// The HTTP client of every SDK client here. It also speaks plain HTTP, for the embedded cloud.
#[must_use]
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

/// How far a failed call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The request was never sent: it could not even be built.
    NotSent,
    /// The request may have arrived; no answer came back.
    NoAnswer,
    /// An answer with this HTTP status came back, readable or not.
    Answered(u16),
}

/// An SDK error in flat form.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) stage: Stage,
    /// The code on the wire, if the service gave one.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let stage = match error {
            SdkError::ConstructionFailure(_) => Stage::NotSent,
            SdkError::ServiceError(answer) => Stage::Answered(answer.raw().status().as_u16()),
            // An answer came back, but not one of the service; its status still counts.
            SdkError::ResponseError(answer) => Stage::Answered(answer.raw().status().as_u16()),
            _ => Stage::NoAnswer,
        };
        let message = error.message().filter(|text| !text.is_empty());
        let message = message.map_or_else(|| chain(error), str::to_owned);
        Failure { stage, code: error.code().map(str::to_owned), message }
    }

    /// The code on the wire, or a word for what came instead.
    pub(crate) fn word(&self) -> String {
        match (&self.code, self.stage) {
            (Some(code), _) => code.clone(),
            (None, Stage::NotSent) => "NotSent".to_owned(),
            (None, Stage::NoAnswer) => "NoAnswer".to_owned(),
            (None, Stage::Answered(status)) => format!("HTTP {status}"),
        }
    }
}

/// The text of an error with its sources, because an SDK's error says little by itself.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
