//! Schedules and their slots: civil times in a zone, computed without a clock.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::AmbiguousOffset;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::time::{Slot, Zone, elapsed};

/// The accepted forms, for error messages.
pub const SCHEDULE_FORM: &str =
    "hourly, every-6h (a divisor of 24), daily@03:00, weekly@sun-03:00 or monthly@1-03:00";

/// When snapshots are due, in civil time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Every this many hours from civil midnight; 1 is `hourly`.
    EveryHours(i8),
    /// Each day at this time.
    Daily(Time),
    /// Each week on this day at this time.
    Weekly(Weekday, Time),
    /// Each month on this day (clamped to the month's end) at this time.
    Monthly(i8, Time),
}

/// What a zone's clocks do to a civil time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddTime {
    /// They skip it: its slot is the first instant afterwards.
    Skipped,
    /// They show it twice: its slot is the first time.
    Repeated,
}

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text).ok_or_else(|| SCHEDULE_FORM.to_owned())
    }
}

fn read(text: &str) -> Option<Schedule> {
    if text == "hourly" {
        return Some(Schedule::EveryHours(1));
    }
    if let Some(hours) = text.strip_prefix("every-").and_then(|rest| rest.strip_suffix('h')) {
        let hours = number(hours)?;
        return (hours > 0 && 24 % hours == 0).then_some(Schedule::EveryHours(hours));
    }
    let (kind, when) = text.split_once('@')?;
    match kind {
        "daily" => Some(Schedule::Daily(time_of_day(when)?)),
        "weekly" => {
            let (day, time) = when.split_once('-')?;
            let (_, day) = WEEKDAYS.into_iter().find(|(name, _)| *name == day)?;
            Some(Schedule::Weekly(day, time_of_day(time)?))
        }
        "monthly" => {
            let (day, time) = when.split_once('-')?;
            let day = number(day).filter(|day| (1..=31).contains(day))?;
            Some(Schedule::Monthly(day, time_of_day(time)?))
        }
        _ => None,
    }
}

/// Reads one or two ASCII digits, without a sign or a blank.
fn number(text: &str) -> Option<i8> {
    let legal = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    legal.then(|| text.parse().ok())?
}

fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    if hour.len() != 2 || minute.len() != 2 {
        return None;
    }
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hm = |time: &Time| format!("{:02}:{:02}", time.hour(), time.minute());
        match self {
            Schedule::EveryHours(1) => write!(f, "hourly"),
            Schedule::EveryHours(hours) => write!(f, "every-{hours}h"),
            Schedule::Daily(time) => write!(f, "daily@{}", hm(time)),
            Schedule::Weekly(day, time) => {
                let name = WEEKDAYS.iter().find(|(_, d)| d == day).map_or("", |(name, _)| name);
                write!(f, "weekly@{name}-{}", hm(time))
            }
            Schedule::Monthly(day, time) => write!(f, "monthly@{day}-{}", hm(time)),
        }
    }
}

impl Schedule {
    /// The slots at or before `now`, the latest first, without end.
    pub fn slots_back<'a>(
        &'a self,
        zone: &'a Zone,
        now: Timestamp,
    ) -> impl Iterator<Item = Slot> + 'a {
        // It begins a day ahead, because a time that a zone skips may move over midnight.
        let today = now.to_zoned(zone.rules().clone()).date();
        let mut day = today.tomorrow().ok();
        let days = std::iter::from_fn(move || {
            let this = day?;
            day = this.yesterday().ok();
            Some(this)
        });
        let mut last: Option<Slot> = None;
        days.flat_map(move |day| self.times_on(day).into_iter().rev())
            .map(move |civil| Slot::at(instant(civil, zone)))
            .filter(move |slot| slot.timestamp() <= now)
            // Two civil times in one gap are one slot.
            .filter(move |slot| last.replace(*slot) != Some(*slot))
    }

    /// The first slot after `now`.
    #[must_use]
    pub fn next(&self, zone: &Zone, now: Timestamp) -> Slot {
        // It begins a day before, because a time that a zone skips may move over midnight.
        let mut day = now.to_zoned(zone.rules().clone()).date().yesterday().ok();
        while let Some(this) = day {
            let times = self.times_on(this).into_iter().map(|civil| instant(civil, zone));
            if let Some(next) = times.into_iter().find(|time| *time > now) {
                return Slot::at(next);
            }
            day = this.tomorrow().ok();
        }
        // There is none only at the end of representable time.
        Slot::at(Timestamp::MAX)
    }

    /// The slots of these civil days whose civil time the zone's clocks skip or repeat.
    pub fn odd_slots<'a>(
        &'a self,
        zone: &'a Zone,
        (first, last): (Date, Date),
    ) -> impl Iterator<Item = (Slot, DateTime, OddTime)> + 'a {
        let days = first.series(1.day()).take_while(move |day| *day <= last);
        days.flat_map(|day| self.times_on(day)).filter_map(|civil| {
            let kind = match zone.rules().to_ambiguous_timestamp(civil).offset() {
                AmbiguousOffset::Unambiguous { .. } => return None,
                AmbiguousOffset::Gap { .. } => OddTime::Skipped,
                AmbiguousOffset::Fold { .. } => OddTime::Repeated,
            };
            Some((Slot::at(instant(civil, zone)), civil, kind))
        })
    }

    /// The latest slot at or before `now`.
    #[must_use]
    pub fn latest(&self, zone: &Zone, now: Timestamp) -> Slot {
        // There is no slot only at the beginning of representable time.
        self.slots_back(zone, now).next().unwrap_or_else(|| Slot::at(Timestamp::MIN))
    }

    /// The distance between the two latest slots.
    #[must_use]
    pub fn period(&self, zone: &Zone, now: Timestamp) -> SignedDuration {
        let mut slots = self.slots_back(zone, now);
        match (slots.next(), slots.next()) {
            (Some(latest), Some(before)) => elapsed(before.timestamp(), latest.timestamp()),
            _ => SignedDuration::MAX,
        }
    }

    /// How many slots lie strictly between `after` and `before`.
    #[must_use]
    pub fn slots_between(&self, zone: &Zone, after: Slot, before: Slot) -> usize {
        self.slots_back(zone, before.timestamp())
            .skip_while(|slot| *slot >= before)
            .take_while(|slot| *slot > after)
            .count()
    }

    /// The civil times of this day, in order.
    fn times_on(&self, day: Date) -> Vec<DateTime> {
        match *self {
            Schedule::EveryHours(every) => (0..24)
                .step_by(usize::from(every.unsigned_abs()))
                .map(|hour| day.at(hour, 0, 0, 0))
                .collect(),
            Schedule::Daily(time) => vec![day.to_datetime(time)],
            Schedule::Weekly(weekday, time) if day.weekday() == weekday => {
                vec![day.to_datetime(time)]
            }
            Schedule::Monthly(of_month, time) if day.day() == of_month.min(day.days_in_month()) => {
                vec![day.to_datetime(time)]
            }
            Schedule::Weekly(..) | Schedule::Monthly(..) => Vec::new(),
        }
    }
}

