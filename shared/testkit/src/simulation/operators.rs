//! The actions of people and services on the world while the functions run.

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::ErrorKind;
use snapkeep_domain::ledger::record::State;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::policy::tags::Protection;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{
    HOLD, Instance, MANAGED_BY, Ownership, Snapshot, SnapshotState, snapshot_name,
};

use super::Deployment;
use super::invocation::BY_SUFFIX;
use super::rates::STEP_MAX;
use super::world::{Outage, World};
use crate::ledger::Backup;

/// An action of a person or a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Action {
    LaunchInstance,
    DeleteInstance,
    OptInOrOut,
    ChangeKeepTag,
    ChangeScheduleTag,
    HoldInstance,
    HoldSnapshot,
    DeleteSnapshot,
    HealSnapshot,
    StripTags,
    CopyTags,
    TakeSnapshotByHand,
    TakeTheNextName,
    ChangePolicy,
    Outage,
    AutomaticSnapshot,
    LoseLedger,
    BackUpLedger,
    RestoreLedger,
    ExpireTombstone,
    DisableRegion,
    UnnameRegion,
    StepClock,
    RollOut,
    RenameInstance,
    RenameSnapshot,
    CopySnapshot,
    ShutDownOrStart,
}

impl Action {
    /// All actions.
    pub const ALL: &[Action] = &[
        Action::LaunchInstance,
        Action::DeleteInstance,
        Action::OptInOrOut,
        Action::ChangeKeepTag,
        Action::ChangeScheduleTag,
        Action::HoldInstance,
        Action::HoldSnapshot,
        Action::DeleteSnapshot,
        Action::HealSnapshot,
        Action::StripTags,
        Action::CopyTags,
        Action::TakeSnapshotByHand,
        Action::TakeTheNextName,
        Action::ChangePolicy,
        Action::Outage,
        Action::AutomaticSnapshot,
        Action::LoseLedger,
        Action::BackUpLedger,
        Action::RestoreLedger,
        Action::ExpireTombstone,
        Action::DisableRegion,
        Action::UnnameRegion,
        Action::StepClock,
        Action::RollOut,
    ];

    /// The actions that are possible only where names do not identify anything.
    pub const BY_ID: &[Action] = &[
        Action::RenameInstance,
        Action::RenameSnapshot,
        Action::CopySnapshot,
        Action::ShutDownOrStart,
    ];
}

/// What the ids of somebody's copies of our snapshots begin with.
pub(super) const TWIN: &str = "twin/";

/// The retentions that a policy may get.
pub const KEEPS: &[&str] = &[
    "last=1",
    "last=3",
    "hourly=4",
    "hourly=3 daily=2",
    "daily=2 weekly=1",
    "within=8h",
    "last=2 within=1d",
    "all",
];
/// The schedules that a policy may get.
pub const SCHEDULES: &[&str] =
    &["hourly", "hourly", "every-2h", "every-4h", "every-6h", "daily@03:00"];
const KEEP_TAGS: &[&str] = &["last=1", "last=2", "hourly=6", "within=12h", "all", "", "lots"];
const SCHEDULE_TAGS: &[&str] = &["hourly", "every-3h", "every-12h", "daily@12:00", "always"];

/// The memory of the people who act.
#[derive(Debug, Default)]
pub(super) struct Operators {
    backup: Option<(usize, Backup)>,
    count: u32,
    /// The instances whose schedule, opt-in or existence somebody changed; or all instances.
    pub(super) touched: Vec<Instance>,
    pub(super) touched_all: bool,
}

impl Operators {
    /// Carries out an action, and describes it.
    pub(super) fn act(
        &mut self,
        action: Action,
        world: &World,
        deployments: &mut [Deployment],
    ) -> String {
        self.count += 1;
        let instances = world.provider.all_instances();
        let snapshots = world.provider.all_snapshots();
        let instance = world.pick(instances.len()).map(|at| instances[at].clone());
        let ours: Vec<&Snapshot> =
            snapshots.iter().filter(|s| deployments.iter().any(|d| ours(s, &d.id))).collect();
        let of = world.pick(world.ledgers.len()).unwrap_or_default();
        let snapshot = world.pick(ours.len()).map(|at| ours[at].clone());
        let said = self
            .act_on_tags(action, world, instance.clone())
            .or_else(|| self.act_on_instance(action, world, instance, deployments))
            .or_else(|| self.act_on_snapshot(action, world, snapshot, &ours))
            .or_else(|| self.act_on_services(action, world))
            .or_else(|| self.act_on_deployment(action, world, of, deployments));
        world.remember();
        said.unwrap_or_default()
    }

