//! What the lists of a place showed, reduced to what it is judged by: a place may have a hundred
//! thousand snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::capabilities::Capabilities;
use crate::finding::{Code, Finding};
use crate::ledger::record::{Identity, Record, Subject};
use crate::place::Place;
use crate::policy::{PolicyText, PolicyTexts};
use crate::resource::ResourceId;
use crate::snapshot::{Hold, MANAGED_BY, Ownership, Snapshot, SnapshotState};
use crate::time::Slot;

/// A snapshot of ours.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name, where another key identifies it.
    pub name: Option<Box<str>>,
    /// The disk that it was taken of, where the provider states that as its origin.
    pub disk: Option<Box<str>>,
    /// Whether name and origin alone say that it is ours, because it shows no tags.
    pub untagged: bool,
    /// Whether the provider deletes it in its state.
    pub deletable: bool,
    /// The slot that it was taken for.
    pub slot: Slot,
    /// The attempt that its name shows.
    pub attempt: u32,
    /// Its state.
    pub state: SnapshotState,
    /// The hold on it, if it carries one.
    pub hold: Option<Box<Hold>>,
    /// When it was made, according to the provider.
    pub created_at: Timestamp,
    /// The size of the source's disks in GB.
    pub size_gb: u32,
    /// The policy that its tags state.
    pub policy: Arc<PolicyText>,
}

/// A snapshot that is not ours.
#[derive(Clone, Debug)]
pub struct Other {
    /// Its name, where another key identifies it.
    pub name: Option<Box<str>>,
    /// Its state.
    pub state: SnapshotState,
    /// Whether the provider does not say what it was taken from, so that it may be ours.
    pub unknown: bool,
    /// Why it is not ours, if it carries this deployment's tag.
    pub look_alike: Option<&'static str>,
}

impl Seen {
    /// The record of a snapshot of ours that has none: a lost ledger is rebuilt from the provider.
    #[must_use]
    pub fn adopted(
        &self,
        key: &str,
        (resource, resource_name, place): (&ResourceId, &str, &Place),
        now: Timestamp,
    ) -> Record {
        let subject = Subject {
            resource: resource.clone(),
            resource_name: resource_name.to_owned(),
            place: place.clone(),
            slot: self.slot,
            attempt: self.attempt,
            name: self.name(key).to_owned(),
            identity: Identity {
                id: self.name.is_some().then(|| key.into()),
                disk: self.disk.clone(),
            },
            policy: Arc::clone(&self.policy),
        };
        let record = Record::adopted(subject, self.created_at, &self.state, now);
        if self.untagged { record.untagged() } else { record }
    }

    /// Its name, given the key that identifies it.
    #[must_use]
    pub fn name<'a>(&'a self, key: &'a str) -> &'a str {
        self.name.as_deref().unwrap_or(key)
    }
}

#[derive(Clone, Debug, Default)]
struct Group {
    name: String,
    snapshots: BTreeMap<String, Seen>,
}

/// The snapshots of a place, by the key that identifies them. Each counts once: if something changes while pages are turned, a list
/// may show an element twice, and the later page is the more recent one. If that page does not
/// state the origin, the group of the earlier element is unknown: a snapshot among the others does
/// not count as ours, whatever a group says.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    ours: BTreeMap<ResourceId, Group>,
    others: BTreeMap<String, Other>,
    policies: PolicyTexts,
    /// Whether any snapshot of the place showed a tag.
    shows_tags: bool,
}

impl Listing {
    /// Adds a snapshot that a list or a lookup showed.
    pub fn add(&mut self, snapshot: &Snapshot, deployment: &str, capabilities: &Capabilities) {
        let Snapshot { state, .. } = snapshot;
        let key = snapshot.key(capabilities);
        let name = || (key != snapshot.name).then(|| snapshot.name.as_str().into());
        self.shows_tags |= !snapshot.tags.is_empty();
        if let Some(group) = self.ours.get_mut(&snapshot.source) {
            group.snapshots.remove(key);
        }
        self.others.remove(key);
        let (slot, attempt) = match snapshot.ownership(deployment, capabilities) {
            Ownership::Ours { slot, attempt } => (slot, attempt),
            other => {
                let look_alike = match other {
                    Ownership::LookAlike(why) => Some(why),
                    _ => None,
                };
                let unknown = other == Ownership::Unknown;
                let other = Other { name: name(), state: state.clone(), unknown, look_alike };
                self.others.insert(key.to_owned(), other);
                return;
            }
        };
        let seen = Seen {
            name: name(),
            disk: snapshot.disk.as_deref().map(Into::into),
            untagged: !snapshot.tags.contains_key(MANAGED_BY),
            deletable: snapshot.deletable,
            slot,
            attempt,
            state: state.clone(),
            hold: snapshot.hold().map(Box::new),
            created_at: snapshot.created_at,
            size_gb: snapshot.size_gb,
            policy: self.policies.shared(snapshot.policy_text()),
        };
        let group = self.ours.entry(snapshot.source.clone()).or_default();
        if group.name != snapshot.source_name {
            group.name.clone_from(&snapshot.source_name);
        }
        group.snapshots.insert(key.to_owned(), seen);
    }

