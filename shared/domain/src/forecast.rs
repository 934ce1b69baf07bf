//! Forecasts what the functions will do: steps their own planners from one time at which anything
//! can change to the next, as if they ran all the time and everything succeeded. A snapshot counts
//! as available from its slot on. So a forecast tells the earliest times: the real ones follow by
//! the functions' cadence and the provider's pace.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::capabilities::Capabilities;
use crate::create::{self, Verdict, next_attempt_at};
use crate::ledger::lease::Lease;
use crate::ledger::record::{INVOCATION_LIFE, Mark, Record, State};
use crate::policy::settings::{Context, Settings};
use crate::policy::tags::{OptIn, Protection};
use crate::prune::{Facts, Plan, Seen, Step};
use crate::resource::ResourceId;
use crate::snapshot::{Hold, Instance, SnapshotState};
use crate::time::{Slot, Zone, after};

mod outlook;

pub use outlook::{Blocked, Outlook};

/// So many plans follow one another at one time at most: a plan that adopts, marks or deletes
/// changes what the next one judges.
const PLANS_MAX: usize = 8;

/// What a function will do to a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// `create` takes it.
    Take,
    /// `prune` announces its deletion.
    Mark,
    /// `prune` keeps it after all.
    Rescue,
    /// `prune` deletes it.
    Delete,
}

/// Something that will happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// When, at the earliest.
    pub at: Timestamp,
    /// What.
    pub act: Act,
    /// The snapshot's record afterwards; before, if it is deleted.
    pub record: Record,
    /// The size of the snapshot.
    pub size_gb: u32,
}

/// The future of one resource.
#[derive(Debug)]
pub struct Forecast<'a> {
    id: ResourceId,
    facts: Facts,
    records: Vec<Record>,
    size_gb: u32,
    settings: &'a Settings,
    capabilities: Capabilities,
}

/// Whether marks are made, or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marks {
    Made,
    Counted,
}

impl<'a> Forecast<'a> {
    /// The future of a resource after what the facts of its place show of it; `size_gb` is the size
    /// of a snapshot that is made.
    #[must_use]
    pub fn of(
        id: ResourceId,
        facts: Facts,
        size_gb: u32,
        settings: &'a Settings,
        capabilities: Capabilities,
    ) -> Self {
        let mut facts = facts;
        let records = facts.records.remove(&id).unwrap_or_default();
        Forecast { id, facts, records, size_gb, settings, capabilities }
    }

    /// What `prune` would plan at this time.
    #[must_use]
    pub fn plan(&self, now: Timestamp) -> Plan {
        let cx = context(self.settings, self.capabilities, now);
        self.facts.judge(&self.id, &self.records, &cx)
    }

    /// The snapshots that exist, by their keys.
    #[must_use]
    pub fn snapshots(&self) -> BTreeMap<&str, &Seen> {
        self.facts.listing.of(&self.id).map(|(_, seen)| seen).unwrap_or_default()
    }

    /// The snapshot with this key.
    fn seen(&self, key: &str) -> Option<&Seen> {
        self.facts.listing.get(&self.id, key)
    }

