//! The report of a run: the response of every function.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use snapkeep_domain::create::missed_slots;
use snapkeep_domain::finding::{Code, Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Age;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::notice::Notice;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;

use crate::ports::{ErrorKind, LedgerError, ProviderError, Unreadable};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        /// What is counted: a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter { $($(#[doc = $doc])* $name),* }

        impl Counter {
            /// Every counter.
            pub const ALL: &[Counter] = &[$(Counter::$name),*];

            /// The counter's name in reports.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Counter::$name => $text),* } }
        }
    };
}

counters! {
    /// Regions that were listed completely.
    Regions = "regions";
    /// Instances seen.
    Instances = "instances";
    /// Instances opted in.
    Protected = "protected";
    /// Instances without the opt-in tag.
    Unprotected = "unprotected";
    /// Snapshots that the provider accepted a request for.
    Requested = "requested";
    /// Existing snapshots that the ledger did not know of.
    Tracked = "tracked";
    /// Due slots that have what they need.
    Served = "served";
    /// Due slots that wait.
    Waiting = "waiting";
    /// Slots that passed without a snapshot.
    Missed = "missed";
    /// Attempts that failed.
    AttemptsFailed = "attempts_failed";
    /// Records followed.
    Followed = "followed";
    /// Snapshots that became available.
    Available = "available";
    /// Deletions confirmed.
    Deleted = "deleted";
    /// Snapshots judged.
    Snapshots = "snapshots";
    /// Judged snapshots that are not ours.
    Foreign = "foreign";
    /// Judged snapshots that a rule keeps.
    Kept = "kept";
    /// Judged snapshots that a guard keeps.
    HeldBack = "held_back";
    /// Judged snapshots that are not available yet.
    NotAvailable = "not_available";
    /// Judged snapshots whose deletion this run announced.
    Marked = "marked";
    /// Judged snapshots whose deletion was announced earlier and is not due.
    Expiring = "expiring";
    /// Marks taken back.
    Rescued = "rescued";
    /// Snapshots taken into the ledger.
    Adopted = "adopted";
    /// Deletions that the provider accepted.
    Pruned = "pruned";
    /// Protected resources whose newest available snapshot is older than promised.
    Overdue = "overdue";
    /// The number of seconds by which the worst of them is overdue.
    OverdueSeconds = "overdue_seconds";
    /// Resources, or runs, whose marks the brake stopped.
    Braked = "braked";
    /// Writes that lost to another writer.
    Conflicts = "conflicts";
}

/// An item or a Region that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The call that failed.
    pub operation: String,
    /// The error code on the wire.
    pub code: String,
    /// The error message.
    pub message: String,
    /// The place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The name of the resource or snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the call was throttled; for the metric.
    #[serde(skip)]
    pub throttled: bool,
}

impl From<&ProviderError> for Failure {
    fn from(error: &ProviderError) -> Self {
        let throttled = error.kind == ErrorKind::Throttled;
        Failure { throttled, ..Failure::new(error.operation, &error.code, &error.message) }
    }
}

impl From<&LedgerError> for Failure {
    fn from(error: &LedgerError) -> Self {
        Failure::new(error.operation, &error.code, &error.message)
    }
}

impl From<&TickError> for Failure {
    fn from(error: &TickError) -> Self {
        match error {
            TickError::Ledger(error) => error.into(),
            TickError::Provider(error) => error.into(),
        }
    }
}

impl Failure {
    fn new(operation: &str, code: &str, message: &str) -> Self {
        Failure {
            operation: operation.to_owned(),
            code: code.to_owned(),
            message: message.to_owned(),
            region: None,
            resource: None,
            name: None,
            throttled: false,
        }
    }

    /// Sets the place.
    #[must_use]
    pub fn in_place(mut self, place: &Place) -> Self {
        self.region = Some(place.to_string());
        self
    }

    /// Sets the resource, and its name or that of its snapshot.
    #[must_use]
    pub fn of(mut self, resource: &ResourceId, name: &str) -> Self {
        self.resource = Some(resource.0.clone());
        self.name = Some(name.to_owned());
        self
    }
}

