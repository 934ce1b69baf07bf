//! What the simulated service withholds: calls beyond its rate, requests beyond its capacity, and
//! members of new snapshots.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_domain::answer::Quota;
use snapkeep_domain::place::Place;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};

use super::Profile;
use super::rates::Rates;
use super::world::{Inner, World};
use crate::memory::is_meant;

/// How many snapshots a place may have that nobody fills.
const QUOTA: u64 = 10_000;
/// The longest delay of a snapshot's tags and source, in seconds: well before a second look counts.
const LATE_MAX: i64 = 8 * 60;
/// The longest delay of a whole snapshot: even between clocks that differ by 8 minutes, a look counts
/// only later.
const UNLISTED_MAX: i64 = 6 * 60;

/// A token bucket for each operation in each place, in sixty-thousandths of a call.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<(String, &'static str), (Timestamp, i64)>);

/// A limit on the rate of calls.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The calls a minute, of each operation in each place.
    pub per_minute: u32,
    /// How many calls are let through at once after a pause.
    pub burst: u32,
}

impl Buckets {
    fn take(&mut self, limit: Limit, now: Timestamp, place: &str, operation: &'static str) -> bool {
        let full = i64::from(limit.burst) * 60_000;
        let key = (place.to_owned(), operation);
        let (since, tokens) = self.0.entry(key).or_insert((now, full));
        let grown = now.duration_since(*since).as_millis().min(i128::from(full));
        let grown = i64::try_from(grown).unwrap_or(full) * i64::from(limit.per_minute);
        (*since, *tokens) = (now, full.min(*tokens + grown));
        let through = *tokens >= 60_000;
        *tokens -= if through { 60_000 } else { 0 };
        through
    }
}

/// A limit on the requests for snapshots; the others are refused.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// How many requests are let through an hour.
    pub an_hour: usize,
    /// The error of the others.
    pub kind: ErrorKind,
}

/// The fate of a snapshot that was just requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is available after a while.
    Good,
    /// It takes hours.
    Slow,
    /// It turns to error.
    Error,
    /// It stays pending.
    Stuck,
    /// It vanishes.
    Vanishes,
}

/// The members of a new snapshot that are not shown yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    until: Timestamp,
    tags: bool,
    source: bool,
    /// The snapshot itself is not shown.
    all: bool,
}

impl Inner {
    /// The refusal of a call that exceeds the limits of the service.
    pub(super) fn over_limit(
        &mut self,
        operation: &'static str,
        place: Option<&str>,
        now: Timestamp,
    ) -> Option<ErrorKind> {
        let place = place.filter(|_| !self.healthy)?;
        if let Some(limit) = self.rates.limit
            && !self.buckets.take(limit, now, place, operation)
        {
            return Some(ErrorKind::Throttled);
        }
        let capacity = self.rates.capacity.filter(|_| operation == "create")?;
        let hour = now.as_second() / 3600;
        if self.let_through.0 != hour {
            self.let_through = (hour, 0);
        }
        self.let_through.1 += 1;
        (self.let_through.1 > capacity.an_hour).then_some(capacity.kind)
    }

    /// Draws which members of a new snapshot the service shows late.
    pub(super) fn comes_late(&mut self, id: &str, now: Timestamp) {
        if self.healthy || !Rates::strikes(&mut self.rng, self.rates.shown_late) {
            return;
        }
        let which = self.rng.usize(0..3);
        let (tags, source, all) = match self.profile {
            Profile::ByName => {
                [(true, false, false), (false, true, false), (true, true, false)][which]
            }
            Profile::ById => {
                [(true, false, false), (false, false, true), (true, false, true)][which]
            }
        };
        let most = if all { UNLISTED_MAX } else { LATE_MAX };
        let until = now + SignedDuration::from_secs(self.rng.i64(10..most));
        let tags = tags && !self.rates.drops_tags;
        self.late.insert(id.to_owned(), Late { until, tags, source, all });
    }
}

impl World {
    /// A snapshot as far as the service shows it now.
    pub(super) fn shown(&self, mut snapshot: Snapshot) -> Option<Snapshot> {
        let inner = self.lock();
        let late = inner.late.get(&snapshot.id).filter(|late| late.until > self.now());
        if let Some(late) = late.filter(|_| !inner.healthy) {
            if late.all {
                return None;
            }
            if late.tags {
                snapshot.tags.clear();
            }
            if late.source {
                snapshot.source.0.clear();
                snapshot.source_name.clear();
            }
        }
        Some(snapshot)
    }

    /// All instances of a Region that is enabled.
    pub(super) fn instances(&self, region: &str) -> Result<Vec<Instance>, ProviderError> {
        self.provider.whole(region).map(|(instances, _)| instances)
    }

    /// All snapshots of a Region that is enabled.
    pub(super) fn snapshots(&self, region: &str) -> Result<Vec<Snapshot>, ProviderError> {
        let (_, snapshots) = self.provider.whole(region)?;
        Ok(snapshots.into_iter().filter_map(|snapshot| self.shown(snapshot)).collect())
    }

    /// The snapshots that a reference means, of those that were there, or of those that are there now.
    pub(super) fn meant(
        &self,
        of: &SnapshotRef,
        past: Option<Vec<Snapshot>>,
    ) -> Result<Vec<Snapshot>, ProviderError> {
        let now = self.provider.meant(of)?;
        let can = self.provider.can();
        Ok(match past {
            Some(past) => past.into_iter().filter(|one| is_meant(of, one, &can)).collect(),
            None => now.into_iter().filter_map(|one| self.shown(one)).collect(),
        })
    }

    /// Draws the fate of the next snapshot.
    pub(super) fn fate(&self) -> Fate {
        let mut inner = self.lock();
        let Inner { rng, rates, healthy, .. } = &mut *inner;
        let mut fate = Fate::Good;
        if !*healthy && Rates::strikes(rng, rates.ill_fated) {
            let fates = [Fate::Slow, Fate::Error, Fate::Error, Fate::Stuck, Fate::Vanishes];
            fate = fates[rng.usize(0..fates.len())];
        }
        let minutes = if fate == Fate::Slow { rng.i64(30..600) } else { rng.i64(1..10) };
        drop(inner);
        self.provider.set_pending_for(SignedDuration::from_mins(minutes));
        fate
    }

    /// Sets how many snapshots every place may have.
    pub fn set_quota(&self, total: Option<u64>) {
        self.lock().rates.quota = total;
    }

    /// The quota of a place.
    pub(super) fn quota(&self, place: &Place) -> Quota {
        let there = self.provider.all_snapshots().iter().filter(|one| one.place == *place).count();
        let total = self.lock().rates.quota.unwrap_or(QUOTA);
        Quota { total, available: total.saturating_sub(there as u64) }
    }

    /// Whether a place has as many snapshots as it may have.
    pub(super) fn is_full(&self, place: &Place) -> bool {
        self.lock().profile == Profile::ById && self.quota(place).available == 0
    }
}
