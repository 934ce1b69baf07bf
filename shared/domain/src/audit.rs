//! Audits the past of a resource: which slots were promised, which were served, and how old the
//! newest available snapshot ever was. It judges by the ledger's records alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::ledger::record::{Record, State};
use crate::policy::schedule::Schedule;
use crate::time::{Slot, Zone, elapsed};

/// For so long after a slot nobody expects its record: `create` runs every quarter of an hour.
const UNCLAIMED: SignedDuration = SignedDuration::from_mins(30);

/// The time that is audited, and what is known of the resource besides its records.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The first instant.
    pub from: Timestamp,
    /// The first instant after it; later than now for a month that is not over.
    pub to: Timestamp,
    /// The current time.
    pub now: Timestamp,
    /// The schedule in force, and the zone of its times.
    pub schedule: Option<(Schedule, Zone)>,
    /// Since when it has been protected.
    pub since: Option<Timestamp>,
    /// Whether it takes part today.
    pub is_on: bool,
    /// How long a snapshot may be in the making.
    pub pending_timeout: SignedDuration,
}

/// What was promised of a resource, and what was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// How many slots there were.
    pub promised: usize,
    /// Those without a snapshot that ever became available.
    pub missed: Vec<Slot>,
    /// How many of those have a snapshot in the making, or are due just now.
    pub pending: usize,
    /// The greatest age of the newest available snapshot, counted from its slot.
    pub worst_age: Option<SignedDuration>,
}

impl Subject {
    /// Audits a resource by all of its records.
    #[must_use]
    pub fn audit(&self, records: &[Record]) -> Audit {
        let mut by_slot: BTreeMap<Slot, Vec<&Record>> = BTreeMap::new();
        for record in records {
            by_slot.entry(record.slot).or_default().push(record);
        }
        let promised: Vec<Slot> = self.promised(&by_slot).into_iter().collect();
        let served = |slot: &Slot| {
            let records = by_slot.get(slot).into_iter().flatten();
            records.copied().any(|record| available_at(record).is_some())
        };
        let missed: Vec<Slot> = promised.iter().filter(|slot| !served(slot)).copied().collect();
        let under_way = |slot: &&Slot| self.under_way(**slot, by_slot.get(slot));
        let pending = missed.iter().filter(under_way).count();
        Audit { promised: promised.len(), missed, pending, worst_age: self.worst_age(records) }
    }

    /// When it began to be promised anything.
    fn begin(&self, first: Option<&Slot>) -> Option<Timestamp> {
        first.map(|slot| slot.timestamp()).or(self.since)
    }

    /// Whether a slot's snapshot is in the making, or may not even be asked for yet.
    fn under_way(&self, slot: Slot, records: Option<&Vec<&Record>>) -> bool {
        let Some(records) = records else {
            return elapsed(slot.timestamp(), self.now) < UNCLAIMED;
        };
        records.iter().any(|record| {
            let made = [State::Intended, State::Requested, State::Pending].contains(&record.state);
            made && elapsed(record.asked_at(), self.now) <= self.pending_timeout
        })
    }

    /// The slots of the time that were due.
    fn promised(&self, by_slot: &BTreeMap<Slot, Vec<&Record>>) -> BTreeSet<Slot> {
        let mut all: BTreeSet<Slot> = by_slot.keys().copied().collect();
        let own =
            |records: &Vec<&Record>| records.iter().find_map(|record| record.policy.schedule());
        let mut last: Option<(Slot, Option<(Schedule, Zone)>)> = None;
        for (slot, records) in by_slot {
            let schedule = own(records);
            if let Some((before, earlier)) = &last {
                all.extend(self.between(*before, *slot, earlier.as_ref(), schedule.as_ref()));
            }
            last = Some((*slot, schedule));
        }
        // What no longer takes part is promised nothing after its last record.
        let end = Slot::at(self.to.min(self.now + SignedDuration::from_secs(1)));
        match (last, self.since) {
            (Some((last, schedule)), _) if self.is_on => {
                all.extend(self.between(last, end, schedule.as_ref(), self.schedule.as_ref()));
            }
            (None, Some(since)) if self.is_on => {
                let before = Slot::at(since - SignedDuration::from_secs(1));
                let schedule = self.schedule.as_ref();
                all.extend(self.between(before, end, schedule, schedule));
            }
            _ => {}
        }
        let in_time = |slot: &Slot| {
            (self.from..self.to).contains(&slot.timestamp()) && slot.timestamp() <= self.now
        };
        all.retain(in_time);
        all
    }

