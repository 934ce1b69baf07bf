//! The time axis: where a time is, and which times are named.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const MONTH: i64 = 30 * DAY;

/// How many names fit.
const MOST_NAMES: i64 = 13;
/// How many lines do not disturb.
const MOST_LINES: i64 = 64;

/// A span of time that is drawn from left to right.
pub(super) struct Axis {
    from: i64,
    to: i64,
    now: i64,
}

/// The distance between named times.
#[derive(Clone, Copy)]
enum Step {
    Hours(i64),
    Days(i64),
    Months(i64),
}

/// The steps, and the lines between them, which have no names.
const STEPS: [(Step, Step); 16] = [
    (Step::Hours(1), Step::Hours(1)),
    (Step::Hours(3), Step::Hours(1)),
    (Step::Hours(6), Step::Hours(1)),
    (Step::Hours(12), Step::Hours(3)),
    (Step::Days(1), Step::Hours(6)),
    (Step::Days(2), Step::Days(1)),
    (Step::Days(7), Step::Days(1)),
    (Step::Days(14), Step::Days(7)),
    (Step::Months(1), Step::Days(7)),
    (Step::Months(3), Step::Months(1)),
    (Step::Months(6), Step::Months(1)),
    (Step::Months(12), Step::Months(3)),
    (Step::Months(24), Step::Months(12)),
    (Step::Months(120), Step::Months(12)),
    (Step::Months(1200), Step::Months(120)),
    (Step::Months(12_000), Step::Months(1200)),
];

/// A named time.
pub(super) struct Tick {
    /// Where it is, from 0 to 1.
    pub(super) x: f64,
    /// Its name, such as "3 Nov".
    pub(super) name: String,
    /// What the name leaves out, where that changes: the year, or the day of an hour.
    pub(super) context: Option<String>,
}

impl Axis {
    pub(super) fn new(from: Timestamp, to: Timestamp, now: Timestamp) -> Self {
        let (from, to, now) = (from.as_second(), to.as_second(), now.as_second());
        // An axis without a length gets a day, so that what is on it has a place.
        let (from, to) = if to > from { (from, to) } else { (from - DAY / 2, from + DAY / 2) };
        Self { from, to, now }
    }

    fn fraction(&self, second: i64) -> f64 {
        (second - self.from) as f64 / (self.to - self.from) as f64
    }

    /// Where a time is, from 0 to 1, if it is on the axis.
    pub(super) fn place(&self, at: Timestamp) -> Option<f64> {
        let fraction = self.fraction(at.as_second());
        (0.0..=1.0).contains(&fraction).then_some(fraction)
    }

    /// Where a time is, or the edge that is nearer to it.
    pub(super) fn nearest(&self, at: Timestamp) -> f64 {
        self.fraction(at.as_second()).clamp(0.0, 1.0)
    }

    /// Where now is, if it is on the axis.
    pub(super) fn now(&self) -> Option<f64> {
        let fraction = self.fraction(self.now);
        (0.0..=1.0).contains(&fraction).then_some(fraction)
    }

    /// Where the forecast begins: at now, or at the edge that is nearer to it.
    pub(super) fn forecast(&self) -> f64 {
        self.fraction(self.now).clamp(0.0, 1.0)
    }

    /// Whether all of the axis is past.
    pub(super) fn is_over(&self) -> bool {
        self.now > self.to
    }

    pub(super) fn is_past(&self, at: Timestamp) -> bool {
        at.as_second() <= self.now
    }

    pub(super) fn is_before(&self, at: Timestamp) -> bool {
        at.as_second() < self.from
    }

    fn steps(&self) -> (Step, Step) {
        let span = self.to - self.from;
        let fits = |(step, _): &&(Step, Step)| span / step.seconds() < MOST_NAMES;
        *STEPS.iter().find(fits).unwrap_or(&(Step::Months(12_000), Step::Months(1200)))
    }

    /// The named times.
    pub(super) fn ticks(&self) -> Vec<Tick> {
        let (step, _) = self.steps();
        let mut before: Option<String> = None;
        let name = |(second, civil): (i64, DateTime)| {
            let (name, context) = step.name(civil);
            let changed = before.as_ref() != Some(&context);
            before = Some(context.clone());
            let shown = changed && !context.is_empty();
            Tick { x: self.fraction(second), name, context: shown.then_some(context) }
        };
        self.times(step).into_iter().map(name).collect()
    }

    /// The times between the named ones that get a line.
    pub(super) fn lines(&self) -> Vec<f64> {
        let (_, line) = self.steps();
        if (self.to - self.from) / line.seconds() > MOST_LINES {
            return Vec::new();
        }
        self.times(line).into_iter().map(|(second, _)| self.fraction(second)).collect()
    }

    /// The multiples of a step on the axis.
    fn times(&self, step: Step) -> Vec<(i64, DateTime)> {
        let first = step.index(self.from);
        let last = step.index(self.to).saturating_add(1);
        (first..=last)
            .filter_map(|index| step.time(index))
            .filter(|(second, _)| (self.from..=self.to).contains(second))
            .collect()
    }
}

impl Step {
    fn seconds(self) -> i64 {
        match self {
            Self::Hours(n) => n * HOUR,
            Self::Days(n) => n * DAY,
            Self::Months(n) => n * MONTH,
        }
    }

    /// The number of the step in which a time is.
    fn index(self, second: i64) -> i64 {
        match self {
            Self::Hours(n) => second.div_euclid(n * HOUR),
            // Weeks begin on Mondays; the epoch was a Thursday.
            Self::Days(n) => (second.div_euclid(DAY) + 3).div_euclid(n),
            Self::Months(n) => civil(second).map_or(0, |civil| {
                let months = i64::from(civil.year()) * 12 + i64::from(civil.month()) - 1;
                months.div_euclid(n)
            }),
        }
    }

    /// When the step with this number begins.
    fn time(self, index: i64) -> Option<(i64, DateTime)> {
        let second = match self {
            Self::Hours(n) => index * n * HOUR,
            Self::Days(n) => (index * n - 3) * DAY,
            Self::Months(n) => {
                let months = index * n;
                let year = i16::try_from(months.div_euclid(12)).ok()?;
                let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
                let date = Date::new(year, month, 1).ok()?;
                Offset::UTC.to_timestamp(date.into()).ok()?.as_second()
            }
        };
        Some((second, civil(second)?))
    }

    /// The name of a time, and what it leaves out.
    fn name(self, at: DateTime) -> (String, String) {
        let month = month(at.month());
        match self {
            Self::Hours(_) => {
                (format!("{:02}:00", at.hour()), format!("{} {month} {}", at.day(), at.year()))
            }
            Self::Days(_) => (format!("{} {month}", at.day()), at.year().to_string()),
            Self::Months(n) if n < 12 => (month.to_owned(), at.year().to_string()),
            Self::Months(_) => (at.year().to_string(), String::new()),
        }
    }
}

fn civil(second: i64) -> Option<DateTime> {
    Timestamp::from_second(second).ok().map(|at| Offset::UTC.to_datetime(at))
}

fn month(number: i8) -> &'static str {
    let names =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    usize::try_from(number - 1).ok().and_then(|index| names.get(index)).copied().unwrap_or("")
}