/// The first instant at which the zone's clocks show at least this civil time.
fn instant(civil: DateTime, zone: &Zone) -> Timestamp {
    let ambiguous = zone.rules().to_ambiguous_timestamp(civil);
    let found = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil),
        // A repeated time counts at its first occurrence.
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil),
        // A skipped time moves to the first instant after the gap: the transition itself.
        AmbiguousOffset::Gap { before, .. } => before.to_timestamp(civil).map(|shifted| {
            let probe = shifted.checked_add(1.second()).unwrap_or(shifted);
            zone.rules().preceding(probe).next().map_or(shifted, |t| t.timestamp())
        }),
    };
    // Outside representable time there is no schedule to keep.
    found.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn slots(schedule: &str, zone: &str, now: &str, count: usize) -> Vec<String> {
        let (schedule, zone): (Schedule, Zone) = (schedule.parse().unwrap(), zone.parse().unwrap());
        schedule.slots_back(&zone, at(now)).take(count).map(|slot| slot.to_string()).collect()
    }

    #[test]
    fn schedules_read_and_write_the_same_text() {
        for text in ["hourly", "every-6h", "daily@03:00", "weekly@sun-03:00", "monthly@31-23:59"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        let bad = [
            "",
            "Hourly",
            "every-5h",
            "every-0h",
            "every-48h",
            "every-+6h",
            "daily",
            "daily@3:00",
            "daily@24:00",
            "daily@03:60",
            "weekly@sunday-03:00",
            "weekly@03:00",
            "monthly@0-03:00",
            "monthly@32-03:00",
            "daily@03:00 ",
            "daily@03:00:00",
        ];
        for text in bad {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_next_slot_is_the_one_that_comes_due() {
        let zones = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"];
        let schedules =
            ["hourly", "every-6h", "daily@02:30", "weekly@sun-02:15", "monthly@31-23:59"];
        let starts = ["2026-03-28T12:00:00Z", "2026-10-03T20:00:00Z", "2011-12-29T11:00:00Z"];
        for zone in zones.map(|zone| zone.parse::<Zone>().unwrap()) {
            for schedule in schedules.map(|text| text.parse::<Schedule>().unwrap()) {
                for start in starts.map(at) {
                    let next = schedule.next(&zone, start);
                    assert!(next.timestamp() > start);
                    assert_eq!(schedule.latest(&zone, next.timestamp()), next);
                    let between = Slot::at(start);
                    assert_eq!(
                        schedule.slots_between(&zone, between, next),
                        0,
                        "{schedule} {start}"
                    );
                }
            }
        }
    }

    #[test]
    fn nights_on_which_clocks_change_are_known() {
        let (schedule, zone): (Schedule, Zone) =
            ("daily@02:30".parse().unwrap(), "Europe/Berlin".parse().unwrap());
        let days = ("2026-01-01".parse().unwrap(), "2026-12-31".parse().unwrap());
        let odd: Vec<String> = schedule
            .odd_slots(&zone, days)
            .map(|(slot, civil, kind)| format!("{slot} {civil} {kind:?}"))
            .collect();
        assert_eq!(
            odd,
            [
                "2026-03-29T01:00:00Z 2026-03-29T02:30:00 Skipped",
                "2026-10-25T00:30:00Z 2026-10-25T02:30:00 Repeated"
            ]
        );
    }

    #[test]
    fn the_slot_itself_is_due_at_its_instant() {
        assert_eq!(
            slots("daily@03:00", "UTC", "2026-11-20T03:00:00Z", 1),
            ["2026-11-20T03:00:00Z"]
        );
        assert_eq!(
            slots("daily@03:00", "UTC", "2026-11-20T02:59:59Z", 1),
            ["2026-11-19T03:00:00Z"]
        );
    }

    #[test]
    fn a_skipped_time_moves_to_the_first_instant_after_the_gap() {
        // Berlin, 2026-03-29: 02:00 to 03:00 does not exist; the transition is 01:00Z.
        assert_eq!(
            slots("daily@02:30", "Europe/Berlin", "2026-03-29T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-28T01:30:00Z"]
        );
        // Hourly: 02:00 and 03:00 are one slot.
        assert_eq!(
            slots("hourly", "Europe/Berlin", "2026-03-29T02:00:00Z", 3),
            ["2026-03-29T02:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T00:00:00Z"]
        );
        // Lord Howe, 2026-10-04: the gap is half an hour, 02:00 to 02:30.
        assert_eq!(
            slots("daily@02:15", "Australia/Lord_Howe", "2026-10-03T20:00:00Z", 1),
            ["2026-10-03T15:30:00Z"]
        );
        // Samoa skipped a whole day in 2011.
        assert_eq!(
            slots("daily@03:00", "Pacific/Apia", "2011-12-31T00:00:00Z", 3),
            ["2011-12-30T13:00:00Z", "2011-12-30T10:00:00Z", "2011-12-29T13:00:00Z"]
        );
    }

    #[test]
    fn a_repeated_time_counts_once_at_its_first_occurrence() {
        // Berlin, 2026-10-25: 02:00 to 03:00 happens twice, first at 00:00Z.
        assert_eq!(
            slots("daily@02:30", "Europe/Berlin", "2026-10-25T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-24T00:30:00Z"]
        );
        assert_eq!(
            slots("hourly", "Europe/Berlin", "2026-10-25T02:30:00Z", 3),
            ["2026-10-25T02:00:00Z", "2026-10-25T00:00:00Z", "2026-10-24T23:00:00Z"]
        );
        assert_eq!(
            slots("hourly", "America/New_York", "2026-11-01T07:30:00Z", 3),
            ["2026-11-01T07:00:00Z", "2026-11-01T05:00:00Z", "2026-11-01T04:00:00Z"]
        );
    }

    #[test]
    fn months_are_clamped_and_weeks_hit_their_day() {
        assert_eq!(
            slots("monthly@31-03:00", "UTC", "2026-05-01T00:00:00Z", 3),
            ["2026-04-30T03:00:00Z", "2026-03-31T03:00:00Z", "2026-02-28T03:00:00Z"]
        );
        assert_eq!(
            slots("weekly@sun-03:00", "UTC", "2026-11-20T00:00:00Z", 2),
            ["2026-11-15T03:00:00Z", "2026-11-08T03:00:00Z"]
        );
        assert_eq!(
            slots("every-6h", "UTC", "2026-11-20T17:00:00Z", 4),
            [
                "2026-11-20T12:00:00Z",
                "2026-11-20T06:00:00Z",
                "2026-11-20T00:00:00Z",
                "2026-11-19T18:00:00Z"
            ]
        );
    }

    #[test]
    fn periods_and_gaps_are_counted_in_slots() {
        let utc = Zone::utc();
        let daily: Schedule = "daily@03:00".parse().unwrap();
        assert_eq!(daily.period(&utc, at("2026-11-20T04:00:00Z")), SignedDuration::from_hours(24));
        let slot = |text: &str| text.parse::<Slot>().unwrap();
        let between = |a: &str, b: &str| daily.slots_between(&utc, slot(a), slot(b));
        assert_eq!(between("2026-11-10T03:00:00Z", "2026-11-13T03:00:00Z"), 2);
        assert_eq!(between("2026-11-12T03:00:00Z", "2026-11-13T03:00:00Z"), 0);
        assert_eq!(between("2026-11-13T03:00:00Z", "2026-11-12T03:00:00Z"), 0);
    }

    #[test]
    fn a_year_of_hours_has_a_slot_for_every_hour_of_the_clock() {
        for (zone, hours) in [("UTC", 8760), ("Europe/Berlin", 8759), ("Australia/Lord_Howe", 8759)]
        {
            let zone: Zone = zone.parse().unwrap();
            let year = "hourly".parse::<Schedule>().unwrap();
            let count = year
                .slots_back(&zone, at("2026-12-31T23:59:59Z"))
                .take_while(|slot| slot.timestamp() >= at("2026-01-01T00:00:00Z"))
                .count();
            // The repeated hour is one slot; the skipped one moves onto the next.
            assert!(count.abs_diff(hours) <= 1, "{} {count}", zone.name());
        }
    }
}
