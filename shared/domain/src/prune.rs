//! Plans `prune`: one verdict for every snapshot, with its reason; the guards stand above every rule.
//!
//! This file is the way through a run; [`guard`] holds what may stand against a deletion, `terms` finds
//! out by what one resource is judged, and `resource` judges its snapshots.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::finding::{Code, Finding};
use crate::poll::Look;
use crate::record::{GONE_AFTER, Record, State};
use crate::settings::Settings;
use crate::snapshot::{Instance, Ownership, ResourceId, Snapshot, SnapshotState};
use crate::time::{Slot, since};

pub mod guard;
mod resource;
mod terms;

pub use guard::Guard;
pub use resource::Verdict;

/// What asking for the source of snapshots by its name answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// It lives; the listing just did not show it.
    Alive(Instance),
    /// It is gone.
    Gone {
        /// Whether another instance has its name now.
        name_lives: bool,
    },
    /// No answer.
    Unknown,
}

/// Everything that `prune` judges by.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The Regions whose listings, of instances and of snapshots, are both complete.
    pub complete: BTreeSet<String>,
    /// The instances of those Regions.
    pub instances: Vec<Instance>,
    /// Every snapshot that was listed, or found by name.
    pub snapshots: Vec<Snapshot>,
    /// The live records.
    pub records: Vec<Record>,
    /// Resources with a record that cannot be read.
    pub unreadable: BTreeSet<ResourceId>,
    /// What became of the sources that no listing shows.
    pub sources: BTreeMap<ResourceId, Source>,
    /// What became of the recorded snapshots that no listing shows, by (Region, name).
    pub looks: BTreeMap<(String, String), Look>,
}

/// What must be asked by name before a plan can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Sources of our snapshots that no listing shows: id, Region, name.
    pub sources: BTreeSet<(ResourceId, String, String)>,
    /// Recorded snapshots that no listing shows: Region, name.
    pub snapshots: BTreeSet<(String, String)>,
}

/// A snapshot with its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Its Region.
    pub region: String,
    /// Its name.
    pub name: String,
    /// Of what it was taken.
    pub source: ResourceId,
    /// The name of that.
    pub source_name: String,
    /// Its slot, if it is ours.
    pub slot: Option<Slot>,
    /// The verdict.
    pub verdict: Verdict,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take a snapshot of ours into the ledger.
    Adopt(Record),
    /// Write this record; the second is what it was.
    Write(Record),
    /// Announce a deletion.
    Mark(Record),
    /// Keep a marked snapshot after all.
    Rescue(Record),
    /// Delete the snapshot of this marked record, after one last look.
    Delete(Record),
}

/// What a run will do, and why.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Every snapshot once.
    pub verdicts: Vec<Judged>,
    /// What to do, resource by resource.
    pub steps: Vec<Step>,
    /// What people should know.
    pub findings: Vec<Finding>,
    /// How fresh each protected resource's newest snapshot is.
    pub ages: Vec<Age>,
}

/// How old a protected resource's newest available snapshot is, by its slot, and how old its schedule
/// lets it become: a period, and the time that a snapshot may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub name: String,
    /// The slot of the newest available snapshot; without one, the age counts from the first record.
    pub newest: Option<Slot>,
    /// How old.
    pub age: SignedDuration,
    /// How old it may be.
    pub promised: SignedDuration,
}

impl Age {
    /// By how much it is too old.
    #[must_use]
    pub fn over(&self) -> SignedDuration {
        self.age.saturating_sub(self.promised).max(SignedDuration::ZERO)
    }
}

/// What to ask by name, seeing the listings.
#[must_use]
pub fn questions(facts: &Facts, deployment: &str) -> Questions {
    let living: BTreeSet<&ResourceId> = facts.instances.iter().map(|i| &i.id).collect();
    let listed: BTreeSet<(&str, &str)> =
        facts.snapshots.iter().map(|s| (s.region.as_str(), s.name.as_str())).collect();
    let complete = |region: &String| facts.complete.contains(region);
    let ours = |s: &&Snapshot| matches!(s.ownership(deployment), Ownership::Ours { .. });
    let sources = facts
        .snapshots
        .iter()
        .filter(|s| complete(&s.region) && !living.contains(&s.source))
        .filter(ours)
        .map(|s| (s.source.clone(), s.region.clone(), s.source_name.clone()))
        .collect();
    let snapshots = facts
        .records
        .iter()
        .filter(|r| complete(&r.region) && could_vanish(r))
        .filter(|r| !listed.contains(&(r.region.as_str(), r.name.as_str())))
        .map(|r| (r.region.clone(), r.name.clone()))
        .collect();
    Questions { sources, snapshots }
}

/// Whether `prune` watches over the existence of this record's snapshot; the others are `poll`'s.
fn could_vanish(record: &Record) -> bool {
    match record.state {
        State::Available | State::Expiring | State::Failed => true,
        State::Intended | State::Requested | State::Pending | State::Deleting | State::Deleted => {
            false
        }
    }
}

