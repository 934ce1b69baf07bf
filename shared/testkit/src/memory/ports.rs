//! The provider in memory behind the ports of the functions.

use snapkeep_app::ports::{
    Creator, Deleter, ErrorKind, Inventory, Page, ProviderError, SnapshotRequest,
};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::place::Place;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef, SnapshotState};

use super::{CREATED_LAG, MemoryProvider, PAGE, SIZE_GB, Stored, place, refusal};

/// A page of a list that is sorted by name; the token is the last name of the page before.
fn page<T>(
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
        id: &ResourceId,
        name: &str,
    ) -> Result<Option<Instance>, ProviderError> {
        let mut inner = self.lock();
        let unique = inner.capabilities.unique_names;
        let instances = &inner.region(region)?.instances;
        let found = match unique {
            true => instances.get(name),
            false => instances.values().find(|instance| instance.id == *id),
        };
        Ok(found.cloned())
    }

    async fn snapshots(
        &self,
        region: &Place,
        token: Option<String>,
    ) -> Result<Page<Snapshot>, ProviderError> {
        let (_, all) = self.whole(region)?;
        let all = all.into_iter().map(|snapshot| self.shown(snapshot)).collect();
        let unique = self.can().unique_names;
        page(all, token, |snapshot| if unique { &snapshot.name } else { &snapshot.id })
    }

    async fn look_up(&self, of: &SnapshotRef) -> Result<Vec<Snapshot>, ProviderError> {
        let shown = self.meant(of)?.into_iter().map(|one| self.shown(one));
        // Who asks by the source knows it.
        let asked = of.id.is_none() && !self.can().unique_names;
        Ok(match asked {
            true => shown.map(|one| Snapshot { source: of.source.clone(), ..one }).collect(),
            false => shown.collect(),
        })
    }
}

impl Creator for MemoryProvider {
    async fn create(&self, order: &SnapshotRequest) -> Result<Option<Box<str>>, ProviderError> {
        const OPERATION: &str = "create";
        let mut inner = self.lock();
        let id = inner.id("snapshot");
        let (now, ready_at) = (inner.now, inner.now + inner.pending_for);
        let (unique, one_at_a_time) = (inner.capabilities.unique_names, inner.one_at_a_time);
        let region = inner.region(&order.place)?;
        let found = match unique {
            true => region.instances.get(&order.instance),
            false => region.instances.values().find(|instance| instance.id == order.resource),
        };
        let Some(instance) = found else {
            return Err(refusal(OPERATION, ErrorKind::NotFound, &order.instance));
        };
        let pending = |one: &Stored| {
            one.snapshot.source == instance.id && one.snapshot.state == SnapshotState::Pending
        };
        if instance.unready.is_some() || (one_at_a_time && region.snapshots.values().any(pending)) {
            return Err(refusal(OPERATION, ErrorKind::Busy, &order.instance));
        }
        if unique && !region.is_free(&order.name) {
            return Err(refusal(OPERATION, ErrorKind::NameTaken, &order.name));
        }
        let snapshot = Snapshot {
            id: id.clone(),
            name: order.name.clone(),
            place: order.place.clone(),
            source: instance.id.clone(),
            source_name: instance.name.clone(),
            source_place: Some(order.place.clone()),
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
        let (slow, gone_at) = (inner.capabilities.slow_deletes, inner.now + inner.gone_after);
        let region = inner.region(place)?;
        let key = id.as_deref().unwrap_or(name);
        let Some(stored) = region.snapshots.get_mut(key) else {
            return Err(refusal(OPERATION, ErrorKind::NotFound, name));
        };
        match &stored.snapshot.state {
            // A provider's behaviour in this case is unknown, so nothing here may rely on it.
            SnapshotState::Pending => Err(refusal(OPERATION, ErrorKind::Refused, name)),
            _ if !stored.snapshot.deletable => Err(refusal(OPERATION, ErrorKind::Refused, name)),
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
