//! Retention rules: the meaning of a `keep` text, as a union of rules. The guards are in
//! [`crate::prune`].

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::civil::{DateTime, ISOWeekDate};
use jiff::{Span, Timestamp, Zoned};

use crate::time::Zone;

/// The accepted form, for error messages.
pub const KEEP_FORM: &str = "all, or any of last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=2 \
     within=30d with spaces between, counts from 1 up";

/// A bucket of civil time; a rule keeps the newest snapshot in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// A civil hour; one that daylight saving repeats counts once.
    Hourly,
    /// A civil day.
    Daily,
    /// An ISO week of its ISO year.
    Weekly,
    /// A civil month.
    Monthly,
    /// A civil year.
    Yearly,
}

impl Bucket {
    const ALL: [(&'static str, Bucket); 5] = [
        ("hourly", Bucket::Hourly),
        ("daily", Bucket::Daily),
        ("weekly", Bucket::Weekly),
        ("monthly", Bucket::Monthly),
        ("yearly", Bucket::Yearly),
    ];

    /// The bucket's word in the grammar.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, bucket)| *bucket == self).map_or("", |(name, _)| name)
    }

    fn of(self, civil: DateTime) -> (i16, i16, i8) {
        match self {
            Bucket::Hourly => (civil.year(), civil.date().day_of_year(), civil.hour()),
            Bucket::Daily => (civil.year(), civil.date().day_of_year(), 0),
            Bucket::Weekly => {
                let week = ISOWeekDate::from(civil.date());
                (week.year(), i16::from(week.week()), 0)
            }
            Bucket::Monthly => (civil.year(), i16::from(civil.month()), 0),
            Bucket::Yearly => (civil.year(), 0, 0),
        }
    }
}

/// The length of `within`: civil units, then absolute hours.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Within {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u32,
}

impl Within {
    /// The instant that lies this long before `newest`; the beginning of time if there is none.
    fn before(&self, newest: &Zoned) -> Timestamp {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|s| s.try_months(self.months))
            .and_then(|s| s.try_weeks(self.weeks))
            .and_then(|s| s.try_days(self.days))
            .and_then(|s| s.try_hours(i64::from(self.hours)));
        span.and_then(|span| newest.checked_sub(span))
            .map_or(Timestamp::MIN, |zoned| zoned.timestamp())
    }
}

impl FromStr for Within {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut within = Within::default();
        let mut seen = BTreeSet::new();
        let mut rest = text;
        while !rest.is_empty() {
            let at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
            let (digits, unit) = (&rest[..at], rest[at..].chars().next().ok_or(())?);
            // Four digits reach further back than any snapshot, and cannot overflow.
            let legal = (1..=4).contains(&digits.len()) && seen.insert(unit);
            let count: u16 = digits.parse().map_err(drop)?;
            match unit {
                _ if !legal => return Err(()),
                'y' => within.years = count,
                'm' => within.months = count,
                'w' => within.weeks = count,
                'd' => within.days = count,
                'h' => within.hours = u32::from(count),
                _ => return Err(()),
            }
            rest = &rest[at + 1..];
        }
        if within == Within::default() { Err(()) } else { Ok(within) }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (u32::from(self.years), 'y'),
            (u32::from(self.months), 'm'),
            (u32::from(self.weeks), 'w'),
            (u32::from(self.days), 'd'),
            (self.hours, 'h'),
        ];
        parts.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, unit)| write!(f, "{n}{unit}"))
    }
}

/// A retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything is kept: nothing is ever condemned.
    All,
    /// A snapshot is kept if any of these rules keeps it.
    Rules(Rules),
}

/// The rules of a `keep`; at least one is set.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rules {
    last: Option<u32>,
    buckets: [Option<u32>; 5],
    within: Option<Within>,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text).ok_or_else(|| KEEP_FORM.to_owned())
    }
}

fn read(text: &str) -> Option<Keep> {
    let text = text.trim();
    if text == "all" {
        return Some(Keep::All);
    }
    let mut rules = Rules::default();
    for word in text.split_ascii_whitespace() {
        let (name, value) = word.split_once('=')?;
        let first = match name {
            "last" => rules.last.replace(count(value)?).is_none(),
            "within" => rules.within.replace(value.parse().ok()?).is_none(),
            _ => {
                let at = Bucket::ALL.iter().position(|(bucket, _)| *bucket == name)?;
                rules.buckets[at].replace(count(value)?).is_none()
            }
        };
        // If a rule appears twice, it is unclear which one is meant.
        if !first {
            return None;
        }
    }
    (rules != Rules::default()).then_some(Keep::Rules(rules))
}

/// Reads a count from 1 up, in plain digits.
fn count(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|count| plain && *count >= 1)
}

/// The canonical text: the same rules always give the same text.
impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keep::Rules(rules) = self else { return write!(f, "all") };
        let mut words: Vec<String> = rules.last.iter().map(|n| format!("last={n}")).collect();
        let buckets = Bucket::ALL.iter().zip(rules.buckets);
        words.extend(buckets.filter_map(|((name, _), n)| Some(format!("{name}={}", n?))));
        words.extend(rules.within.iter().map(|within| format!("within={within}")));
        write!(f, "{}", words.join(" "))
    }
}

