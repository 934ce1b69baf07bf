//! A provider in memory: Regions, instances and snapshots, in a time that stands still until it is
//! set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef, SnapshotState, Tags};

mod ports;

/// How long after its request a snapshot says that it was made.
pub const CREATED_LAG: SignedDuration = SignedDuration::from_secs(30);
/// How many elements a page of a list has.
pub const PAGE: usize = 20;
/// The size of every instance's disk.
pub const SIZE_GB: u32 = 20;

/// A provider in memory. Each Region has one namespace of names, unless its capabilities say that
/// names do not identify snapshots: then a snapshot is meant by its id wherever a test names one, and
/// is shown with its disk instead of its source.
#[derive(Debug)]
pub struct MemoryProvider {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    capabilities: Capabilities,
    now: Timestamp,
    pending_for: SignedDuration,
    gone_after: SignedDuration,
    drops_tags: bool,
    one_at_a_time: bool,
    ids: u64,
    regions: BTreeMap<String, Region>,
    disabled: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Region {
    instances: BTreeMap<String, Instance>,
    snapshots: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    snapshot: Snapshot,
    /// When a pending snapshot becomes available; `None` after somebody set its state.
    ready_at: Option<Timestamp>,
    /// When it is gone, if its deletion was accepted.
    gone_at: Option<Timestamp>,
}

impl Inner {
    fn region(&mut self, name: &str) -> Result<&mut Region, ProviderError> {
        if self.disabled.contains(name) || !self.regions.contains_key(name) {
            return Err(refusal("Region", ErrorKind::RegionNotEnabled, name));
        }
        Ok(self.regions.entry(name.to_owned()).or_default())
    }

    fn id(&mut self, what: &str) -> String {
        self.ids += 1;
        format!("{what}/{:06}", self.ids)
    }

    /// Makes available what is due; called after every change of the time.
    fn settle(&mut self) {
        for region in self.regions.values_mut() {
            let now = self.now;
            region.snapshots.retain(|_, stored| stored.gone_at.is_none_or(|gone| gone > now));
        }
        for stored in self.regions.values_mut().flat_map(|region| region.snapshots.values_mut()) {
            if stored.ready_at.is_some_and(|at| at <= self.now) {
                stored.ready_at = None;
                stored.snapshot.state = SnapshotState::Available;
            }
        }
    }
}

fn refusal(operation: &'static str, kind: ErrorKind, name: &str) -> ProviderError {
    let message = format!("{name}: {kind:?}");
    ProviderError { kind, operation, code: format!("{kind:?}"), message }
}

impl MemoryProvider {
    /// An empty provider with these Regions, at this time; a snapshot is pending for 2 minutes.
    #[must_use]
    pub fn new(regions: &[&str], now: Timestamp) -> Self {
        let inner = Inner {
            capabilities: Capabilities::default(),
            now,
            pending_for: SignedDuration::from_mins(2),
            gone_after: SignedDuration::from_secs(5),
            drops_tags: false,
            one_at_a_time: false,
            ids: 0,
            regions: regions.iter().map(|name| ((*name).to_owned(), Region::default())).collect(),
            disabled: BTreeSet::new(),
        };
        Self { inner: Mutex::new(inner) }
    }

    /// The same provider with these capabilities; it must be empty.
    #[must_use]
    pub fn with_capabilities(self, capabilities: Capabilities) -> Self {
        self.lock().capabilities = capabilities;
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.lock().now
    }

    /// Sets the time, after everything that is due by then has happened.
    pub fn set_now(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.now = now;
        inner.settle();
    }

    /// Sets how long snapshots made from now on are pending.
    pub fn set_pending_for(&self, pending_for: SignedDuration) {
        self.lock().pending_for = pending_for;
    }

    /// Sets how long deleted snapshots are still there, where deletions take time.
    pub fn set_gone_after(&self, gone_after: SignedDuration) {
        self.lock().gone_after = gone_after;
    }

    /// Sets whether an instance has only one snapshot in the making at a time, whoever asks for it.
    pub fn set_one_at_a_time(&self, one_at_a_time: bool) {
        self.lock().one_at_a_time = one_at_a_time;
    }

    /// Makes the provider show snapshots without their tags.
    pub fn drop_tags(&self) {
        self.lock().drops_tags = true;
    }

    /// What the provider can do.
    #[must_use]
    pub fn can(&self) -> Capabilities {
        self.lock().capabilities
    }

