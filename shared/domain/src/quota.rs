//! Whether the quota of a place suffices for what its policies keep. Nothing is ever deleted to make
//! room: a quota that is too small is reported before it is full.

use jiff::{SignedDuration, Timestamp};

use crate::answer::Quota;
use crate::finding::{Code, Finding};
use crate::place::Place;
use crate::policy::keep::Keep;
use crate::policy::settings::Context;
use crate::policy::{Policy, Retention};
use crate::snapshot::Instance;
use crate::time::after;

/// So many slots are judged to see how many a policy keeps. What would keep more than these is
/// without end, as far as any quota is concerned.
const SLOTS: usize = 3000;
/// A finding names at most this many instances.
const NAMES_SHOWN_MAX: usize = 10;

/// What a protected instance needs of its place's quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    name: String,
    /// How many snapshots there are at most in the long run; `None` means without end.
    most: Option<u64>,
    /// How many of them are announced deletions, and the one that is being made.
    beside: u64,
    period: SignedDuration,
}

impl Need {
    /// The need of an instance under its policy: what the policy keeps, what waits for its deletion
    /// through the grace, and the one that is being made.
    #[must_use]
    pub fn of(instance: &Instance, policy: &Policy, cx: &Context<'_>) -> Need {
        let period = policy.schedule.period(&policy.zone, cx.now);
        let waiting = cx.settings.grace.as_secs().max(0).unsigned_abs();
        let beside = waiting.div_ceil(period.as_secs().max(1).unsigned_abs()) + 1;
        let keep = match &policy.retention {
            Retention::Unset | Retention::Unreadable => Keep::All,
            retention => retention.keep(),
        };
        let kept = kept(&keep, policy, cx.now);
        let name = instance.name.clone();
        Need { name, most: kept.map(|kept| kept.saturating_add(beside)), beside, period }
    }
}

/// How many snapshots a policy keeps in the long run; `None` means without end.
fn kept(keep: &Keep, policy: &Policy, now: Timestamp) -> Option<u64> {
    if *keep == Keep::All {
        return None;
    }
    let slots = policy.schedule.slots_back(&policy.zone, now).take(SLOTS);
    let times: Vec<Timestamp> = slots.map(|slot| slot.timestamp()).collect();
    let judged = keep.judge(&times, &policy.zone);
    // The oldest one is kept by every bucket that is not full yet.
    let kept = judged.iter().rev().skip(1).filter(|reasons| !reasons.is_empty()).count();
    u64::try_from(kept).ok()
}

/// Reports a place whose quota does not suffice; `foreign` is how many snapshots are not ours.
#[must_use]
pub fn short(
    place: &Place,
    quota: Quota,
    foreign: u64,
    needs: &[Need],
    now: Timestamp,
) -> Option<Finding> {
    let usable = quota.total.saturating_sub(foreign);
    let endless: Vec<&Need> = needs.iter().filter(|need| need.most.is_none()).collect();
    let needed = needs.iter().filter_map(|need| need.most).fold(0, u64::saturating_add);
    let (message, named, value) = if !endless.is_empty() {
        let full = full_at(quota.available, &endless, now);
        let message = format!(
            "the retention of {} in {place} has no end, and the quota of {} snapshots does: it is full on \
             {full} at this rate",
            count(endless.len()),
            quota.total
        );
        (message, endless, full)
    } else if needed > usable {
        let message = format!(
            "{place} has a quota of {} snapshots, {foreign} of which are not ours; the policies of {} need \
             {needed}",
            quota.total,
            count(needs.len())
        );
        (message, needs.iter().collect(), needed.to_string())
    } else {
        return None;
    };
    let finding = Finding::new(Code::QuotaShort, format!("{message}: {}", names(&named)));
    Some(finding.named(place).value(value).fix(fix(usable, needs)))
}

/// The day on which the quota is full, if these instances go on as they do.
fn full_at(available: u64, endless: &[&Need], now: Timestamp) -> String {
    const DAY: i64 = 24 * 3600;
    let day = |need: &&Need| DAY / need.period.as_secs().max(1);
    // Slower schedules count as one a day at most: the day comes later then, never earlier.
    let a_day = endless.iter().map(day).sum::<i64>().max(1);
    let days = i64::try_from(available).unwrap_or(i64::MAX) / a_day;
    let hours = days.saturating_mul(24).min(24 * 366 * 100);
    let full = after(now, SignedDuration::from_hours(hours));
    full.strftime("%Y-%m-%d").to_string()
}

