//! Findings: what a person should know, in closed lists that people can script against.

use std::borrow::Cow;

use crate::place::Place;
use serde::{Deserialize, Serialize};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is good to know, and raises no alarm.
    Info,
    /// Somebody should look at it.
    Warning,
    /// A promise is broken or about to be.
    Error,
}

/// The topic of a notice, by the name of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A snapshot can be relied on.
    Available,
    /// A snapshot could not be made, or is lost.
    Failed,
    /// There is no snapshot where one was promised.
    Missed,
    /// A deletion is announced.
    Marked,
    /// A deletion was carried out.
    Pruned,
    /// Something keeps snapshots that the retention would let go.
    HeldBack,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Topic; 6] = [
        Topic::Available,
        Topic::Failed,
        Topic::Missed,
        Topic::Marked,
        Topic::Pruned,
        Topic::HeldBack,
    ];

    /// The event's `detail-type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Available => "Snapshot Available",
            Topic::Failed => "Snapshot Failed",
            Topic::Missed => "Snapshot Missed",
            Topic::Marked => "Snapshot Marked",
            Topic::Pruned => "Snapshot Pruned",
            Topic::HeldBack => "Snapshot Held Back",
        }
    }
}

/// How often people are notified of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Never: it is information in the report.
    Never,
    /// Once: the run that sees the event reports it, and people are notified then.
    OnEvent(Topic),
    /// At its beginning and when it is resolved; it is reported at every tick while it lasts.
    WhileActive(Topic),
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $severity:ident, $notify:expr;)*) => {
        /// The code of a finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code { $($(#[doc = $doc])* $name),* }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The code's text in reports.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Code::$name => $text),* } }

            /// The severity of the code's findings.
            #[must_use]
            pub fn severity(self) -> Severity { match self { $(Code::$name => Severity::$severity),* } }

            /// How often people are notified of the code's findings.
            #[must_use]
            pub fn notify(self) -> Notify { match self { $(Code::$name => $notify),* } }
        }
    };
}

codes! {
    /// A provider's variable is invalid, or its name is unknown: none of its places is served.
    BadProvider = "bad-provider", Error, Notify::WhileActive(Topic::Failed);
    /// A tag's key or value cannot be read, or does nothing; nothing of the resource is pruned.
    BadTag = "bad-tag", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A named policy, or a variable this function can do without, cannot be read.
    BadVariable = "bad-variable", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A hold cannot be read; it is in force.
    BadHold = "bad-hold", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The resource is tagged `off`: it gets no new snapshots, and nothing of it is pruned.
    OptedOut = "opted-out", Info, Notify::Never;
    /// Instances have no opt-in tag and are not tagged `off`: nothing protects them; `value` is their
    /// count.
    Unprotected = "unprotected", Info, Notify::Never;
    /// Snapshots of ours exist whose resource no longer carries the opt-in tag.
    NoLongerTagged = "no-longer-tagged", Warning, Notify::WhileActive(Topic::HeldBack);
    /// Slots of the schedule passed without a snapshot; `value` is their count.
    MissedSlots = "missed-slots", Error, Notify::OnEvent(Topic::Missed);
    /// A due slot waits while another snapshot of the resource is being made.
    WaitingForPending = "waiting-for-pending", Info, Notify::Never;
    /// Another invocation is taking this slot's snapshot right now.
    ClaimedElsewhere = "claimed-elsewhere", Info, Notify::Never;
    /// The intent is kept and tried again at the next tick; the message says why.
    CreateDeferred = "create-deferred", Warning, Notify::WhileActive(Topic::Failed);
    /// An attempt failed; `value` is its number.
    AttemptFailed = "attempt-failed", Error, Notify::OnEvent(Topic::Failed);
    /// A failed slot waits for its next attempt.
    RetryLater = "retry-later", Info, Notify::Never;
    /// The provider makes no snapshots of this resource, for good; the slot gets no other attempt.
    NotSupported = "not-supported", Error, Notify::WhileActive(Topic::Failed);
    /// The slot's attempts are used up; the next slot comes.
    AttemptsExhausted = "attempts-exhausted", Error, Notify::WhileActive(Topic::Failed);
    /// A snapshot has been pending for longer than `SNAPKEEP_PENDING_TIMEOUT`.
    PendingTooLong = "pending-too-long", Warning, Notify::WhileActive(Topic::Failed);
    /// An available snapshot was deleted by someone else.
    Vanished = "vanished", Warning, Notify::OnEvent(Topic::Failed);
    /// A deleted snapshot exists again.
    SeenAgain = "seen-again", Warning, Notify::OnEvent(Topic::Available);
    /// A snapshot of ours without a record was taken into the ledger.
    Adopted = "adopted", Info, Notify::Never;
    /// A second snapshot has the name of a slot's snapshot; it is kept, and counts in no rule.
    Twin = "twin", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A failed snapshot that the provider does not delete in its state uses up quota.
    UsesQuota = "uses-quota", Warning, Notify::WhileActive(Topic::Failed);
    /// A place's quota does not suffice for what its policies keep; `value` is what they need.
    QuotaShort = "quota-short", Warning, Notify::WhileActive(Topic::Failed);
    /// A snapshot carries this deployment's tag, but is not ours.
    LookAlike = "look-alike", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The newest available snapshot is older than two periods and a day; nothing is pruned.
    Stale = "stale", Error, Notify::WhileActive(Topic::HeldBack);
    /// The newest available snapshot is older than its schedule promises: a period, and the time
    /// that a snapshot may take (`SNAPKEEP_PENDING_TIMEOUT`).
    Overdue = "overdue", Error, Notify::WhileActive(Topic::Missed);
    /// A slot, creation or mark lies in the future; nothing is pruned.
    FutureTime = "future-time", Error, Notify::WhileActive(Topic::HeldBack);
    /// The brake holds: a changed policy would mark too many snapshots; `value` is the confirming
    /// code.
    Brake = "brake", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The run would mark more than `SNAPKEEP_MAX_DELETES` snapshots; none was marked.
    TooManyMarks = "too-many-marks", Warning, Notify::WhileActive(Topic::HeldBack);
    /// No retention is configured: everything is kept.
    KeepsEverything = "keeps-everything", Info, Notify::Never;
    /// The resource is gone; the message says what becomes of its snapshots, `value` their GB.
    Orphan = "orphan", Info, Notify::Never;
    /// The resource is gone and was held when it was last seen: its snapshots stay held; `value` is
    /// the code that releases them.
    OrphanHeld = "orphan-held", Warning, Notify::WhileActive(Topic::HeldBack);
    /// Whether the resource still exists could not be determined; nothing of it is pruned.
    SourceUnknown = "source-unknown", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A Region is not enabled for the account.
    RegionNotEnabled = "region-not-enabled", Info, Notify::Never;
    /// A Region is not enabled, though it was asked for by name or the ledger has live records
    /// there.
    RegionUnreachable = "region-unreachable", Error, Notify::WhileActive(Topic::Failed);
    /// The provider no longer names a Region that the ledger knows; it is looked after all the
    /// same.
    RegionUnnamed = "region-unnamed", Warning, Notify::WhileActive(Topic::Failed);
    /// The configuration leaves out a place that has protected resources: nothing is taken or
    /// pruned there.
    PlaceLeftOut = "place-left-out", Warning, Notify::WhileActive(Topic::Missed);
    /// Another run of the function is at work in this place.
    LaneHeld = "lane-held", Info, Notify::Never;
    /// A Tick event does not fit: it names another deployment, function or place, or cannot be
    /// read.
    BadTick = "bad-tick", Warning, Notify::OnEvent(Topic::Failed);
    /// A place has more snapshots than the function's memory is meant for.
    MemoryShort = "memory-short", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A record of the ledger cannot be read; nothing of its resource is pruned.
    UnreadableRecord = "unreadable-record", Error, Notify::WhileActive(Topic::HeldBack);
    /// A record differs from what the provider shows; the snapshot is kept.
    RecordDisagrees = "record-disagrees", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The floor keeps a snapshot that the policy would let go.
    FloorKeeps = "floor-keeps", Info, Notify::Never;
    /// The provider refused a deletion at the last moment.
    DeleteRefused = "delete-refused", Warning, Notify::OnEvent(Topic::HeldBack);
    /// A marked snapshot is kept after all.
    Rescued = "rescued", Info, Notify::Never;
    /// The dry run changed nothing.
    DryRun = "dry-run", Info, Notify::Never;
}

