//! How the page writes times, durations, numbers and dollars.

use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::Offset;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A time in UTC, without its zone: the page says that once.
pub(super) fn time(at: Timestamp) -> String {
    let civil = Offset::UTC.to_datetime(at);
    let (date, hour, minute) = (civil.date(), civil.hour(), civil.minute());
    format!("{date} {hour:02}:{minute:02}")
}

/// A duration in words, in its two largest units.
pub(super) fn duration(seconds: i64) -> String {
    // A clock that is ahead makes ages negative.
    let seconds = seconds.max(0);
    let (days, hours) = (seconds / DAY, seconds % DAY / HOUR);
    let (minutes, rest) = (seconds % HOUR / MINUTE, seconds % MINUTE);
    let parts = [(days, "day"), (hours, "hour"), (minutes, "minute"), (rest, "second")];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(parts.len() - 1);
    // Nobody needs the hours of a year or the seconds of an hour.
    let most = if days >= 10 || (first == 2 && minutes >= 10) { 1 } else { 2 };
    let words = parts.iter().skip(first).take(most).filter(|(n, _)| *n > 0 || first == 3);
    let words: Vec<String> = words
        .map(|(n, unit)| {
            let plural = if *n == 1 { "" } else { "s" };
            format!("{} {unit}{plural}", number(n))
        })
        .collect();
    words.join(" ")
}

/// How far a time is from now: "in 3 hours", "5 minutes ago".
pub(super) fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second() - now.as_second();
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {}", duration(seconds)),
        _ => format!("{} ago", duration(-seconds)),
    }
}

/// A whole number with commas.
pub(super) fn number(n: impl Display) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number with its noun.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// An amount of dollars, with cents.
pub(super) fn dollars(amount: f64) -> String {
    let text = format!("{:.2}", amount.max(0.0));
    match text.split_once('.') {
        Some((whole, cents)) => format!("${}.{cents}", number(whole)),
        None => format!("${text}"),
    }
}

/// A place on a horizontal axis, in percent of its width.
pub(super) fn percent(fraction: f64) -> String {
    let text = format!("{:.2}", fraction * 100.0);
    let short = text.trim_end_matches('0').trim_end_matches('.');
    format!("{short}%")
}
