//! What the provider shows, and which of it is ours: names, ownership and holds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use crate::capabilities::{Capabilities, TagSupport};
use crate::place::Place;
use crate::policy::PolicyText;
use crate::resource::ResourceId;
use crate::time::{Slot, Zone};

/// The most attempts that are made for one slot.
pub const ATTEMPTS_MAX: u32 = 5;
/// The longest name that a snapshot may have at any provider.
pub const NAME_CHARS_MAX: usize = 255;

/// Tags of a resource; a key-only tag has an empty value.
pub type Tags = BTreeMap<String, String>;

/// Tag on our snapshots: the deployment that made it.
pub const MANAGED_BY: &str = "snapkeep:managed-by";
/// Tag on our snapshots: its slot.
pub const SLOT: &str = "snapkeep:slot";
/// Tag on our snapshots: the id of the source.
pub const SOURCE: &str = "snapkeep:source";
/// Tag on our snapshots: the policy's name.
pub const POLICY: &str = "snapkeep:policy";
/// Tag on our snapshots: the retention in force at creation.
pub const KEEP: &str = "snapkeep:keep";
/// Tag on our snapshots: the zone in force at creation.
pub const TIMEZONE: &str = "snapkeep:timezone";
/// Tag on a snapshot that nobody may prune.
pub const HOLD: &str = "snapkeep:hold";

/// A resource that can be snapshotted, as the provider shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The provider's id.
    pub id: ResourceId,
    /// Its name, which another instance may use later.
    pub name: String,
    /// Its place.
    pub place: Place,
    /// The tags that people set.
    pub tags: Tags,
    /// The disk that its snapshots are taken of, where the provider states only that with them.
    pub disk: Option<String>,
    /// Why no snapshot can be made of it for now, if its state shows that.
    pub unready: Option<String>,
    /// The size of its disks in GB, if the provider states it.
    pub size_gb: Option<u32>,
    /// When it was made, if the provider states it.
    pub created_at: Option<Timestamp>,
}

/// The state of a snapshot at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// It is being made.
    Pending,
    /// It is available.
    Available,
    /// The provider failed to make it.
    Error,
    /// The provider's word is unknown to us: it is neither good nor bad, and is never touched.
    Other(String),
}

/// A snapshot as the provider shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The provider's own id of the snapshot.
    pub id: String,
    /// Its name: what identifies it, if the provider's capabilities say so.
    pub name: String,
    /// Its place.
    pub place: Place,
    /// The id of its source; empty if the provider does not state it.
    pub source: ResourceId,
    /// The disk that it was taken of, where the provider states that instead of the source.
    pub disk: Option<String>,
    /// The name of its source.
    pub source_name: String,
    /// The place of its source; absent if the provider does not state it.
    pub source_place: Option<Place>,
    /// When it was made, according to the provider: later than the request.
    pub created_at: Timestamp,
    /// Its state.
    pub state: SnapshotState,
    /// Whether the provider deletes it in this state, as far as that is known.
    pub deletable: bool,
    /// Its tags.
    pub tags: Tags,
    /// The size of the source's disks in GB: an upper bound of what is billed.
    pub size_gb: u32,
}

/// What a snapshot is asked for by, and deleted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotRef {
    /// Its place.
    pub place: Place,
    /// The id of its source.
    pub source: ResourceId,
    /// Its name.
    pub name: String,
    /// The provider's id, where names do not identify snapshots. Without it, all snapshots of the
    /// source are meant.
    pub id: Option<Box<str>>,
}

/// The ownership of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Tags, name and origin all say that it is ours.
    Ours {
        /// The slot that it was taken for.
        slot: Slot,
        /// The attempt that its name shows.
        attempt: u32,
    },
    /// It carries this deployment's tag, but the rest does not fit: it is reported, and never
    /// touched.
    LookAlike(&'static str),
    /// It carries this deployment's tag, and the provider does not state its source.
    Unknown,
    /// It is not ours.
    Foreign,
}

/// The name of a snapshot: a pure function of its arguments, and therefore the idempotency key.
///
/// `<instance>-20261120T030000Z-<8 hex of a hash over deployment, resource id and attempt>`; a long
/// instance name is cut, never the suffix.
#[must_use]
pub fn snapshot_name(
    deployment: &str,
    resource: &ResourceId,
    resource_name: &str,
    slot: Slot,
    attempt: u32,
) -> String {
    let capabilities = Capabilities::default();
    snapshot_name_at(&capabilities, deployment, (resource, resource_name), slot, attempt)
}

