//! Plans `prune`, one place at a time: every snapshot gets one verdict, with its reason, and the
//! guards override every rule. The order is [`Facts::questions`], [`Facts::plan`] for each
//! resource, then the steps, with [`last_look`] and [`settle`] for a deletion.
//!
//! This file has the steps of a lane; [`listing`] holds what the lists showed, [`guard`] what may
//! stand against a deletion, `effective` resolves the policy that one resource is judged by,
//! `resource` judges its snapshots, and `delete` decides a deletion's last steps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::answer::Lookup;
use crate::finding::{Code, Finding};
use crate::ledger::protected::{Age, Protected, Standing};
use crate::ledger::record::{GONE_AFTER, Record, State};
use crate::place::Place;
use crate::policy::keep::KeptBy;
use crate::policy::settings::Context;
use crate::resource::ResourceId;
use crate::snapshot::{Instance, SnapshotRef, SnapshotState};
use crate::time::{Slot, elapsed};

mod candidate;
mod delete;
mod effective;
pub mod guard;
pub mod listing;
mod resource;
mod split;

pub use delete::{LastLook, last_look, settle};
pub use guard::{Guard, cap_marks, dry_run, memory_short};
pub use listing::{Listing, Other, Seen};
pub use resource::Verdict;

/// The result of looking the source of snapshots up by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// It exists; the list just did not show it.
    Alive(Instance),
    /// It is gone.
    Gone {
        /// Whether another instance has its name now.
        name_lives: bool,
    },
    /// There was no answer.
    Unknown,
}

/// Everything that a lane of `prune` judges by: both lists of the place, complete, and the ledger.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The place.
    pub place: Place,
    /// The instances.
    pub instances: BTreeMap<ResourceId, Instance>,
    /// The snapshots that were listed, or found by name.
    pub listing: Listing,
    /// The live records.
    pub records: BTreeMap<ResourceId, Vec<Record>>,
    /// Resources with a record that cannot be read.
    pub unreadable: BTreeSet<ResourceId>,
    /// What the ledger remembers of the place's resources.
    pub protected: BTreeMap<ResourceId, Protected>,
    /// The lookups of the sources that the list does not show.
    pub sources: BTreeMap<ResourceId, SourceStatus>,
    /// The lookups of the recorded snapshots that the list does not show.
    pub looks: BTreeMap<SnapshotRef, Lookup>,
}

/// What must be looked up by name before a plan can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Sources of our snapshots that the list does not show: id and name.
    pub sources: BTreeSet<(ResourceId, String)>,
    /// Recorded snapshots that the list does not show.
    pub snapshots: BTreeSet<SnapshotRef>,
}

/// A snapshot with its verdict, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What identifies it in its place.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Its slot.
    pub slot: Slot,
    /// The verdict.
    pub verdict: Verdict,
    /// The rules of its policy that keep it, and the minimum, whatever a guard says.
    pub kept_by: Vec<KeptBy>,
    /// Whether it is held.
    pub held: bool,
    /// Whether only the hold keeps it that its resource carried when it was last seen.
    pub orphan_held: bool,
    /// The guard that applies to it besides a hold.
    pub guard: Option<Guard>,
}

impl Judged {
    /// Why nothing marks or deletes it, though no rule keeps it: the code of the finding that says
    /// so. A hold that stands is no finding, and neither is what nothing would delete anyway.
    #[must_use]
    pub fn blocked_by(&self) -> Option<Code> {
        if self.orphan_held && self.guard.is_none() && self.kept_by.is_empty() {
            return Some(Code::OrphanHeld);
        }
        let guard = self.guard.filter(|_| !self.held)?;
        let floor = self.kept_by == [KeptBy::Minimum] && guard == Guard::Floor;
        if self.kept_by.is_empty() || floor { guard.code() } else { None }
    }
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take a snapshot of ours into the ledger.
    Adopt(Box<Record>),
    /// Write this record.
    Write(Box<Record>),
    /// Announce a deletion.
    Mark(Box<Record>),
    /// Keep a marked snapshot after all.
    Rescue(Box<Record>),
    /// Delete the snapshot of this marked record, after one last look.
    Delete {
        /// The record.
        record: Box<Record>,
        /// The state that the plan judged.
        judged: SnapshotState,
    },
}

