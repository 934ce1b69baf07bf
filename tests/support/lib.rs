//! What the test targets share: a small world of facts for the planners.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::answer::Lookup;
use snapkeep_domain::capabilities::{Capabilities, TagSupport};
use snapkeep_domain::create::tags;
use snapkeep_domain::finding::Finding;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::{Age, Protected};
use snapkeep_domain::ledger::record::{
    FORMAT, Fields, History, INVOCATION_LIFE, Identity, Mark, Record, State,
};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::PolicyText;
use snapkeep_domain::policy::settings::{Context, Settings};
use snapkeep_domain::prune::{self, Judged, Questions, SourceStatus, Step, Verdict};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{
    Instance, Snapshot, SnapshotRef, SnapshotState, Tags, snapshot_name,
};
use snapkeep_domain::time::Slot;
pub use snapkeep_testkit::alter;

pub mod binaries;
mod python;

pub use python::python;

/// The deployment of every test that does not say otherwise.
pub const DEPLOYMENT: &str = "test";
/// The Region of every test that does not say otherwise.
pub const REGION: &str = "eu-west-1";

/// The project's folder.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the project, as text.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A template as CloudFormation gets it, as JSON.
///
/// # Panics
/// When it cannot be translated.
#[must_use]
pub fn translated(template: &str) -> Vec<u8> {
    let script = root().join("tests/python/translate.py");
    let translate = Command::new(python()).arg(script).arg(root().join(template)).output();
    let output = translate.unwrap_or_else(|error| panic!("{template}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A time, written as in the contract.
#[must_use]
pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Settings of `prune` from a few variables.
#[must_use]
pub fn settings(vars: &[(&str, &str)]) -> Settings {
    let mut all: BTreeMap<String, String> =
        vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    all.entry("SNAPKEEP_LEDGER_TABLE".to_owned()).or_insert_with(|| "ledger".to_owned());
    all.entry("SNAPKEEP_DEPLOYMENT".to_owned()).or_insert_with(|| DEPLOYMENT.to_owned());
    Settings::read(&all, Function::Prune).unwrap_or_else(|error| panic!("{error}"))
}

/// What a run judges by.
#[must_use]
pub fn context(settings: &Settings, now: Timestamp) -> Context<'_> {
    let capabilities = Capabilities::default();
    let lease = Lease::until(now + INVOCATION_LIFE);
    Context { settings, now, lease, elapsed: SignedDuration::ZERO, capabilities }
}

/// The facts of a place, as lists that a test can change.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The instances.
    pub instances: Vec<Instance>,
    /// Every snapshot that was listed, or found by name.
    pub snapshots: Vec<Snapshot>,
    /// The live records.
    pub records: Vec<Record>,
    /// Resources with a record that cannot be read.
    pub unreadable: BTreeSet<ResourceId>,
    /// What the ledger remembers.
    pub protected: Vec<Protected>,
    /// What became of the sources that no list shows.
    pub sources: BTreeMap<ResourceId, SourceStatus>,
    /// What became of the recorded snapshots that no list shows.
    pub looks: BTreeMap<SnapshotRef, Lookup>,
}

impl Facts {
    /// What a lane of `prune` gathers from them.
    #[must_use]
    pub fn gathered(&self, deployment: &str, capabilities: &Capabilities) -> prune::Facts {
        let mut facts = prune::Facts::of(place(REGION));
        for record in &self.records {
            facts.records.entry(record.resource.clone()).or_default().push(record.clone());
        }
        let instances = self.instances.iter();
        facts.instances = instances.map(|one| (one.id.clone(), one.clone())).collect();
        let protected = self.protected.iter();
        facts.protected = protected.map(|one| (one.resource.clone(), one.clone())).collect();
        let disks = facts.disks();
        for snapshot in &self.snapshots {
            let source = |disk: &str| disks.get(disk).map(|(id, name)| (id, name.as_str()));
            facts.listing.add(&snapshot.traced(source), deployment, capabilities);
        }
        facts.unreadable.clone_from(&self.unreadable);
        facts.sources.clone_from(&self.sources);
        facts.looks.clone_from(&self.looks);
        facts
    }
}

/// The plans for all resources of a place, together.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Every snapshot of ours once.
    pub verdicts: Vec<Judged>,
    /// What to do.
    pub steps: Vec<Step>,
    /// What people should know.
    pub findings: Vec<Finding>,
    /// How fresh each protected resource's newest snapshot is.
    pub ages: Vec<Age>,
    /// What to remember.
    pub remember: Vec<Protected>,
}

/// Facts about one instance called `web`, ready for `prune`.
#[derive(Clone, Debug)]
pub struct World {
    /// The facts.
    pub facts: Facts,
    /// Now.
    pub now: Timestamp,
    /// The variables.
    pub settings: Settings,
    /// What the provider can do.
    pub capabilities: Capabilities,
}

impl World {
    /// An opted-in instance without snapshots; `keep` is its retention.
    #[must_use]
    pub fn new(keep: &str, now: &str) -> Self {
        let mut world = World {
            facts: Facts::default(),
            now: at(now),
            settings: settings(&[("SNAPKEEP_KEEP", keep)]),
            capabilities: Capabilities::default(),
        };
        world.facts.instances.push(Instance {
            id: web(),
            name: "web".to_owned(),
            place: place(REGION),
            tags: Tags::from([("snapkeep".to_owned(), String::new())]),
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        });
        world
    }

    /// Sets a tag on the instance.
    pub fn tag(&mut self, key: &str, value: &str) {
        self.facts.instances[0].tags.insert(key.to_owned(), value.to_owned());
    }

