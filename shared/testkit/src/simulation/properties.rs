//! The properties that must hold, whatever happens: they watch the stream of calls, and know
//! nothing of what the seed does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::SnapshotRequest;
use snapkeep_app::report::{Report, TickError};
use snapkeep_domain::finding::Code;
use snapkeep_domain::ledger::record::{EDGES, INVOCATION_LIFE, Record, State};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::confirmation::ConfirmationCode;
use snapkeep_domain::policy::keep::MinKeep;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{
    ATTEMPTS_MAX, Hold, Instance, Ownership, SLOT, SOURCE, Snapshot, SnapshotState,
};
use snapkeep_domain::time::{FUTURE_TOLERANCE, Zone};

use super::invocation::{BY_SUFFIX, RunningInvocation, slot_of};
use super::operators::TWIN;
use super::progress::Told;
pub use super::property::{Property, Violation};
use super::world::is_of;
use crate::memory::CREATED_LAG;
use crate::reference;

/// A snapshot that a deployment made.
#[derive(Clone, Debug)]
struct Made {
    deployment: String,
    resource: ResourceId,
    slot: String,
}

/// The memory of the properties.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) violation: Option<Violation>,
    made: BTreeMap<String, Made>,
    /// Snapshots whose tags somebody removed.
    pub(super) stripped: BTreeSet<String>,
    /// Snapshots that were in error, and are available after all.
    pub(super) healed: BTreeSet<String>,
    /// Snapshots that a function deleted.
    by_our_hand: BTreeSet<String>,
    /// The greatest error of an invocation's clock.
    pub(super) clocks_off: SignedDuration,
    /// When the ledger last lost something.
    pub(super) ledger_lost: Option<Timestamp>,
    /// The holds on instances when a run of a deployment last saw them, and the time.
    seen_held: BTreeMap<(String, ResourceId), (Timestamp, Hold)>,
    /// The formats that functions wrote: an older version cannot read what a newer one wrote.
    pub(super) formats: BTreeSet<u32>,
    /// When each attempt of a slot was made, by deployment, resource and slot.
    tried: BTreeMap<(String, ResourceId, String), BTreeMap<u32, Timestamp>>,
    /// When a lookup of a snapshot first answered "not found", if no later one found it: by
    /// deployment, place and name.
    pub(super) missing: BTreeMap<(String, Place, String), Timestamp>,
    /// Whether somebody removed tombstones.
    pub(super) expired: bool,
    /// What people or programs of each deployment were notified of, and whether it is resolved.
    pub(super) heard: BTreeMap<(usize, Told), bool>,
    /// Codes of mails that named only some of the things that they were about.
    pub(super) named_in_part: BTreeSet<Code>,
    /// The instances that have had a name: names are used again.
    pub(super) names: BTreeMap<String, BTreeSet<ResourceId>>,
    /// The hour in which a request for a snapshot of a resource was last let through; and the first
    /// hour.
    pub(super) served_in: BTreeMap<ResourceId, i64>,
    pub(super) first_hour: Option<i64>,
    /// Slots reported as missed, by deployment and resource.
    pub(super) missed: BTreeMap<(String, ResourceId), usize>,
}

impl Watch {
    pub(super) fn violate(&mut self, property: Property, message: String) {
        self.violation.get_or_insert(Violation { property, message });
    }

    pub(super) fn check(
        &mut self,
        holds: bool,
        property: Property,
        message: impl FnOnce() -> String,
    ) {
        if !holds && self.violation.is_none() {
            self.violate(property, message());
        }
    }

    /// Notes that an invocation begins.
    pub(super) fn began(&mut self, doing: &RunningInvocation) {
        self.formats.insert(doing.format);
        self.clocks_off = self.clocks_off.max(doing.now.duration_since(doing.started).abs());
    }

    pub(super) fn made(&self, id: &str) -> bool {
        self.made.contains_key(id)
    }

    /// Whether this deployment made it, and nobody removed its tags.
    pub(super) fn made_intact(&self, id: &str, deployment: &str) -> bool {
        !self.stripped.contains(id) && self.made.get(id).is_some_and(|m| m.deployment == deployment)
    }

