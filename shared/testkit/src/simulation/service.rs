//! What the simulated service withholds: calls beyond its rate, requests beyond its capacity, and
//! members of new snapshots.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_domain::snapshot::{Instance, Snapshot};

use super::Profile;
use super::rates::Rates;
use super::world::{Inner, World};

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
}
