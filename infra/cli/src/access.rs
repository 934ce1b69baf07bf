//! What to do when the ledger or a provider cannot be read.

use std::env;

use snapkeep_app::ports::LedgerError;
use snapkeep_app::report::{Failure, TickError};
use snapkeep_domain::finding::without_password;

use crate::deployed::TABLE;

/// Why nothing can be read at all, and what to do about it.
pub(crate) fn no_access(error: &TickError, table: &str, region: &str) -> String {
    match error {
        TickError::Ledger(error) => {
            let rights = format!(
                "the rights dynamodb:GetItem, BatchGetItem, Query and DescribeTable of the table {table}"
            );
            let fix = of_ledger(error, &rights);
            format!("cannot read the table {table} in {region}: {error}; {fix}")
        }
        TickError::Provider(error) => {
            format!("{error}; {}", of_provider(&error.code, error.operation))
        }
    }
}

/// What to do about a call to the ledger that failed.
pub(crate) fn of_ledger(error: &LedgerError, rights: &str) -> String {
    match error.code.as_str() {
        "ResourceNotFoundException" => format!(
            "there is no such table: set {TABLE} to the deployment's table, and AWS_REGION to the Region that it is \
             in"
        ),
        "NoAnswer" => format!("look whether {} can be reached", endpoint("DynamoDB", "DYNAMODB")),
        code if is_throttled(code) => "try again in a minute".to_owned(),
        code if is_denied(code) => format!("it needs {rights}"),
        _ => "check AWS_REGION and the credentials".to_owned(),
    }
}

/// What to do about a call to a provider that failed.
pub(crate) fn advice(failure: &Failure) -> String {
    of_provider(&failure.code, &failure.operation)
}

fn of_provider(code: &str, operation: &str) -> String {
    match code {
        "NoAnswer" => format!("look whether {} can be reached", endpoint("Lightsail", "LIGHTSAIL")),
        code if is_throttled(code) => "try again in a minute".to_owned(),
        code if is_denied(code) => format!("it needs the right lightsail:{operation}"),
        _ => format!("check the credentials, and the right lightsail:{operation}"),
    }
}

fn is_throttled(code: &str) -> bool {
    ["Thrott", "TooManyRequests", "RequestLimit"].iter().any(|part| code.contains(part))
}

fn is_denied(code: &str) -> bool {
    ["Denied", "Auth"].iter().any(|part| code.contains(part))
}

/// A service, with its endpoint where a variable sets that.
pub(crate) fn endpoint(service: &str, suffix: &str) -> String {
    let own = format!("AWS_ENDPOINT_URL_{suffix}");
    let set = [own.as_str(), "AWS_ENDPOINT_URL"];
    let set = set.into_iter().find_map(|key| Some((key, env::var(key).ok()?)));
    match set.filter(|(_, url)| !url.trim().is_empty()) {
        Some((key, url)) => format!("{service} at {key}={}", without_password(&url)),
        None => format!("{service} over this network"),
    }
}