/// The same name as short as a provider wants it.
#[must_use]
pub fn snapshot_name_at(
    capabilities: &Capabilities,
    deployment: &str,
    (resource, resource_name): (&ResourceId, &str),
    slot: Slot,
    attempt: u32,
) -> String {
    let suffix = name_suffix(deployment, resource, slot, attempt);
    stem(resource, resource_name, capabilities.stem_chars) + &suffix
}

/// The part of a name that tells whose snapshot it is: slot and hash.
fn name_suffix(deployment: &str, resource: &ResourceId, slot: Slot, attempt: u32) -> String {
    let mut hash = Sha256::new();
    for part in [deployment, &resource.0, &attempt.to_string()] {
        // Each part is hashed with its length: no two different triples give the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("-{}-{hex}", slot.compact())
}

/// The part of a name that people read: what remains of the instance's name, or the last part of
/// its id.
fn stem(resource: &ResourceId, name: &str, chars: usize) -> String {
    let legal = |text: &str| -> String {
        let kept = text.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c));
        kept.skip_while(|c| !c.is_ascii_alphanumeric()).take(chars).collect()
    };
    let of_id = || legal(resource.0.rsplit([':', '/']).next().unwrap_or_default());
    [legal(name), of_id()].into_iter().find(|stem| !stem.is_empty()).unwrap_or_else(|| "i".into())
}

/// The slot that a name's suffix states, whoever made the snapshot.
fn slot_of_name(name: &str) -> Option<Slot> {
    let (rest, hex) = name.rsplit_once('-')?;
    let (_, slot) = rest.rsplit_once('-')?;
    let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if hex.len() == 8 && hex.chars().all(lower) { Slot::from_compact(slot) } else { None }
}

impl Snapshot {
    /// What it is asked for by.
    #[must_use]
    pub fn reference(&self, capabilities: &Capabilities) -> SnapshotRef {
        let Snapshot { place, source, name, id, .. } = self;
        let id = (!capabilities.unique_names).then(|| id.as_str().into());
        SnapshotRef { place: place.clone(), source: source.clone(), name: name.clone(), id }
    }

    /// What identifies it in its place.
    #[must_use]
    pub fn key(&self, capabilities: &Capabilities) -> &str {
        if capabilities.unique_names { &self.name } else { &self.id }
    }

    /// The same snapshot with its source, if the provider states only the disk, and that is the
    /// source's.
    #[must_use]
    pub fn traced<'a>(
        &self,
        source_of: impl FnOnce(&str) -> Option<(&'a ResourceId, &'a str)>,
    ) -> Cow<'_, Snapshot> {
        let found = match &self.disk {
            Some(disk) if self.source.0.is_empty() => source_of(disk),
            _ => None,
        };
        let Some((source, name)) = found else { return Cow::Borrowed(self) };
        let (source, source_name) = (source.clone(), name.to_owned());
        Cow::Owned(Snapshot { source, source_name, ..self.clone() })
    }

    /// The ownership of this snapshot. Tags can be edited and copied; name and origin cannot,
    /// except where names do not identify a snapshot.
    #[must_use]
    pub fn ownership(&self, deployment: &str, capabilities: &Capabilities) -> Ownership {
        match self.tags.get(MANAGED_BY) {
            Some(owner) if owner == deployment => self.ownership_by_tags(deployment, capabilities),
            None if capabilities.tags == TagSupport::Unproven && self.tags.is_empty() => {
                self.ownership_by_name(deployment)
            }
            _ => Ownership::Foreign,
        }
    }

    /// Without tags, name and origin decide. A name that could be ours is not foreign before its
    /// origin is known.
    fn ownership_by_name(&self, deployment: &str) -> Ownership {
        let Some(slot) = slot_of_name(&self.name) else { return Ownership::Foreign };
        if self.source.0.is_empty() {
            return Ownership::Unknown;
        }
        match self.attempt(deployment, slot, false) {
            Some(attempt) => Ownership::Ours { slot, attempt },
            None => Ownership::Foreign,
        }
    }

    fn ownership_by_tags(&self, deployment: &str, capabilities: &Capabilities) -> Ownership {
        if self.source.0.is_empty() {
            return Ownership::Unknown;
        }
        let Some(Ok(slot)) = self.tags.get(SLOT).map(|text| text.parse::<Slot>()) else {
            return Ownership::LookAlike("its snapkeep:slot tag names no slot");
        };
        let Some(source) = self.tags.get(SOURCE) else {
            return Ownership::LookAlike("it has no snapkeep:source tag");
        };
        if *source != self.source.0 {
            return Ownership::LookAlike(
                "it was taken of something else than its snapkeep:source tag says",
            );
        }
        if self.source_place.as_ref().is_some_and(|place| *place != self.place) {
            return Ownership::LookAlike("it lies in another place than what it was taken of");
        }
        match self.attempt(deployment, slot, capabilities.unique_names) {
            Some(attempt) => Ownership::Ours { slot, attempt },
            None => Ownership::LookAlike("its name is not the one that its tags give"),
        }
    }

    /// The attempt at a slot that its name shows. Where instances can be renamed, only the suffix
    /// counts.
    fn attempt(&self, deployment: &str, slot: Slot, whole: bool) -> Option<u32> {
        let named_so = |attempt: &u32| match whole {
            true => {
                let name =
                    snapshot_name(deployment, &self.source, &self.source_name, slot, *attempt);
                name == self.name
            }
            false => self.name.ends_with(&name_suffix(deployment, &self.source, slot, *attempt)),
        };
        (1..=ATTEMPTS_MAX).find(named_so)
    }

    /// The policy that its tags state, so that it explains itself without the ledger.
    #[must_use]
    pub fn policy_text(&self) -> PolicyText {
        let tag = |key: &str| self.tags.get(key).filter(|text| !text.is_empty()).cloned();
        PolicyText {
            name: tag(POLICY).unwrap_or_else(|| crate::policy::DEFAULT.to_owned()),
            schedule: None,
            keep: tag(KEEP),
            timezone: tag(TIMEZONE).unwrap_or_else(|| "UTC".to_owned()),
        }
    }

    /// The hold on this snapshot itself, if it carries one.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        Hold::find(&self.tags, HOLD)
    }
}