/// The report: `{"function", "now", "counts", "failures", "findings", "left"}`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The function that ran.
    pub function: Function,
    /// The run's `now`.
    pub now: Timestamp,
    /// The counters that are not zero.
    #[serde(serialize_with = "words")]
    pub counts: BTreeMap<Counter, u64>,
    /// The failures; beyond a hundred of one kind, only their number.
    #[serde(serialize_with = "some_failures")]
    pub failures: Vec<Failure>,
    /// The findings; beyond a hundred of one code and cause, only their number.
    #[serde(serialize_with = "some_findings")]
    pub findings: Vec<Finding>,
    /// The number of items that there was no time for; the next run goes on with them.
    pub left: u64,
    /// The one-off notices of what became of snapshots.
    #[serde(skip)]
    pub notices: Vec<Notice>,
    /// The places in which the run did everything that it should.
    #[serde(skip)]
    pub covered: BTreeSet<Place>,
    /// Whether the run was for one place only.
    #[serde(skip)]
    pub partial: bool,
    /// The records whose missed slots are in this report; once it is out, the ledger drops the
    /// slots.
    #[serde(skip)]
    pub told: Vec<Record>,
    /// The ages of the resources' newest available snapshots.
    #[serde(skip)]
    pub ages: Vec<Age>,
    /// The names of the instances without the opt-in tag.
    #[serde(skip)]
    pub unprotected: Vec<String>,
}

fn words<S: Serializer>(counts: &BTreeMap<Counter, u64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().map(|(counter, count)| (counter.as_str(), count)))
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(function: Function, now: Timestamp) -> Self {
        Report {
            function,
            now,
            counts: BTreeMap::new(),
            failures: Vec::new(),
            findings: Vec::new(),
            left: 0,
            notices: Vec::new(),
            covered: BTreeSet::new(),
            partial: false,
            told: Vec::new(),
            ages: Vec::new(),
            unprotected: Vec::new(),
        }
    }

    /// Adds `n` to a counter.
    pub fn count(&mut self, counter: Counter, n: usize) {
        if n > 0 {
            *self.counts.entry(counter).or_default() += n as u64;
        }
    }

    /// The value of a counter.
    #[must_use]
    pub fn counted(&self, counter: Counter) -> u64 {
        self.counts.get(&counter).copied().unwrap_or_default()
    }

    /// Reports the records that cannot be read.
    pub fn unreadable(&mut self, items: &[Unreadable]) {
        for item in items {
            self.findings.push(
                Finding::new(
                    Code::UnreadableRecord,
                    format!("record {} cannot be read: {}", item.sort_key, item.why),
                )
                .of(&item.resource, &item.sort_key)
                .fix("deploy the version that wrote it, or remove the item: prune adopts it again"),
            );
        }
    }

    /// Adds the report of a lane, which left this many items.
    pub(crate) fn absorb(&mut self, share: Report, place: &Place, left: u64) {
        let listed =
            share.counts.contains_key(&Counter::Regions) || self.function == Function::Poll;
        let failed = share.failures.iter().any(|failure| failure.resource.is_none());
        let elsewhere = share.findings.iter().any(|finding| finding.code == Code::LaneHeld);
        if listed && left == 0 && !failed && !elsewhere {
            self.covered.insert(place.clone());
        }
        for (counter, count) in share.counts {
            let sum = self.counts.entry(counter).or_default();
            // The worst value of all lanes counts, not their sum.
            *sum = if counter == Counter::OverdueSeconds { count.max(*sum) } else { *sum + count };
        }
        let placed = |finding: Finding| Finding { place: Some(place.clone()), ..finding };
        self.findings.extend(share.findings.into_iter().map(placed));
        self.failures.extend(share.failures);
        self.notices.extend(share.notices);
        self.ages.extend(share.ages);
        self.told.extend(share.told);
        self.unprotected.extend(share.unprotected);
        self.left += left;
    }

    /// Adds the results of one item.
    pub fn add(&mut self, part: ItemReport) {
        for counter in part.counts {
            self.count(counter, 1);
        }
        self.failures.extend(part.failures);
        self.findings.extend(part.findings);
        self.notices.extend(part.notices);
        self.told.extend(part.told);
    }

    /// Whether the run did less than it should.
    #[must_use]
    pub fn fell_short(&self) -> bool {
        let bad = |finding: &Finding| finding.severity == Severity::Error;
        !self.failures.is_empty() || self.left > 0 || self.findings.iter().any(bad)
    }

    /// Returns the report in its final order: the most severe findings first, each once.
    #[must_use]
    pub fn finished(mut self, tag: &str) -> Self {
        if !self.unprotected.is_empty() {
            self.count(Counter::Unprotected, self.unprotected.len());
            self.unprotected.sort();
            let finding = unprotected(&self.unprotected, tag);
            self.findings.push(finding);
        }
        self.findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
        self.findings.dedup();
        self
    }
}

