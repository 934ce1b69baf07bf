//! The healthy end of a history: nothing goes wrong any more, people do what findings ask for, and
//! after a limited time all must be well.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::report::Report;
use snapkeep_domain::finding::{Code, Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::keep::MinKeep;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Hold, Instance, Ownership, Snapshot, SnapshotState};
use snapkeep_domain::time::{Slot, Zone};

use super::invocation::{BY_SUFFIX, RunningInvocation, slot_of};
use super::properties::Property;
use super::world::is_of;
use super::{QUIET, REGIONS, Simulation};
use crate::reference;

/// Nothing stays under way longer than this in a healthy world.
const UNDER_WAY_MAX: SignedDuration = SignedDuration::from_hours(6);

impl Simulation {
    /// Heals the world, lets this time pass, and checks that all is well.
    pub fn recover(&mut self, time: SignedDuration) {
        if self.broken() {
            return;
        }
        let now = self.world.now();
        for region in REGIONS {
            self.world.provider.enable_region(region, true);
        }
        let provider = &self.world.provider;
        // Two deployments do not get into each other's way any more.
        provider.set_one_at_a_time(false);
        for snapshot in provider.all_snapshots() {
            let (region, key) = (&snapshot.place, snapshot.key(&provider.can()));
            provider.set_deletable(region, key, true);
            if snapshot.state == SnapshotState::Pending {
                provider.set_state(region, key, SnapshotState::Available);
            }
        }
        for instance in provider.all_instances() {
            provider.set_unready(&instance.place, &instance.name, None);
        }
        {
            let mut inner = self.world.lock();
            inner.healthy = true;
            inner.outages.clear();
            inner.rates.quota = None;
            inner.unnamed.clear();
            inner.step = None;
        }
        // Nobody tries a dry run any more.
        for deployment in &mut self.deployments {
            deployment.vars.remove("SNAPKEEP_DRY_RUN");
        }
        self.world.note(format_args!("healthy"));
        self.quiet_from = Some(now + time - QUIET);
        self.until(now + time);
        // Everything under way ends before the final runs.
        let last = self.world.now() + SignedDuration::from_mins(20);
        self.quiet_from = None;
        self.queue.clear();
        self.until(last);
        for deployment in 0..self.deployments.len() {
            // A cap that is exceeded for the first time now would be raised only after the final
            // runs.
            self.deployments[deployment].vars.remove("SNAPKEEP_MAX_DELETES");
            for function in [Function::Create, Function::Poll, Function::Prune] {
                let started = self.start(function, deployment);
                if let Some(me) = started {
                    self.finish(me);
                }
                if function != Function::Prune {
                    self.advance(SignedDuration::from_mins(15));
                }
            }
            self.is_well(deployment, &self.deployments[deployment].settings());
            self.world.lock().watch.told(deployment, &self.last[deployment]);
        }
    }

    /// Does what a person does about a report of the healthy world.
    pub(super) fn told(&mut self, doing: &RunningInvocation, report: &Report) {
        if !self.world.lock().healthy {
            return;
        }
        let of = doing.settings.deployment.to_string();
        let Some(at) = self.deployments.iter().position(|d| d.id == of) else { return };
        self.last[at].insert(doing.function, report.findings.clone());
        let deployment = &mut self.deployments[at];
        if report.findings.iter().any(|finding| finding.code == Code::TooManyMarks) {
            // The fix says to raise the cap if that is intended, and it is.
            deployment.vars.remove("SNAPKEEP_MAX_DELETES");
        }
        for finding in report.findings.iter().filter(|f| f.code == Code::Brake) {
            // The fix says to add the code if that is intended, and it is.
            let confirmed = deployment.vars.entry("SNAPKEEP_CONFIRM".to_owned()).or_default();
            confirmed.push(' ');
            confirmed.push_str(finding.value.as_deref().unwrap_or_default());
        }
        let loud = report.findings.iter().find(|f| f.severity == Severity::Error);
        if self.quiet_from.is_some_and(|from| doing.started >= from) {
            if let Some(failure) = report.failures.first() {
                let message = format!("{:?} reports {failure:?}", doing.function);
                self.world.violate(Property::Quiet, message);
            } else if let Some(finding) = loud.or_else(|| unfounded(doing, report)) {
                let message = format!("{:?} reports {finding:?}", doing.function);
                self.world.violate(Property::Quiet, message);
            }
        }
    }

