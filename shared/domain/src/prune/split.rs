//! Splits the facts about a place by resource, for a forecast: each is stepped alone.

use std::collections::BTreeMap;

use crate::answer::Lookup;
use crate::prune::Facts;
use crate::resource::ResourceId;
use crate::snapshot::{Instance, SnapshotRef};

impl Facts {
    /// The facts about each resource alone, as far as its plan needs them.
    #[must_use]
    pub fn split(mut self) -> Vec<(ResourceId, Facts)> {
        let mut looks: BTreeMap<ResourceId, BTreeMap<SnapshotRef, Lookup>> = BTreeMap::new();
        for (of, look) in std::mem::take(&mut self.looks) {
            looks.entry(of.source.clone()).or_default().insert(of, look);
        }
        let mut all = Vec::new();
        for id in self.resources() {
            let mut facts = Facts::of(self.place.clone());
            let records = self.records.remove(&id).unwrap_or_default();
            facts.listing = self.listing.split(&id, &records);
            let name = facts.listing.of(&id).map(|(name, _)| name.to_owned());
            // Of what is gone, only the next owner of its name matters.
            let again = |instance: &&Instance| Some(&instance.name) == name.as_ref();
            let instance = self.instances.get(&id);
            let instance = instance.or_else(|| self.instances.values().find(again));
            facts.instances.extend(instance.map(|one| (one.id.clone(), one.clone())));
            facts.records.insert(id.clone(), records);
            facts.unreadable.extend(self.unreadable.take(&id));
            facts.protected.extend(self.protected.remove(&id).map(|item| (id.clone(), item)));
            facts.sources.extend(self.sources.remove(&id).map(|source| (id.clone(), source)));
            facts.looks = looks.remove(&id).unwrap_or_default();
            all.push((id, facts));
        }
        all
    }
}
