//! An invocation: what runs in it, and what the properties know of it: its answers, and its actions
//! so far.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use snapkeep_app::ports::{ErrorKind, Invocation};
use snapkeep_app::report::{Report, TickError};
use snapkeep_app::{create, notify, poll, prune};
use snapkeep_domain::capabilities::{Capabilities, TagSupport};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Ownership, Snapshot, SnapshotState};

use super::operators::TWIN;
use super::ports::{Fault, Ports};

/// What the pages of each place's list showed.
pub(super) type Views<T> = std::collections::BTreeMap<String, View<T>>;

/// What the pages of one list showed.
#[derive(Debug)]
pub(super) struct View<T> {
    /// The list that is paged, if it is not the provider's own.
    pub(super) frozen: Option<Vec<T>>,
    /// The elements so far.
    pub(super) shown: Vec<T>,
    /// Whether the last page arrived.
    pub(super) complete: bool,
}

impl<T> Default for View<T> {
    fn default() -> Self {
        View { frozen: None, shown: Vec::new(), complete: false }
    }
}

/// A running invocation, and the answers that it got.
#[derive(Debug)]
pub(super) struct RunningInvocation {
    pub(super) function: Function,
    /// The settings as deployed.
    pub(super) settings: Settings,
    /// The time on its clock.
    pub(super) now: Timestamp,
    /// When it began.
    pub(super) started: Timestamp,
    /// The time from which it begins no item.
    pub(super) stop_at: Timestamp,
    /// The record format of its version.
    pub(super) format: u32,
    pub(super) instances: Views<Instance>,
    pub(super) snapshots: Views<Snapshot>,
    /// The instances that it asked for.
    pub(super) asked: BTreeMap<(Place, ResourceId), Option<Instance>>,
    /// The snapshots that it asked for by name.
    pub(super) looks: BTreeMap<(Place, String), Option<Snapshot>>,
    /// The records that the index showed it.
    pub(super) open: Vec<Record>,
    /// The records that it marked, as they were before.
    pub(super) marked: BTreeMap<ResourceId, Vec<Record>>,
    /// Calls that failed and did not succeed later: its report must contain them.
    pub(super) unresolved: BTreeSet<(&'static str, String)>,
}

impl RunningInvocation {
    pub(super) fn new(
        function: Function,
        settings: Settings,
        now: Timestamp,
        started: Timestamp,
        stop_at: Timestamp,
        format: u32,
    ) -> Self {
        RunningInvocation {
            function,
            settings,
            now,
            started,
            stop_at,
            format,
            instances: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            asked: BTreeMap::new(),
            looks: BTreeMap::new(),
            open: Vec::new(),
            marked: BTreeMap::new(),
            unresolved: BTreeSet::new(),
        }
    }

    /// Notes the result of a call.
    pub(super) fn met(&mut self, operation: &'static str, what: &str, fault: Option<Fault>) {
        let call = (operation, what.to_owned());
        match fault {
            Some(Fault::Before(ErrorKind::RegionNotEnabled)) => {}
            Some(Fault::Before(_) | Fault::After) => drop(self.unresolved.insert(call)),
            _ => {
                // A look shows the outcome of a request whose answer was lost.
                if operation == "snapshot" {
                    for asked in ["create", "delete"] {
                        self.unresolved.remove(&(asked, what.to_owned()));
                    }
                }
                self.unresolved.remove(&call);
            }
        }
    }

    /// Whether both lists of a place are complete.
    pub(super) fn listed(&self, place: &str) -> bool {
        let complete = |complete: Option<bool>| complete == Some(true);
        complete(self.instances.get(place).map(|view: &View<Instance>| view.complete))
            && complete(self.snapshots.get(place).map(|view| view.complete))
    }

    /// Our available snapshots of a resource that its lists and looks showed, the newest first.
    pub(super) fn available(&self, resource: &ResourceId) -> Vec<(Timestamp, &Snapshot)> {
        let listed = self.snapshots.values().flat_map(|view| &view.shown);
        let looked = self.looks.values().flatten();
        let mut seen = BTreeSet::new();
        let mut found: Vec<_> = listed
            .chain(looked)
            .filter_map(|s| Some((slot_of(s, resource, &self.settings.deployment)?, s)))
            .filter(|(_, s)| seen.insert(&s.id))
            .collect();
        found.sort_by(|a, b| (b.0, &b.1.name).cmp(&(a.0, &a.1.name)));
        found
    }

    /// The instance as it was shown; `None` if nothing showed it.
    pub(super) fn instance(&self, resource: &ResourceId) -> Option<&Instance> {
        let listed = self.instances.values().flat_map(|view| &view.shown);
        let asked = self.asked.values().flatten();
        listed.chain(asked).find(|instance| instance.id == *resource)
    }
}

/// The properties see every tag and origin, and go by the part of a name that no renaming of an instance
/// changes.
pub(super) const BY_SUFFIX: Capabilities = Capabilities {
    stem_chars: 0,
    unique_names: false,
    tags: TagSupport::Yes,
    slow_deletes: false,
    tells_quota: false,
};

/// The slot of an available snapshot that this deployment made of this resource; `None` for others.
pub(super) fn slot_of(
    snapshot: &Snapshot,
    resource: &ResourceId,
    deployment: &str,
) -> Option<Timestamp> {
    // Somebody's copy under the same name is not what the deployment made.
    if snapshot.id.starts_with(TWIN) {
        return None;
    }
    match snapshot.ownership(deployment, &BY_SUFFIX) {
        Ownership::Ours { slot, .. }
            if snapshot.source == *resource && snapshot.state == SnapshotState::Available =>
        {
            Some(slot.timestamp())
        }
        _ => None,
    }
}

/// Runs an invocation of a function: its work, the notices, and the acknowledgement.
pub(super) async fn serve(
    function: Function,
    ports: Ports,
    settings: Settings,
    invocation: Invocation<Ports>,
) -> Result<Report, TickError> {
    let ports = &ports;
    let result = match function {
        Function::Create => create::run(ports, ports, ports, ports, &settings, &invocation).await,
        Function::Poll => poll::run(ports, ports, ports, &settings, &invocation).await,
        Function::Prune => prune::run(ports, ports, ports, ports, &settings, &invocation).await,
    };
    let mut report = result?;
    notify::run(ports, ports, &mut report, &invocation).await;
    ports.world.out(ports.me, ports.of, &report);
    notify::acknowledge(ports, &mut report, &invocation).await;
    Ok(report)
}
