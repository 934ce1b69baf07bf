//! Time as values: slots, zones and durations. Nothing here reads a clock.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far ahead of `now` a time may lie before it counts as the future: clocks are never exactly
/// equal.
pub const FUTURE_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// A scheduled instant in whole seconds: the identity of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot(Timestamp);

impl Slot {
    /// The slot at this instant; fractions of a second are dropped.
    #[must_use]
    pub fn at(instant: Timestamp) -> Self {
        Self(Timestamp::from_second(instant.as_second()).unwrap_or(instant))
    }

    /// The instant.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// The form in a snapshot's name: `20261120T030000Z`.
    #[must_use]
    pub fn compact(self) -> String {
        self.0.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// Reads what [`Slot::compact`] wrote, and nothing else.
    #[must_use]
    pub fn from_compact(text: &str) -> Option<Slot> {
        let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
        let slot = Slot::at(civil.to_zoned(TimeZone::UTC).ok()?.timestamp());
        (slot.compact() == text).then_some(slot)
    }
}

/// The form in tags and in the ledger: RFC 3339 in UTC, whole seconds, `2026-11-20T03:00:00Z`.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// The error for a text that is not a slot in its one legal form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a slot: write it like 2026-11-20T03:00:00Z")]
pub struct BadSlot(String);

impl FromStr for Slot {
    type Err = BadSlot;

    fn from_str(text: &str) -> Result<Self, BadSlot> {
        let bad = || BadSlot(text.to_owned());
        let slot = Slot::at(text.parse::<Timestamp>().map_err(|_| bad())?);
        // A slot has one text, because the ledger's keys and the tags are compared as strings.
        if slot.to_string() == text { Ok(slot) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Slot {
    type Error = BadSlot;
    fn try_from(text: String) -> Result<Self, BadSlot> {
        text.parse()
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> String {
        slot.to_string()
    }
}

/// A time zone from the bundled IANA database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// Coordinated Universal Time, the default.
    #[must_use]
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// The IANA name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone's rules.
    #[must_use]
    pub fn rules(&self) -> &TimeZone {
        &self.rules
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let accepted = "an IANA time zone name such as Europe/Berlin or UTC";
        match TimeZone::get(text) {
            Ok(rules) if !rules.is_unknown() => {
                let name = rules.iana_name().unwrap_or(text).to_owned();
                Ok(Self { name, rules })
            }
            _ => Err(accepted.to_owned()),
        }
    }
}

/// Reads a duration of the configuration: a whole number and `h`, `d` (24 h) or `w`, such as `3d`.
///
/// # Errors
/// The accepted form, if the text has another form or its number is too long.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    let accepted = || "a whole number with h, d or w, such as 6h, 3d or 2w".to_owned();
    let (digits, hours_each) = match text.char_indices().next_back() {
        Some((at, 'h')) => (&text[..at], 1),
        Some((at, 'd')) => (&text[..at], 24),
        Some((at, 'w')) => (&text[..at], 24 * 7),
        _ => return Err(accepted()),
    };
    // Six digits of weeks are more than nineteen thousand years: enough, and nothing overflows.
    if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(accepted());
    }
    let count: i64 = digits.parse().map_err(|_| accepted())?;
    Ok(SignedDuration::from_hours(count * hours_each))
}

/// `later - earlier`, for ages and waits.
#[must_use]
pub fn elapsed(earlier: Timestamp, later: Timestamp) -> SignedDuration {
    later.duration_since(earlier)
}

/// `instant + duration`, or the end of time if that overflows.
#[must_use]
pub fn after(instant: Timestamp, duration: SignedDuration) -> Timestamp {
    instant.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

/// A duration for people: `3d 4h`, `35m`.
#[must_use]
pub fn format_duration(duration: SignedDuration) -> String {
    let minutes = duration.as_mins();
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, _) if minutes == 0 => format!("{hours}h"),
        (0, _) => format!("{hours}h {minutes}m"),
        (_, 0) => format!("{days}d"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_text() {
        let slot: Slot = "2026-11-20T03:00:00Z".parse().unwrap();
        assert_eq!(slot.to_string(), "2026-11-20T03:00:00Z");
        assert_eq!(slot.compact(), "20261120T030000Z");
        assert_eq!(String::from(slot), slot.to_string());
        for other in ["2026-11-20T03:00:00+00:00", "2026-11-20T03:00:00.5Z", "2026-11-20", ""] {
            assert!(other.parse::<Slot>().is_err(), "{other}");
        }
    }

    #[test]
    fn durations_are_hours_days_and_weeks() {
        assert_eq!(parse_duration("3d").unwrap(), SignedDuration::from_hours(72));
        assert_eq!(parse_duration("2w").unwrap(), SignedDuration::from_hours(336));
        assert_eq!(parse_duration("0h").unwrap(), SignedDuration::ZERO);
        assert_eq!(parse_duration("999999h").unwrap(), SignedDuration::from_hours(999_999));
        for bad in ["", "3", "d", "-1d", "1.5d", "3 d", "1m", "9999999h", "3\u{664}d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn people_read_two_units_at_most() {
        for (minutes, text) in [
            (0, "0m"),
            (59, "59m"),
            (60, "1h"),
            (61, "1h 1m"),
            (23 * 60 + 59, "23h 59m"),
            (24 * 60, "1d"),
            (24 * 60 + 59, "1d"),
            (30 * 60, "1d 6h"),
            (100 * 24 * 60 + 61, "100d 1h"),
        ] {
            assert_eq!(format_duration(SignedDuration::from_mins(minutes)), text);
        }
    }

    #[test]
    fn zones_come_by_their_names_only() {
        assert_eq!("Europe/Berlin".parse::<Zone>().unwrap().name(), "Europe/Berlin");
        for bad in ["", "Berlin", "Etc/Unknown", "+02:00", "/etc/localtime"] {
            assert!(bad.parse::<Zone>().is_err(), "{bad}");
        }
    }
}
