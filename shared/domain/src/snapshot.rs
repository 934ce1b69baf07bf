//! What the provider shows, and which of it is ours: names, ownership and holds.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

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
    /// Its name, unique in its Region.
    pub name: String,
    /// Its place.
    pub place: Place,
    /// The id of its source; empty if the provider does not state it.
    pub source: ResourceId,
    /// The name of its source.
    pub source_name: String,
    /// The place of its source; absent if the provider does not state it.
    pub source_place: Option<Place>,
    /// When it was made, according to the provider: later than the request.
    pub created_at: Timestamp,
    /// Its state.
    pub state: SnapshotState,
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
    let mut hash = Sha256::new();
    for part in [deployment, &resource.0, &attempt.to_string()] {
        // Each part is hashed with its length: no two different triples give the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let suffix = format!("-{}-{hex}", slot.compact());
    let mut stem: String = resource_name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .take(NAME_CHARS_MAX - suffix.len() - 1)
        .collect();
    if !stem.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        stem.insert(0, 'i');
    }
    stem + &suffix
}

impl Snapshot {
    /// What it is asked for by.
    #[must_use]
    pub fn reference(&self) -> SnapshotRef {
        let Snapshot { place, source, name, .. } = self;
        SnapshotRef { place: place.clone(), source: source.clone(), name: name.clone() }
    }

    /// The ownership of this snapshot. Tags can be edited and copied; name and origin cannot.
    #[must_use]
    pub fn ownership(&self, deployment: &str) -> Ownership {
        if self.tags.get(MANAGED_BY).map(String::as_str) != Some(deployment) {
            return Ownership::Foreign;
        }
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
        let named_so = |attempt: &u32| {
            snapshot_name(deployment, &self.source, &self.source_name, slot, *attempt) == self.name
        };
        match (1..=ATTEMPTS_MAX).find(named_so) {
            Some(attempt) => Ownership::Ours { slot, attempt },
            None => Ownership::LookAlike("its name is not the one that its tags give"),
        }
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
        assert_eq!(ours().ownership("dep"), Ownership::Ours { slot, attempt: 2 });
        assert_eq!(ours().ownership("dep2"), Ownership::Foreign);
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
        assert_eq!(late.ownership("dep"), Ownership::Unknown);
        for broken in breakers {
            let mut snapshot = ours();
            broken(&mut snapshot);
            assert!(matches!(snapshot.ownership("dep"), Ownership::LookAlike(_)));
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
        assert!(snapshot_name("dep", &id, "_ü", slot, 1).starts_with("i_--"));
        assert_eq!(snapshot_name("dep", &id, &"_".repeat(300), slot, 1).len(), NAME_CHARS_MAX);
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