    /// Sets the Regions; a Region that stays keeps its contents.
    pub fn set_regions(&self, regions: &[&str]) {
        let mut inner = self.lock();
        inner.regions.retain(|name, _| regions.contains(&name.as_str()));
        for name in regions {
            inner.regions.entry((*name).to_owned()).or_default();
        }
    }

    /// Enables or disables a Region for the account; a disabled one still has a name.
    pub fn enable_region(&self, region: &str, enabled: bool) {
        let mut inner = self.lock();
        if enabled {
            inner.disabled.remove(region);
        } else {
            inner.disabled.insert(region.to_owned());
        }
    }

    /// Launches an instance; its name must be free.
    pub fn launch(&self, region: &str, name: &str, tags: Tags) -> Instance {
        let mut inner = self.lock();
        let id = ResourceId(inner.id("instance"));
        let disk = (!inner.capabilities.unique_names).then(|| id.0.replace("instance", "disk"));
        let home = inner.regions.entry(region.to_owned()).or_default();
        assert!(home.is_free(name), "{name} is taken in {region}");
        let instance = Instance {
            id,
            name: name.to_owned(),
            place: place(region),
            tags,
            disk,
            unready: None,
            size_gb: None,
            created_at: None,
        };
        home.instances.insert(name.to_owned(), instance.clone());
        instance
    }

    /// Deletes an instance; its snapshots stay.
    pub fn terminate(&self, region: &str, name: &str) {
        self.change(region, |region| {
            assert!(region.instances.remove(name).is_some(), "no instance {name}");
        });
    }

    /// Sets a tag of an instance.
    pub fn tag_instance(&self, region: &str, name: &str, key: &str, value: &str) {
        self.change(region, |region| set(&mut region.instance(name).tags, key, value));
    }

    /// Takes a tag off an instance.
    pub fn untag_instance(&self, region: &str, name: &str, key: &str) {
        self.change(region, |region| drop(region.instance(name).tags.remove(key)));
    }

    /// Renames an instance, where that is possible.
    pub fn rename_instance(&self, region: &str, name: &str, to: &str) {
        self.change(region, |region| {
            assert!(region.is_free(to), "{to} is taken");
            let renamed = region.instances.remove(name);
            let renamed = renamed.unwrap_or_else(|| panic!("no instance {name}"));
            let renamed = Instance { name: to.to_owned(), ..renamed };
            region.instances.insert(to.to_owned(), renamed);
        });
    }

    /// Says why no snapshot can be made of an instance for now.
    pub fn set_unready(&self, region: &str, name: &str, why: Option<&str>) {
        self.change(region, |region| region.instance(name).unready = why.map(str::to_owned));
    }

    /// Sets a tag of a snapshot.
    pub fn tag_snapshot(&self, region: &str, name: &str, key: &str, value: &str) {
        self.change(region, |region| set(&mut region.stored(name).snapshot.tags, key, value));
    }

    /// Takes a tag off a snapshot.
    pub fn untag_snapshot(&self, region: &str, name: &str, key: &str) {
        self.change(region, |region| drop(region.stored(name).snapshot.tags.remove(key)));
    }

    /// Inserts a snapshot that somebody else made, or a look-alike; it keeps its state.
    pub fn insert(&self, snapshot: Snapshot) {
        let region = snapshot.place.clone();
        let key = snapshot.key(&self.can()).to_owned();
        self.change(&region, |region| {
            assert!(region.is_free(&key), "{key} is taken");
            let stored = Stored { snapshot, ready_at: None, gone_at: None };
            region.snapshots.insert(key, stored);
        });
    }

    /// Sets a snapshot's state for good, whatever it was.
    pub fn set_state(&self, region: &str, name: &str, state: SnapshotState) {
        self.change(region, |region| {
            let stored = region.stored(name);
            stored.snapshot.state = state;
            stored.ready_at = None;
        });
    }

    /// Sets a snapshot's state to error.
    pub fn fail(&self, region: &str, name: &str) {
        self.set_state(region, name, SnapshotState::Error);
    }

    /// Renames a snapshot, where that is possible.
    pub fn rename_snapshot(&self, region: &str, id: &str, to: &str) {
        self.change(region, |region| to.clone_into(&mut region.stored(id).snapshot.name));
    }

    /// Sets whether the provider deletes a snapshot.
    pub fn set_deletable(&self, region: &str, name: &str, deletable: bool) {
        self.change(region, |region| region.stored(name).snapshot.deletable = deletable);
    }