    fn is_well(&self, of: usize, settings: &Settings) {
        let now = self.world.now();
        let records = self.world.ledgers[of].all();
        let snapshots = self.world.provider.all_snapshots();
        for record in &records {
            let open = match record.state {
                State::Intended | State::Requested | State::Pending => true,
                State::Deleting => {
                    !self.floor_suspends(record, settings, &records, &snapshots)
                        && !self.rules_suspend(record, settings, &records, &snapshots)
                }
                State::Available | State::Expiring | State::Deleted | State::Failed => false,
            };
            let long = now.duration_since(record.entered()) > UNDER_WAY_MAX;
            self.check(!(open && long), Property::Converges, || {
                format!("{} is {:?} for ever: {}", record.name, record.state, record.reason)
            });
        }
        let instances = self.world.provider.all_instances();
        // After a lost ledger, nobody knows whose a disk was whose instance is gone.
        let by_id = !self.world.provider.can().unique_names;
        let lost = by_id && self.world.lock().watch.ledger_lost.is_some();
        let traceable = |s: &&Snapshot| !lost || instances.iter().any(|one| one.id == s.source);
        for snapshot in snapshots.iter().filter(traceable) {
            let made = self.world.lock().watch.made_intact(&snapshot.id, &settings.deployment);
            let own =
                records.iter().any(|record| is_of(record, snapshot) && record.live().is_some());
            let tracked = own || self.is_second(snapshot, &records, settings);
            self.check(!made || tracked, Property::Tracked, || {
                format!("{} is not in the ledger", snapshot.name)
            });
        }
        self.orphans_go(of, settings, &instances, &records, &snapshots);
        for instance in instances {
            let protection = Protection::read(&instance.tags, &settings.tag, &settings.policies);
            if protection.opt_in != OptIn::On {
                continue;
            }
            self.is_served(&instance, &protection, settings, &snapshots);
            self.no_slot_is_forgotten(&instance, &protection, settings, &records);
            if protection.policy.problems.is_empty() {
                self.keeps_the_right_ones(&instance, &protection, settings, &records, &snapshots);
            }
        }
    }

    /// Whether a snapshot is the second one of its slot. Where names do not identify snapshots, it stays without a record,
    /// and is reported. One deployment makes two only after it has lost its ledger.
    fn is_second(&self, snapshot: &Snapshot, records: &[Record], settings: &Settings) -> bool {
        if self.world.provider.can().unique_names || self.world.lock().watch.ledger_lost.is_none() {
            return false;
        }
        let Ownership::Ours { slot, .. } = snapshot.ownership(&settings.deployment, &BY_SUFFIX)
        else {
            return false;
        };
        records
            .iter()
            .any(|r| (&r.resource, r.slot) == (&snapshot.source, slot) && !is_of(r, snapshot))
    }

    fn check(&self, holds: bool, property: Property, message: impl FnOnce() -> String) {
        if !holds {
            self.world.violate(property, message());
        }
    }

    /// Whether so few available snapshots of the resource remain that this one stays.
    fn floor_suspends(
        &self,
        record: &Record,
        settings: &Settings,
        records: &[Record],
        snapshots: &[Snapshot],
    ) -> bool {
        let ours = |s: &&Snapshot| slot_of(s, &record.resource, &settings.deployment).is_some();
        // Where deletions take time, another one whose deletion was begun may be gone soon.
        let slow = self.world.provider.can().slow_deletes;
        let stays = |s: &&Snapshot| {
            let leaves = |r: &Record| r.state == State::Deleting && is_of(r, s) && r != record;
            !(slow && records.iter().any(leaves))
        };
        let remain = snapshots.iter().filter(ours).filter(stays);
        let floor = match &settings.min_keep {
            MinKeep::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            MinKeep::Rules(_) => usize::MAX,
        };
        snapshots.iter().any(|s| is_of(record, s)) && remain.count() <= floor
    }

    /// Whether the rules, a hold or the tags keep a snapshot whose deletion was begun. Where deletions take time, it may
    /// be gone at any moment: nobody rescues it, and it counts in no rule.
    fn rules_suspend(
        &self,
        record: &Record,
        settings: &Settings,
        records: &[Record],
        snapshots: &[Snapshot],
    ) -> bool {
        if !self.world.provider.can().slow_deletes {
            return false;
        }
        let instances = self.world.provider.all_instances();
        let Some(instance) = instances.iter().find(|one| one.id == record.resource) else {
            // The hold that stood on it, or its retention, may keep what it left.
            return true;
        };
        let Protection { opt_in, policy, hold, .. } =
            Protection::read(&instance.tags, &settings.tag, &settings.policies);
        if opt_in != OptIn::On || !policy.problems.is_empty() {
            return true;
        }
        let own = snapshots.iter().find(|s| is_of(record, s)).and_then(Snapshot::hold);
        let holds = |hold: Hold| hold.holds(self.world.now(), &policy.zone);
        if own.into_iter().chain(hold).any(holds) {
            return true;
        }
        let leaves =
            |r: &Record, s: &Snapshot| r.state == State::Deleting && is_of(r, s) && r != record;
        let counts = |s: &&Snapshot| !records.iter().any(|r| leaves(r, s));
        let ours = snapshots.iter().filter(counts);
        let mut times: Vec<Timestamp> =
            ours.filter_map(|s| slot_of(s, &record.resource, &settings.deployment)).collect();
        times.sort_by(|a, b| b.cmp(a));
        let keep = policy.retention.keep().to_string();
        let kept = reference::keeps(&keep, &times, policy.zone.rules());
        let own = times.iter().position(|time| *time == record.slot.timestamp());
        own.is_some_and(|own| kept[own])
    }