    /// The slots strictly between two. If the schedule changed in between, nobody knows when: then
    /// the one with fewer slots counts.
    fn between(
        &self,
        after: Slot,
        before: Slot,
        earlier: Option<&(Schedule, Zone)>,
        later: Option<&(Schedule, Zone)>,
    ) -> Vec<Slot> {
        if before.timestamp() <= self.from || after.timestamp() >= self.to {
            return Vec::new();
        }
        let known = self.schedule.as_ref();
        let slots = |schedule: &(Schedule, Zone)| -> Vec<Slot> {
            let (schedule, zone) = schedule;
            let back = schedule.slots_back(zone, before.timestamp());
            back.skip_while(|slot| *slot >= before).take_while(|slot| *slot > after).collect()
        };
        let both = [earlier.or(known), later.or(known)].into_iter().flatten().map(slots);
        both.min_by_key(Vec::len).unwrap_or_default()
    }

    fn worst_age(&self, records: &[Record]) -> Option<SignedDuration> {
        let first = records.iter().map(|record| record.slot).min();
        let begin = self.begin(first.as_ref())?;
        let mut events: Vec<(Timestamp, Slot, bool)> = Vec::new();
        for record in records {
            let Some(at) = available_at(record) else { continue };
            events.push((at, record.slot, true));
            events.extend(gone_at(record).map(|at| (at, record.slot, false)));
        }
        events.sort_unstable();
        let mut end = self.to.min(self.now);
        if !self.is_on {
            end = end.min(records.iter().map(|record| record.slot).max()?.timestamp());
        }
        let start = self.from.max(begin);
        let mut there: BTreeSet<Slot> = BTreeSet::new();
        let mut worst = None;
        for (at, slot, comes) in events.into_iter().filter(|(at, ..)| *at < end) {
            if at > start {
                let newest = there.last().map_or(begin, |slot| slot.timestamp());
                worst = worst.max(Some(elapsed(newest, at)));
            }
            if comes {
                there.insert(slot);
            } else {
                there.remove(&slot);
            }
        }
        if end > start {
            let newest = there.last().map_or(begin, |slot| slot.timestamp());
            worst = worst.max(Some(elapsed(newest, end)));
        }
        worst
    }
}

/// When a record's snapshot became available for the first time.
#[must_use]
pub fn available_at(record: &Record) -> Option<Timestamp> {
    let told = record.history.past.iter().find(|change| change.to == State::Available);
    told.map(|change| change.at).or_else(|| record.times.get(State::Available))
}

/// When a record's snapshot went, or was about to.
#[must_use]
pub fn gone_at(record: &Record) -> Option<Timestamp> {
    match record.state {
        State::Deleting => record.times.get(State::Deleting),
        State::Deleted => {
            record.times.get(State::Deleting).or_else(|| record.times.get(State::Deleted))
        }
        _ => None,
    }
}

/// The size of something that is stored for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// When it came.
    pub from: Timestamp,
    /// When it went.
    pub to: Timestamp,
    /// Its size.
    pub size_gb: u32,
}

/// How much was stored from each of these times on, where that changed.
#[must_use]
pub fn storage(all: &[Stored]) -> Vec<(Timestamp, u64)> {
    let mut changes: BTreeMap<Timestamp, i64> = BTreeMap::new();
    for one in all.iter().filter(|one| one.to > one.from) {
        *changes.entry(one.from).or_default() += i64::from(one.size_gb);
        *changes.entry(one.to).or_default() -= i64::from(one.size_gb);
    }
    let mut sum = 0_i64;
    let level = |(at, change): (Timestamp, i64)| {
        sum += change;
        (at, u64::try_from(sum).unwrap_or_default())
    };
    changes.into_iter().map(level).collect()
}

