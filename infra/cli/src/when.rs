//! Times as people write them on the command line.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::time::parse_duration;

/// A time that is written on the command line: a point in time, or a distance from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    FromNow(SignedDuration),
}

const FORM: &str = "an RFC 3339 time such as 2026-11-20T03:00:00Z, a date such as 2026-11-20, or a distance from \
                    now such as +7d or -36h";

impl When {
    /// Reads a time, a date (its first instant in UTC), or a distance.
    pub(crate) fn read(text: &str) -> Result<When, String> {
        let form = || format!("expected {FORM}");
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(ahead), _) => Ok(When::FromNow(parse_duration(ahead).map_err(|_| form())?)),
            (_, Some(back)) => Ok(When::FromNow(-parse_duration(back).map_err(|_| form())?)),
            _ => instant(text).map(When::At).map_err(|_| form()),
        }
    }

    /// The point in time, seen from `now`.
    pub(crate) fn from(self, now: Timestamp) -> Result<Timestamp, String> {
        match self {
            When::At(at) => Ok(at),
            When::FromNow(distance) => {
                now.checked_add(distance).map_err(|_| "that is beyond all time".to_owned())
            }
        }
    }
}

/// Reads a time or a date, but no distance.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    let of_date = |date: Date| date.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let time = || text.parse::<Timestamp>().ok();
    date(text).and_then(of_date).or_else(time).map(whole).ok_or_else(|| {
        "expected an RFC 3339 time such as 2026-11-20T03:00:00Z, or a date such as 2026-11-20"
            .to_owned()
    })
}

/// Reads exactly `YYYY-MM-DD`: the library would accept other forms of a date, too.
pub(crate) fn date(text: &str) -> Option<Date> {
    text.parse::<Date>().ok().filter(|date| date.to_string() == text)
}

/// The current time, in whole seconds.
pub(crate) fn now() -> Timestamp {
    whole(Timestamp::now())
}

/// A time in whole seconds.
pub(crate) fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_distances() {
        let now: Timestamp = "2026-11-20T08:00:00Z".parse().unwrap();
        for (text, at) in [
            ("2026-11-20T03:00:00Z", "2026-11-20T03:00:00Z"),
            ("2026-11-20T03:00:00+01:00", "2026-11-20T02:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("+7d", "2026-11-27T08:00:00Z"),
            ("-36h", "2026-11-18T20:00:00Z"),
        ] {
            let read = When::read(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(read.from(now).unwrap().to_string(), at, "{text}");
        }
        for text in ["", "tomorrow", "+7", "7d", "2026-11-20T03:00:00", "20261120", "+-7d"] {
            assert!(When::read(text).is_err(), "{text}");
        }
        assert!(instant("+7d").is_err());
    }
}
