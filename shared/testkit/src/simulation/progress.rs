//! The properties of omissions: what a run must have achieved, and what people must have heard.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::report::Report;
use snapkeep_domain::finding::{Code, Finding, Notify};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::{GONE_AFTER, Record, State};
use snapkeep_domain::notice::Notice;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{ATTEMPTS_MAX, Instance, Ownership, Snapshot, SnapshotRef};

use super::Profile;
use super::invocation::{BY_SUFFIX, RunningInvocation, slot_of};
use super::properties::{Property, Watch};
use super::turns::InvocationId;
use super::world::{Inner, World};
use crate::ledger::MemoryLedger;
use crate::memory::MemoryProvider;

/// What somebody is notified of, apart from its wording: code, name and key.
pub(super) type Told = (Code, String, Option<String>);

impl World {
    /// Shows the properties the result of looking a snapshot up by its name.
    pub(super) fn looked(&self, me: InvocationId, of: &SnapshotRef, found: &[Snapshot]) {
        let SnapshotRef { place, name, .. } = of;
        let mut inner = self.lock();
        let Inner { running, watch, profile, .. } = &mut *inner;
        let Some(doing) = running.get_mut(&me) else { return };
        // Who asks for all of an instance means the oldest one of this name that is ours.
        let own = |s: &&Snapshot| {
            let ownership = s.ownership(&doing.settings.deployment, &BY_SUFFIX);
            s.name == *name && ownership != Ownership::Foreign
        };
        let found = match profile {
            Profile::ById if of.id.is_none() => {
                found.iter().filter(own).min_by_key(|s| (s.created_at, &s.id))
            }
            _ => found.first(),
        };
        let key = (doing.settings.deployment.to_string(), place.clone(), name.clone());
        match found {
            Some(_) => drop(watch.missing.remove(&key)),
            None => drop(watch.missing.entry(key).or_insert(doing.now)),
        }
        doing.looks.insert((place.clone(), name.clone()), found.cloned());
    }

    /// Notes what people or programs of a deployment were notified of.
    pub(super) fn heard(&self, of: usize, notices: &[Notice]) {
        let mut inner = self.lock();
        for notice in notices {
            let Some(code) = notice.code else { continue };
            let name = notice.name.as_deref().unwrap_or_default();
            // One mail may be about several things, and name only some of them.
            let names = name.split_once(" of them: ").map_or(name, |(_, names)| names);
            if names.ends_with(" more") {
                inner.watch.named_in_part.insert(code);
            }
            for name in names.split(", ") {
                let told = (code, name.to_owned(), notice.key.clone());
                inner.watch.heard.insert((of, told), notice.resolved);
            }
        }
    }
}

impl Watch {
    /// Checks a written record: what nobody deleted is gone only after two answers, some time
    /// apart.
    pub(super) fn gone(&mut self, doing: &RunningInvocation, old: &Record, new: &Record) {
        let stood = match old.state {
            State::Available | State::Expiring => true,
            State::Failed => old.has_residue,
            _ => false,
        };
        let given_up =
            new.state == State::Deleted || (new.state == State::Failed && !new.has_residue);
        if !stood || !given_up || self.ledger_lost.is_some() {
            return;
        }
        let key = (doing.settings.deployment.to_string(), new.place.clone(), new.name.clone());
        let apart = self.missing.get(&key).map(|first| doing.now.duration_since(*first));
        let holds = apart.is_some_and(|apart| apart + self.clocks_off * 2 >= GONE_AFTER);
        self.check(holds, Property::TwoLooks, || {
            format!("{} counts as gone {apart:?} after the first look that missed it", new.name)
        });
    }

    /// Checks that a lane marks no more than it may, and that a dry run changes nothing.
    pub(super) fn marked_in_bounds(&mut self, doing: &RunningInvocation, place: &str) {
        let marked = doing.marked.values().flatten().filter(|record| *record.place == *place);
        let (marked, most) = (marked.count(), doing.settings.max_deletes);
        let holds = most.is_none_or(|most| marked <= usize::try_from(most).unwrap_or(usize::MAX));
        self.check(holds, Property::Capped, || {
            format!("{marked} were marked in {place}, and at most {most:?} may be")
        });
        self.check(!doing.settings.dry_run, Property::DryRun, || {
            format!("a dry run marked a snapshot in {place}")
        });
    }

    /// Checks that nobody waits longer than ⌈n ÷ c⌉ + 1 hours if c of n due requests are let
    /// through an hour.
    pub(super) fn let_through(
        &mut self,
        made: &Snapshot,
        instances: &[Instance],
        capacity: usize,
        now: Timestamp,
    ) {
        let hour = now.as_second() / 3600;
        let first = *self.first_hour.get_or_insert(hour);
        self.served_in.insert(made.source.clone(), hour);
        let most = i64::try_from(instances.len().div_ceil(capacity.max(1)) + 1).unwrap_or(i64::MAX);
        for instance in instances {
            let last = self.served_in.get(&instance.id).copied().unwrap_or(first - 1);
            self.check(hour - last <= most, Property::Fair, || {
                format!(
                    "{} has waited {} hours, and {most} are the most",
                    instance.name,
                    hour - last
                )
            });
        }
    }