/// A text without the user and the password of the URL that it may be: they are nobody's business.
#[must_use]
pub fn without_password(text: &str) -> Cow<'_, str> {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let at = authority.rfind('@')?;
        Some((scheme, rest.get(at + 1..)?))
    });
    match parts {
        Some((scheme, rest)) => Cow::Owned(format!("{scheme}://…@{rest}")),
        None => Cow::Borrowed(text),
    }
}

/// One thing that a person should know. Members that do not apply are absent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// Its code.
    pub code: Code,
    /// The resource's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The name of the resource, snapshot or Region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tag's key or the variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What happened.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The place in which it was found; not part of reports.
    #[serde(skip)]
    pub place: Option<Place>,
}

impl Finding {
    /// What the findings of many resources may have in common: the code, and the setting or the
    /// answer that caused them.
    #[must_use]
    pub fn cause(&self) -> (Code, String) {
        let value = match self.code {
            Code::BadTag
            | Code::BadVariable
            | Code::BadHold
            | Code::CreateDeferred
            | Code::Brake => self.value.as_deref(),
            _ => None,
        };
        let key = self.key.as_deref().unwrap_or_default();
        (self.code, format!("{key}={}", value.unwrap_or_default()))
    }

    /// Creates a finding of this code.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Finding {
            severity: code.severity(),
            code,
            resource: None,
            name: None,
            key: None,
            value: None,
            message: message.into(),
            fix: None,
            place: None,
        }
    }

    /// Creates a finding about a tag whose value cannot be read, with the accepted form.
    #[must_use]
    pub fn bad_tag(key: &str, value: &str, accepted: impl Into<String>) -> Self {
        Self::bad(Code::BadTag, key, value, &accepted.into())
    }

    /// Creates a finding about a variable whose value cannot be read, with the accepted form.
    #[must_use]
    pub fn bad_variable(key: &str, value: &str, accepted: impl Into<String>) -> Self {
        Self::bad(Code::BadVariable, key, value, &accepted.into())
    }

    fn bad(code: Code, key: &str, value: &str, accepted: &str) -> Self {
        let value = &*without_password(value);
        Finding::new(code, format!("invalid {key}=`{value}`: expected {accepted}"))
            .key(key)
            .value(value)
            .fix(format!("set {key} to {accepted}"))
    }

    /// Sets the resource, and its name or that of its snapshot.
    #[must_use]
    pub fn of(mut self, resource: &crate::resource::ResourceId, name: &str) -> Self {
        self.resource = Some(resource.0.clone());
        self.name = Some(name.to_owned());
        self
    }

    /// Sets the name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the key of the tag, or the variable.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value in question.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// Sets what to do.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