impl Step {
    /// The order in which steps are carried out: protecting steps come before deletions.
    #[must_use]
    pub fn order(&self) -> u8 {
        match self {
            Step::Rescue(_) => 0,
            Step::Adopt(_) => 1,
            Step::Write(_) => 2,
            Step::Mark(_) => 3,
            Step::Delete { .. } => 4,
        }
    }

    /// The change that it makes, for a dry run; a step that only notes something makes none.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        match self {
            Step::Adopt(record) => Some(format!("adopt {}", record.name)),
            Step::Mark(record) => Some(format!("mark {}", record.name)),
            Step::Rescue(record) => Some(format!("rescue {}", record.name)),
            Step::Delete { record, .. } => Some(format!("delete {}", record.name)),
            Step::Write(_) => None,
        }
    }
}

/// The plan for one resource, and the reasons for it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The verdict on every snapshot of ours.
    pub verdicts: Vec<Judged>,
    /// The steps to carry out.
    pub steps: Vec<Step>,
    /// The findings to report.
    pub findings: Vec<Finding>,
    /// The age of the newest snapshot of a protected resource.
    pub age: Option<Age>,
    /// What to remember of the resource, if that has changed.
    pub remember: Option<Protected>,
    /// The newest slot with an available snapshot, if the ledger remembers another one.
    pub newest: Option<Option<Slot>>,
    /// Records that carry missed slots, because the run that moved them on ended before it reported
    /// them.
    pub unreported: Vec<Record>,
}

/// Whether `prune` checks that this record's snapshot exists; `poll` checks the others.
fn could_vanish(record: &Record) -> bool {
    match record.state {
        State::Available | State::Expiring => true,
        State::Failed => record.has_residue,
        _ => false,
    }
}

impl Facts {
    /// The facts about a place of which nothing is known yet.
    #[must_use]
    pub fn of(place: Place) -> Self {
        Facts {
            place,
            instances: BTreeMap::new(),
            listing: Listing::default(),
            records: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            protected: BTreeMap::new(),
            sources: BTreeMap::new(),
            looks: BTreeMap::new(),
        }
    }

    /// What to look up by name, given the lists.
    #[must_use]
    pub fn questions(&self, cx: &Context<'_>) -> Questions {
        let sources = self.listing.sources();
        let sources = sources
            .filter(|(id, _)| !self.instances.contains_key(id))
            .map(|(id, name)| (id.clone(), name.to_owned()))
            .collect();
        let snapshots = self.records.values().flatten();
        let snapshots = snapshots
            .filter(|r| could_vanish(r) && !self.listing.shows(r))
            .filter(|r| cx.capabilities.unique_names || r.identity.id.is_some())
            .map(Record::snapshot)
            .collect();
        Questions { sources, snapshots }
    }

    /// The resources by the disks that their snapshots are taken of, where the provider states only
    /// these: each with the resource's name.
    #[must_use]
    pub fn disks(&self) -> BTreeMap<String, (ResourceId, String)> {
        let of_records = self.records.values().flatten().filter_map(|record| {
            let disk = record.identity.disk.as_deref()?.to_owned();
            Some((disk, (record.resource.clone(), record.resource_name.clone())))
        });
        let of_protected = self.protected.values().filter_map(|item| {
            Some((item.disk.clone()?, (item.resource.clone(), item.name.clone())))
        });
        let of_instances = self.instances.values().filter_map(|instance| {
            Some((instance.disk.clone()?, (instance.id.clone(), instance.name.clone())))
        });
        of_records.chain(of_protected).chain(of_instances).collect()
    }

    /// Every resource that the lists or the ledger contain.
    #[must_use]
    pub fn resources(&self) -> Vec<ResourceId> {
        let mut all: BTreeSet<&ResourceId> = self.instances.keys().collect();
        all.extend(self.listing.sources().map(|(id, _)| id));
        all.extend(self.records.keys());
        all.extend(self.protected.keys());
        all.into_iter().cloned().collect()
    }

    /// Plans for one resource, and drops its records. It is total: whatever the facts are, every
    /// snapshot of ours gets one verdict.
    #[must_use]
    pub fn plan(&mut self, id: &ResourceId, cx: &Context<'_>) -> Plan {
        let records = self.records.remove(id).unwrap_or_default();
        self.judge(id, &records, cx)
    }

