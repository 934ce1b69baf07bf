//! Knobs: faults, limits, and what nobody knows of the real service. All are off by default.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How an error's body looks; the first is what was recorded from the real service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorForm {
    /// `__type` and a more exact `code`, no header.
    TypeAndCode,
    /// `__type` only.
    TypeOnly,
    /// `__type` and the header `X-Amzn-ErrorType`.
    Header,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// HTTP 400 ThrottlingException, no effect.
    Throttle,
    /// HTTP 500 ServiceException, no effect.
    ServerError,
    /// AccessDeniedException, no effect.
    Denied,
    /// The effect happens, the answer is lost.
    LostResponse,
    /// The connection breaks before the effect.
    Dropped,
    /// The snapshot that this call makes ends in `error`.
    FailSnapshot,
    /// The snapshot that this call makes stays pending.
    StuckPending,
    /// The snapshot that this call makes disappears while pending.
    Vanish,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation, or `*`.
    pub operation: String,
    /// What happens.
    pub kind: FaultKind,
    /// Only in this Region.
    #[serde(default)]
    pub region: Option<String>,
    /// Only if the body names a resource that contains this.
    #[serde(default)]
    pub resource: Option<String>,
    /// How many matching calls pass first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls it hits; all without it.
    #[serde(default)]
    pub times: Option<u32>,
    /// Only from this instant on.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Only before this instant.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl Fault {
    /// A fault of this kind on every call of an operation.
    #[must_use]
    pub fn on(operation: &str, kind: FaultKind) -> Self {
        Fault {
            operation: operation.to_owned(),
            kind,
            region: None,
            resource: None,
            skip: 0,
            times: None,
            from: None,
            until: None,
        }
    }

    /// Only so many times.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for resources whose name contains this.
    #[must_use]
    pub fn of(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }
}

/// All knobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    /// Elements a page of a list.
    pub page_size: usize,
    /// Seconds that a snapshot is pending at least.
    pub pending_seconds: u32,
    /// Seconds that each GB of disk adds to that.
    pub pending_seconds_per_gb: u32,
    /// The Regions there are.
    pub regions: Vec<String>,
    /// Of them, those that the account has not enabled.
    pub disabled_regions: Vec<String>,
    /// The form of errors.
    pub error_form: ErrorForm,
    /// HTTP status of "not found": 400 was seen, the model says 404.
    pub not_found_status: u16,
    /// Whether a second manual snapshot of an instance is refused while one is pending.
    pub refuse_concurrent_snapshots: bool,
    /// Whether deleting a pending snapshot is refused.
    pub refuse_delete_pending: bool,
    /// How many snapshots a Region may have.
    pub snapshot_quota: Option<usize>,
    /// Seconds until a new snapshot shows in lists.
    pub list_lag_seconds: u32,
    /// Roles of other accounts that may be assumed, and the external id that each asks for.
    pub roles: BTreeMap<String, String>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Default for Knobs {
    fn default() -> Self {
        let regions = "ap-east-1 ap-northeast-1 ap-northeast-2 ap-south-1 ap-southeast-1 ap-southeast-2 \
             ap-southeast-3 ap-southeast-5 ca-central-1 eu-central-1 eu-north-1 eu-south-2 eu-west-1 \
             eu-west-2 eu-west-3 sa-east-1 us-east-1 us-east-2 us-west-2";
        Knobs {
            page_size: 20,
            pending_seconds: 40,
            pending_seconds_per_gb: 2,
            regions: regions.split_whitespace().map(str::to_owned).collect(),
            disabled_regions: Vec::new(),
            error_form: ErrorForm::TypeAndCode,
            not_found_status: 400,
            refuse_concurrent_snapshots: false,
            refuse_delete_pending: false,
            snapshot_quota: None,
            list_lag_seconds: 0,
            roles: BTreeMap::new(),
            faults: Vec::new(),
        }
    }
}