    /// Whether the ledger has lost anything since `then`.
    pub(super) fn lost_since(&self, then: Timestamp) -> bool {
        self.ledger_lost.is_some_and(|lost| lost >= then)
    }

    pub(super) fn ordered(
        &mut self,
        doing: &RunningInvocation,
        order: &SnapshotRequest,
        intended: bool,
    ) {
        let excused = self.lost_since(doing.started);
        self.check(intended || excused, Property::IntentFirst, || {
            format!("{} is asked for without an intent", order.name)
        });
    }

    /// Notes a snapshot that was made besides the requested one.
    pub(super) fn smuggled(&mut self, snapshot: &Snapshot) {
        let tag = |key: &str| snapshot.tags.get(key).cloned().unwrap_or_default();
        let deployment = tag(snapkeep_domain::snapshot::MANAGED_BY);
        let (resource, slot) = (ResourceId(tag(SOURCE)), tag(SLOT));
        self.made.insert(snapshot.id.clone(), Made { deployment, resource, slot });
    }

    pub(super) fn created(
        &mut self,
        doing: &RunningInvocation,
        made: &Snapshot,
        order: &SnapshotRequest,
        all: &[Snapshot],
    ) {
        let deployment = doing.settings.deployment.to_string();
        let slot = order.tags.get(SLOT).cloned().unwrap_or_default();
        let resource = made.source.clone();
        let entry = Made { deployment, resource, slot };
        let twin = all.iter().find(|other| {
            other.id != made.id
                && other.state != SnapshotState::Error
                && !self.stripped.contains(&other.id)
                && !self.healed.contains(&other.id)
                && !entry.slot.is_empty()
                // Once the ledger has lost the outcome of an attempt, two snapshots are better than
                // none.
                && !self.lost_since(other.created_at - CREATED_LAG)
                && self.made.get(&other.id).is_some_and(|m| {
                    (&m.deployment, &m.resource, &m.slot)
                        == (&entry.deployment, &entry.resource, &entry.slot)
                })
        });
        let message = twin.map(|twin| format!("{} and {} are of one slot", twin.name, made.name));
        self.one_at_a_time(doing, made, &entry, all);
        self.backed_off(doing, made, &entry);
        self.made.insert(made.id.clone(), entry);
        self.check(message.is_none(), Property::OnePerSlot, || message.unwrap_or_default());
    }

    fn one_at_a_time(
        &mut self,
        doing: &RunningInvocation,
        made: &Snapshot,
        entry: &Made,
        all: &[Snapshot],
    ) {
        let timeout = doing.settings.pending_timeout;
        let under_way = all.iter().find(|other| {
            let asked = other.created_at - CREATED_LAG;
            other.id != made.id
                && self.formats.len() == 1
                && other.state == SnapshotState::Pending
                && !self.stripped.contains(&other.id)
                && !self.lost_since(asked)
                // The record states when the run began that made the request.
                && doing.now.duration_since(asked) + self.clocks_off * 2 + INVOCATION_LIFE < timeout
                && self.made.get(&other.id).is_some_and(|m| {
                    (&m.deployment, &m.resource) == (&entry.deployment, &entry.resource)
                })
        });
        let message = under_way.map(|o| format!("{} is made while {} is", made.name, o.name));
        self.check(message.is_none(), Property::OneAtATime, || message.unwrap_or_default());
    }

    fn backed_off(&mut self, doing: &RunningInvocation, made: &Snapshot, entry: &Made) {
        let Ownership::Ours { attempt, .. } = made.ownership(&entry.deployment, &BY_SUFFIX) else {
            return;
        };
        let key = (entry.deployment.clone(), entry.resource.clone(), entry.slot.clone());
        let tried = self.tried.entry(key).or_default();
        let last = tried.last_key_value().map(|(attempt, at)| (*attempt, *at));
        tried.insert(attempt, doing.now);
        let Some((before, at)) = last.filter(|(before, _)| *before < attempt) else { return };
        let hours = SignedDuration::from_hours(1 << (attempt - 2));
        let waited = doing.now.duration_since(at) + self.clocks_off * 2;
        let holds = waited >= hours || self.lost_since(at) || self.formats.len() > 1;
        self.check(holds && attempt <= ATTEMPTS_MAX, Property::Backoff, || {
            format!("{} follows attempt {before} after {waited:#}", made.name)
        });
    }

