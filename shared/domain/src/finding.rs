//! Findings: what a person should know, in closed lists that people can script against.

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; alarms nobody.
    Info,
    /// Somebody should look.
    Warning,
    /// A promise is broken or about to be.
    Error,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $severity:ident;)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
        }
    };
}

codes! {
    /// A tag's key or value cannot be read, or does nothing; nothing of the resource is pruned.
    BadTag = "bad-tag", Warning;
    /// A named policy, or a variable this function can do without, cannot be read.
    BadVariable = "bad-variable", Warning;
    /// A hold cannot be read; it holds.
    BadHold = "bad-hold", Warning;
    /// The resource says `off`: no new snapshots, nothing pruned.
    OptedOut = "opted-out", Info;
    /// Snapshots of ours whose resource carries the opt-in tag no more.
    NoLongerTagged = "no-longer-tagged", Warning;
    /// The schedule's slots that passed without a snapshot; `value` is their count.
    MissedSlots = "missed-slots", Error;
    /// A due slot waits while another snapshot of the resource is being made.
    WaitingForPending = "waiting-for-pending", Info;
    /// Another invocation is taking this slot's snapshot right now.
    ClaimedElsewhere = "claimed-elsewhere", Info;
    /// The intent is kept and tried again at the next tick; the message says what stood in the way.
    CreateDeferred = "create-deferred", Warning;
    /// An attempt failed; `value` is its number.
    AttemptFailed = "attempt-failed", Error;
    /// A failed slot waits for its next attempt.
    RetryLater = "retry-later", Info;
    /// The slot's attempts are used up; the next slot comes.
    AttemptsExhausted = "attempts-exhausted", Error;
    /// A snapshot is pending for longer than `SNAPKEEP_PENDING_TIMEOUT`.
    PendingTooLong = "pending-too-long", Warning;
    /// An available snapshot was deleted by someone else.
    Vanished = "vanished", Warning;
    /// A deleted snapshot is there again.
    SeenAgain = "seen-again", Warning;
    /// A snapshot of ours without a record was taken into the ledger.
    Adopted = "adopted", Info;
    /// A snapshot carries this deployment's tag, but is not ours.
    LookAlike = "look-alike", Warning;
    /// The newest available snapshot is older than two periods and a day; nothing is pruned.
    Stale = "stale", Error;
    /// The newest available snapshot is older than its schedule promises: a period, and the time that a
    /// snapshot may take (`SNAPKEEP_PENDING_TIMEOUT`).
    Overdue = "overdue", Error;
    /// A slot, creation or mark lies in the future; nothing is pruned.
    FutureTime = "future-time", Error;
    /// The brake holds: a changed policy would take too much; `value` is the confirming code.
    Brake = "brake", Warning;
    /// The run would mark more than `SNAPKEEP_MAX_DELETES`; none was marked.
    TooManyMarks = "too-many-marks", Warning;
    /// No retention is configured: everything is kept.
    KeepsEverything = "keeps-everything", Info;
    /// The resource is gone; the message says what becomes of its snapshots, `value` their GB.
    Orphan = "orphan", Info;
    /// Whether the resource still exists could not be found out; nothing of it is pruned.
    SourceUnknown = "source-unknown", Warning;
    /// A Region is not enabled for the account.
    RegionNotEnabled = "region-not-enabled", Info;
    /// A Region is not enabled, though it was asked for by name or the ledger has live records there.
    RegionUnreachable = "region-unreachable", Error;
    /// A record of the ledger cannot be read; nothing of its resource is pruned.
    UnreadableRecord = "unreadable-record", Error;
    /// A record says something else than the provider shows; the snapshot is kept.
    RecordDisagrees = "record-disagrees", Warning;
    /// The floor keeps a snapshot that the policy would let go.
    FloorKeeps = "floor-keeps", Info;
    /// The provider refused a deletion at the last moment.
    DeleteRefused = "delete-refused", Warning;
    /// A marked snapshot is kept after all.
    Rescued = "rescued", Info;
    /// The dry run changed nothing.
    DryRun = "dry-run", Info;
}

/// One thing a person should know. Members that do not apply are absent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
}

impl Finding {
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
        }
    }

    /// About this resource.
    #[must_use]
    pub fn of(mut self, resource: &crate::snapshot::ResourceId, name: &str) -> Self {
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