    /// Puts a snapshot of ours there, as a forecast does.
    pub fn put(&mut self, id: &ResourceId, name: &str, key: String, seen: Seen) {
        let group = self.ours.entry(id.clone()).or_default();
        if group.name.is_empty() {
            name.clone_into(&mut group.name);
        }
        group.snapshots.insert(key, seen);
    }

    /// Takes a snapshot of ours away, as a forecast does.
    pub fn take(&mut self, id: &ResourceId, key: &str) {
        if let Some(group) = self.ours.get_mut(id) {
            group.snapshots.remove(key);
        }
    }

    /// Takes out what a resource is judged by: its snapshots, and what is not ours of those that its
    /// records mean.
    #[must_use]
    pub(super) fn split(&mut self, id: &ResourceId, records: &[Record]) -> Listing {
        let group = self.ours.get_mut(id).map(std::mem::take).unwrap_or_default();
        let keys = group.snapshots.keys().map(String::as_str);
        let keys = keys.chain(records.iter().map(|record| record.snapshot_key()));
        let other = |key: &str| Some((key.to_owned(), self.others.get(key)?.clone()));
        let others = keys.filter_map(other).collect();
        let (ours, policies) = ([(id.clone(), group)].into(), PolicyTexts::default());
        Listing { ours, others, policies, shows_tags: self.shows_tags }
    }

    /// Whether any snapshot showed a tag. Then those that showed none are not ours, whatever their
    /// names say.
    pub fn shows_tags(&mut self) -> bool {
        if self.shows_tags {
            for group in self.ours.values_mut() {
                for (key, seen) in group.snapshots.extract_if(.., |_, seen| seen.untagged) {
                    let Seen { name, state, .. } = seen;
                    let other = Other { name, state, unknown: false, look_alike: None };
                    self.others.insert(key, other);
                }
            }
        }
        self.shows_tags
    }

    /// The sources of our snapshots: id and name.
    pub fn sources(&self) -> impl Iterator<Item = (&ResourceId, &str)> {
        let filled = self.ours.iter().filter(|(_, group)| self.seen(group).next().is_some());
        filled.map(|(id, group)| (id, group.name.as_str()))
    }

    /// The snapshots of a group that are still ours.
    fn seen<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = (&'a str, &'a Seen)> {
        let ours = group.snapshots.iter().filter(|(name, _)| !self.others.contains_key(*name));
        ours.map(|(name, seen)| (name.as_str(), seen))
    }

    /// Our snapshots of a resource by key, and the resource's name.
    #[must_use]
    pub fn of(&self, id: &ResourceId) -> Option<(&str, BTreeMap<&str, &Seen>)> {
        let group = self.ours.get(id)?;
        let seen: BTreeMap<&str, &Seen> = self.seen(group).collect();
        (!seen.is_empty()).then_some((&group.name, seen))
    }

    /// Our snapshot of a resource with this key.
    #[must_use]
    pub fn get(&self, id: &ResourceId, key: &str) -> Option<&Seen> {
        let seen = self.ours.get(id)?.snapshots.get(key)?;
        (!self.others.contains_key(key)).then_some(seen)
    }

    /// Whether the lists showed a record's snapshot, ours or not.
    #[must_use]
    pub fn shows(&self, record: &Record) -> bool {
        let key = record.snapshot_key();
        let group = self.ours.get(&record.resource);
        group.is_some_and(|group| group.snapshots.contains_key(key))
            || self.others.contains_key(key)
    }

    /// A record's snapshot, if it is not ours.
    #[must_use]
    pub fn other(&self, record: &Record) -> Option<&Other> {
        self.others.get(record.snapshot_key())
    }