    /// Plans for one resource with these records.
    #[must_use]
    pub fn judge(&self, id: &ResourceId, records: &[Record], cx: &Context<'_>) -> Plan {
        let mut plan = Plan::default();
        for record in records {
            if record.missed > 0 && (could_vanish(record) || record.state == State::Failed) {
                plan.unreported.push(record.clone());
            }
            plan.steps.extend(self.lost_ownership(record, cx));
            if let Some(look) = self.looks.get(&record.snapshot()).filter(|_| could_vanish(record))
            {
                plan.vanished(record, look, cx.now);
            }
        }
        let known = self.protected.get(id);
        if self.listing.of(id).is_some() || self.instances.contains_key(id) {
            resource::judge(&mut plan, id, records, self, cx);
        } else if let Some(known) = known {
            plan.remember = known.gone(!records.is_empty(), cx.now);
        }
        plan
    }

    /// Rescues a marked snapshot whose tags no longer say that it is ours: nothing foreign stays
    /// marked.
    fn lost_ownership(&self, record: &Record, cx: &Context<'_>) -> Option<Step> {
        if !record.may_be_rescued(cx.now) {
            return None;
        }
        let other = self.listing.other(record)?;
        // A snapshot that is not settled keeps its mark for now, because it is not deleted in that
        // state. Nothing is decided either while the provider does not say what it was taken from.
        let settled = matches!(other.state, SnapshotState::Available | SnapshotState::Error);
        (settled && !other.unknown).then(|| {
            let next = record.observed(&other.state, cx.now, "rescued: no longer ours");
            Step::Rescue(Box::new(next))
        })
    }
}

impl Plan {
    /// Handles a recorded snapshot that the list does not show: it is gone only if two answers,
    /// some time apart, say so.
    fn vanished(&mut self, record: &Record, look: &Lookup, now: Timestamp) {
        let write = |record: Record| Step::Write(Box::new(record));
        match (look, record.missing_since) {
            (Lookup::Missing, None) => {
                self.steps.push(write(record.missing(Some(now))));
            }
            (Lookup::Missing, Some(first)) if elapsed(first, now) >= GONE_AFTER => {
                let next = if record.state == State::Failed {
                    record.without_residue()
                } else {
                    let message = format!("{} was deleted, but not by snapkeep", record.name);
                    let finding = Finding::new(Code::Vanished, message)
                        .of(&record.resource, &record.resource_name)
                        .value(record.name.clone())
                        .fix(
                            "find out who deletes snapshots; snapkeep does not make this one again",
                        );
                    self.findings.push(finding);
                    record.moved(State::Deleted, now, "vanished: somebody else deleted it")
                };
                self.steps.push(write(next));
            }
            (Lookup::Found(_), Some(_)) => {
                self.steps.push(write(record.missing(None)));
            }
            (Lookup::Missing, Some(_)) | (Lookup::Found(_), None) | (Lookup::Unknown, _) => {}
        }
    }
}

/// The finding about a resource whose newest available snapshot is older than promised.
#[must_use]
pub fn overdue(age: &Age) -> Option<Finding> {
    effective::overdue(age)
}

