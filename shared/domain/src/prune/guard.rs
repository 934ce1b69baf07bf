//! The guards: what stands against a deletion, whatever the rules say.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::finding::{Code, Finding};
use crate::ledger::record::Record;
use crate::place::Place;
use crate::policy::PolicyText;
use crate::policy::confirmation::ConfirmationCode;
use crate::policy::keep::Keep;
use crate::policy::settings::Settings;
use crate::prune::Step;
use crate::prune::candidate::Candidate;
use crate::time::{FUTURE_TOLERANCE, Zone, after, elapsed};

/// A finding names at most this many snapshots; a dry run names all.
const NAMES_SHOWN_MAX: usize = 10;

/// Why a snapshot is kept that the retention would let go, or that no retention was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// It is held.
    Held,
    /// The resource is tagged `off`.
    OptedOut,
    /// The resource no longer carries the opt-in tag.
    NoLongerTagged,
    /// A tag or the named policy cannot be read.
    Unreadable,
    /// The resource is gone, and its snapshots stay.
    OrphanKept,
    /// Its record disagrees with the provider.
    RecordDisagrees,
    /// Another snapshot is that of its slot.
    Twin,
    /// The provider does not delete it in its state.
    NotDeletable,
    /// It is what a failed attempt of the latest slot left behind.
    FailedAttempt,
    /// No available snapshot is left, or the minimum would be undercut.
    Floor,
    /// The newest available snapshot is too old.
    Stale,
    /// A time lies in the future.
    Future,
    /// It is not known whether the source exists.
    SourceUnknown,
    /// The brake holds.
    Brake,
}

impl Guard {
    /// Every guard.
    pub const ALL: [Guard; 14] = [
        Guard::Held,
        Guard::OptedOut,
        Guard::NoLongerTagged,
        Guard::Unreadable,
        Guard::OrphanKept,
        Guard::RecordDisagrees,
        Guard::Twin,
        Guard::NotDeletable,
        Guard::FailedAttempt,
        Guard::Floor,
        Guard::Stale,
        Guard::Future,
        Guard::SourceUnknown,
        Guard::Brake,
    ];

    /// Whether this guard takes the mark off a marked snapshot; under the others, the mark only
    /// waits.
    #[must_use]
    pub fn rescues(self) -> bool {
        match self {
            Guard::Held
            | Guard::OptedOut
            | Guard::NoLongerTagged
            | Guard::Unreadable
            | Guard::OrphanKept
            | Guard::RecordDisagrees => true,
            Guard::FailedAttempt
            | Guard::Twin
            | Guard::NotDeletable
            | Guard::Floor
            | Guard::Stale
            | Guard::Future
            | Guard::SourceUnknown
            | Guard::Brake => false,
        }
    }

    /// The code of the finding that reports it, where it stands against a deletion.
    #[must_use]
    pub fn code(self) -> Option<Code> {
        Some(match self {
            Guard::OptedOut => Code::OptedOut,
            Guard::NoLongerTagged => Code::NoLongerTagged,
            Guard::Unreadable => Code::BadTag,
            Guard::RecordDisagrees => Code::RecordDisagrees,
            Guard::NotDeletable => Code::UsesQuota,
            Guard::Floor => Code::FloorKeeps,
            Guard::Stale => Code::Stale,
            Guard::Future => Code::FutureTime,
            Guard::SourceUnknown => Code::SourceUnknown,
            Guard::Brake => Code::Brake,
            Guard::Held | Guard::OrphanKept | Guard::Twin | Guard::FailedAttempt => return None,
        })
    }