    /// Acts on an instance.
    fn act_on_instance(
        &mut self,
        action: Action,
        world: &World,
        instance: Option<Instance>,
        deployments: &[Deployment],
    ) -> Option<String> {
        let now = world.now();
        Some(match action {
            Action::LaunchInstance => {
                let region = super::REGIONS[usize::from(world.coin())];
                let name = format!("web-{}", world.lock().rng.u8(0..4));
                if world.provider.is_free(region, &name) {
                    let on = [("snapkeep".to_owned(), String::new())];
                    let launched = world.provider.launch(region, &name, on.into());
                    self.touched.push(launched);
                }
                name
            }
            Action::DeleteInstance => instance.map_or_else(String::new, |instance| {
                world.provider.terminate(&instance.place, &instance.name);
                self.touched.push(instance.clone());
                instance.name
            }),
            Action::RenameInstance => instance.map_or_else(String::new, |instance| {
                let to = format!("renamed-{}", self.count);
                world.provider.rename_instance(&instance.place, &instance.name, &to);
                // A condition may begin under one name and end under the other.
                let names = &mut world.lock().watch.names;
                for name in [&instance.name, &to] {
                    let ids = names.entry(name.clone()).or_default();
                    ids.extend([instance.id.clone(), ResourceId("renamed".to_owned())]);
                }
                format!("{} {to}", instance.name)
            }),
            Action::ShutDownOrStart => instance.map_or_else(String::new, |instance| {
                let why = instance.unready.is_none().then_some("it is shut down");
                world.provider.set_unready(&instance.place, &instance.name, why);
                self.touched.push(instance.clone());
                format!("{} {why:?}", instance.name)
            }),
            Action::TakeSnapshotByHand => instance.map_or_else(String::new, |instance| {
                let name = format!("by-hand-{}", self.count);
                world.provider.insert(by_hand(&instance, &name, now, self.count));
                name
            }),
            Action::TakeTheNextName => instance.map_or_else(String::new, |instance| {
                let name = next_name(&instance, &deployments[0].settings(), now);
                let by_id = !world.provider.can().unique_names;
                if by_id || world.provider.is_free(&instance.place, &name) {
                    world.provider.insert(by_hand(&instance, &name, now, self.count));
                }
                name
            }),
            _ => return None,
        })
    }

    /// Acts on an instance's tags.
    fn act_on_tags(
        &mut self,
        action: Action,
        world: &World,
        instance: Option<Instance>,
    ) -> Option<String> {
        Some(match action {
            Action::OptInOrOut => instance.map_or_else(String::new, |instance| {
                let value = world.word(&["", "on", "off", "gold", "silver", "nonsense", "-"]);
                let (region, name) = (&instance.place, &instance.name);
                match value {
                    "-" => world.provider.untag_instance(region, name, "snapkeep"),
                    value => world.provider.tag_instance(region, name, "snapkeep", value),
                }
                self.touched.push(instance.clone());
                format!("{} {value}", instance.name)
            }),
            Action::ChangeKeepTag => instance.map_or_else(String::new, |instance| {
                let value = world.word(KEEP_TAGS);
                let (region, name) = (&instance.place, &instance.name);
                world.provider.tag_instance(region, name, "snapkeep:keep", value);
                format!("{name} {value}")
            }),
            Action::ChangeScheduleTag => instance.map_or_else(String::new, |instance| {
                let value = world.word(SCHEDULE_TAGS);
                let (region, name) = (&instance.place, &instance.name);
                world.provider.tag_instance(region, name, "snapkeep:schedule", value);
                self.touched.push(instance.clone());
                format!("{} {value}", instance.name)
            }),
            Action::HoldInstance => instance.map_or_else(String::new, |instance| {
                let (region, name) = (&instance.place, &instance.name);
                if instance.tags.contains_key(HOLD) {
                    world.provider.untag_instance(region, name, HOLD);
                } else {
                    world.provider.tag_instance(
                        region,
                        name,
                        HOLD,
                        world.word(&["", "until=2026-01-03"]),
                    );
                }
                instance.name
            }),
            _ => return None,
        })
    }