    /// Checks that a run with time and capacity left leaves nothing due, except what is under way,
    /// in backoff or in other hands.
    pub(super) fn progressed(
        &mut self,
        doing: &RunningInvocation,
        report: &Report,
        ledger: &MemoryLedger,
        provider: &MemoryProvider,
    ) {
        let undisturbed = report.left == 0
            && report.failures.is_empty()
            && doing.unresolved.is_empty()
            && !report.partial
            && self.formats.len() == 1
            && !self.expired
            && !self.lost_since(doing.started)
            && !report.findings.iter().any(|f| f.code == Code::LaneHeld);
        match doing.function {
            Function::Create if undisturbed => {
                self.all_due_are_served(doing, report, ledger, provider)
            }
            Function::Poll if undisturbed => self.all_open_are_looked_at(doing),
            _ => {}
        }
    }

    fn all_due_are_served(
        &mut self,
        doing: &RunningInvocation,
        report: &Report,
        ledger: &MemoryLedger,
        provider: &MemoryProvider,
    ) {
        let (records, snapshots) = (ledger.all(), provider.all_snapshots());
        let complete = doing.instances.values().filter(|view| view.complete);
        for instance in complete.flat_map(|view| &view.shown) {
            let Protection { opt_in, policy, .. } =
                Protection::read(&instance.tags, &doing.settings.tag, &doing.settings.policies);
            if opt_in != OptIn::On || explained(report, &instance.id) {
                continue;
            }
            let due = policy.schedule.latest(&policy.zone, doing.now);
            // Its record may not show that yet, or may be lost.
            let mut ours = snapshots
                .iter()
                .filter_map(|s| slot_of(s, &instance.id, &doing.settings.deployment));
            if ours.any(|slot| slot >= due.timestamp()) {
                continue;
            }
            // Or somebody renamed it since, so that it is no longer ours.
            let newest = ledger.remembers(&instance.id).and_then(|item| item.newest);
            if !provider.can().unique_names && newest >= Some(due) {
                continue;
            }
            // So may that of another attempt, which is in the making or stuck.
            let in_the_making = |r: &Record| {
                let state = matches!(r.state, State::Requested | State::Pending);
                r.resource == instance.id && r.superseded && r.slot == due && state
            };
            if records.iter().any(in_the_making) {
                continue;
            }
            let own = |r: &&Record| r.resource == instance.id && !r.superseded && r.slot >= due;
            let taken = records.iter().find(own);
            let holds = taken.is_some_and(|record| match record.state {
                State::Intended => !record.intent_is_free(doing.now),
                State::Failed => {
                    let hours = 1 << record.attempt.saturating_sub(1).min(ATTEMPTS_MAX);
                    let again = record.entered() + SignedDuration::from_hours(hours);
                    record.attempt >= ATTEMPTS_MAX || again + self.clocks_off * 2 > doing.now
                }
                _ => true,
            });
            self.check(holds, Property::Progress, || {
                format!("{} is due for {due}, and nobody took it: {taken:?}", instance.name)
            });
        }
    }

    fn all_open_are_looked_at(&mut self, doing: &RunningInvocation) {
        let asked_for = |r: &&Record| matches!(r.state, State::Requested | State::Pending);
        for record in doing.open.iter().filter(asked_for) {
            let looked = doing.looks.contains_key(&(record.place.clone(), record.name.clone()));
            self.check(looked, Property::Progress, || {
                format!("{} is {:?}, and nobody looked", record.name, record.state)
            });
        }
    }

    /// Checks that in a healthy world people were notified of every condition that lasts, and that
    /// the others are resolved.
    pub(super) fn told(&mut self, of: usize, reports: &BTreeMap<Function, Vec<Finding>>) {
        if self.ledger_lost.is_some() {
            return;
        }
        // One name may have several findings of these codes, and only prune can judge the last one.
        let several = [Code::Brake, Code::PendingTooLong, Code::UnreadableRecord];
        let lasts = |code: Code| {
            matches!(code.notify(), Notify::WhileActive(_))
                && !several.contains(&code)
                && !self.named_in_part.contains(&code)
        };
        let unique = |name: &str| self.names.get(name).is_none_or(|ids| ids.len() < 2);
        let found = reports.values().flatten().filter(|finding| lasts(finding.code));
        let found = found.map(|f| (f.code, f.name.clone().unwrap_or_default(), f.key.clone()));
        let lasting: Vec<Told> = found.filter(|(_, name, _)| unique(name)).collect();
        let heard = self.heard.iter().filter(|((whose, _), over)| *whose == of && !**over);
        let open = heard.map(|((_, condition), _)| condition);
        let stale = open
            .filter(|(code, name, _)| lasts(*code) && unique(name))
            .find(|condition| !lasting.contains(condition))
            .cloned();
        let told = |condition: &&Told| self.heard.get(&(of, (*condition).clone())) == Some(&false);
        let untold = lasting.iter().find(|condition| !told(condition)).cloned();
        self.check(untold.is_none(), Property::Told, || format!("nobody was told of {untold:?}"));
        self.check(stale.is_none(), Property::Told, || {
            format!("nobody was told that it is over: {stale:?}")
        });
    }
}

/// Whether the report explains why this resource's slot was not taken.
fn explained(report: &Report, id: &ResourceId) -> bool {
    let reasons = [
        Code::WaitingForPending,
        Code::ClaimedElsewhere,
        Code::CreateDeferred,
        Code::AttemptFailed,
        Code::AttemptsExhausted,
        Code::RetryLater,
        Code::UnreadableRecord,
    ];
    let of = |finding: &&Finding| finding.resource.as_deref() == Some(id.0.as_str());
    report.findings.iter().filter(of).any(|finding| reasons.contains(&finding.code))
}