/// Whether a remembered resource takes part, so that somebody expects snapshots of it.
#[must_use]
pub fn takes_part(item: &Protected) -> bool {
    item.standing == Standing::On
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capabilities;
    use crate::function::Function;
    use crate::ledger::lease::Lease;
    use crate::ledger::record::{Fields, Mark};
    use crate::policy::PolicyText;
    use crate::policy::settings::Settings;
    use crate::snapshot::{MANAGED_BY, SLOT, SOURCE, Snapshot, snapshot_name};

    fn settings(keep: &str) -> Settings {
        let vars = [("SNAPKEEP_LEDGER_TABLE", "ledger"), ("SNAPKEEP_KEEP", keep)];
        let vars = vars.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Settings::read(&vars.into(), Function::Prune).unwrap()
    }

    fn snapshot(source: &ResourceId, slot: &str) -> Snapshot {
        let tags = [(MANAGED_BY, "snapkeep"), (SLOT, slot), (SOURCE, &source.0)];
        let slot: Slot = slot.parse().unwrap();
        Snapshot {
            id: "id".to_owned(),
            name: snapshot_name("snapkeep", source, "web", slot, 1),
            place: "eu-west-1".parse().unwrap(),
            source: source.clone(),
            source_name: "web".to_owned(),
            source_place: None,
            disk: None,
            deletable: true,
            created_at: slot.timestamp(),
            state: SnapshotState::Available,
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            size_gb: 20,
        }
    }

    #[test]
    fn what_another_run_may_be_deleting_counts_toward_no_floor_even_if_its_record_disagrees() {
        let now: Timestamp = "2026-11-20T04:00:00Z".parse().unwrap();
        let long_ago = "2026-11-10T04:00:00Z".parse().unwrap();
        let id = ResourceId("arn:web".to_owned());
        let place: Place = "eu-west-1".parse().unwrap();
        let mut facts = Facts::of(place.clone());
        let tags = [("snapkeep".to_owned(), String::new())].into();
        let instance = Instance {
            id: id.clone(),
            name: "web".to_owned(),
            place: place.clone(),
            tags,
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        };
        facts.instances.insert(id.clone(), instance);
        for slot in ["2026-11-19T03:00:00Z", "2026-11-20T03:00:00Z"] {
            facts.listing.add(&snapshot(&id, slot), "snapkeep", &Capabilities::default());
        }
        let (_, seen) = facts.listing.of(&id).unwrap();
        let adopted = |(name, seen): (&str, &Seen)| seen.adopted(name, (&id, "web", &place), now);
        let mut records: Vec<Record> = seen.into_iter().map(adopted).collect();
        let (survivors, newest, oldest) = (1, None, None);
        let mark =
            Mark { at: long_ago, execute_at: long_ago, survivors, newest, oldest, size_gb: None };
        let lease = Lease::until(now + crate::ledger::record::INVOCATION_LIFE);
        records[0] = records[0].marked(mark.clone(), "no rule keeps it");
        let elsewhere = Fields {
            place: "us-east-1".parse().unwrap(),
            ..records[1].marked(mark, "no rule keeps it").deleting(now, lease).into()
        };
        records[1] = Record::stored(elsewhere);
        facts.records.insert(id.clone(), records);
        let settings = settings("last=1");
        let capabilities = Capabilities::default();
        let plan = facts.plan(
            &id,
            &Context {
                settings: &settings,
                now,
                lease,
                elapsed: jiff::SignedDuration::ZERO,
                capabilities,
            },
        );
        let verdicts: Vec<&Verdict> = plan.verdicts.iter().map(|judged| &judged.verdict).collect();
        let (disagrees, floor) = (Guard::RecordDisagrees, Guard::Floor);
        assert_eq!(verdicts, [&Verdict::Guarded(disagrees), &Verdict::Guarded(floor)]);
    }

    #[test]
    fn a_look_says_nothing_of_a_record_that_nobody_asked_about() {
        let now: Timestamp = "2026-11-20T03:00:00Z".parse().unwrap();
        let id = ResourceId("arn:web".to_owned());
        let (name, timezone) = ("default".to_owned(), "UTC".to_owned());
        let seen = Seen {
            name: None,
            disk: None,
            untagged: false,
            deletable: true,
            slot: "2026-11-19T03:00:00Z".parse().unwrap(),
            attempt: 1,
            state: SnapshotState::Available,
            hold: None,
            created_at: "2026-11-19T03:00:30Z".parse().unwrap(),
            size_gb: 20,
            policy: PolicyText { name, schedule: None, keep: None, timezone }.into(),
        };
        let place: Place = "eu-west-1".parse().unwrap();
        let gone = Record::stored(Fields {
            missing_since: Some(seen.created_at),
            ..seen.adopted("web-1", (&id, "web", &place), now).into()
        });
        // A ledger has two items of one name only if somebody wrote into it.
        let made = Record::stored(Fields {
            state: State::Pending,
            superseded: true,
            ..gone.clone().into()
        });
        let mut facts = Facts::of(place);
        let asked = gone.snapshot();
        facts.records.insert(id.clone(), vec![gone, made]);
        let settings = settings("all");
        let (lease, capabilities) = (Lease::until(now), Capabilities::default());
        let cx = Context {
            settings: &settings,
            now,
            lease,
            elapsed: jiff::SignedDuration::ZERO,
            capabilities,
        };
        assert_eq!(facts.questions(&cx).snapshots, [asked.clone()].into());
        facts.looks.insert(asked, Lookup::Missing);
        let steps = facts.plan(&id, &cx).steps;
        let deleted = |step: &Step| matches!(step, Step::Write(r) if r.state == State::Deleted);
        assert!(steps.len() == 1 && deleted(&steps[0]), "{steps:?}");
    }
}