    /// Acts on a snapshot.
    fn act_on_snapshot(
        &mut self,
        action: Action,
        world: &World,
        snapshot: Option<Snapshot>,
        ours: &[&Snapshot],
    ) -> Option<String> {
        let can = world.provider.can();
        Some(match action {
            Action::HoldSnapshot => snapshot.map_or_else(String::new, |snapshot| {
                let (region, key) = (&snapshot.place, snapshot.key(&can));
                if snapshot.tags.contains_key(HOLD) {
                    world.provider.untag_snapshot(region, key, HOLD);
                } else {
                    let value = world.word(&["", "until=2026-01-03", "gibberish"]);
                    world.provider.tag_snapshot(region, key, HOLD, value);
                }
                snapshot.name
            }),
            Action::DeleteSnapshot => snapshot.map_or_else(String::new, |snapshot| {
                world.provider.vanish(&snapshot.place, snapshot.key(&can));
                snapshot.name
            }),
            Action::RenameSnapshot => snapshot.map_or_else(String::new, |snapshot| {
                let to = format!("mine-{}", self.count);
                world.provider.rename_snapshot(&snapshot.place, &snapshot.id, &to);
                world.lock().watch.stripped.insert(snapshot.id);
                format!("{} {to}", snapshot.name)
            }),
            Action::CopySnapshot => snapshot.map_or_else(String::new, |mut copy| {
                copy.id = format!("{TWIN}{}", self.count);
                let later = copy.created_at + SignedDuration::from_secs(1);
                copy.created_at = world.now().max(later);
                copy.state = SnapshotState::Available;
                copy.tags.remove(HOLD);
                world.provider.insert(copy.clone());
                copy.name
            }),
            // The service reports that a snapshot failed, and later that it is available after all.
            Action::HealSnapshot => {
                let failed = |s: &&&Snapshot| s.state == SnapshotState::Error;
                ours.iter().find(failed).map_or_else(String::new, |healed| {
                    let (region, key) = (&healed.place, healed.key(&can));
                    world.provider.set_state(region, key, SnapshotState::Available);
                    world.provider.set_deletable(region, key, true);
                    world.lock().watch.healed.insert(healed.id.clone());
                    healed.name.clone()
                })
            }
            Action::StripTags => snapshot.map_or_else(String::new, |snapshot| {
                let key =
                    world.word(&[MANAGED_BY, "snapkeep:slot", "snapkeep:source", "snapkeep:keep"]);
                world.provider.untag_snapshot(&snapshot.place, snapshot.key(&can), key);
                world.lock().watch.stripped.insert(snapshot.id.clone());
                format!("{} {key}", snapshot.name)
            }),
            Action::CopyTags => snapshot.map_or_else(String::new, |mut copy| {
                copy.id = format!("by-hand/{}", self.count);
                copy.name = format!("copy-{}", self.count);
                copy.state = SnapshotState::Available;
                copy.tags.remove(HOLD);
                world.provider.insert(copy.clone());
                copy.name
            }),
            _ => return None,
        })
    }

    /// Acts on the services.
    fn act_on_services(&mut self, action: Action, world: &World) -> Option<String> {
        Some(match action {
            Action::Outage => {
                let kinds = [
                    ErrorKind::Throttled,
                    ErrorKind::Indeterminate,
                    ErrorKind::Denied,
                    ErrorKind::Quota,
                ];
                let operation = match world.pick(7).unwrap_or(0) {
                    0 => None,
                    at => Some(["create", "delete", "live", "advance", "open", "recent"][at - 1]),
                };
                let kind = kinds[world.pick(kinds.len()).unwrap_or(0)];
                let until = world.a_while(if world.coin() { 18 } else { 60 });
                // Some outages are in one Region only.
                let region =
                    world.coin().then(|| super::REGIONS[usize::from(world.coin())].to_owned());
                let said = format!("{operation:?} {region:?} {kind:?} until {until}");
                world.lock().outages.push(Outage { operation, region, kind, until });
                said
            }
            Action::AutomaticSnapshot => {
                let (operation, kind, until) = (Some("create"), ErrorKind::Busy, world.a_while(2));
                world.lock().outages.push(Outage { operation, region: None, kind, until });
                format!("until {until}")
            }
            Action::DisableRegion => {
                let region = super::REGIONS[usize::from(world.coin())];
                let enabled = world.coin();
                world.provider.enable_region(region, enabled);
                format!("{region} {enabled}")
            }
            Action::UnnameRegion => {
                let region = super::REGIONS[usize::from(world.coin())];
                let unnamed = &mut world.lock().unnamed;
                if !unnamed.remove(region) {
                    unnamed.insert(region.to_owned());
                }
                region.to_owned()
            }
            Action::StepClock => {
                let by = world.lock().rng.i64(-STEP_MAX.as_mins()..=STEP_MAX.as_mins());
                let by = SignedDuration::from_mins(by);
                let until = world.a_while(12);
                world.lock().step = Some((by, until));
                self.touched_all = true;
                format!("{by:#} until {until}")
            }
            Action::RollOut => {
                let percent = world.lock().rng.u32(0..=100);
                let mut inner = world.lock();
                inner.rollout = inner.rollout.max(percent);
                // A function cannot count what it cannot read, but it reports that.
                self.touched_all = true;
                format!("{percent} %")
            }
            _ => return None,
        })
    }