    /// The record of a snapshot.
    #[must_use]
    pub fn record(&self, key: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.snapshot_key() == key)
    }

    /// Everything that happens at `from` and later, up to and including `to`, in order.
    pub fn until(&mut self, from: Timestamp, to: Timestamp) -> Vec<Action> {
        let mut all = Vec::new();
        self.begin(from, &mut all);
        let mut now = from;
        loop {
            self.happen(now, Marks::Made, &mut all);
            match self.next(now) {
                Some(next) if next <= to => now = next,
                _ => return all,
            }
        }
    }

    /// Ends what is under way: what a run is deleting at the moment is as good as gone, and what is
    /// being made becomes available now.
    fn begin(&mut self, now: Timestamp, all: &mut Vec<Action>) {
        for record in self.records.clone() {
            match record.state {
                State::Deleting if record.being_deleted(now) => {
                    let is_there = self.seen(record.snapshot_key()).is_some();
                    let mut gone = Vec::new();
                    // Of what is not there any more, only the ledger does not know yet.
                    self.delete(record, now, if is_there { &mut *all } else { &mut gone });
                }
                State::Intended if !record.intent_is_free(now) => {
                    self.made(&record, now);
                    all.push(self.taken(record, now));
                }
                State::Requested | State::Pending if !self.failed(&record) => {
                    self.made(&record, now);
                }
                _ => {}
            }
        }
    }

    /// Whether the provider reports an error for the snapshot of a record.
    fn failed(&self, record: &Record) -> bool {
        let seen = self.seen(record.snapshot_key());
        seen.is_some_and(|seen| seen.state == SnapshotState::Error)
    }

    /// The instance, and what its tags say.
    fn protection(&self) -> Option<(&Instance, Protection)> {
        let instance = self.facts.instances.get(&self.id)?;
        let Settings { tag, policies, .. } = self.settings;
        Some((instance, Protection::read(&instance.tags, tag, policies)))
    }

    /// What happens at one time; returns the last plan.
    fn happen(&mut self, now: Timestamp, marks: Marks, all: &mut Vec<Action>) -> Plan {
        self.take(now, all);
        let mut plan = self.plan(now);
        for _ in 0..PLANS_MAX {
            let mut again = false;
            for step in plan.steps.clone() {
                if marks == Marks::Made || !matches!(step, Step::Mark(_)) {
                    again |= self.carry_out(step, now, all);
                }
            }
            if !again {
                break;
            }
            plan = self.plan(now);
        }
        plan
    }

    /// Takes the due slot, if `create` would.
    fn take(&mut self, now: Timestamp, all: &mut Vec<Action>) {
        let Some((instance, protection)) = self.protection() else { return };
        let due = create::due_slot(&protection, now);
        let known = self.facts.protected.get(&self.id);
        let facts = create::Facts {
            instance: instance.clone(),
            protection,
            protected_since: known.and_then(|known| known.since),
            records: self.recent(due),
            looks: BTreeMap::new(),
        };
        let cx = context(self.settings, self.capabilities, now);
        let Verdict::Take(take) = create::plan(&facts, &cx) else { return };
        if let Some(left) = take.superseded {
            self.replace(left);
        }
        let record = self.made(&take.intent, now);
        all.push(self.taken(record, now));
    }

    fn taken(&self, record: Record, at: Timestamp) -> Action {
        Action { at, act: Act::Take, record, size_gb: self.size_gb }
    }

    /// Makes the snapshot of a record available; returns its record.
    fn made(&mut self, record: &Record, now: Timestamp) -> Record {
        let asked = match record.state {
            State::Intended => record.moved(State::Requested, now, "the provider took the request"),
            _ => record.clone(),
        };
        // Where only an id identifies a snapshot, nobody knows it yet: the name stands for it.
        let unknown = !self.capabilities.unique_names && asked.identity.id.is_none();
        let asked = if unknown { asked.with_id(Some(asked.name.as_str().into())) } else { asked };
        let record = asked.moved(State::Available, now, "as the provider shows it");
        let size_gb = self.size_of(&record);
        let known = self.seen(record.snapshot_key()).cloned();
        let seen = known.unwrap_or_else(|| Seen {
            name: None,
            disk: record.identity.disk.clone(),
            untagged: false,
            deletable: true,
            slot: record.slot,
            attempt: record.attempt,
            state: SnapshotState::Available,
            hold: None,
            created_at: now,
            size_gb,
            policy: record.policy.clone(),
        });
        let seen = Seen { state: SnapshotState::Available, deletable: true, ..seen };
        let (key, name) = (record.snapshot_key().to_owned(), record.resource_name.clone());
        self.facts.listing.put(&self.id, &name, key, seen);
        self.replace(record.clone());
        record
    }

    /// The records that `create` reads: from the due slot on, and the newest one before it.
    fn recent(&self, due: Slot) -> Vec<Record> {
        let newest = self.records.iter().map(|r| r.slot).filter(|slot| *slot < due).max();
        let from = newest.unwrap_or(due);
        self.records.iter().filter(|record| record.slot >= from).cloned().collect()
    }

    /// Carries a step of a plan out; returns whether more may have to be done now. What a mark or a
    /// deletion leaves was judged without it.
    fn carry_out(&mut self, step: Step, now: Timestamp, all: &mut Vec<Action>) -> bool {
        let (act, record) = match step {
            Step::Adopt(record) | Step::Write(record) => {
                let new = self.records.iter().all(|old| old != &*record);
                self.replace(*record);
                return new;
            }
            Step::Mark(record) => (Act::Mark, record),
            Step::Rescue(record) => (Act::Rescue, record),
            Step::Delete { record, .. } => {
                self.delete(*record, now, all);
                return false;
            }
        };
        let size_gb = self.size_of(&record);
        let is_due = |mark: &Mark| mark.execute_at.max(after(mark.at, self.settings.grace)) <= now;
        let again = act != Act::Mark || record.mark.as_deref().is_some_and(is_due);
        self.replace(Record::clone(&record));
        all.push(Action { at: now, act, record: *record, size_gb });
        again
    }

    fn delete(&mut self, record: Record, now: Timestamp, all: &mut Vec<Action>) {
        let size_gb = self.size_of(&record);
        self.facts.listing.take(&self.id, record.snapshot_key());
        self.records.retain(|old| !old.is_same_item(&record));
        all.push(Action { at: now, act: Act::Delete, record, size_gb });
    }

    fn size_of(&self, record: &Record) -> u32 {
        self.seen(record.snapshot_key()).map_or(self.size_gb, |seen| seen.size_gb)
    }

    fn replace(&mut self, record: Record) {
        self.records.retain(|old| !old.is_same_item(&record));
        self.records.push(record);
    }

    /// The next time after `now` at which anything can change: a slot, the end of a grace, of a
    /// hold, or of the time for which the snapshots of a gone instance stay.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let protection = self.protection();
        let (slot, zone) = match &protection {
            Some((_, Protection { opt_in, policy, .. })) => {
                let slot = policy.schedule.next(&policy.zone, now).timestamp();
                ((*opt_in == OptIn::On).then_some(slot), policy.zone.clone())
            }
            None => (None, Zone::utc()),
        };
        let seen = self.snapshots();
        let grace = self.settings.grace;
        let marks = self.records.iter().filter_map(|record| record.mark.as_deref());
        let executed = marks.map(|mark| mark.execute_at.max(after(mark.at, grace)));
        let holds = seen.values().filter_map(|seen| seen.hold.as_deref());
        let own = protection.as_ref().and_then(|(_, protection)| protection.hold.as_ref());
        let released = holds.chain(own).filter_map(|hold| hold.ends(&zone));
        let failed = self.records.iter().filter(|record| record.state == State::Failed);
        let retries = failed.map(next_attempt_at);
        let newest = seen.values().map(|seen| seen.slot.timestamp()).max();
        let orphan = match (&protection, newest, self.settings.orphan_keep) {
            (None, Some(newest), Some(keep)) => Some(after(newest, keep)),
            _ => None,
        };
        let all = executed.chain(released).chain(retries).chain(slot).chain(orphan);
        all.filter(|at| *at > now).min()
    }
}

