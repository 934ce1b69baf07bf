//! Classifies Lighthouse's errors by the code on the wire. Answers are HTTP 200, errors included.

use snapkeep_app::ports::{ErrorKind, ProviderError};

/// The effect that a call may have had, which decides what a server error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It only reads.
    None,
    /// It makes something: an internal error may have come after the effect.
    Creates,
    /// It deletes something.
    Deletes,
}

/// Classifies an error code. The part before the dot is the class; the rest says more.
pub(crate) fn classify(code: &str, message: &str, effect: Effect) -> ErrorKind {
    let (class, rest) = code.split_once('.').unwrap_or((code, ""));
    match class {
        "RequestLimitExceeded" => ErrorKind::Throttled,
        "LimitExceeded" => ErrorKind::Quota,
        "ResourceNotFound" => ErrorKind::NotFound,
        "AuthFailure" | "UnauthorizedOperation" => ErrorKind::Denied,
        "OperationDenied" => ErrorKind::NotSupported,
        "UnsupportedOperation" if rest == "SnapshotBusy" && effect == Effect::Deletes => {
            ErrorKind::UnderWay
        }
        "UnsupportedOperation" | "ResourceInUse" => ErrorKind::Busy,
        "UnsupportedRegion" => ErrorKind::RegionNotEnabled,
        "InternalError" | "FailedOperation" | "ResourceInsufficient" | "ResourceUnavailable" => {
            ErrorKind::Indeterminate
        }
        _ if message.contains("not exist") && class == "InvalidRegion" => {
            ErrorKind::RegionNotEnabled
        }
        _ => ErrorKind::Refused,
    }
}

/// What to do about an error that a person must mend.
pub(crate) fn hint(code: &str) -> &'static str {
    match code {
        "AuthFailure.SignatureExpire" => {
            "; the clock of this machine differs from the service's by more than five minutes"
        }
        "AuthFailure.SecretIdNotFound" | "AuthFailure.InvalidSecretId" => {
            "; the SecretId of the secret in SNAPKEEP_LIGHTHOUSE_SECRET does not exist or is disabled"
        }
        "AuthFailure.SignatureFailure" => {
            "; the SecretKey of the secret in SNAPKEEP_LIGHTHOUSE_SECRET does not belong to its SecretId"
        }
        "AuthFailure.TokenFailure" => "; the token has expired: write new keys to the secret",
        code if code.starts_with("AuthFailure") => {
            "; check the keys of the secret in SNAPKEEP_LIGHTHOUSE_SECRET"
        }
        code if code.starts_with("UnauthorizedOperation") => {
            "; give the keys' user the rights of the CAM policy in docs/LIGHTHOUSE.md"
        }
        "UnsupportedRegion" => "; check SNAPKEEP_LIGHTHOUSE_REGIONS",
        _ => "",
    }
}

/// The error for an answer that cannot be trusted; asking again may help.
pub(crate) fn distrust(operation: &'static str, code: &str, message: String) -> ProviderError {
    ProviderError { kind: ErrorKind::Indeterminate, operation, code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_the_contract_says() {
        for (code, kind) in [
            ("RequestLimitExceeded.UinLimitExceeded", ErrorKind::Throttled),
            ("LimitExceeded.SnapshotQuotaLimitExceeded", ErrorKind::Quota),
            ("ResourceNotFound.InstanceIdNotFound", ErrorKind::NotFound),
            ("AuthFailure.SignatureFailure", ErrorKind::Denied),
            ("UnauthorizedOperation.NoPermission", ErrorKind::Denied),
            (
                "OperationDenied.OperationDeniedCreateSnapshotForStorageBundle",
                ErrorKind::NotSupported,
            ),
            ("UnsupportedOperation.LatestOperationUnfinished", ErrorKind::Busy),
            ("UnsupportedOperation.SnapshotBusy", ErrorKind::Busy),
            ("UnsupportedRegion", ErrorKind::RegionNotEnabled),
            ("InternalError.GetSnapshotAllocQuotaLockError", ErrorKind::Indeterminate),
            ("FailedOperation.DescribeInstanceStatus", ErrorKind::Indeterminate),
            ("InvalidParameterValue.SnapshotNameTooLong", ErrorKind::Refused),
            ("UnknownParameter", ErrorKind::Refused),
        ] {
            assert_eq!(classify(code, "", Effect::Creates), kind, "{code}");
        }
        let deleting = classify("UnsupportedOperation.SnapshotBusy", "", Effect::Deletes);
        assert_eq!(deleting, ErrorKind::UnderWay);
    }
}