    fn is_served(
        &self,
        instance: &Instance,
        protection: &Protection,
        settings: &Settings,
        snapshots: &[Snapshot],
    ) {
        let policy = &protection.policy;
        // The last create ran after this time.
        let then = self.world.now() - SignedDuration::from_hours(2);
        let due = policy.schedule.latest(&policy.zone, then);
        let mut slots =
            snapshots.iter().filter_map(|s| slot_of(s, &instance.id, &settings.deployment));
        let served = slots.any(|slot| slot >= due.timestamp());
        self.check(served, Property::Served, || format!("{} has nothing of {due}", instance.name));
    }

    /// Every slot has a record, or was reported as missed.
    fn no_slot_is_forgotten(
        &self,
        instance: &Instance,
        protection: &Protection,
        settings: &Settings,
        records: &[Record],
    ) {
        let key = (settings.deployment.to_string(), instance.id.clone());
        let inner = self.world.lock();
        let touched = self.operators.touched_all
            || self.operators.touched.iter().any(|touched| touched.id == instance.id);
        let missed = inner.watch.missed.get(&key).copied().unwrap_or_default();
        drop(inner);
        let slots: Vec<Slot> = records
            .iter()
            .filter(|record| record.resource == instance.id && !record.superseded)
            .map(|record| record.slot)
            .collect();
        let (Some(first), Some(last)) = (slots.iter().min(), slots.iter().max()) else { return };
        if touched || first == last {
            return;
        }
        let policy = &protection.policy;
        let all = policy.schedule.slots_between(&policy.zone, *first, *last) + 2;
        self.check(slots.len() + missed >= all, Property::MissedSlots, || {
            format!(
                "{}: of {all} slots {} have a record and {missed} were reported",
                instance.name,
                slots.len()
            )
        });
    }

    /// If `orphan_keep` is set, only the minimum of a resource that is gone stays.
    fn orphans_go(
        &self,
        of: usize,
        settings: &Settings,
        instances: &[Instance],
        records: &[Record],
        snapshots: &[Snapshot],
    ) {
        if settings.orphan_keep.is_none() {
            return;
        }
        let now = self.world.now();
        let mut orphans: BTreeMap<&ResourceId, Vec<(Timestamp, &Snapshot)>> = BTreeMap::new();
        for snapshot in snapshots {
            let lives = instances.iter().any(|instance| instance.id == snapshot.source);
            if let Some(slot) = slot_of(snapshot, &snapshot.source, &settings.deployment)
                && !lives
                && !self.is_second(snapshot, records, settings)
            {
                orphans.entry(&snapshot.source).or_default().push((slot, snapshot));
            }
        }
        for (id, mut ours) in orphans {
            ours.sort_by(|a, b| (b.0, &b.1.name).cmp(&(a.0, &a.1.name)));
            let record = |of: &Snapshot| records.iter().find(|record| is_of(record, of));
            let newest = ours.first().and_then(|(_, snapshot)| record(snapshot));
            let zone: Option<Zone> = newest.and_then(|r| r.policy.timezone.parse().ok());
            let zone = zone.unwrap_or_else(Zone::utc);
            let held = |s: &Snapshot| s.hold().is_some_and(|hold| hold.holds(now, &zone));
            let kept_whole =
                newest.is_none_or(|r| !matches!(r.policy.keep.as_deref(), Some(k) if k != "all"));
            if kept_whole || ours.iter().any(|(_, s)| held(s)) || self.held_when_seen(of, id) {
                continue;
            }
            let floor = match &settings.min_keep {
                MinKeep::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
                MinKeep::Rules(rules) => {
                    let times: Vec<Timestamp> = ours.iter().map(|(time, _)| *time).collect();
                    let kept = reference::keeps(&rules.to_string(), &times, zone.rules());
                    kept.into_iter().filter(|kept| *kept).count()
                }
            };
            self.check(ours.len() <= floor.max(1), Property::Converges, || {
                let names: Vec<&String> = ours.iter().map(|(_, s)| &s.name).collect();
                format!("{id:?} is gone, and of it stay {names:?}")
            });
        }
    }