/// Why a snapshot is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptBy {
    /// The retention is `keep=all`, or is not set.
    All,
    /// It is one of the newest.
    Last,
    /// It is the newest of its bucket.
    Newest(Bucket),
    /// It is the oldest of all, and the rule had count left.
    Oldest(Bucket),
    /// It is younger than the length of `within`.
    Within,
    /// The floor keeps it, as part of the minimum.
    Minimum,
}

impl fmt::Display for KeptBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptBy::All => write!(f, "all"),
            KeptBy::Last => write!(f, "last"),
            KeptBy::Newest(bucket) => write!(f, "{}", bucket.as_str()),
            KeptBy::Oldest(bucket) => write!(f, "{} (oldest)", bucket.as_str()),
            KeptBy::Within => write!(f, "within"),
            KeptBy::Minimum => write!(f, "minimum"),
        }
    }
}

impl Keep {
    /// Judges the times of a resource's available snapshots, given from the newest to the oldest.
    /// Returns the rules that keep each, in the same order; if there are none, the retention lets
    /// it go.
    ///
    /// The rules count from the newest snapshot, never from the clock: a schedule that stopped
    /// deletes nothing.
    #[must_use]
    pub fn judge(&self, newest_first: &[Timestamp], zone: &Zone) -> Vec<Vec<KeptBy>> {
        debug_assert!(newest_first.is_sorted_by(|a, b| a >= b), "the newest comes first");
        let mut kept = vec![Vec::new(); newest_first.len()];
        let Keep::Rules(rules) = self else {
            kept.iter_mut().for_each(|reasons| reasons.push(KeptBy::All));
            return kept;
        };
        if let Some(last) = rules.last {
            let last = usize::try_from(last).unwrap_or(usize::MAX);
            kept.iter_mut().take(last).for_each(|reasons| reasons.push(KeptBy::Last));
        }
        let civil: Vec<DateTime> =
            newest_first.iter().map(|t| zone.rules().to_datetime(*t)).collect();
        for ((_, bucket), left) in Bucket::ALL.into_iter().zip(rules.buckets) {
            let mut left = left.unwrap_or(0);
            let mut seen = BTreeSet::new();
            for (at, civil) in civil.iter().enumerate() {
                let fresh = seen.insert(bucket.of(*civil));
                let oldest = at + 1 == newest_first.len();
                if left > 0 && (fresh || oldest) {
                    left -= 1;
                    kept[at].push(if fresh {
                        KeptBy::Newest(bucket)
                    } else {
                        KeptBy::Oldest(bucket)
                    });
                }
            }
        }
        if let (Some(within), Some(newest)) = (&rules.within, newest_first.first()) {
            let border = within.before(&newest.to_zoned(zone.rules().clone()));
            for (time, reasons) in newest_first.iter().zip(&mut kept) {
                if *time > border {
                    reasons.push(KeptBy::Within);
                }
            }
        }
        kept
    }
}

/// The minimum that no tag and no policy can undercut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MinKeep {
    /// This many available snapshots remain, whichever they are.
    Count(u32),
    /// The snapshots that these rules keep remain.
    Rules(Keep),
}

impl Default for MinKeep {
    fn default() -> Self {
        MinKeep::Count(1)
    }
}

impl FromStr for MinKeep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(count) = count(text) {
            return Ok(MinKeep::Count(count));
        }
        text.parse().map(MinKeep::Rules).map_err(|form| format!("a number from 1 up, or {form}"))
    }
}