    pub(super) fn deleted(
        &mut self,
        doing: &mut RunningInvocation,
        gone: &Snapshot,
        record: Option<&Record>,
        left: &[Snapshot],
        now: Timestamp,
    ) {
        let name = &gone.name;
        self.by_our_hand.insert(gone.id.clone());
        let ours = self
            .made
            .get(&gone.id)
            .is_some_and(|made| made.deployment == *doing.settings.deployment);
        // A copy under the same name can only be taken for the original once that is gone.
        let original =
            |s: &&Snapshot| s.id != gone.id && s.name == *name && s.source == gone.source;
        let mistaken = gone.id.starts_with(TWIN)
            && (self.ledger_lost.is_some() || self.expired || !left.iter().any(|s| original(&s)));
        let ours = ours || mistaken;
        self.check(ours, Property::OnlyOurs, || format!("{name} was deleted and is not ours"));

        let settled = matches!(gone.state, SnapshotState::Available | SnapshotState::Error);
        self.check(settled, Property::OnlyAvailable, || format!("{name} was {:?}", gone.state));

        let look = doing.looks.get(&(gone.place.clone(), name.clone())).cloned().flatten();
        let zone = record.and_then(|r| r.policy.timezone.parse().ok()).unwrap_or_else(Zone::utc);
        let held = look.is_none_or(|look| look.hold().is_some_and(|h| h.holds(doing.now, &zone)));
        self.check(!held, Property::HoldsHold, || {
            format!("{name} was deleted without a free look")
        });

        self.check(doing.listed(&gone.place), Property::CompleteLists, || {
            format!("{name} was deleted after an incomplete list of {}", gone.place)
        });

        self.check(!doing.settings.dry_run, Property::DryRun, || format!("{name} was deleted"));
        self.marked_long_enough(doing, gone, record, now);
        self.floor(doing, gone, left);
        self.kept_by_policy(doing, gone);
    }

    fn marked_long_enough(
        &mut self,
        doing: &RunningInvocation,
        gone: &Snapshot,
        record: Option<&Record>,
        now: Timestamp,
    ) {
        let Some(record) = record else {
            // Two runs whose clocks disagree may both believe that the snapshot is theirs.
            let excused = self.lost_since(doing.started) || self.clocks_off > SignedDuration::ZERO;
            self.check(excused, Property::Grace, || {
                format!("{} was deleted, and no record says so", gone.name)
            });
            return;
        };
        let grace = doing.settings.grace;
        let old_enough = record.mark.as_ref().is_some_and(|mark| {
            // Its own clock must agree exactly, and the right one within the error of the clocks.
            let slack = self.clocks_off * 2;
            let truly = record.times.get(State::Expiring).unwrap_or(Timestamp::MAX);
            doing.now >= mark.at + grace
                && doing.now >= mark.execute_at
                && now + slack >= truly + grace
        });
        self.check(old_enough, Property::Grace, || {
            format!("{} was deleted at {} with the mark {:?}", gone.name, doing.now, record.mark)
        });
    }

    fn floor(&mut self, doing: &RunningInvocation, gone: &Snapshot, left: &[Snapshot]) {
        if gone.state != SnapshotState::Available {
            return;
        }
        let number = match &doing.settings.min_keep {
            MinKeep::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            MinKeep::Rules(_) => 1,
        };
        let ours = |s: &&Snapshot| slot_of(s, &gone.source, &doing.settings.deployment).is_some();
        // What is being deleted may still be there.
        let remain = left.iter().filter(ours).filter(|s| !self.by_our_hand.contains(&s.id)).count();
        // What somebody else deleted since the list was made is not by our hand.
        let shown = doing.available(&gone.source);
        let by_others = shown
            .iter()
            .filter(|(_, s)| s.id != gone.id && !self.by_our_hand.contains(&s.id))
            .filter(|(_, s)| !left.iter().filter(ours).any(|l| l.id == s.id))
            .count();
        self.check(remain + by_others >= number, Property::Floor, || {
            format!("after {} only {remain} of {number} remain", gone.name)
        });
    }