/// The most that was stored at once from `from` until before `to`, and the gigabytes times seconds.
#[must_use]
pub fn stored(all: &[Stored], from: Timestamp, to: Timestamp) -> (u64, u128) {
    let within = |one: &Stored| Stored { from: one.from.max(from), to: one.to.min(to), ..*one };
    let all: Vec<Stored> = all.iter().map(within).collect();
    let most = storage(&all).into_iter().map(|(_, gb)| gb).max().unwrap_or_default();
    let seconds = |one: &Stored| {
        let seconds = u128::try_from(elapsed(one.from, one.to).as_secs()).unwrap_or_default();
        seconds * u128::from(one.size_gb)
    };
    (most, all.iter().filter(|one| one.to > one.from).map(seconds).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::lease::Lease;
    use crate::ledger::record::{Identity, Subject as Of};
    use crate::policy::PolicyText;
    use crate::resource::ResourceId;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record(slot: &str, schedule: &str, available: Option<&str>) -> Record {
        let of = Of {
            resource: ResourceId("arn:web".to_owned()),
            resource_name: "web".to_owned(),
            place: "eu-west-1".parse().unwrap(),
            slot: slot.parse().unwrap(),
            attempt: 1,
            name: format!("web-{slot}"),
            identity: Identity::default(),
            policy: PolicyText {
                name: "default".to_owned(),
                schedule: Some(schedule.to_owned()),
                keep: None,
                timezone: "UTC".to_owned(),
            }
            .into(),
        };
        let intent = Record::intended(of, 0, at(slot), Lease::NONE);
        match available {
            Some(when) => intent.moved(State::Requested, at(slot), "asked").moved(
                State::Available,
                at(when),
                "there",
            ),
            None => intent.moved(State::Failed, at(slot), "failed"),
        }
    }

    fn subject(schedule: &str, now: &str) -> Subject {
        Subject {
            from: at("2026-10-01T00:00:00Z"),
            to: at("2026-11-01T00:00:00Z"),
            now: at(now),
            schedule: Some((schedule.parse().unwrap(), Zone::utc())),
            since: None,
            is_on: true,
            pending_timeout: SignedDuration::from_hours(6),
        }
    }

    fn daily(days: impl Iterator<Item = u32>) -> Vec<Record> {
        let one = |day| {
            let slot = format!("2026-10-{day:02}T03:00:00Z");
            record(&slot, "daily@03:00", Some(&slot.replace("T03:00", "T04:00")))
        };
        days.map(one).collect()
    }

    #[test]
    fn a_slot_without_a_snapshot_is_missed_and_the_age_grows() {
        let records = daily((1..=31).filter(|day| *day != 12));
        let audit = subject("daily@03:00", "2026-11-20T00:00:00Z").audit(&records);
        assert_eq!(audit.promised, 31);
        assert_eq!(audit.missed, ["2026-10-12T03:00:00Z".parse().unwrap()]);
        assert_eq!(audit.worst_age, Some(SignedDuration::from_hours(49)));
        let mut records = records;
        records.push(record("2026-10-12T03:00:00Z", "daily@03:00", None));
        let failed = subject("daily@03:00", "2026-11-20T00:00:00Z").audit(&records);
        assert_eq!(failed, audit);
    }

    #[test]
    fn nothing_is_promised_before_the_first_record_and_after_now() {
        let records = daily(10..=14);
        let audit = subject("daily@03:00", "2026-10-14T12:00:00Z").audit(&records);
        assert_eq!((audit.promised, audit.missed.len()), (5, 0));
        let late = subject("daily@03:00", "2026-10-16T12:00:00Z").audit(&records);
        assert_eq!((late.promised, late.missed.len()), (7, 2));
        let off = Subject { is_on: false, ..subject("daily@03:00", "2026-10-16T12:00:00Z") };
        assert_eq!((off.audit(&records).promised, off.audit(&[]).promised), (5, 0));
        // Without any record, it is promised from the beginning of its protection.
        let since = Some(at("2026-10-10T12:00:00Z"));
        let never = Subject { since, ..subject("daily@03:00", "2026-10-13T12:00:00Z") };
        let audit = never.audit(&[]);
        assert_eq!((audit.promised, audit.missed.len()), (3, 3));
        assert_eq!(audit.worst_age, Some(SignedDuration::from_hours(72)));
    }

    #[test]
    fn what_is_under_way_is_missed_so_far() {
        let mut records = daily(10..=13);
        let of = record("2026-10-14T03:00:00Z", "daily@03:00", None);
        let fields = crate::ledger::record::Fields { state: State::Pending, ..of.into() };
        records.push(Record::stored(fields));
        let audit = subject("daily@03:00", "2026-10-14T04:00:00Z").audit(&records);
        assert_eq!((audit.promised, audit.pending, audit.missed.len()), (5, 1, 1));
        let stuck = subject("daily@03:00", "2026-10-14T12:00:00Z").audit(&records);
        assert_eq!((stuck.promised, stuck.pending, stuck.missed.len()), (5, 0, 1));
        let just_due = subject("daily@03:00", "2026-10-15T03:10:00Z").audit(&daily(10..=14));
        assert_eq!((just_due.promised, just_due.pending, just_due.missed.len()), (6, 1, 1));
    }

    #[test]
    fn a_changed_schedule_invents_no_missed_slots() {
        let mut records = daily(1..=10);
        for hour in 12..=23 {
            let slot = format!("2026-10-10T{hour}:00:00Z");
            records.push(record(&slot, "hourly", Some(&slot)));
        }
        let audit = subject("hourly", "2026-10-10T23:10:00Z").audit(&records);
        assert_eq!((audit.promised, audit.pending, audit.missed.len()), (22, 0, 0));
    }

    #[test]
    fn storage_is_summed_over_time() {
        let one = |from: &str, to: &str, size_gb| Stored { from: at(from), to: at(to), size_gb };
        let all = [
            one("2026-09-30T12:00:00Z", "2026-10-01T12:00:00Z", 20),
            one("2026-10-01T06:00:00Z", "2026-10-02T00:00:00Z", 40),
        ];
        let (most, gb_seconds) =
            stored(&all, at("2026-10-01T00:00:00Z"), at("2026-11-01T00:00:00Z"));
        assert_eq!((most, gb_seconds), (60, (12 * 20 + 18 * 40) * 3600));
        assert_eq!(storage(&all).last(), Some(&(at("2026-10-02T00:00:00Z"), 0)));
    }
}