impl MinKeep {
    /// Adds what the floor keeps to the verdicts of the rules. `stays` tells which snapshots a hold
    /// or another guard keeps, so that they count toward a number; `going` tells which may vanish
    /// at any moment, so that they do not.
    pub fn protect(
        &self,
        kept: &mut [Vec<KeptBy>],
        newest_first: &[Timestamp],
        zone: &Zone,
        stays: impl Fn(usize) -> bool,
        going: impl Fn(usize) -> bool,
    ) {
        let number = match self {
            MinKeep::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            MinKeep::Rules(keep) => {
                for (reasons, floor) in kept.iter_mut().zip(keep.judge(newest_first, zone)) {
                    if reasons.is_empty() && !floor.is_empty() {
                        reasons.push(KeptBy::Minimum);
                    }
                }
                1
            }
        };
        let remain =
            |at: usize, reasons: &[KeptBy]| (!reasons.is_empty() || stays(at)) && !going(at);
        let mut remaining =
            kept.iter().enumerate().filter(|(at, reasons)| remain(*at, reasons)).count();
        for (at, reasons) in kept.iter_mut().enumerate() {
            if remaining >= number {
                break;
            }
            if !remain(at, reasons) {
                reasons.push(KeptBy::Minimum);
                remaining += usize::from(!going(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(texts: &[&str]) -> Vec<Timestamp> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The kept times with their reasons, one line for each.
    fn check(keep: &str, zone: &str, texts: &[&str]) -> Vec<String> {
        let keep: Keep = keep.parse().unwrap();
        let verdicts = keep.judge(&times(texts), &zone.parse().unwrap());
        let line = |(text, reasons): (&&str, Vec<KeptBy>)| {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            (!reasons.is_empty()).then(|| format!("{text} {}", reasons.join(", ")))
        };
        texts.iter().zip(verdicts).filter_map(line).collect()
    }

    #[test]
    fn keep_texts_are_canonical_and_strict() {
        let text = "last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=2 within=1y6m2w30d12h";
        assert_eq!(text.parse::<Keep>().unwrap().to_string(), text);
        assert_eq!("  daily=7   last=3 ".parse::<Keep>().unwrap().to_string(), "last=3 daily=7");
        assert_eq!("all".parse::<Keep>().unwrap(), Keep::All);
        let bad = [
            "",
            "daily",
            "daily=0",
            "daily=-1",
            "daily=+1",
            "daily=7,weekly=4",
            "daily=7 daily=8",
            "all daily=7",
            "Daily=7",
            "within=",
            "within=0d",
            "within=30",
            "within=d",
            "within=1d2d",
            "within=30s",
            "last=99999999999",
            "daily = 7",
            "minutely=3",
            "within=-3d",
        ];
        for text in bad {
            assert!(text.parse::<Keep>().is_err(), "{text}");
        }
    }

    #[test]
    fn gaps_lose_nothing_and_the_oldest_begins_history() {
        let series = [
            "2026-11-20T03:00:00Z",
            "2026-11-20T02:00:00Z",
            "2026-11-10T03:00:00Z",
            "2026-10-01T04:00:00Z",
            "2026-10-01T03:00:00Z",
        ];
        assert_eq!(
            check("daily=3", "UTC", &series),
            [
                "2026-11-20T03:00:00Z daily",
                "2026-11-10T03:00:00Z daily",
                "2026-10-01T04:00:00Z daily"
            ]
        );
        assert_eq!(check("daily=9", "UTC", &series)[3], "2026-10-01T03:00:00Z daily (oldest)");
    }

    #[test]
    fn within_counts_back_from_the_newest_and_is_strict() {
        let series = ["2026-03-31T03:00:00Z", "2026-02-28T03:00:01Z", "2026-02-28T03:00:00Z"];
        assert_eq!(check("within=1m", "UTC", &series).len(), 2);
        assert_eq!(check("within=9999y9999m", "UTC", &series).len(), 3);
    }

    #[test]
    fn an_hour_that_repeats_is_one_hour() {
        let night = ["2026-10-25T01:30:00Z", "2026-10-25T00:30:00Z", "2026-10-24T23:30:00Z"];
        assert_eq!(
            check("hourly=2", "Europe/Berlin", &night),
            ["2026-10-25T01:30:00Z hourly", "2026-10-24T23:30:00Z hourly"]
        );
    }

    #[test]
    fn weeks_belong_to_their_iso_year() {
        // 2027-01-01 is in week 53 of 2026, with 2026-12-31.
        let turn = ["2027-01-01T03:00:00Z", "2026-12-31T03:00:00Z", "2026-12-27T03:00:00Z"];
        assert_eq!(
            check("weekly=2", "UTC", &turn),
            ["2027-01-01T03:00:00Z weekly", "2026-12-27T03:00:00Z weekly"]
        );
    }

    #[test]
    fn a_span_is_written_without_what_it_does_not_have() {
        for text in ["within=30d", "within=1y6m", "within=2w3d4h"] {
            assert_eq!(text.parse::<Keep>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_floor_of_rules_adds_what_they_keep_and_one_at_least() {
        let series =
            times(&["2026-01-03T06:00:00Z", "2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z"]);
        let mut kept = "last=1".parse::<Keep>().unwrap().judge(&series, &Zone::utc());
        let floor: MinKeep = "daily=2".parse().unwrap();
        floor.protect(&mut kept, &series, &Zone::utc(), |_| false, |_| false);
        // The rule keeps the newest day already.
        assert_eq!(kept[0].len(), 1);
        assert_ne!(kept[0], [KeptBy::Minimum]);
        assert_eq!((&kept[1], &kept[2]), (&vec![], &vec![KeptBy::Minimum]));
    }

    #[test]
    fn the_floor_counts_what_remains() {
        let series =
            times(&["2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"]);
        let floor = |count, held: usize| {
            let mut kept = "last=1".parse::<Keep>().unwrap().judge(&series, &Zone::utc());
            MinKeep::Count(count).protect(
                &mut kept,
                &series,
                &Zone::utc(),
                |at| at == held,
                |_| false,
            );
            kept.iter().filter(|reasons| !reasons.is_empty()).count()
        };
        assert_eq!(floor(1, 9), 1);
        assert_eq!(floor(3, 9), 3);
        // The held snapshot remains as well, and counts toward the number.
        assert_eq!(floor(2, 2), 1);
    }
}