    /// Whether the ledger remembers a hold on an instance, or does not remember the instance.
    fn held_when_seen(&self, of: usize, id: &ResourceId) -> bool {
        self.world.ledgers[of].remembers(id).is_none_or(|item| item.hold.is_some())
    }

    fn keeps_the_right_ones(
        &self,
        instance: &Instance,
        protection: &Protection,
        settings: &Settings,
        records: &[Record],
        snapshots: &[Snapshot],
    ) {
        let now = self.world.now();
        let zone = &protection.policy.zone;
        let mut ours: Vec<(Timestamp, &Snapshot)> = snapshots
            .iter()
            .filter_map(|s| Some((slot_of(s, &instance.id, &settings.deployment)?, s)))
            .collect();
        ours.sort_by(|a, b| (b.0, &b.1.name).cmp(&(a.0, &a.1.name)));
        let times: Vec<Timestamp> = ours.iter().map(|(time, _)| *time).collect();
        let keep = protection.policy.retention.keep().to_string();
        let mut stays = reference::keeps(&keep, &times, zone.rules());
        // If a hold has just ended, the next runs do what is left to do.
        let then = now - UNDER_WAY_MAX;
        let ended = |hold: &Hold| hold.holds(then, zone) && !hold.holds(now, zone);
        let mut holds = ours.iter().filter_map(|(_, snapshot)| snapshot.hold());
        if protection.hold.as_ref().is_some_and(ended) || holds.any(|hold| ended(&hold)) {
            return;
        }
        let instance_held = protection.hold.as_ref().is_some_and(|hold| hold.holds(now, zone));
        for ((_, snapshot), stays) in ours.iter().zip(&mut stays) {
            *stays |= instance_held || snapshot.hold().is_some_and(|hold| hold.holds(now, zone));
        }
        let floor = match &settings.min_keep {
            MinKeep::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            MinKeep::Rules(rules) => {
                let floor = reference::keeps(&rules.to_string(), &times, zone.rules());
                stays.iter_mut().zip(floor).for_each(|(stays, floor)| *stays |= floor);
                1
            }
        };
        // After a lost ledger, two snapshots may have one slot, and either may go.
        let twins = |time: &Timestamp| times.iter().filter(|one| *one == time).count() > 1;
        let mut allowed = floor.saturating_sub(stays.iter().filter(|stays| **stays).count());
        let by_key: BTreeMap<&str, &Record> =
            records.iter().map(|record| (record.snapshot_key(), record)).collect();
        let can = self.world.provider.can();
        for ((time, snapshot), stays) in ours.iter().zip(&stays) {
            if twins(time) {
                continue;
            }
            let name = &snapshot.name;
            let Some(record) = by_key.get(snapshot.key(&can)) else { continue };
            let going = matches!(record.state, State::Expiring | State::Deleting);
            // Where deletions take time, nobody rescues what may be gone at any moment.
            let leaving = can.slow_deletes && record.state == State::Deleting && *stays;
            self.check(!(going && *stays) || leaving, Property::Converges, || {
                format!("{name} is going, and `{keep}` keeps it")
            });
            if !going && !*stays {
                self.check(allowed > 0, Property::Converges, || {
                    format!("{name} is {:?}, and nothing keeps it: {}", record.state, record.reason)
                });
                allowed = allowed.saturating_sub(1);
            }
            let due = record
                .mark
                .as_ref()
                .map(|mark| mark.execute_at.max(mark.at + settings.grace) + UNDER_WAY_MAX);
            self.check(leaving || due.is_none_or(|due| now <= due), Property::Converges, || {
                format!("{name} was to go at {due:?}: {}", record.reason)
            });
        }
    }
}

/// A finding of a healthy world that has no cause.
fn unfounded<'a>(doing: &RunningInvocation, report: &'a Report) -> Option<&'a Finding> {
    report.findings.iter().find(|finding| match finding.code {
        // Somebody caused these, and the cause persists.
        Code::OptedOut
        | Code::Unprotected
        | Code::NoLongerTagged
        | Code::Orphan
        | Code::OrphanHeld
        | Code::KeepsEverything
        | Code::LookAlike
        | Code::BadTag
        | Code::BadHold
        | Code::FloorKeeps
        | Code::WaitingForPending
        | Code::Adopted
        | Code::Twin
        | Code::QuotaShort => false,
        // Somebody took the next name a while ago.
        Code::AttemptFailed | Code::RetryLater => false,
        // More snapshots than ever before are too old at once; whoever is notified allows it.
        Code::TooManyMarks => doing.settings.max_deletes.is_none(),
        // Snapshots became too old under a policy that changed long ago; whoever is notified
        // confirms it.
        Code::Brake => {
            let code = finding.value.as_deref().unwrap_or_default();
            doing.settings.confirmed.iter().any(|confirmed| **confirmed == *code)
        }
        _ => true,
    })
}