/// What the work on one item adds to the report.
#[derive(Debug, Default)]
pub struct ItemReport {
    /// The counters to increment, one for each entry.
    pub counts: Vec<Counter>,
    /// The failures.
    pub failures: Vec<Failure>,
    /// The findings.
    pub findings: Vec<Finding>,
    /// The notices of what became of a snapshot.
    pub notices: Vec<Notice>,
    /// Records whose missed slots are reported.
    pub told: Vec<Record>,
}

impl ItemReport {
    /// Reports the missed slots that a record carries, as it stands in the ledger now.
    pub(crate) fn missed(&mut self, record: &Record) {
        if record.missed > 0 {
            let missed = usize::try_from(record.missed).unwrap_or(usize::MAX);
            self.counts
                .extend(std::iter::repeat_n(Counter::Missed, missed.min(MISSED_COUNTED_MAX)));
            self.findings.extend(missed_slots(record));
            self.told.push(record.clone());
        }
    }
}

/// How many names the finding about unprotected instances has.
const NAMED_MAX: usize = 10;

/// The finding about instances without the opt-in tag.
#[must_use]
pub fn unprotected(names: &[String], tag: &str) -> Finding {
    let count = names.len();
    let named = names.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match count.saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = match count {
        1 => format!("1 instance has no `{tag}` tag, and nothing protects it: {named}"),
        _ => format!(
            "{count} instances have no `{tag}` tag, and nothing protects them: {named}{more}"
        ),
    };
    let fix = format!(
        "tag what must be protected {tag}=on and the others {tag}=off, or set SNAPKEEP_PROTECT=all"
    );
    Finding::new(Code::Unprotected, message).key(tag).value(count.to_string()).fix(fix)
}

/// How many of one kind a report lists.
const LISTED_MAX: usize = 100;
/// More slots than any schedule misses in a hundred years.
const MISSED_COUNTED_MAX: usize = 1_000_000;

fn some_findings<S: Serializer>(findings: &[Finding], to: S) -> Result<S::Ok, S::Error> {
    let mut more: BTreeMap<(Code, String), (usize, &Finding)> = BTreeMap::new();
    let mut some: Vec<Finding> = Vec::new();
    for finding in findings {
        let (count, _) = more.entry(finding.cause()).or_insert((0, finding));
        *count += 1;
        if *count <= LISTED_MAX {
            some.push(finding.clone());
        }
    }
    for (count, first) in more.into_values().filter(|(count, _)| *count > LISTED_MAX) {
        let message = format!("{} more like these are in the log", count - LISTED_MAX);
        let summary = Finding { severity: first.severity, ..Finding::new(first.code, message) };
        some.push(summary.value((count - LISTED_MAX).to_string()));
    }
    some.serialize(to)
}

fn some_failures<S: Serializer>(failures: &[Failure], to: S) -> Result<S::Ok, S::Error> {
    let mut more: BTreeMap<(&str, &str, Option<&str>), usize> = BTreeMap::new();
    let mut some: Vec<Failure> = Vec::new();
    for failure in failures {
        let kind = (failure.operation.as_str(), failure.code.as_str(), failure.region.as_deref());
        let count = more.entry(kind).or_default();
        *count += 1;
        if *count <= LISTED_MAX {
            some.push(failure.clone());
        }
    }
    for ((operation, code, region), count) in more.into_iter().filter(|(_, n)| *n > LISTED_MAX) {
        let message = format!("{} more like these are in the log", count - LISTED_MAX);
        let summary = Failure::new(operation, code, &message);
        some.push(Failure { region: region.map(str::to_owned), ..summary });
    }
    some.serialize(to)
}

/// The whole tick failed, and a retry can help.
#[derive(Debug, thiserror::Error)]
pub enum TickError {
    /// The ledger does not answer.
    #[error("the ledger does not answer: {0}")]
    Ledger(#[from] LedgerError),
    /// No Region can be listed.
    #[error("the provider does not answer: {0}")]
    Provider(#[from] ProviderError),
}

impl TickError {
    /// The constant name of the error, for alarms.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            TickError::Ledger(_) => "LedgerUnavailable",
            TickError::Provider(_) => "ProviderUnavailable",
        }
    }
}