    /// A word for it, beside the names of the rules.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Guard::Held => "held",
            Guard::OptedOut => "off",
            Guard::NoLongerTagged => "untagged",
            Guard::OrphanKept => "deleted",
            Guard::FailedAttempt => "retry",
            Guard::Floor => "minimum",
            Guard::Twin => Code::Twin.as_str(),
            other => other.code().map_or("guarded", Code::as_str),
        }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guard::Held => "held",
            Guard::OptedOut => "opted out",
            Guard::NoLongerTagged => "no longer tagged",
            Guard::Unreadable => "bad configuration",
            Guard::OrphanKept => "its resource is gone",
            Guard::RecordDisagrees => "its record disagrees",
            Guard::Twin => "another snapshot is that of its slot",
            Guard::NotDeletable => "not deletable in its state",
            Guard::FailedAttempt => "a failed attempt of the latest slot",
            Guard::Floor => "minimum kept",
            Guard::Stale => "newest available is stale",
            Guard::Future => "a time in the future",
            Guard::SourceUnknown => "its resource is not known to live",
            Guard::Brake => "brake",
        })
    }
}

/// Whether the newest snapshot fails the freshness gate: it is older than two periods and a day.
pub(super) fn is_stale(newest: Timestamp, period: SignedDuration, now: Timestamp) -> bool {
    let limit = period.saturating_mul(2).saturating_add(SignedDuration::from_hours(24));
    elapsed(newest, now) > limit
}

/// Describes the first time of a resource that lies in the future.
pub(super) fn in_future(
    candidates: &[Candidate<'_>],
    records: &[Record],
    now: Timestamp,
) -> Option<String> {
    let border = after(now, FUTURE_TOLERANCE);
    let of_snapshot = candidates.iter().find_map(|c| {
        if c.seen.slot.timestamp() > border {
            Some(format!("the slot of {}", c.name))
        } else if c.seen.created_at > border {
            Some(format!("the creation of {}", c.name))
        } else {
            None
        }
    });
    of_snapshot.or_else(|| {
        records.iter().find_map(|r| {
            if r.mark.as_ref().is_some_and(|mark| mark.at > border) {
                Some(format!("the mark of {}", r.name))
            } else if r.slot.timestamp() > border {
                Some(format!("the slot of {}", r.name))
            } else {
                None
            }
        })
    })
}

/// The brake of one resource.
pub(super) struct Brake<'a> {
    /// The times of the available snapshots, the newest first.
    pub(super) times: &'a [Timestamp],
    /// The indices into `times` to be newly marked, each with the policy of its own record.
    pub(super) marks: Vec<(usize, &'a PolicyText)>,
    /// Whether some were adopted without tags: nobody knows what was promised of them, so that any
    /// surprise needs a confirmation.
    pub(super) untagged: bool,
}

impl Brake<'_> {
    /// How many of the marks come from a changed policy: the record's own retention would still
    /// keep the snapshot today.
    fn surprises(&self) -> usize {
        let own = |policy: &PolicyText| {
            let (keep, zone) = policy.retention();
            keep.judge(self.times, &zone)
        };
        // Each distinct text is judged once.
        let mut judged = BTreeMap::new();
        let mut keeps = |(at, policy): &&(usize, &PolicyText)| {
            let text = (policy.keep.clone(), policy.timezone.clone());
            let kept = judged.entry(text).or_insert_with(|| own(policy));
            kept.get(*at).is_none_or(|reasons| !reasons.is_empty())
        };
        self.marks.iter().filter(|mark| keeps(mark)).count()
    }

    /// The finding, if the brake holds.
    pub(super) fn holds(
        &self,
        names: &[&str],
        keep: &Keep,
        zone: &Zone,
        confirmed: &[ConfirmationCode],
        settings: &Settings,
    ) -> Option<Finding> {
        let surprises = self.surprises();
        let percent = if self.untagged { 0 } else { settings.max_delete_percent };
        let percent = usize::try_from(percent).unwrap_or(usize::MAX);
        if surprises.saturating_mul(100) <= percent.saturating_mul(self.times.len()) {
            return None;
        }
        let code = ConfirmationCode::of_rules(keep, zone);
        let (shown, more) = names.split_at(names.len().min(NAMES_SHOWN_MAX));
        let more =
            if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
        if confirmed.contains(&code) || settings.confirmed.contains(&code) {
            return None;
        }
        let message = format!(
            "`{keep}` in {} would newly mark {} of {} available snapshots, {surprises} of them because \
             the policy changed; more than {percent} % need a confirmation: {}{more}",
            zone.name(),
            self.marks.len(),
            self.times.len(),
            shown.join(" ")
        );
        let fix = format!(
            "add {code} to the tag {}:confirm or to SNAPKEEP_CONFIRM if that is intended; otherwise \
             loosen the retention",
            settings.tag
        );
        Some(Finding::new(Code::Brake, message).value(code.to_string()).fix(fix))
    }
}