    /// Acts on a deployment and its ledger.
    fn act_on_deployment(
        &mut self,
        action: Action,
        world: &World,
        of: usize,
        deployments: &mut [Deployment],
    ) -> Option<String> {
        let now = world.now();
        Some(match action {
            Action::ChangePolicy => {
                let deployment = &mut deployments[world.pick(2).unwrap_or(0) % deployments.len()];
                let (key, value) = match world.lock().rng.u8(0..4) {
                    0 => ("SNAPKEEP_MIN_KEEP", ["1", "2", "daily=2"]),
                    1 => ("SNAPKEEP_GRACE", ["1h", "5h", "12h"]),
                    _ => ("SNAPKEEP_KEEP", ["last=1", "hourly=5", "last=4"]),
                };
                let value = world.word(&value);
                deployment.vars.insert(key.to_owned(), value.to_owned());
                format!("{} {key}={value}", deployment.id)
            }
            Action::LoseLedger => {
                world.ledgers[of].clear();
                self.lost(world, now);
                String::new()
            }
            Action::BackUpLedger => {
                self.backup = Some((of, world.ledgers[of].backup()));
                String::new()
            }
            Action::RestoreLedger => {
                if let Some((of, backup)) = self.backup.take() {
                    world.ledgers[of].restore(backup);
                    self.lost(world, now);
                }
                String::new()
            }
            Action::ExpireTombstone => {
                let mut records = world.ledgers[of].all();
                records.retain(|r| r.expires_at().is_some() && r.state == State::Deleted);
                world.pick(records.len()).map_or_else(String::new, |at| {
                    world.ledgers[of].remove(&records[at]);
                    world.lock().watch.expired = true;
                    self.touched_all = true;
                    records[at].name.clone()
                })
            }
            _ => return None,
        })
    }

    fn lost(&mut self, world: &World, now: Timestamp) {
        world.lock().watch.ledger_lost = Some(now);
        self.touched_all = true;
    }
}

/// The random choices of people.
impl World {
    /// Chooses one of `n`.
    fn pick(&self, n: usize) -> Option<usize> {
        (n > 0).then(|| self.lock().rng.usize(0..n))
    }

    fn word(&self, words: &[&'static str]) -> &'static str {
        words[self.lock().rng.usize(0..words.len())]
    }

    fn coin(&self) -> bool {
        self.lock().rng.bool()
    }

    /// A time within this many hours from now.
    fn a_while(&self, hours: i64) -> Timestamp {
        self.now() + SignedDuration::from_mins(self.lock().rng.i64(10..hours * 60))
    }
}

fn ours(snapshot: &Snapshot, deployment: &str) -> bool {
    matches!(snapshot.ownership(deployment, &BY_SUFFIX), Ownership::Ours { .. })
}

fn by_hand(instance: &Instance, name: &str, now: Timestamp, count: u32) -> Snapshot {
    Snapshot {
        id: format!("by-hand/{count}"),
        name: name.to_owned(),
        place: instance.place.clone(),
        source: instance.id.clone(),
        source_name: instance.name.clone(),
        disk: instance.disk.clone(),
        deletable: true,
        source_place: Some(instance.place.clone()),
        created_at: now,
        state: SnapshotState::Available,
        tags: [("mine".to_owned(), "yes".to_owned())].into(),
        size_gb: 20,
    }
}

/// The name that this instance's next snapshot would get.
fn next_name(instance: &Instance, settings: &Settings, now: Timestamp) -> String {
    let policy = Protection::read(&instance.tags, &settings.tag, &settings.policies).policy;
    let period = policy.schedule.period(&policy.zone, now);
    let next = policy.schedule.latest(&policy.zone, now + period);
    snapshot_name(&settings.deployment, &instance.id, &instance.name, next, 1)
}