    /// Deletes a snapshot as somebody else would; returns it for [`Self::insert`] to put back.
    pub fn vanish(&self, region: &str, name: &str) -> Snapshot {
        let gone = self.change(region, |region| {
            let key = region.key(name)?;
            region.snapshots.remove(&key)
        });
        gone.unwrap_or_else(|| panic!("no snapshot {name}")).snapshot
    }

    /// A snapshot by its name.
    #[must_use]
    pub fn find(&self, region: &str, name: &str) -> Option<Snapshot> {
        let inner = self.lock();
        let region = inner.regions.get(region)?;
        Some(region.snapshots.get(&region.key(name)?)?.snapshot.clone())
    }

    /// Whether nothing has this name.
    #[must_use]
    pub fn is_free(&self, region: &str, name: &str) -> bool {
        self.lock().regions.get(region).is_none_or(|region| region.is_free(name))
    }

    /// All instances of all Regions, enabled or not, by Region and name.
    #[must_use]
    pub fn all_instances(&self) -> Vec<Instance> {
        let inner = self.lock();
        inner.regions.values().flat_map(|region| region.instances.values()).cloned().collect()
    }

    /// All snapshots of all Regions, enabled or not, by Region and name.
    #[must_use]
    pub fn all_snapshots(&self) -> Vec<Snapshot> {
        let inner = self.lock();
        let stored = inner.regions.values().flat_map(|region| region.snapshots.values());
        stored.map(|stored| stored.snapshot.clone()).collect()
    }

    /// Both complete lists of a Region.
    pub(crate) fn whole(
        &self,
        region: &str,
    ) -> Result<(Vec<Instance>, Vec<Snapshot>), ProviderError> {
        let mut inner = self.lock();
        let region = inner.region(region)?;
        let snapshots = region.snapshots.values().map(|stored| stored.snapshot.clone()).collect();
        Ok((region.instances.values().cloned().collect(), snapshots))
    }

    /// The snapshots that a reference means, with all that there is to know of them.
    pub(crate) fn meant(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        let (_, all) = self.whole(&of.place)?;
        let can = self.can();
        Ok(all.into_iter().filter(|one| is_meant(of, one, &can)).collect())
    }

    /// A snapshot as the provider shows it: where names do not identify snapshots, their disk is all
    /// that it says of their origin.
    pub(crate) fn shown(&self, mut snapshot: Snapshot) -> Snapshot {
        let inner = self.lock();
        if !inner.capabilities.unique_names {
            snapshot.source.0.clear();
            snapshot.source_name.clear();
            snapshot.source_place = None;
        }
        if inner.drops_tags {
            snapshot.tags.clear();
        }
        snapshot
    }

    fn change<T>(&self, region: &str, change: impl FnOnce(&mut Region) -> T) -> T {
        let mut inner = self.lock();
        let found = inner.regions.get_mut(region);
        change(found.unwrap_or_else(|| panic!("no Region {region}")))
    }
}

/// Whether a reference means this snapshot.
pub(crate) fn is_meant(of: &SnapshotRef, snapshot: &Snapshot, can: &Capabilities) -> bool {
    match &of.id {
        _ if can.unique_names => snapshot.name == of.name,
        Some(id) => snapshot.id == **id,
        None => snapshot.source == of.source,
    }
}

/// A Region's name as a place; an invalid one is a mistake of the test.
fn place(region: &str) -> Place {
    region.parse().unwrap()
}

fn set(tags: &mut Tags, key: &str, value: &str) {
    tags.insert(key.to_owned(), value.to_owned());
}

impl Region {
    fn is_free(&self, name: &str) -> bool {
        !self.instances.contains_key(name) && self.key(name).is_none()
    }

    /// The key of the first snapshot of this name.
    fn key(&self, name: &str) -> Option<String> {
        if self.snapshots.contains_key(name) {
            return Some(name.to_owned());
        }
        let mut all = self.snapshots.iter();
        all.find(|(_, stored)| stored.snapshot.name == name).map(|(key, _)| key.clone())
    }

    fn instance(&mut self, name: &str) -> &mut Instance {
        self.instances.get_mut(name).unwrap_or_else(|| panic!("no instance {name}"))
    }

    fn stored(&mut self, name: &str) -> &mut Stored {
        let key = self.key(name);
        let found = key.and_then(|key| self.snapshots.get_mut(&key));
        found.unwrap_or_else(|| panic!("no snapshot {name}"))
    }
}