/// How many bytes `prune` holds for each snapshot of a place, and how many MB it takes without any.
const BYTES_A_SNAPSHOT: u64 = 1536;
const MEMORY_AT_REST_MB: u64 = 40;

/// Reports that a place has more snapshots than the function's memory is meant for, before there is
/// too little.
#[must_use]
pub fn memory_short(place: &Place, snapshots: usize, settings: &Settings) -> Option<Finding> {
    let memory = settings.memory_mb?;
    let held = (snapshots as u64).saturating_mul(BYTES_A_SNAPSHOT) / 1_000_000;
    let needed = held.saturating_add(MEMORY_AT_REST_MB);
    // Only four fifths count: the rest is for the pages that are being read.
    if needed.saturating_mul(5) <= memory.saturating_mul(4) {
        return None;
    }
    let message = format!(
        "{place} has {snapshots} snapshots, for which prune needs about {needed} MB; it has {memory} MB"
    );
    let fix = format!(
        "set the memory of the prune function to {} MB or more",
        needed.saturating_mul(5) / 4
    );
    Some(
        Finding::new(Code::MemoryShort, message).named(place).value(snapshots.to_string()).fix(fix),
    )
}

/// Tells what a run in a place would change if it were no dry run; `knows` says whether the ledger
/// knows anything there.
#[must_use]
pub fn dry_run(place: &Place, steps: &[Step], knows: bool) -> Option<Finding> {
    let names: Vec<String> = steps.iter().filter_map(Step::describe).collect();
    let count = names.len();
    if count == 0 && !knows {
        return None;
    }
    let changes = if count == 1 { "1 change is" } else { &format!("{count} changes are") };
    let message = format!("dry run in {place}: {changes} planned, none is made");
    let finding = Finding::new(Code::DryRun, message).named(place).key("SNAPKEEP_DRY_RUN");
    let finding = finding.value(names.join(", "));
    Some(finding.fix("set SNAPKEEP_DRY_RUN=off to carry out the plan"))
}

/// Applies `SNAPKEEP_MAX_DELETES`: a run that would mark more than this in a place marks none
/// there.
#[must_use]
pub fn cap_marks(place: &Place, steps: &mut Vec<Step>, settings: &Settings) -> Option<Finding> {
    let marks = steps.iter().filter(|step| matches!(step, Step::Mark(_))).count();
    let max = settings.max_deletes?;
    if marks <= usize::try_from(max).unwrap_or(usize::MAX) {
        return None;
    }
    steps.retain(|step| !matches!(step, Step::Mark(_)));
    let message = format!(
        "this run would mark {marks} snapshots in {place}, more than SNAPKEEP_MAX_DELETES={max}: none is"
    );
    let finding = Finding::new(Code::TooManyMarks, message)
        .named(place)
        .key("SNAPKEEP_MAX_DELETES")
        .value(marks.to_string())
        .fix(
            "check the plan of a dry run, then raise SNAPKEEP_MAX_DELETES or loosen the retention",
        );
    Some(finding)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::function::Function;

    #[test]
    fn too_little_memory_is_said_before_there_is_too_little() {
        let with = |memory: &str| {
            let vars =
                [("SNAPKEEP_LEDGER_TABLE", "ledger"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory)];
            let vars: BTreeMap<String, String> =
                vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Settings::read(&vars, Function::Prune).unwrap()
        };
        let place = "eu-west-1".parse().unwrap();
        assert_eq!(memory_short(&place, 100_000, &with("256")), None);
        let finding = memory_short(&place, 110_000, &with("256")).unwrap();
        assert_eq!((finding.code, finding.value.as_deref()), (Code::MemoryShort, Some("110000")));
        assert_eq!(memory_short(&place, 10_000_000, &with("")), None, "nobody says how much");
    }
}