    /// The instance is gone, and was not held when it was last seen.
    pub fn gone(&mut self, name_lives: bool) {
        self.facts.instances.clear();
        self.facts.sources.insert(web(), SourceStatus::Gone { name_lives });
        let policy = record(Slot::at(self.now), 1, None).policy.clone();
        let item = Protected::rebuilt(&web(), "web", &place(REGION), policy);
        self.facts.protected = vec![Protected { hold: None, ..item }];
    }

    /// Adds an available snapshot of ours with a record that agrees, made under `keep`.
    pub fn add(&mut self, slot: Timestamp, keep: Option<&str>) -> &mut Snapshot {
        let record = record(Slot::at(slot), 1, keep);
        let snapshot = snapshot_of(&record);
        self.facts.records.push(record);
        self.facts.snapshots.push(snapshot);
        let last = self.facts.snapshots.len() - 1;
        &mut self.facts.snapshots[last]
    }

    /// One snapshot a day at 03:00, the newest at or before now, for so many days.
    pub fn daily(&mut self, days: i64, keep: Option<&str>) {
        let today = self.now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let newest = at(&format!("{today}T03:00:00Z"));
        for day in 0..days {
            self.add(newest - SignedDuration::from_hours(24 * day), keep);
        }
    }

    /// What a run judges by.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context { capabilities: self.capabilities, ..context(&self.settings, self.now) }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let mut cx = self.context();
        let mut facts = self.facts.gathered(&self.settings.deployment, &self.capabilities);
        if facts.listing.shows_tags() {
            cx.capabilities.tags = TagSupport::Yes;
        }
        let mut all = Plan { findings: facts.listing.findings(), ..Plan::default() };
        for id in facts.resources() {
            let plan = facts.plan(&id, &cx);
            all.verdicts.extend(plan.verdicts);
            all.steps.extend(plan.steps);
            all.findings.extend(plan.findings);
            all.ages.extend(plan.age);
            all.remember.extend(plan.remember);
        }
        all.findings.extend(prune::cap_marks(&place(REGION), &mut all.steps, &self.settings));
        all
    }

    /// What the plan asks by name first.
    #[must_use]
    pub fn questions(&self) -> Questions {
        let facts = self.facts.gathered(&self.settings.deployment, &self.capabilities);
        facts.questions(&self.context())
    }

    /// Applies the ledger's side of a plan, and returns the names that it would delete now.
    pub fn apply(&mut self, plan: &Plan) -> Vec<String> {
        let mut deleted = Vec::new();
        for step in &plan.steps {
            match step {
                Step::Adopt(record) => self.facts.records.push(Record::clone(record)),
                Step::Write(record) | Step::Mark(record) | Step::Rescue(record) => {
                    for old in &mut self.facts.records {
                        if old.resource == record.resource && old.sort_key() == record.sort_key() {
                            *old = Record::clone(record);
                        }
                    }
                }
                Step::Delete { record, .. } => {
                    deleted.push(record.name.clone());
                    self.facts.snapshots.retain(|s| s.name != record.name);
                    self.facts.records.retain(|r| r.name != record.name);
                }
            }
        }
        deleted
    }

    /// The slots with this verdict, the newest first.
    #[must_use]
    pub fn slots(&self, which: impl Fn(&Verdict) -> bool) -> Vec<String> {
        let plan = self.plan();
        let mut slots: Vec<Slot> =
            plan.verdicts.iter().filter(|j| which(&j.verdict)).map(|j| j.slot).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(*slot));
        slots.iter().map(ToString::to_string).collect()
    }
}

/// The id of the one instance.
#[must_use]
pub fn web() -> ResourceId {
    ResourceId("arn:aws:lightsail:eu-west-1:111122223333:Instance/web-1".to_owned())
}

/// A record of an available snapshot.
#[must_use]
pub fn record(slot: Slot, attempt: u32, keep: Option<&str>) -> Record {
    Record::stored(Fields {
        resource: web(),
        slot,
        superseded: false,
        attempt,
        format: FORMAT,
        version: 1,
        state: State::Available,
        times: [(State::Available, slot.timestamp())].into(),
        reason: String::new(),
        name: snapshot_name(DEPLOYMENT, &web(), "web", slot, attempt),
        place: place(REGION),
        resource_name: "web".to_owned(),
        policy: PolicyText {
            name: "default".to_owned(),
            schedule: Some("daily@03:00".to_owned()),
            keep: keep.map(str::to_owned),
            timezone: "UTC".to_owned(),
        }
        .into(),
        lease: Lease::NONE,
        missed: 0,
        missing_since: None,
        foreign_since: None,
        mark: None,
        has_residue: false,
        history: History::default(),
        identity: Identity::default(),
        adopted_untagged: false,
        refused_for_good: false,
    })
}

/// A place by its name.
#[must_use]
pub fn place(name: &str) -> Place {
    name.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The snapshot that a record speaks of.
#[must_use]
pub fn snapshot_of(record: &Record) -> Snapshot {
    Snapshot {
        id: format!("arn:snapshot/{}", record.name),
        name: record.name.clone(),
        place: record.place.clone(),
        source: record.resource.clone(),
        source_name: record.resource_name.clone(),
        disk: None,
        deletable: true,
        source_place: Some(record.place.clone()),
        created_at: record.slot.timestamp() + SignedDuration::from_secs(30),
        state: SnapshotState::Available,
        tags: tags(record, DEPLOYMENT),
        size_gb: 20,
    }
}

/// Marks a record at this time, with a grace of three days.
pub fn mark(record: &mut Record, marked: Timestamp) {
    let execute_at = marked + SignedDuration::from_hours(72);
    let mark =
        Mark { at: marked, execute_at, survivors: 0, newest: None, oldest: None, size_gb: None };
    alter(record, |record| {
        record.state = State::Expiring;
        record.times.insert(State::Expiring, marked);
        record.mark = Some(Box::new(mark));
    });
}
