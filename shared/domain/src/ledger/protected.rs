//! What the ledger remembers of each resource that is opted in or has live records. It decides
//! nothing by itself: it gives `create` its order, keeps the hold of an instance that is gone, and
//! tells when a resource's protection began and where to look after it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ledger::record::{FORMAT, TOMBSTONE_LIFE};
use crate::place::Place;
use crate::policy::PolicyText;
use crate::policy::tags::{OptIn, Protection};
use crate::resource::ResourceId;
use crate::snapshot::{Hold, Instance};
use crate::time::{Slot, after, elapsed};

/// The text of a hold that nobody saw: the item was lost, and its instance is gone.
const HOLD_UNKNOWN: &str = "unknown: this item was rebuilt after the instance was gone";

/// Whether the resource took part when it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It was opted in.
    On,
    /// It was tagged `off`.
    Off,
    /// It carried no opt-in tag.
    Untagged,
    /// A complete list no longer showed it.
    Gone,
}

impl From<OptIn> for Standing {
    fn from(opt_in: OptIn) -> Self {
        match opt_in {
            OptIn::On => Standing::On,
            OptIn::Off => Standing::Off,
            OptIn::Untagged => Standing::Untagged,
        }
    }
}

/// The proof that a snapshot can be restored, or that it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When the drill began.
    pub at: Timestamp,
    /// Whether the instance ran, and answered the probe.
    pub ok: bool,
    /// How long that took in real time; `None` if it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// A resource as the ledger remembers it. `create` and `prune` write what its tags say, under the
/// item's version; the other members are written one by one, each by its own kind of writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protected {
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub name: String,
    /// The place of the resource.
    pub place: Place,
    /// Whether it took part when it was last seen.
    pub standing: Standing,
    /// Since when it has been protected; this restarts only when `off` turns to on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The value of its hold, if it carried one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The disk that its snapshots are taken of, where the provider states that as their origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The policy in force, with the resource's overrides.
    pub policy: Arc<PolicyText>,
    /// Since when it has neither taken part nor had a live record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<Timestamp>,
    /// The newest slot with an available snapshot; written by `poll` and `prune`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Slot>,
    /// When the provider last answered a request for a snapshot of it; written by `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
    /// The result of the last drill; written by the command `snapkeep drill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<Proof>,
    /// The format of the item.
    pub format: u32,
    /// The version of what its tags say, for optimistic locking; 0 means not written yet.
    pub version: u64,
}

impl Protected {
    /// What to remember of an instance as it is seen now; `None` if nothing changed. `create` does
    /// not know `has_records`, and judges by opt-in alone.
    #[must_use]
    pub fn seen(
        known: Option<&Protected>,
        instance: &Instance,
        protection: &Protection,
        has_records: Option<bool>,
        now: Timestamp,
    ) -> Option<Protected> {
        let standing = Standing::from(protection.opt_in);
        if known.is_none() && standing != Standing::On && has_records != Some(true) {
            return None;
        }
        let known_since = known.and_then(|known| known.since);
        let restarts = known.is_some_and(|known| known.standing == Standing::Off);
        let since = match (standing, known_since) {
            (Standing::On, Some(since)) if !restarts => Some(since),
            (Standing::On, _) => Some(now),
            (_, since) => since,
        };
        let idle = standing != Standing::On && has_records == Some(false);
        let idle_since = known.and_then(|known| known.idle_since);
        let item = Protected {
            resource: instance.id.clone(),
            name: instance.name.clone(),
            place: instance.place.clone(),
            standing,
            since,
            hold: protection.hold.as_ref().map(Hold::text),
            disk: instance.disk.clone().or_else(|| known.and_then(|known| known.disk.clone())),
            policy: protection.policy.text().into(),
            idle_since: match (standing, has_records) {
                (Standing::On, _) | (_, Some(true)) => None,
                (_, Some(false)) => idle_since.or(idle.then_some(now)),
                (_, None) => idle_since,
            },
            newest: known.and_then(|known| known.newest),
            answered: known.and_then(|known| known.answered),
            proven: known.and_then(|known| known.proven),
            format: FORMAT,
            version: known.map_or(0, |known| known.version),
        };
        (known != Some(&item)).then_some(item)
    }

