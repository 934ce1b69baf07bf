//! Deliberately broken variants of the functions. Each is caught by the property that it breaks,
//! which shows that the properties work. The variants live in the ports, never in the product.

use crate::alter;
use jiff::SignedDuration;
use snapkeep_app::ports::SnapshotRequest;
use snapkeep_app::report::Report;
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::Retention;
use snapkeep_domain::policy::keep::MinKeep;
use snapkeep_domain::policy::settings::{Regions, Settings};
use snapkeep_domain::snapshot::{HOLD, Ownership, Snapshot, SnapshotState};

use super::properties::Property;
use super::world::World;

/// A way in which the functions are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// Deletes a snapshot that it never made.
    DeletesWhatIsForeign,
    /// Deletes a pending snapshot.
    DeletesWhatIsPending,
    /// Does not see holds.
    OverlooksHolds,
    /// Takes a pending or failed snapshot for an available one.
    CountsWhatIsNotThere,
    /// Has no floor.
    ForgetsTheFloor,
    /// Makes a second snapshot for the slot.
    MakesTwo,
    /// Does not see the snapshots that are being made.
    OverlooksWhatIsUnderWay,
    /// Takes every failed attempt for an old one.
    ForgetsToWait,
    /// Considers the newest snapshot fresh, however old it is.
    OverlooksStaleness,
    /// Requests snapshots without tags, so that it never recognises them.
    ForgetsItsTags,
    /// Requests snapshots without an intent in the ledger.
    ForgetsItsIntents,
    /// Writes marks as if they had been made long ago.
    BackdatesMarks,
    /// Takes the part of a list that came before a failure for the whole.
    TrustsBrokenLists,
    /// Has no brake.
    ReleasesTheBrake,
    /// Keeps less than the policy says.
    KeepsLess,
    /// Writes a state that no edge leads to.
    JumpsStates,
    /// Takes an error for "not found".
    TakesAnErrorForGone,
    /// Takes the first "not found" for the second.
    BelievesOneLook,
    /// Marks any number of snapshots.
    IgnoresTheCap,
    /// Carries out what a dry run only plans.
    ActsInADryRun,
    /// Does not know who was answered, and when.
    ForgetsWhoWaited,
    /// Does not serve the last instance of a page.
    OverlooksInstances,
    /// Records that people were notified, and notifies nobody.
    TellsNobody,
    /// Keeps the snapshots of instances that are gone.
    KeepsOrphans,
    /// Leaves failures out of its report.
    HidesFailures,
    /// Leaves missed slots out of its report.
    HidesMissedSlots,
    /// Reports a problem that does not exist.
    CriesWolf,
    /// Panics when a list is empty.
    Panics,
    /// Never prunes.
    NeverPrunes,
    /// Never creates in one Region.
    SkipsARegion,
}

impl Sabotage {
    /// Every variant with the property that must catch it.
    pub const ALL: &[(Sabotage, Property)] = &[
        (Sabotage::DeletesWhatIsForeign, Property::OnlyOurs),
        (Sabotage::OverlooksHolds, Property::HoldsHold),
        (Sabotage::DeletesWhatIsPending, Property::OnlyAvailable),
        (Sabotage::CountsWhatIsNotThere, Property::Floor),
        (Sabotage::ForgetsTheFloor, Property::Floor),
        (Sabotage::MakesTwo, Property::OnePerSlot),
        (Sabotage::OverlooksWhatIsUnderWay, Property::OneAtATime),
        (Sabotage::ForgetsToWait, Property::Backoff),
        (Sabotage::OverlooksStaleness, Property::Freshness),
        (Sabotage::ForgetsItsTags, Property::Tracked),
        (Sabotage::ForgetsItsIntents, Property::IntentFirst),
        (Sabotage::BackdatesMarks, Property::Grace),
        (Sabotage::TrustsBrokenLists, Property::CompleteLists),
        (Sabotage::ReleasesTheBrake, Property::Brake),
        (Sabotage::KeepsLess, Property::KeptByPolicy),
        (Sabotage::JumpsStates, Property::LegalEdges),
        (Sabotage::TakesAnErrorForGone, Property::Tombstones),
        (Sabotage::BelievesOneLook, Property::TwoLooks),
        (Sabotage::IgnoresTheCap, Property::Capped),
        (Sabotage::ActsInADryRun, Property::DryRun),
        (Sabotage::ForgetsWhoWaited, Property::Fair),
        (Sabotage::OverlooksInstances, Property::Progress),
        (Sabotage::TellsNobody, Property::Told),
        (Sabotage::KeepsOrphans, Property::Converges),
        (Sabotage::HidesFailures, Property::Reported),
        (Sabotage::HidesMissedSlots, Property::MissedSlots),
        (Sabotage::CriesWolf, Property::Quiet),
        (Sabotage::Panics, Property::NoPanic),
        (Sabotage::NeverPrunes, Property::Converges),
        (Sabotage::SkipsARegion, Property::Served),
    ];