/// A hold, as its tag states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It holds until the tag is removed.
    Forever,
    /// It holds through this day, in the policy's zone.
    Until(Date),
    /// It cannot be read, so it holds, and is reported.
    Unreadable {
        /// The key as found.
        key: String,
        /// The value as found.
        value: String,
    },
}

/// The accepted form of a hold's value.
pub const HOLD_FORM: &str = "empty, or until=2027-01-31 (through that day)";

impl Hold {
    /// Looks for a hold under `key`; a key in the wrong case is an unreadable hold.
    #[must_use]
    pub fn find(tags: &Tags, key: &str) -> Option<Hold> {
        let (found, value) = tags
            .get_key_value(key)
            .or_else(|| tags.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)))?;
        let unreadable = || Hold::Unreadable { key: found.clone(), value: value.clone() };
        if found != key {
            return Some(unreadable());
        }
        Some(Hold::parse(value).unwrap_or_else(unreadable))
    }

    fn parse(value: &str) -> Option<Hold> {
        match value.trim() {
            "" => Some(Hold::Forever),
            text => text.strip_prefix("until=").and_then(parse_date).map(Hold::Until),
        }
    }

    /// Reads what [`Hold::text`] wrote.
    #[must_use]
    pub fn read(text: &str) -> Hold {
        let unreadable = || Hold::Unreadable { key: String::new(), value: text.to_owned() };
        Hold::parse(text).unwrap_or_else(unreadable)
    }

    /// The text of its value; a hold that cannot be read stays unreadable.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Hold::Forever => String::new(),
            Hold::Until(day) => format!("until={day}"),
            Hold::Unreadable { key, value } => format!("unreadable: {key}={value}"),
        }
    }

    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp, zone: &Zone) -> bool {
        match self {
            Hold::Forever | Hold::Unreadable { .. } => true,
            Hold::Until(day) => now.to_zoned(zone.rules().clone()).date() <= *day,
        }
    }
}