/// What a planner judges by at a time of the forecast.
fn context(settings: &Settings, capabilities: Capabilities, now: Timestamp) -> Context<'_> {
    let lease = Lease::until(after(now, INVOCATION_LIFE));
    Context { settings, now, lease, elapsed: SignedDuration::ZERO, capabilities }
}

impl Hold {
    /// The first instant at which it no longer holds; `None` if it has no end.
    #[must_use]
    pub fn ends(&self, zone: &Zone) -> Option<Timestamp> {
        let Hold::Until(day) = self else { return None };
        let next = day.tomorrow().ok()?.to_zoned(zone.rules().clone()).ok()?;
        Some(next.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn settings(vars: &[(&str, &str)]) -> Settings {
        let table = [("SNAPKEEP_LEDGER_TABLE", "ledger")];
        let all = table.iter().chain(vars);
        let all = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Settings::read(&all, Function::Prune).unwrap()
    }

    fn forecast<'a>(tags: &[(&str, &str)], settings: &'a Settings) -> Forecast<'a> {
        let id = ResourceId("arn:web".to_owned());
        let place: crate::place::Place = "eu-west-1".parse().unwrap();
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let instance = Instance {
            id: id.clone(),
            name: "web".to_owned(),
            place: place.clone(),
            tags: tags.collect(),
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        };
        let mut facts = Facts::of(place);
        facts.instances.insert(id.clone(), instance);
        Forecast::of(id, facts, 20, settings, Capabilities::default())
    }

    fn told(actions: &[Action]) -> Vec<String> {
        let line = |one: &Action| format!("{} {:?} {}", one.at, one.act, one.record.slot);
        actions.iter().map(line).collect()
    }

    #[test]
    fn a_life_is_taken_marked_and_deleted_in_time() {
        let settings = settings(&[("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "1d")]);
        let mut web = forecast(&[("snapkeep", "")], &settings);
        let actions = web.until(at("2026-01-01T03:00:00Z"), at("2026-01-04T12:00:00Z"));
        assert_eq!(
            told(&actions),
            [
                "2026-01-01T03:00:00Z Take 2026-01-01T03:00:00Z",
                "2026-01-02T03:00:00Z Take 2026-01-02T03:00:00Z",
                "2026-01-03T03:00:00Z Take 2026-01-03T03:00:00Z",
                "2026-01-03T03:00:00Z Mark 2026-01-01T03:00:00Z",
                "2026-01-04T03:00:00Z Take 2026-01-04T03:00:00Z",
                "2026-01-04T03:00:00Z Mark 2026-01-02T03:00:00Z",
                "2026-01-04T03:00:00Z Delete 2026-01-01T03:00:00Z",
            ]
        );
        assert_eq!(web.snapshots().len(), 3);
    }

    #[test]
    fn what_is_off_or_keeps_everything_loses_nothing() {
        let settings = settings(&[]);
        let (from, to) = (at("2026-01-01T03:00:00Z"), at("2026-01-31T03:00:00Z"));
        let all = forecast(&[("snapkeep", "")], &settings).until(from, to);
        assert!(all.len() == 31 && all.iter().all(|one| one.act == Act::Take));
        assert!(forecast(&[("snapkeep", "off")], &settings).until(from, to).is_empty());
        assert!(forecast(&[], &settings).until(from, to).is_empty());
    }

    #[test]
    fn a_hold_ends_after_its_day_in_the_zone() {
        let hold = Hold::Until("2026-03-28".parse().unwrap());
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(hold.ends(&zone), Some(at("2026-03-28T23:00:00Z")));
        assert!(hold.holds(at("2026-03-28T22:59:59Z"), &zone));
        assert!(!hold.holds(at("2026-03-28T23:00:00Z"), &zone));
        assert_eq!(Hold::Forever.ends(&zone), None);
    }
}
