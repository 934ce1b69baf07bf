//! A naive reference of what retention rules keep, straight from the words of the contract. It
//! shares no code with the core: the tests compare the two.

use std::collections::BTreeSet;

use jiff::civil::ISOWeekDate;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Whether the rules keep each of these times, the newest first; `rules` is the text of a tag.
#[must_use]
pub fn keeps(rules: &str, newest_first: &[Timestamp], zone: &TimeZone) -> Vec<bool> {
    let mut stays = vec![rules == "all"; newest_first.len()];
    for rule in rules.split_ascii_whitespace().filter(|rule| *rule != "all") {
        let (name, value) = rule.split_once('=').unwrap();
        if name == "within" {
            let newest = newest_first.first().map(|time| time.to_zoned(zone.clone()));
            let border = newest.and_then(|newest| newest.checked_sub(reach(value)).ok());
            for (stays, time) in stays.iter_mut().zip(newest_first) {
                *stays |= border.as_ref().is_none_or(|border| *time > border.timestamp());
            }
            continue;
        }
        let count: usize = value.parse().unwrap();
        let mut newer: BTreeSet<String> = BTreeSet::new();
        for at in 0..newest_first.len() {
            if name == "last" {
                stays[at] |= at < count;
                continue;
            }
            let left = newer.len() < count;
            let fresh = newer.insert(bucket(name, newest_first[at], zone));
            let oldest = at + 1 == newest_first.len();
            stays[at] |= left && (oldest || fresh);
        }
    }
    stays
}

fn bucket(name: &str, time: Timestamp, zone: &TimeZone) -> String {
    let civil = time.to_zoned(zone.clone());
    let iso = ISOWeekDate::from(civil.date());
    match name {
        "hourly" => civil.strftime("%F %H").to_string(),
        "daily" => civil.date().to_string(),
        "weekly" => format!("{} {}", iso.year(), iso.week()),
        "monthly" => format!("{} {}", civil.year(), civil.month()),
        _ => civil.year().to_string(),
    }
}

/// Reads a length such as `1y6m`.
fn reach(text: &str) -> Span {
    let mut span = Span::new();
    for part in text.split_inclusive(|c: char| c.is_ascii_alphabetic()) {
        let (number, unit) = part.split_at(part.len() - 1);
        let number: i64 = number.parse().unwrap();
        span = match unit {
            "h" => span.hours(number),
            "d" => span.days(number),
            "w" => span.weeks(number),
            "m" => span.months(number),
            _ => span.years(number),
        };
    }
    span
}