    fn kept_by_policy(&mut self, doing: &RunningInvocation, gone: &Snapshot) {
        if gone.state != SnapshotState::Available {
            return;
        }
        let shown = doing.available(&gone.source);
        let times: Vec<Timestamp> = shown.iter().map(|(time, _)| *time).collect();
        // If two snapshots have one slot, either may go.
        let time = shown.iter().find(|(_, s)| s.id == gone.id).map(|(time, _)| *time);
        let at = times.iter().rposition(|one| Some(*one) == time);
        let stays = |rules: &str, zone: &Zone| {
            at.is_some_and(|at| reference::keeps(rules, &times, zone.rules())[at])
        };
        let name = &gone.name;
        let Some(instance) = doing.instance(&gone.source) else {
            let who = (gone.place.clone(), gone.source.clone());
            let other = |found: &Instance| found.id != gone.source;
            let asked = doing.asked.get(&who).is_some_and(|found| found.as_ref().is_none_or(other));
            let old_enough = match (doing.settings.orphan_keep, times.first()) {
                (Some(keep), Some(newest)) => doing.now >= *newest + keep,
                _ => false,
            };
            self.check(asked && old_enough, Property::KeptByPolicy, || {
                format!("{name} was deleted, and nobody let its orphans go")
            });
            let released =
                doing.settings.confirmed.contains(&ConfirmationCode::of_release(&gone.source));
            let key = (doing.settings.deployment.to_string(), gone.source.clone());
            let held = self.seen_held.get(&key).filter(|(at, _)| !self.lost_since(*at));
            let zone = &doing.settings.policies.default.zone;
            let held = held.is_some_and(|(_, hold)| hold.holds(doing.now, zone));
            self.check(!held || released, Property::HoldsHold, || {
                format!("{name} was deleted, and its instance was held when it was last seen")
            });
            return;
        };
        let Protection { opt_in, policy, hold, .. } =
            Protection::read(&instance.tags, &doing.settings.tag, &doing.settings.policies);
        let period = policy.schedule.period(&policy.zone, doing.now);
        let newest = times.first().copied().unwrap_or(Timestamp::MIN);
        let fresh = doing.now.duration_since(newest) <= period * 2 + SignedDuration::from_hours(24);
        let border = doing.now + FUTURE_TOLERANCE;
        let ahead = shown.iter().any(|(slot, s)| *slot > border || s.created_at > border);
        self.check(fresh && !ahead, Property::Freshness, || {
            format!("{name} was deleted at {}, and the newest is of {newest}", doing.now)
        });
        let on = opt_in == OptIn::On && policy.problems.is_empty();
        let held = hold.is_some_and(|hold| hold.holds(doing.now, &policy.zone));
        self.check(!held, Property::HoldsHold, || format!("{name} was deleted, its instance held"));
        let keep = policy.retention.keep().to_string();
        let floor = match &doing.settings.min_keep {
            MinKeep::Rules(rules) => stays(&rules.to_string(), &policy.zone),
            MinKeep::Count(_) => false,
        };
        let kept = stays(&keep, &policy.zone) || floor;
        self.check(on && !kept, Property::KeptByPolicy, || {
            format!("{name} was deleted, and `{keep}` keeps it")
        });
    }

    pub(super) fn wrote(
        &mut self,
        doing: &mut RunningInvocation,
        old: Option<&Record>,
        new: &Record,
        there: Option<&Snapshot>,
    ) {
        let legal = match old {
            Some(old) => EDGES.contains(&(old.state, new.state)),
            None => matches!(
                new.state,
                State::Intended | State::Pending | State::Available | State::Failed
            ),
        };
        self.check(legal, Property::LegalEdges, || {
            format!("{} went from {:?} to {:?}", new.name, old.map(|old| old.state), new.state)
        });
        if new.state == State::Deleted {
            let looked = doing.looks.get(&(new.place.clone(), new.name.clone()));
            let confirmed = there.is_none() && looked.is_some_and(Option::is_none);
            self.check(confirmed, Property::Tombstones, || {
                format!("{} has a tombstone, and nobody said that it is gone", new.name)
            });
        }
        if let Some(old) = old {
            self.gone(doing, old, new);
        }
        if let Some(old) = old.filter(|old| old.state != new.state)
            && new.state == State::Expiring
        {
            doing.marked.entry(new.resource.clone()).or_default().push(old.clone());
            self.marked_in_bounds(doing, &new.place);
            self.brake(doing, &new.resource);
        }
    }