/// Plans a run. Total: whatever the facts are, every snapshot gets one verdict.
#[must_use]
pub fn plan(facts: &Facts, settings: &Settings, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut ours: BTreeMap<&ResourceId, Vec<resource::Candidate<'_>>> = BTreeMap::new();
    let mut records: BTreeMap<&ResourceId, Vec<&Record>> = BTreeMap::new();
    for record in &facts.records {
        records.entry(&record.resource).or_default().push(record);
    }
    for snapshot in &facts.snapshots {
        match snapshot.ownership(&settings.deployment) {
            Ownership::Ours { slot, attempt } => ours
                .entry(&snapshot.source)
                .or_default()
                .push(resource::Candidate { snapshot, slot, attempt }),
            Ownership::LookAlike(why) => {
                plan.findings.push(look_alike(snapshot, why));
                plan.judge(snapshot, None, Verdict::LookAlike);
            }
            Ownership::Foreign => plan.judge(snapshot, None, Verdict::Foreign),
        }
    }
    for record in &facts.records {
        plan.steps.extend(lost_ownership(record, facts, settings, now));
        if let Some(look) = facts.looks.get(&(record.region.clone(), record.name.clone())) {
            plan.vanished(record, look, now);
        }
    }
    let mut everyone: BTreeSet<&ResourceId> = ours.keys().copied().collect();
    everyone.extend(facts.instances.iter().map(|i| &i.id));
    for id in everyone {
        let candidates = ours.remove(id).unwrap_or_default();
        let records = records.get(id).map_or(&[][..], Vec::as_slice);
        resource::judge(&mut plan, id, candidates, records, facts, settings, now);
    }
    guard::cap_marks(&mut plan, settings);
    debug_assert_eq!(plan.verdicts.len(), facts.snapshots.len(), "a verdict for every snapshot");
    plan
}

impl Plan {
    fn judge(&mut self, snapshot: &Snapshot, slot: Option<Slot>, verdict: Verdict) {
        self.verdicts.push(Judged {
            region: snapshot.region.clone(),
            name: snapshot.name.clone(),
            source: snapshot.source.clone(),
            source_name: snapshot.source_name.clone(),
            slot,
            verdict,
        });
    }

    /// A recorded snapshot that the listing does not show: gone only when two answers, some time apart,
    /// say so.
    fn vanished(&mut self, record: &Record, look: &Look, now: Timestamp) {
        match (look, record.missing_since) {
            (Look::Missing, None) => {
                self.steps.push(Step::Write(Record { missing_since: Some(now), ..record.clone() }));
            }
            (Look::Missing, Some(first)) if since(first, now) >= GONE_AFTER => {
                let next = if record.state == State::Failed {
                    Record { remains: false, missing_since: None, ..record.clone() }
                } else {
                    let message = format!("{} was deleted, but not by snapkeep", record.name);
                    let finding = Finding::new(Code::Vanished, message.clone())
                        .of(&record.resource, &record.resource_name)
                        .value(record.name.clone())
                        .fix("find out who deletes snapshots; it is not made again");
                    self.findings.push(finding);
                    record.moved(State::Deleted, now, "deleted by someone else")
                };
                self.steps.push(Step::Write(next));
            }
            (Look::Found(_), Some(_)) => {
                self.steps.push(Step::Write(Record { missing_since: None, ..record.clone() }));
            }
            (Look::Missing, Some(_)) | (Look::Found(_), None) | (Look::Unknown, _) => {}
        }
    }
}

/// A marked snapshot whose tags no longer say that it is ours is rescued: nothing marked may stay so.
fn lost_ownership(
    record: &Record,
    facts: &Facts,
    settings: &Settings,
    now: Timestamp,
) -> Option<Step> {
    if !record.may_be_rescued(now) {
        return None;
    }
    let listed = |s: &&Snapshot| s.region == record.region && s.name == record.name;
    let snapshot = facts.snapshots.iter().find(listed)?;
    let ours = matches!(snapshot.ownership(&settings.deployment), Ownership::Ours { .. })
        && snapshot.source == record.resource;
    // One that is not settled keeps its mark for now: nothing unavailable is ever deleted.
    let settled = matches!(snapshot.state, SnapshotState::Available | SnapshotState::Error);
    (!ours && settled)
        .then(|| Step::Rescue(record.observed(snapshot, now, "rescued: no longer ours")))
}

fn look_alike(snapshot: &Snapshot, why: &str) -> Finding {
    Finding::new(
        Code::LookAlike,
        format!("{} carries this deployment's tag, but is not ours: {why}", snapshot.name),
    )
    .named(snapshot.name.clone())
    .fix("it is never touched; remove its snapkeep: tags if they were copied")
}