    /// The same resource after a complete list did not show it; `None` if that is known already.
    #[must_use]
    pub fn gone(&self, has_records: bool, now: Timestamp) -> Option<Protected> {
        let idle_since = if has_records { None } else { self.idle_since.or(Some(now)) };
        let item = Protected { standing: Standing::Gone, idle_since, ..self.clone() };
        (*self != item).then_some(item)
    }

    /// Rebuilds the item of an instance that is gone, after the ledger lost it: it counts as held.
    #[must_use]
    pub fn rebuilt(
        resource: &ResourceId,
        name: &str,
        place: &Place,
        policy: Arc<PolicyText>,
    ) -> Self {
        Protected {
            resource: resource.clone(),
            name: name.to_owned(),
            place: place.clone(),
            standing: Standing::Gone,
            since: None,
            hold: Some(HOLD_UNKNOWN.to_owned()),
            disk: None,
            policy,
            idle_since: None,
            newest: None,
            answered: None,
            proven: None,
            format: FORMAT,
            version: 0,
        }
    }

    /// The order in which `create` serves: resources without any answer come first, then those that
    /// have waited longest since the provider last answered, then those with the oldest good slot.
    #[must_use]
    pub fn rank(known: Option<&Protected>) -> (Option<Timestamp>, Option<Slot>) {
        known.map_or((None, None), |known| (known.answered, known.newest))
    }

    /// The hold that stood on the instance when it was last seen.
    #[must_use]
    pub fn hold(&self) -> Option<Hold> {
        self.hold.as_deref().map(Hold::read)
    }

    /// The age of the newest available snapshot, as far as the ledger knows: for a place that
    /// cannot be listed.
    #[must_use]
    pub fn age(&self, pending_timeout: SignedDuration, now: Timestamp) -> Option<Age> {
        if self.standing != Standing::On {
            return None;
        }
        let (schedule, zone) = self.policy.schedule()?;
        let max_age = schedule.period(&zone, now).saturating_add(pending_timeout);
        Some(Age::new(&self.resource, &self.name, self.newest, self.since, max_age, now))
    }

    /// When the item may vanish.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.idle_since.map(|idle| after(idle, TOMBSTONE_LIFE))
    }
}

/// The age of a protected resource's newest available snapshot, by its slot, and the age that its
/// schedule allows: a period, and the time that a snapshot may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub name: String,
    /// The slot of the newest available snapshot.
    pub newest: Option<Slot>,
    /// The age, counted from the later of that slot and the beginning of the protection.
    pub age: SignedDuration,
    /// The greatest age that is allowed.
    pub max_age: SignedDuration,
}

impl Age {
    /// The age of a resource.
    #[must_use]
    pub fn new(
        resource: &ResourceId,
        name: &str,
        newest: Option<Slot>,
        protected_since: Option<Timestamp>,
        max_age: SignedDuration,
        now: Timestamp,
    ) -> Self {
        let from = newest.map(Slot::timestamp).into_iter().chain(protected_since).max();
        Age {
            resource: resource.clone(),
            name: name.to_owned(),
            newest,
            age: elapsed(from.unwrap_or(now), now),
            max_age,
        }
    }