/// Reads exactly `YYYY-MM-DD`: the library would accept more.
fn parse_date(text: &str) -> Option<Date> {
    let date: Date = text.parse().ok()?;
    (date.to_string() == text).then_some(date)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Snapshot {
        let source = ResourceId("arn:aws:lightsail:eu-west-1:1:Instance/u-1".into());
        let slot: Slot = "2026-11-20T03:00:00Z".parse().unwrap();
        Snapshot {
            id: "s-1".into(),
            name: snapshot_name("dep", &source, "web.1", slot, 2),
            place: "eu-west-1".parse().unwrap(),
            source_name: "web.1".into(),
            source_place: None,
            disk: None,
            deletable: true,
            created_at: slot.timestamp(),
            state: SnapshotState::Available,
            tags: [(MANAGED_BY, "dep"), (SLOT, "2026-11-20T03:00:00Z"), (SOURCE, &source.0)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            source,
            size_gb: 20,
        }
    }

    #[test]
    fn ours_needs_tags_name_and_origin() {
        let slot = "2026-11-20T03:00:00Z".parse().unwrap();
        assert_eq!(
            ours().ownership("dep", &Capabilities::default()),
            Ownership::Ours { slot, attempt: 2 }
        );
        assert_eq!(ours().ownership("dep2", &Capabilities::default()), Ownership::Foreign);
        let breakers: [fn(&mut Snapshot); 9] = [
            |s| s.source_place = Some("us-east-1".parse().unwrap()),
            |s| drop(s.tags.insert(SOURCE.into(), "arn:of-another".into())),
            |s| drop(s.tags.remove(SLOT)),
            |s| drop(s.tags.remove(SOURCE)),
            |s| drop(s.tags.insert(SLOT.into(), "2026-11-21T03:00:00Z".into())),
            |s| s.name.push('0'),
            |s| s.source.0.push('0'),
            |s| s.source_name.push('0'),
            |s| drop(s.tags.insert(SOURCE.into(), String::new())),
        ];
        let mut late = ours();
        late.source.0.clear();
        assert_eq!(late.ownership("dep", &Capabilities::default()), Ownership::Unknown);
        for broken in breakers {
            let mut snapshot = ours();
            broken(&mut snapshot);
            assert!(matches!(
                snapshot.ownership("dep", &Capabilities::default()),
                Ownership::LookAlike(_)
            ));
        }
    }

    #[test]
    fn names_are_legal_readable_and_cut_before_the_suffix() {
        let slot: Slot = "2026-11-20T03:00:00Z".parse().unwrap();
        let id = ResourceId("id".into());
        let name = snapshot_name("dep", &id, "web-1", slot, 1);
        assert!(
            name.starts_with("web-1-20261120T030000Z-") && name.len() == "web-1".len() + 26,
            "{name}"
        );
        let whole = snapshot_name("dep", &id, &"x".repeat(228), slot, 1);
        assert!(whole.starts_with(&"x".repeat(228)), "{whole}");
        let long = snapshot_name("dep", &id, &"x".repeat(300), slot, 1);
        assert!(long.len() <= NAME_CHARS_MAX && long.ends_with(&name["web-1".len()..]), "{long}");
        let arn = ResourceId("arn:aws:lightsail:eu-west-1:1:Instance/u-1".into());
        for (from, stem) in [("_ü-a b.c", "a"), ("我的a", "a"), ("服务器", "u-1"), ("", "u-1")]
        {
            let name = snapshot_name("dep", &arn, from, slot, 1);
            assert!(name.starts_with(stem), "{name}");
        }
        let short = Capabilities { stem_chars: 34, ..Capabilities::default() };
        let long = snapshot_name_at(&short, "dep", (&id, &"x".repeat(300)), slot, 1);
        assert_eq!((long.len(), &long[34..]), (60, &name["web-1".len()..]));
        let mut all: Vec<_> =
            (1..=5).map(|a| snapshot_name("dep", &id, "web-1", slot, a)).collect();
        all.push(snapshot_name("de", &ResourceId("pid".into()), "web-1", slot, 1));
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn a_hold_lasts_through_its_day_in_the_zone() {
        let hold =
            |value: &str| Hold::find(&[(HOLD.to_owned(), value.to_owned())].into(), HOLD).unwrap();
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let until = hold("until=2027-01-31");
        assert!(until.holds(at("2027-01-31T22:59:59Z"), &berlin));
        assert!(!until.holds(at("2027-01-31T23:00:00Z"), &berlin));
        assert!(hold("").holds(at("2099-01-01T00:00:00Z"), &berlin));
        for bad in ["until=", "until=2027-02-30", "2027-01-31", "until=20270131", "yes"] {
            assert!(matches!(hold(bad), Hold::Unreadable { .. }), "{bad}");
            assert!(hold(bad).holds(at("2099-01-01T00:00:00Z"), &berlin), "{bad}");
        }
        for text in ["", "until=2027-01-31", "soon"] {
            let read = Hold::read(&hold(text).text());
            assert!(read.holds(at("2027-01-01T00:00:00Z"), &berlin), "{text}");
        }
        assert_eq!(Hold::read(&until.text()), until);
        let wrong_case = [("Snapkeep:Hold".to_owned(), String::new())].into();
        assert!(matches!(Hold::find(&wrong_case, HOLD), Some(Hold::Unreadable { .. })));
    }
}