    /// The settings with which the broken variant works.
    pub(super) fn settings(self, mut settings: Settings) -> Settings {
        match self {
            Sabotage::ReleasesTheBrake => settings.max_delete_percent = 100,
            Sabotage::KeepsLess => {
                if let Ok(less) = "last=1".parse() {
                    settings.policies.default.retention = Retention::Keep(less);
                }
            }
            Sabotage::OverlooksStaleness => {
                if let Ok(rarely) = "monthly@1-03:00".parse() {
                    settings.policies.default.schedule = rarely;
                }
            }
            Sabotage::IgnoresTheCap => settings.max_deletes = None,
            Sabotage::ActsInADryRun => settings.dry_run = false,
            Sabotage::KeepsOrphans => settings.orphan_keep = None,
            Sabotage::ForgetsTheFloor => settings.min_keep = MinKeep::Count(0),
            Sabotage::SkipsARegion => {
                settings.providers[0].regions =
                    Regions::Only(vec![super::REGIONS[0].parse().unwrap()]);
            }
            _ => {}
        }
        settings
    }

    /// The report of the broken variant.
    pub(super) fn report(self, mut report: Report) -> Report {
        match self {
            Sabotage::HidesFailures => {
                report.failures.clear();
                report.findings.clear();
                report.left = 0;
            }
            Sabotage::HidesMissedSlots => {
                report.findings.retain(|finding| finding.code != Code::MissedSlots);
            }
            Sabotage::CriesWolf => report.findings.push(Finding::new(Code::Stale, "wolf")),
            _ => {}
        }
        report
    }

    /// Changes the ledger's answers for the broken variant.
    pub(super) fn misread(self, records: &mut Vec<Record>) {
        match self {
            Sabotage::OverlooksWhatIsUnderWay => records.retain(|record| {
                !matches!(record.state, State::Requested | State::Pending | State::Intended)
            }),
            Sabotage::BelievesOneLook => {
                for record in records.iter_mut() {
                    let long_ago = record.entered() - SignedDuration::from_hours(24);
                    alter(record, |record| record.missing_since = Some(long_ago));
                }
            }
            Sabotage::ForgetsToWait => {
                for record in records.iter_mut().filter(|record| record.state == State::Failed) {
                    let long_ago = record.entered() - SignedDuration::from_hours(24);
                    alter(record, |record| record.times.insert(State::Failed, long_ago));
                }
            }
            _ => {}
        }
    }

    /// Changes the provider's answers for the broken variant.
    pub(super) fn distort(self, snapshots: &mut [Snapshot]) {
        assert!(self != Sabotage::Panics || !snapshots.is_empty(), "an empty list");
        for snapshot in snapshots {
            match self {
                Sabotage::OverlooksHolds => drop(snapshot.tags.remove(HOLD)),
                Sabotage::CountsWhatIsNotThere => snapshot.state = SnapshotState::Available,
                _ => {}
            }
        }
    }
}

/// The effects of sabotage on the world.
impl World {
    /// Makes a second snapshot besides the requested one.
    pub(super) fn make_another(&self, order: &SnapshotRequest) {
        let instances = self.provider.all_instances();
        let instance =
            instances.iter().find(|i| i.name == order.instance && i.place == order.place);
        let other = format!("{}-again", order.name);
        if let Some(instance) = instance
            && self.provider.is_free(&order.place, &other)
        {
            let snapshot = Snapshot {
                id: format!("another/{other}"),
                name: other,
                place: order.place.clone(),
                source: instance.id.clone(),
                source_name: instance.name.clone(),
                source_place: None,
                disk: instance.disk.clone(),
                deletable: true,
                created_at: self.now(),
                state: SnapshotState::Available,
                tags: order.tags.clone(),
                size_gb: 20,
            };
            self.lock().watch.smuggled(&snapshot);
            self.provider.insert(snapshot);
        }
    }

    /// A snapshot in the Region that no deployment made, as a victim of sabotage.
    pub(super) fn some_foreign(&self, region: &str) -> Option<Snapshot> {
        let mut all = self.provider.all_snapshots();
        all.retain(|s| {
            *s.place == *region
                && s.ownership("none", &Capabilities::default()) == Ownership::Foreign
        });
        all.retain(|s| !self.lock().watch.made(&s.id));
        all.retain(|s| s.state != SnapshotState::Pending);
        all.first().cloned()
    }

    /// A pending snapshot in the Region that a deployment made, as a victim of sabotage.
    pub(super) fn some_pending(&self, region: &str) -> Option<Snapshot> {
        let mut all = self.provider.all_snapshots();
        all.retain(|s| *s.place == *region && s.state == SnapshotState::Pending);
        all.retain(|s| self.lock().watch.made(&s.id));
        all.first().cloned()
    }
}