    /// The snapshots that are not ours, by what identifies them.
    pub fn others(&self) -> impl Iterator<Item = (&str, &Other)> {
        self.others.iter().map(|(key, other)| (key.as_str(), other))
    }

    /// How many snapshots are not ours.
    #[must_use]
    pub fn foreign(&self) -> usize {
        self.others.len()
    }

    /// How many snapshots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.others.len() + self.ours.values().flat_map(|group| self.seen(group)).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The findings about look-alikes.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let finding = |(key, other): (&String, &Other)| {
            let why = other.look_alike?;
            let name = other.name.as_deref().unwrap_or(key);
            let message = format!("{name} carries this deployment's tag, but is not ours: {why}");
            let fix = "remove its snapkeep: tags if they were copied; snapkeep never touches this snapshot";
            Some(Finding::new(Code::LookAlike, message).named(name).fix(fix))
        };
        self.others.iter().filter_map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{MANAGED_BY, SLOT, SOURCE, snapshot_name};

    fn snapshot(hour: u32) -> Snapshot {
        let slot: Slot = format!("2026-01-01T{hour:02}:00:00Z").parse().unwrap();
        let source = ResourceId("arn:web".to_owned());
        let tags =
            [(MANAGED_BY, "dep".to_owned()), (SLOT, slot.to_string()), (SOURCE, source.0.clone())];
        Snapshot {
            id: format!("id-{hour}"),
            name: snapshot_name("dep", &source, "web", slot, 1),
            place: "eu-west-1".parse().unwrap(),
            source_name: "web".to_owned(),
            source_place: None,
            disk: None,
            deletable: true,
            created_at: slot.timestamp(),
            state: SnapshotState::Pending,
            tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
            source,
            size_gb: 20,
        }
    }

    #[test]
    fn a_snapshot_and_its_record_take_little_memory() {
        // The texts come on top: a place may have a hundred thousand snapshots.
        let bytes = size_of::<Seen>() + size_of::<Record>();
        assert!(bytes <= 560, "{bytes}");
    }

    #[test]
    fn an_element_that_pages_show_twice_counts_once_and_the_later_one_is_the_fresher() {
        let mut listing = Listing::default();
        for hour in [1, 2, 1] {
            listing.add(&snapshot(hour), "dep", &Capabilities::default());
        }
        let later = Snapshot { state: SnapshotState::Available, ..snapshot(1) };
        listing.add(&later, "dep", &Capabilities::default());
        let (name, ours) = listing.of(&later.source).unwrap();
        assert_eq!((name, ours.len(), listing.len()), ("web", 2, 2));
        assert_eq!(ours[later.name.as_str()].state, SnapshotState::Available);
        // Its tags came or went while the pages were turned.
        let bare = Snapshot { tags: BTreeMap::new(), ..later.clone() };
        listing.add(&bare, "dep", &Capabilities::default());
        assert_eq!((listing.len(), listing.foreign()), (2, 1));
        listing.add(&later, "dep", &Capabilities::default());
        assert_eq!((listing.len(), listing.foreign()), (2, 0));
    }

    #[test]
    fn an_element_that_a_later_page_shows_without_its_origin_is_no_longer_ours() {
        let (mut listing, ours) = (Listing::default(), snapshot(1));
        listing.add(&ours, "dep", &Capabilities::default());
        let mut late = ours.clone();
        late.source.0.clear();
        listing.add(&late, "dep", &Capabilities::default());
        assert!(listing.of(&ours.source).is_none() && listing.sources().next().is_none());
        assert_eq!((listing.len(), listing.foreign()), (1, 1));
        // The other snapshots of its resource are still ours.
        listing.add(&snapshot(2), "dep", &Capabilities::default());
        let (_, left) = listing.of(&ours.source).unwrap();
        assert!(left.keys().eq(&[snapshot(2).name.as_str()]) && listing.len() == 2);
        listing.add(&ours, "dep", &Capabilities::default());
        let (_, both) = listing.of(&ours.source).unwrap();
        assert_eq!((both.len(), listing.len(), listing.foreign()), (2, 2, 0));
    }

    #[test]
    fn what_has_no_source_yet_is_unknown_and_no_look_alike() {
        let mut listing = Listing::default();
        let mut late = snapshot(1);
        late.source.0.clear();
        listing.add(&late, "dep", &Capabilities::default());
        assert!(listing.others[&late.name].unknown);
        assert!(listing.findings().is_empty());
    }
}