    /// By how much the age exceeds the allowed one.
    #[must_use]
    pub fn overdue_by(&self) -> SignedDuration {
        self.age.saturating_sub(self.max_age).max(SignedDuration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policies;
    use crate::snapshot::Tags;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn seen(
        known: Option<&Protected>,
        tags: &[(&str, &str)],
        has_records: Option<bool>,
        now: &str,
    ) -> Option<Protected> {
        let tags: Tags =
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let policies = Policies::read(crate::policy::Policy::default(), "");
        let protection = Protection::read(&tags, "snapkeep", &policies);
        let (id, name) = (ResourceId("arn:web".to_owned()), "web".to_owned());
        let place = "eu-west-1".parse().unwrap();
        let instance = Instance {
            id,
            name,
            place,
            tags,
            disk: None,
            unready: None,
            size_gb: None,
            created_at: None,
        };
        Protected::seen(known, &instance, &protection, has_records, at(now))
    }

    const ON: &[(&str, &str)] = &[("snapkeep", "")];
    const OFF: &[(&str, &str)] = &[("snapkeep", "off")];

    #[test]
    fn protection_begins_at_first_sight_and_restarts_only_after_off() {
        let first = seen(None, ON, None, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(first.since, Some(at("2026-01-01T00:00:00Z")));
        assert_eq!(seen(Some(&first), ON, None, "2026-01-02T00:00:00Z"), None, "nothing changed");
        let untagged = seen(Some(&first), &[], None, "2026-01-03T00:00:00Z").unwrap();
        let again = seen(Some(&untagged), ON, None, "2026-01-04T00:00:00Z").unwrap();
        assert_eq!(again.since, first.since, "losing the tag for a while restarts nothing");
        let off = seen(Some(&again), OFF, None, "2026-01-05T00:00:00Z").unwrap();
        let on = seen(Some(&off), ON, None, "2026-01-06T00:00:00Z").unwrap();
        assert_eq!(on.since, Some(at("2026-01-06T00:00:00Z")));
    }

    #[test]
    fn who_never_took_part_and_has_no_snapshots_is_not_remembered() {
        assert_eq!(seen(None, &[], None, "2026-01-01T00:00:00Z"), None);
        assert_eq!(seen(None, OFF, Some(false), "2026-01-01T00:00:00Z"), None);
        assert!(seen(None, OFF, Some(true), "2026-01-01T00:00:00Z").is_some());
    }

    #[test]
    fn an_idle_item_ends_after_its_time_and_not_before_its_last_record() {
        let on = seen(None, ON, None, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(on.expires_at(), None);
        let gone = on.gone(true, at("2026-02-01T00:00:00Z")).unwrap();
        assert_eq!((gone.standing, gone.expires_at()), (Standing::Gone, None));
        let idle = gone.gone(false, at("2026-03-01T00:00:00Z")).unwrap();
        assert_eq!(idle.idle_since, Some(at("2026-03-01T00:00:00Z")));
        assert!(idle.expires_at() > Some(at("2027-03-01T00:00:00Z")));
        assert_eq!(idle.gone(false, at("2026-04-01T00:00:00Z")), None);
        let back = seen(Some(&idle), ON, None, "2026-05-01T00:00:00Z").unwrap();
        assert_eq!((back.idle_since, back.since), (None, on.since));
    }

    #[test]
    fn an_age_counts_from_the_later_of_slot_and_protection() {
        let now = at("2026-01-10T00:00:00Z");
        let item = seen(None, ON, None, "2026-01-08T00:00:00Z").unwrap();
        let timeout = SignedDuration::from_hours(6);
        let age = item.age(timeout, now).unwrap();
        assert_eq!(
            (age.age, age.max_age),
            (SignedDuration::from_hours(48), SignedDuration::from_hours(30))
        );
        assert_eq!(age.overdue_by(), SignedDuration::from_hours(18));
        let newest = Some("2026-01-09T03:00:00Z".parse().unwrap());
        let fresh = Protected { newest, ..item.clone() }.age(timeout, now).unwrap();
        assert_eq!(fresh.overdue_by(), SignedDuration::ZERO);
        assert_eq!(Protected { standing: Standing::Gone, ..item }.age(timeout, now), None);
    }

    #[test]
    fn a_rebuilt_item_of_a_gone_instance_is_held() {
        let policy = seen(None, ON, None, "2026-01-01T00:00:00Z").unwrap().policy;
        let place = "eu-west-1".parse().unwrap();
        let item = Protected::rebuilt(&ResourceId("arn:web".to_owned()), "web", &place, policy);
        assert!(item.hold().unwrap().holds(at("2030-01-01T00:00:00Z"), &crate::time::Zone::utc()));
    }
}