/// What would fit: the same number of snapshots for each instance.
fn fix(usable: u64, needs: &[Need]) -> String {
    let each = usable / u64::try_from(needs.len()).unwrap_or(1).max(1);
    let beside = needs.iter().map(|need| need.beside).max().unwrap_or(1);
    match each.saturating_sub(beside) {
        0 => {
            "have the quota raised, delete snapshots that are not ours, or protect fewer instances"
                .to_owned()
        }
        fits => {
            format!("have the quota raised, or keep less: `last={fits}` for each of them would fit")
        }
    }
}

fn names(needs: &[&Need]) -> String {
    let shown: Vec<&str> =
        needs.iter().take(NAMES_SHOWN_MAX).map(|need| need.name.as_str()).collect();
    match needs.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn count(instances: usize) -> String {
    if instances == 1 { "1 instance".to_owned() } else { format!("{instances} instances") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;
    use crate::function::Function;
    use crate::ledger::lease::Lease;
    use crate::policy::settings::Settings;
    use crate::resource::ResourceId;

    const NOW: &str = "2026-11-20T04:00:00Z";

    fn need(name: &str, schedule: &str, keep: &str) -> Need {
        let vars = [
            ("SNAPKEEP_LEDGER_TABLE", "ledger"),
            ("SNAPKEEP_SCHEDULE", schedule),
            ("SNAPKEEP_KEEP", keep),
        ];
        let vars = vars.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let settings = Settings::read(&vars.into(), Function::Prune).unwrap();
        let now = NOW.parse().unwrap();
        let (lease, capabilities) = (Lease::NONE, Capabilities::default());
        let cx = Context {
            settings: &settings,
            now,
            lease,
            elapsed: SignedDuration::ZERO,
            capabilities,
        };
        let instance = Instance {
            id: ResourceId(name.to_owned()),
            name: name.to_owned(),
            place: "name:ap-north-1".parse().unwrap(),
            tags: [].into(),
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        };
        Need::of(&instance, &settings.policies.default, &cx)
    }

    fn short_of(total: u64, available: u64, foreign: u64, needs: &[Need]) -> Option<Finding> {
        let place = "name:ap-north-1".parse().unwrap();
        short(&place, Quota { total, available }, foreign, needs, NOW.parse().unwrap())
    }

    #[test]
    fn a_need_is_what_is_kept_and_what_waits_and_what_is_made() {
        // Three days of grace are three slots a day apart, and twelve six hours apart.
        for (schedule, keep, most) in [
            ("daily@03:00", "last=3", Some(3 + 3 + 1)),
            ("daily@03:00", "daily=7", Some(7 + 3 + 1)),
            ("every-6h", "last=3", Some(3 + 12 + 1)),
            ("weekly@sun-03:00", "last=2", Some(2 + 1 + 1)),
            ("daily@03:00", "within=10d", Some(10 + 3 + 1)),
            ("daily@03:00", "all", None),
            ("daily@03:00", "", None),
        ] {
            assert_eq!(need("web", schedule, keep).most, most, "{schedule} {keep}");
        }
        // Buckets share snapshots: the first weeks are among the days.
        let most = need("web", "daily@03:00", "daily=7 weekly=4").most.unwrap();
        assert!((9 + 4..=10 + 4).contains(&most), "{most}");
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        let needs = [need("web", "daily@03:00", "last=3"), need("db", "daily@03:00", "last=3")];
        assert_eq!(short_of(14, 14, 0, &needs), None);
        let finding = short_of(14, 13, 2, &needs).unwrap();
        assert_eq!((finding.code, finding.value.as_deref()), (Code::QuotaShort, Some("14")));
        assert!(finding.message.contains("web, db"), "{}", finding.message);
        assert!(finding.fix.as_deref().unwrap().contains("`last=2`"), "{finding:?}");
        let finding = short_of(4, 4, 0, &needs).unwrap();
        assert!(!finding.fix.unwrap().contains("last="), "nothing would fit");
    }

    #[test]
    fn a_retention_without_end_has_a_date() {
        let needs = [need("web", "daily@03:00", "all"), need("db", "daily@03:00", "")];
        let finding = short_of(500, 20, 0, &needs).unwrap();
        assert_eq!(finding.value.as_deref(), Some("2026-11-30"));
        assert!(finding.message.contains("web, db"), "{}", finding.message);
    }
}
