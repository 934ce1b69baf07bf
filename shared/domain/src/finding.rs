//! Findings: what a person should know, in closed lists that people can script against.

use crate::place::Place;
use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; alarms nobody.
    Info,
    /// Somebody should look.
    Warning,
    /// A promise is broken or about to be.
    Error,
}

/// What a notice is about; the words are those of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// A snapshot can be relied on.
    Available,
    /// A snapshot did not come about, or is lost.
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

/// How often people are told of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// It is information: it stands in the report.
    Never,
    /// It is reported once, by whoever saw it happen, and told then.
    OnEvent(Topic),
    /// It is reported at every tick while it lasts, and told when it begins and when it is over.
    WhileActive(Topic),
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $severity:ident, $notify:expr;)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code { $($(#[doc = $doc])* $name),* }

        impl Code {
            /// Every code.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The code in reports.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Code::$name => $text),* } }

            /// What it weighs.
            #[must_use]
            pub fn severity(self) -> Severity { match self { $(Code::$name => Severity::$severity),* } }

            /// Who is told of it, and how often.
            #[must_use]
            pub fn notify(self) -> Notify { match self { $(Code::$name => $notify),* } }
        }
    };
}

codes! {
    /// A tag's key or value cannot be read, or does nothing; nothing of the resource is pruned.
    BadTag = "bad-tag", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A named policy, or a variable this function can do without, cannot be read.
    BadVariable = "bad-variable", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A hold cannot be read; it holds.
    BadHold = "bad-hold", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The resource says `off`: no new snapshots, nothing pruned.
    OptedOut = "opted-out", Info, Notify::Never;
    /// Snapshots of ours whose resource carries the opt-in tag no more.
    NoLongerTagged = "no-longer-tagged", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The schedule's slots that passed without a snapshot; `value` is their count.
    MissedSlots = "missed-slots", Error, Notify::OnEvent(Topic::Missed);
    /// A due slot waits while another snapshot of the resource is being made.
    WaitingForPending = "waiting-for-pending", Info, Notify::Never;
    /// Another invocation is taking this slot's snapshot right now.
    ClaimedElsewhere = "claimed-elsewhere", Info, Notify::Never;
    /// The intent is kept and tried again at the next tick; the message says what stood in the way.
    CreateDeferred = "create-deferred", Warning, Notify::WhileActive(Topic::Failed);
    /// An attempt failed; `value` is its number.
    AttemptFailed = "attempt-failed", Error, Notify::OnEvent(Topic::Failed);
    /// A failed slot waits for its next attempt.
    RetryLater = "retry-later", Info, Notify::Never;
    /// The slot's attempts are used up; the next slot comes.
    AttemptsExhausted = "attempts-exhausted", Error, Notify::WhileActive(Topic::Failed);
    /// A snapshot is pending for longer than `SNAPKEEP_PENDING_TIMEOUT`.
    PendingTooLong = "pending-too-long", Warning, Notify::WhileActive(Topic::Failed);
    /// An available snapshot was deleted by someone else.
    Vanished = "vanished", Warning, Notify::OnEvent(Topic::Failed);
    /// A deleted snapshot is there again.
    SeenAgain = "seen-again", Warning, Notify::OnEvent(Topic::Available);
    /// A snapshot of ours without a record was taken into the ledger.
    Adopted = "adopted", Info, Notify::Never;
    /// A snapshot carries this deployment's tag, but is not ours.
    LookAlike = "look-alike", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The newest available snapshot is older than two periods and a day; nothing is pruned.
    Stale = "stale", Error, Notify::WhileActive(Topic::HeldBack);
    /// The newest available snapshot is older than its schedule promises: a period, and the time that a
    /// snapshot may take (`SNAPKEEP_PENDING_TIMEOUT`).
    Overdue = "overdue", Error, Notify::WhileActive(Topic::Missed);
    /// A slot, creation or mark lies in the future; nothing is pruned.
    FutureTime = "future-time", Error, Notify::WhileActive(Topic::HeldBack);
    /// The brake holds: a changed policy would take too much; `value` is the confirming code.
    Brake = "brake", Warning, Notify::WhileActive(Topic::HeldBack);
    /// The run would mark more than `SNAPKEEP_MAX_DELETES`; none was marked.
    TooManyMarks = "too-many-marks", Warning, Notify::WhileActive(Topic::HeldBack);
    /// No retention is configured: everything is kept.
    KeepsEverything = "keeps-everything", Info, Notify::Never;
    /// The resource is gone; the message says what becomes of its snapshots, `value` their GB.
    Orphan = "orphan", Info, Notify::Never;
    /// The resource is gone and was held when it was last seen: its snapshots stay held; `value` is the code
    /// that releases them.
    OrphanHeld = "orphan-held", Warning, Notify::WhileActive(Topic::HeldBack);
    /// Whether the resource still exists could not be determined; nothing of it is pruned.
    SourceUnknown = "source-unknown", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A Region is not enabled for the account.
    RegionNotEnabled = "region-not-enabled", Info, Notify::Never;
    /// A Region is not enabled, though it was asked for by name or the ledger has live records there.
    RegionUnreachable = "region-unreachable", Error, Notify::WhileActive(Topic::Failed);
    /// The provider no longer names a Region that the ledger knows; it is looked after all the same.
    RegionUnnamed = "region-unnamed", Warning, Notify::WhileActive(Topic::Failed);
    /// The configuration leaves out a place that has protected resources: nothing is taken or pruned there.
    PlaceLeftOut = "place-left-out", Warning, Notify::WhileActive(Topic::Missed);
    /// Another run of the function is at work in this place.
    LaneHeld = "lane-held", Info, Notify::Never;
    /// A Tick event does not fit: it names another deployment, function or place, or cannot be read.
    BadTick = "bad-tick", Warning, Notify::OnEvent(Topic::Failed);
    /// A place has more snapshots than the function's memory is meant for.
    MemoryShort = "memory-short", Warning, Notify::WhileActive(Topic::HeldBack);
    /// A record of the ledger cannot be read; nothing of its resource is pruned.
    UnreadableRecord = "unreadable-record", Error, Notify::WhileActive(Topic::HeldBack);
    /// A record says something else than the provider shows; the snapshot is kept.
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

/// One thing a person should know. Members that do not apply are absent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
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
    /// The value that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is the matter.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The place that it was found in; not part of reports.
    #[serde(skip)]
    pub place: Option<Place>,
}

impl Finding {
    /// What many resources may have in common: the code, and the setting or the answer that caused it.
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

    /// A finding of this code.
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

    /// A tag whose value cannot be read, and the form that is accepted.
    #[must_use]
    pub fn bad_tag(key: &str, value: &str, accepted: impl Into<String>) -> Self {
        Self::bad(Code::BadTag, key, value, &accepted.into())
    }

    /// A variable whose value cannot be read, and the form that is accepted.
    #[must_use]
    pub fn bad_variable(key: &str, value: &str, accepted: impl Into<String>) -> Self {
        Self::bad(Code::BadVariable, key, value, &accepted.into())
    }

    fn bad(code: Code, key: &str, value: &str, accepted: &str) -> Self {
        Finding::new(code, format!("invalid {key}=`{value}`: expected {accepted}"))
            .key(key)
            .value(value)
            .fix(format!("set {key} to {accepted}"))
    }

    /// About this resource.
    #[must_use]
    pub fn of(mut self, resource: &crate::resource::ResourceId, name: &str) -> Self {
        self.resource = Some(resource.0.clone());
        self.name = Some(name.to_owned());
        self
    }

    /// About the thing of this name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// With the key that was set.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With the value that matters.
    #[must_use]
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// With what to do.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
