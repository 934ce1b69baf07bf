//! Knobs: faults, limits, and what nobody knows of the real service. All are off by default.
//!
//! Latencies, rates and hanging calls are measured in real time, since the clients' patience is real too.
//! Everything else is in simulated time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lightsail::OPERATIONS;

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
    /// No effect, and no answer for the fault's `seconds`; then the connection breaks.
    Hang,
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
    /// For how many real seconds a hanging call is not answered.
    #[serde(default = "hang_seconds")]
    pub seconds: u32,
}

/// Longer than the patience of most clients.
fn hang_seconds() -> u32 {
    60
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
            seconds: hang_seconds(),
        }
    }

    /// Every call of an operation hangs for so many real seconds.
    #[must_use]
    pub fn hang(operation: &str, seconds: u32) -> Self {
        Fault { seconds, ..Fault::on(operation, FaultKind::Hang) }
    }

    /// Only in this Region.
    #[must_use]
    pub fn in_region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
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

/// The fault that a call meets, if any, and how long it hangs if it does; it uses up one of its times. `names` says
/// whether the call names a resource.
pub(crate) fn strike(
    faults: &mut [Fault],
    now: Timestamp,
    region: &str,
    operation: &str,
    names: impl Fn(&str) -> bool,
) -> Option<(FaultKind, Duration)> {
    let hits = |fault: &Fault| {
        concerns(&fault.operation, fault.region.as_deref(), region, operation)
            && fault.from.is_none_or(|from| now >= from)
            && fault.until.is_none_or(|until| now < until)
            && fault.times != Some(0)
            && fault.resource.as_deref().is_none_or(&names)
    };
    let fault = faults.iter_mut().find(|fault| hits(fault))?;
    if fault.skip > 0 {
        fault.skip -= 1;
        return None;
    }
    if let Some(times) = &mut fault.times {
        *times -= 1;
    }
    Some((fault.kind, Duration::from_secs(fault.seconds.into())))
}

/// How long a call takes by the first entry that concerns it.
pub(crate) fn latency_of(entries: &[Latency], region: &str, operation: &str) -> Duration {
    let concerned =
        |entry: &&Latency| concerns(&entry.operation, entry.region.as_deref(), region, operation);
    let entry = entries.iter().find(concerned);
    entry.map_or(Duration::ZERO, |entry| Duration::from_millis(entry.millis))
}

/// Refuses entries about an operation or a Region that there is not.
pub(crate) fn check(
    (faults, latency, rates): (&[Fault], &[Latency], &[Rate]),
    known: &[&str],
    has_region: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let faults = faults.iter().map(|one| (&one.operation, &one.region));
    let latency = latency.iter().map(|one| (&one.operation, &one.region));
    let rates = rates.iter().map(|one| (&one.operation, &one.region));
    for (operation, region) in faults.chain(latency).chain(rates) {
        if operation != "*" && !known.contains(&operation.as_str()) {
            let known = known.join(", ");
            return Err(format!("invalid operation `{operation}`: expected * or one of {known}"));
        }
        if let Some(region) = region.as_ref().filter(|region| !has_region(region)) {
            return Err(format!("invalid region `{region}`: the knob `regions` does not have it"));
        }
    }
    Ok(())
}

/// Refuses pages without elements.
pub(crate) fn check_page_size(page_size: usize) -> Result<(), String> {
    match page_size {
        0 => Err("invalid page_size `0`: expected 1 or more".to_owned()),
        _ => Ok(()),
    }
}

/// How long calls take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The operation, or `*`.
    pub operation: String,
    /// Only in this Region.
    #[serde(default)]
    pub region: Option<String>,
    /// Real milliseconds from the call to its answer. The effect is at the beginning.
    pub millis: u64,
}

/// How many calls a second are let through, in each Region by itself: a token bucket in real time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The operation, or `*`: all operations that no earlier entry names share one bucket.
    pub operation: String,
    /// Only in this Region.
    #[serde(default)]
    pub region: Option<String>,
    /// Calls a real second.
    pub per_second: f64,
    /// How many calls may come at once after a pause, at least 1; what comes in a second without it.
    #[serde(default)]
    pub burst: Option<u32>,
}

/// What a page token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageTokens {
    /// The last element given: what is made and deleted meanwhile moves nothing.
    #[default]
    Stable,
    /// An offset into the list as it then is: elements may be shown twice, or never.
    Offset,
}

/// Whether an entry for `wanted` and, if it says so, a Region is about this call.
pub(crate) fn concerns(
    wanted: &str,
    wanted_region: Option<&str>,
    region: &str,
    operation: &str,
) -> bool {
    (wanted == "*" || wanted == operation) && wanted_region.is_none_or(|name| name == region)
}

/// All knobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Regions that exist and answer besides, but that GetRegions does not name.
    pub unnamed_regions: Vec<String>,
    /// What a page token is.
    pub page_tokens: PageTokens,
    /// Simulated seconds after which a page token is refused.
    pub page_token_seconds: Option<u32>,
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
    /// How long calls take; the first entry that concerns a call counts.
    pub latency: Vec<Latency>,
    /// How many calls are let through; the first entry that concerns a call counts.
    pub rates: Vec<Rate>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Knobs {
    /// How long a call takes, in real time.
    pub(crate) fn latency_of(&self, region: &str, operation: &str) -> Duration {
        latency_of(&self.latency, region, operation)
    }

    /// What is wrong with them, though each can be read: an operation or a Region that there is not.
    ///
    /// # Errors
    /// The value, and what is expected.
    pub fn check(&self) -> Result<(), String> {
        let Knobs { faults, latency, rates, .. } = self;
        check((faults, latency, rates), &OPERATIONS, |region| self.has_region(region))?;
        check_page_size(self.page_size)
    }

    /// Whether there is such a Region, named or not.
    #[must_use]
    pub fn has_region(&self, region: &str) -> bool {
        self.regions.iter().chain(&self.unnamed_regions).any(|name| name == region)
    }
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
            unnamed_regions: Vec::new(),
            page_tokens: PageTokens::Stable,
            page_token_seconds: None,
            error_form: ErrorForm::TypeAndCode,
            not_found_status: 400,
            refuse_concurrent_snapshots: false,
            refuse_delete_pending: false,
            snapshot_quota: None,
            list_lag_seconds: 0,
            roles: BTreeMap::new(),
            latency: Vec::new(),
            rates: Vec::new(),
            faults: Vec::new(),
        }
    }
}
