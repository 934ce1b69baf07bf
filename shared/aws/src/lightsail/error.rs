//! Classifies Lightsail's errors by the code on the wire, and by the message if that code is bare.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use snapkeep_app::ports::{ErrorKind, ProviderError};

use crate::sdk::{Failure, Stage};

/// Classifies the failure of a call.
pub(crate) fn provider_error<E>(
    operation: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> ProviderError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let failure = Failure::of(error);
    let kind = match failure.stage {
        Stage::NotSent => ErrorKind::Refused,
        Stage::NoAnswer => ErrorKind::Indeterminate,
        Stage::Answered(status) => classify(failure.code.as_deref(), &failure.message, status),
    };
    ProviderError { kind, operation, code: failure.word(), message: failure.message }
}

/// Classifies the failure of a page: a refused token is too old, or was never valid.
pub(super) fn page_error<E>(
    operation: &'static str,
    later: bool,
    error: &SdkError<E, HttpResponse>,
) -> ProviderError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let error = provider_error(operation, error);
    let refused =
        error.kind == ErrorKind::Refused && error.message.to_lowercase().contains("token");
    let kind = if later && refused { ErrorKind::BadPageToken } else { error.kind };
    ProviderError { kind, ..error }
}

/// The answer of a call for one resource; `None` if there is none of that name.
pub(super) fn unless_missing<T, E>(
    operation: &'static str,
    answer: Result<T, SdkError<E, HttpResponse>>,
) -> Result<Option<T>, ProviderError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match answer.map_err(|error| provider_error(operation, &error)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Classifies an error that was answered.
///
/// In the SDK, the body's `code` (`NameExists`) shadows its `__type` (`InvalidInputException`), so
/// the typed errors are not reliable. A code that is unambiguous decides alone. "Not found" leads
/// to tombstones, so a message is believed there only with Lightsail's own bare codes; an unknown
/// code with a known message only keeps an intent waiting.
#[must_use]
pub fn classify(code: Option<&str>, message: &str, status: u16) -> ErrorKind {
    let by_status = match status {
        429 => ErrorKind::Throttled,
        401 | 403 => ErrorKind::Denied,
        // A success that cannot be read is not a refusal either.
        200..=299 | 500..=599 => ErrorKind::Indeterminate,
        _ => ErrorKind::Refused,
    };
    // An answer without a code comes from a proxy, for example, and not from Lightsail.
    let Some(code) = code else { return by_status };
    // An organisation closes a Region to its accounts by a service control policy.
    let closed = message.contains("service control policy");
    if let Some(kind) = by_code(code) {
        return if closed && kind == ErrorKind::Denied {
            ErrorKind::RegionNotEnabled
        } else {
            kind
        };
    }
    let bare = ["InvalidInputException", "OperationFailureException", ""].contains(&code);
    match by_message(message) {
        Some(ErrorKind::NotFound) if !bare => by_status,
        Some(kind) => kind,
        None if bare => ErrorKind::Refused,
        None => by_status,
    }
}

fn by_code(code: &str) -> Option<ErrorKind> {
    let kind = match code {
        "NotFoundException" | "DoesNotExist" | "NotFound" => ErrorKind::NotFound,
        "NameExists" => ErrorKind::NameTaken,
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown" => ErrorKind::Throttled,
        "LimitExceeded"
        | "LimitExceededException"
        | "QuotaExceeded"
        | "ServiceQuotaExceededException" => ErrorKind::Quota,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthenticatedException"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "NotAuthorizedException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidSignature"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => ErrorKind::Denied,
        // A Region answers with these codes if it does not know the account (yet).
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "OptInRequired"
        | "RegionSetupInProgressException" => ErrorKind::RegionNotEnabled,
        "AccountSetupInProgressException" => ErrorKind::Refused,
        "ServiceException"
        | "InternalFailure"
        | "InternalError"
        | "InternalServerError"
        | "InternalServiceError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => ErrorKind::Indeterminate,
        _ => return None,
    };
    Some(kind)
}

fn by_message(message: &str) -> Option<ErrorKind> {
    let message = message.to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if says(&["some names are already in use"]) {
        Some(ErrorKind::NameTaken)
    } else if says(&[
        "please try again in a few minutes",
        "please wait for it to complete before trying again",
    ]) {
        Some(ErrorKind::Busy)
    } else if says(&["rate exceeded"]) {
        Some(ErrorKind::Throttled)
    } else if says(&["reached or will exceed your maximum limit"]) {
        Some(ErrorKind::Quota)
    } else if says(&["automatic snapshot", "auto snapshot"]) && says(&["progress", "being created"])
        || says(&["valid state", "invalid state", "incorrect state"])
        || says(&["instance is pending", "instance is starting", "instance is not ready"])
    {
        Some(ErrorKind::Busy)
    } else if says(&["does not exist", "doesnotexist"]) {
        Some(ErrorKind::NotFound)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_their_code_says_and_else_their_message() {
        use ErrorKind::*;
        let taken = "Some names are already in use: Debian-1-ip-20260627234106";
        let gone = "The InstanceSnapshot does not exist: web-s";
        let soon = "Operation in progress. Please try again in a few minutes.";
        let wait = "A snapshot is being made. Please wait for it to complete before trying again.";
        let limit = "Sorry, you've either reached or will exceed your maximum limit of snapshots.";
        let auto = "An automatic snapshot is in progress for this instance.";
        let starting = "The instance web is not in a valid state: pending.";
        let invalid = Some("InvalidInputException");
        let failed = Some("OperationFailureException");
        let table: &[(Option<&str>, &str, u16, ErrorKind)] = &[
            (Some("NameExists"), taken, 400, NameTaken),
            (invalid, taken, 400, NameTaken),
            (Some("DoesNotExist"), gone, 400, NotFound),
            (Some("NotFoundException"), gone, 400, NotFound),
            (Some("NotFoundException"), "", 404, NotFound),
            (invalid, gone, 400, NotFound),
            (failed, "DoesNotExist: web-s", 400, NotFound),
            (invalid, soon, 400, Busy),
            (failed, wait, 400, Busy),
            (invalid, auto, 400, Busy),
            (failed, starting, 400, Busy),
            (Some("InstanceBusy"), soon, 400, Busy),
            (invalid, limit, 400, Quota),
            (Some("ThrottlingException"), "Rate exceeded", 400, Throttled),
            (Some("Throttling"), "", 400, Throttled),
            (Some("TooManyRequestsException"), "", 429, Throttled),
            (Some("RequestLimitExceeded"), "", 503, Throttled),
            (Some("SlowDown"), "", 503, Throttled),
            (None, "", 429, Throttled),
            (Some(""), "Rate exceeded", 400, Throttled),
            (Some(""), gone, 400, NotFound),
            (Some("AccessDeniedException"), "User: x is not authorized", 400, Denied),
            (
                Some("AccessDeniedException"),
                "with an explicit deny in a service control policy",
                400,
                RegionNotEnabled,
            ),
            (Some("UnauthenticatedException"), "", 400, Denied),
            (Some("ExpiredTokenException"), "", 400, Denied),
            (Some("ExpiredToken"), "", 403, Denied),
            (Some("InvalidSignatureException"), "", 400, Denied),
            (Some("MissingAuthenticationToken"), "", 403, Denied),
            (Some("NotAuthorized"), "", 400, Denied),
            (None, "", 403, Denied),
            (Some("UnrecognizedClientException"), "token is invalid", 400, RegionNotEnabled),
            (Some("InvalidClientTokenId"), "", 403, RegionNotEnabled),
            (Some("OptInRequired"), "", 403, RegionNotEnabled),
            (Some("RegionSetupInProgressException"), "", 428, RegionNotEnabled),
            (Some("AccountSetupInProgressException"), "", 428, Refused),
            (Some("ServiceException"), "", 500, Indeterminate),
            (Some("InternalFailure"), "", 500, Indeterminate),
            (Some("Mystery"), "", 503, Indeterminate),
            (None, "<html>", 502, Indeterminate),
            (None, "no JSON", 200, Indeterminate),
            (invalid, "`ü` is not a valid resource name.", 400, Refused),
            (Some("UnknownOperationException"), "", 400, Refused),
            (Some("SerializationException"), "", 400, Refused),
            // A message that is not Lightsail's is no reason for a tombstone.
            (None, "the page does not exist", 404, Refused),
            (Some("InvalidProxy"), "the host does not exist", 400, Refused),
        ];
        for (code, message, status, kind) in table {
            assert_eq!(classify(*code, message, *status), *kind, "{code:?} {message} {status}");
        }
    }
}
