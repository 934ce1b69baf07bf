//! A provider in memory: Regions, instances and snapshots, in a time that stands still until it is
//! set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, SnapshotRequest,
};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef, SnapshotState, Tags};

/// How long after its request a snapshot says that it was made.
pub const CREATED_LAG: SignedDuration = SignedDuration::from_secs(30);
/// How many elements a page of a list has.
pub const PAGE: usize = 20;
/// The size of every instance's disk.
pub const SIZE_GB: u32 = 20;

/// How long a deleted snapshot is still there, where deletions take time.
const GONE_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// A provider in memory. Each Region has one namespace of names, unless its capabilities say that
/// names do not identify snapshots.
#[derive(Debug)]
pub struct MemoryProvider {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    capabilities: Capabilities,
    now: Timestamp,
    pending_for: SignedDuration,
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
        let instance =
            Instance { id, name: name.to_owned(), place: place(region), tags, disk, unready: None };
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
        let (region, name) = (snapshot.place.clone(), snapshot.name.clone());
        let key = snapshot.key(&self.lock().capabilities).to_owned();
        self.change(&region, |region| {
            assert!(region.is_free(&name), "{name} is taken");
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

    fn change<T>(&self, region: &str, change: impl FnOnce(&mut Region) -> T) -> T {
        let mut inner = self.lock();
        let found = inner.regions.get_mut(region);
        change(found.unwrap_or_else(|| panic!("no Region {region}")))
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

/// A page of a list that is sorted by name; the token is the last name of the page before.
pub(crate) fn page<T>(
    all: Vec<T>,
    token: Option<String>,
    name: impl Fn(&T) -> &String,
) -> Result<Page<T>, ProviderError> {
    let after = |one: &T| token.as_ref().is_none_or(|token| name(one) > token);
    let mut elements: Vec<T> = all.into_iter().filter(after).collect();
    let more = elements.len() > PAGE;
    elements.truncate(PAGE);
    let next = elements.last().filter(|_| more).map(|last| name(last).clone());
    Ok(Page { elements, broken: Vec::new(), next, total: None })
}

impl Inventory for MemoryProvider {
    async fn regions(&self, _provider: Option<&str>) -> Result<Vec<Place>, ProviderError> {
        Ok(self.lock().regions.keys().map(|name| place(name)).collect())
    }

    fn capabilities(&self, _region: &Place) -> Capabilities {
        self.lock().capabilities
    }

    async fn instances(
        &self,
        region: &Place,
        token: Option<String>,
    ) -> Result<Page<Instance>, ProviderError> {
        let all = self.lock().region(region)?.instances.values().cloned().collect();
        page(all, token, |instance| &instance.name)
    }

    async fn instance(
        &self,
        region: &Place,
        _id: &ResourceId,
        name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        Ok(self.lock().region(region)?.instances.get(name).cloned())
    }

    async fn snapshots(
        &self,
        region: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        let mut inner = self.lock();
        let unique = inner.capabilities.unique_names;
        let all = inner.region(region)?.snapshots.values().map(|s| s.snapshot.clone()).collect();
        page(all, token, |snapshot| if unique { &snapshot.name } else { &snapshot.id })
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        let mut inner = self.lock();
        let unique = inner.capabilities.unique_names;
        let region = inner.region(&of.place)?;
        let key = if unique { Some(&*of.name) } else { of.id.as_deref() };
        if let Some(key) = key {
            let found = region.snapshots.get(key);
            return Ok(found.map(|stored| stored.snapshot.clone()).into_iter().collect());
        }
        let disk = of.source.0.replace("instance", "disk");
        let all = region.snapshots.values().map(|stored| stored.snapshot.clone());
        let own = all.filter(|one| one.disk.as_deref() == Some(&disk));
        Ok(own.map(|one| Snapshot { source: of.source.clone(), ..one }).collect())
    }
}

impl Creator for MemoryProvider {
    async fn create(&self, order: &SnapshotRequest) -> Result<Option<Box<str>>, ProviderError> {
        const OPERATION: &str = "create";
        let mut inner = self.lock();
        let id = inner.id("snapshot");
        let (now, ready_at) = (inner.now, inner.now + inner.pending_for);
        let unique = inner.capabilities.unique_names;
        let region = inner.region(&order.place)?;
        let Some(instance) = region.instances.get(&order.instance) else {
            return Err(refusal(OPERATION, ErrorKind::NotFound, &order.instance));
        };
        if unique && !region.is_free(&order.name) {
            return Err(refusal(OPERATION, ErrorKind::NameTaken, &order.name));
        }
        // Where names do not identify snapshots, their disk is all that they say of their origin.
        let (source, source_name) = match unique {
            true => (instance.id.clone(), instance.name.clone()),
            false => (ResourceId(String::new()), String::new()),
        };
        let snapshot = Snapshot {
            id: id.clone(),
            name: order.name.clone(),
            place: order.place.clone(),
            source,
            source_name,
            source_place: unique.then(|| order.place.clone()),
            disk: instance.disk.clone(),
            deletable: true,
            created_at: now + CREATED_LAG,
            state: SnapshotState::Pending,
            tags: order.tags.clone(),
            size_gb: SIZE_GB,
        };
        let stored = Stored { snapshot, ready_at: Some(ready_at), gone_at: None };
        let key = if unique { order.name.clone() } else { id.clone() };
        region.snapshots.insert(key, stored);
        inner.settle();
        Ok((!unique).then(|| id.into()))
    }
}

impl Deleter for MemoryProvider {
    async fn delete(&self, snapshot: &SnapshotRef) -> Result<(), ProviderError> {
        const OPERATION: &str = "delete";
        let SnapshotRef { place, name, id, .. } = snapshot;
        let mut inner = self.lock();
        let (slow, gone_at) = (inner.capabilities.slow_deletes, inner.now + GONE_AFTER);
        let region = inner.region(place)?;
        let key = id.as_deref().unwrap_or(name);
        let Some(stored) = region.snapshots.get_mut(key) else {
            return Err(refusal(OPERATION, ErrorKind::NotFound, name));
        };
        match &stored.snapshot.state {
            // A provider's behaviour in this case is unknown, so nothing here may rely on it.
            SnapshotState::Pending => Err(refusal(OPERATION, ErrorKind::Refused, name)),
            _ if stored.gone_at.is_some() => Err(refusal(OPERATION, ErrorKind::UnderWay, name)),
            _ if slow => {
                stored.gone_at = Some(gone_at);
                Ok(())
            }
            _ => {
                region.snapshots.remove(key);
                Ok(())
            }
        }
    }
}
