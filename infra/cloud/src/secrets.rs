//! As much of AWS Secrets Manager as functions and people need here: CreateSecret, PutSecretValue and
//! GetSecretValue (awsJson1_1), signed in form.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

use crate::http::{operation_of, read_json, refusal, scope_of};
use crate::knobs::ErrorForm;
use crate::lightsail::ApiError;

const TARGET: &str = "secretsmanager.";

/// The secrets by name, which many share.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Mutex<BTreeMap<String, String>>>);

impl Secrets {
    /// Sets a secret's text.
    pub fn put(&self, name: &str, text: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), text.to_owned());
    }

    /// A secret's text, by its name or ARN.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<(String, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.iter().find(|(name, _)| **name == id || arn(name) == id);
        found.map(|(name, text)| (name.clone(), text.clone()))
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}-AbCdEf")
}

pub(crate) fn router(secrets: Secrets) -> Router {
    Router::new().route("/", post(handle)).with_state(secrets)
}

async fn handle(State(secrets): State<Secrets>, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = match answer(&secrets, &headers, &body) {
        Ok(answer) => Response::new(Body::from(answer.to_string())),
        Err(error) => refusal(&error, ErrorForm::TypeOnly, 400),
    };
    let json = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn answer(secrets: &Secrets, headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    scope_of(headers, "secretsmanager")?;
    let operation = operation_of(headers, TARGET)?;
    let body = read_json(body)?;
    let text = |name: &str| {
        let message = format!("{name} is missing");
        body[name].as_str().ok_or_else(|| ApiError::new("InvalidParameterException", "", message))
    };
    match operation.as_str() {
        "CreateSecret" => {
            let name = text("Name")?;
            secrets.put(name, text("SecretString")?);
            Ok(json!({"ARN": arn(name), "Name": name}))
        }
        "PutSecretValue" | "GetSecretValue" => {
            let id = text("SecretId")?;
            let (name, value) = secrets.get(id).ok_or_else(|| {
                let message = "Secrets Manager can't find the specified secret.";
                ApiError::new("ResourceNotFoundException", "", message)
            })?;
            if operation == "PutSecretValue" {
                secrets.put(&name, text("SecretString")?);
                return Ok(json!({"ARN": arn(&name), "Name": name}));
            }
            Ok(json!({"ARN": arn(&name), "Name": name, "SecretString": value}))
        }
        other => {
            let message = format!("the embedded cloud does not have the operation {other}");
            Err(ApiError::new("UnknownOperationException", "", message))
        }
    }
}