    /// Checks how many snapshots a run has marked so far that their own policies would still keep.
    fn brake(&mut self, doing: &RunningInvocation, resource: &ResourceId) {
        let Some(instance) = doing.instance(resource) else { return };
        let shown = doing.available(resource);
        let times: Vec<Timestamp> = shown.iter().map(|(time, _)| *time).collect();
        let marked = doing.marked.get(resource).map_or(&[][..], Vec::as_slice);
        let surprises = marked
            .iter()
            .filter(|record| {
                let Some(at) = shown.iter().position(|(_, s)| is_of(record, s)) else {
                    return false;
                };
                // If two snapshots have one slot, either may be the one that the rules keep.
                if times.iter().filter(|time| **time == times[at]).count() > 1 {
                    return false;
                }
                let zone: Option<Zone> = record.policy.timezone.parse().ok();
                match (&record.policy.keep, zone) {
                    (Some(keep), Some(zone)) => reference::keeps(keep, &times, zone.rules())[at],
                    _ => true,
                }
            })
            .count();
        let limit = usize::try_from(doing.settings.max_delete_percent).unwrap_or(100);
        let protection =
            Protection::read(&instance.tags, &doing.settings.tag, &doing.settings.policies);
        let code = ConfirmationCode::of_rules(
            &protection.policy.retention.keep(),
            &protection.policy.zone,
        );
        let confirmed =
            protection.confirmed.contains(&code) || doing.settings.confirmed.contains(&code);
        self.check(surprises * 100 <= limit * times.len() || confirmed, Property::Brake, || {
            format!(
                "{surprises} of {} snapshots of {} were marked by a change of policy",
                times.len(),
                instance.name
            )
        });
    }

    /// Checks the report of an invocation that ended.
    pub(super) fn ended(&mut self, doing: &RunningInvocation, result: &Result<Report, TickError>) {
        let Ok(report) = result else { return };
        let unknown = |id: &ResourceId| doing.unresolved.contains(&("remember", id.0.clone()));
        for seen in doing.instances.values().flat_map(|view| &view.shown) {
            self.names.entry(seen.name.clone()).or_default().insert(seen.id.clone());
            let key = (doing.settings.deployment.to_string(), seen.id.clone());
            let hold = Hold::find(&seen.tags, &format!("{}:hold", doing.settings.tag));
            match hold.filter(|_| !unknown(&seen.id) && report.left == 0) {
                Some(hold) => drop(self.seen_held.insert(key, (doing.started, hold))),
                None => drop(self.seen_held.remove(&key)),
            }
        }
        // Several failed calls about one thing are one failure.
        let faults: BTreeSet<&String> = doing.unresolved.iter().map(|(_, what)| what).collect();
        let told = report.failures.len() as u64 + report.left;
        self.check(faults.len() as u64 <= told, Property::Reported, || {
            format!(
                "{:?} of {:?} are not in its report: {:?}",
                doing.unresolved, doing.function, report.failures
            )
        });
    }

    /// Counts the missed slots in a report that is out.
    pub(super) fn out(&mut self, doing: &RunningInvocation, report: &Report) {
        for finding in report.findings.iter().filter(|f| f.code == Code::MissedSlots) {
            let count = finding.value.as_ref().and_then(|value| value.parse().ok()).unwrap_or(1);
            let resource = ResourceId(finding.resource.clone().unwrap_or_default());
            let key = (doing.settings.deployment.to_string(), resource);
            // A slot of which poll says that it passed itself has a record.
            if [" before ", " up to "].iter().any(|word| finding.message.contains(word)) {
                *self.missed.entry(key).or_default() += count;
            }
        }
    }
}
