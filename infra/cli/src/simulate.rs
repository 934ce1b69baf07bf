//! `snapkeep simulate`: what would exist at each midnight under a schedule and a retention, by the
//! functions' own planners. Offline.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::Serialize;
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::forecast::{Act, Action, Forecast};
use snapkeep_domain::function::Function;
use snapkeep_domain::policy::keep::{Keep, KeptBy, MinKeep};
use snapkeep_domain::policy::schedule::{OddTime, Schedule};
use snapkeep_domain::policy::settings::{BadSettings, Settings};
use snapkeep_domain::policy::{Policy, Retention};
use snapkeep_domain::prune::{Facts, Guard, Verdict};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::Instance;
use snapkeep_domain::time::{Slot, Zone, parse_duration};

use crate::output::{self, say};
use crate::when::{self, When};
use crate::{BoxError, CommandResult};

/// The price of a gigabyte for a month, in dollars. It is the most, because the provider bills
/// increments.
pub(crate) const DOLLARS_A_GB: f64 = 0.05;

/// Shows what a policy would keep at each midnight, with gigabytes and dollars, and the nights on
/// which clocks change.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The retention, such as "daily=7 weekly=4 monthly=12", or "all"; SNAPKEEP_KEEP without it.
    #[arg(long, value_parser = |text: &str| text.parse::<Keep>())]
    keep: Option<Keep>,
    /// The schedule: hourly, every-6h, daily@03:00, weekly@sun-03:00 or monthly@1-03:00; SNAPKEEP_SCHEDULE
    /// or daily@03:00 without it.
    #[arg(long, value_parser = |text: &str| text.parse::<Schedule>())]
    schedule: Option<Schedule>,
    /// The zone of its civil times; SNAPKEEP_TIMEZONE or UTC without it.
    #[arg(long, value_parser = |text: &str| text.parse::<Zone>())]
    timezone: Option<Zone>,
    /// The time from mark to deletion, such as 3d or 12h; SNAPKEEP_GRACE or 3d without it.
    #[arg(long, value_parser = parse_duration)]
    grace: Option<SignedDuration>,
    /// What remains in any case: a number, or rules like those of --keep; SNAPKEEP_MIN_KEEP or 1
    /// without it.
    #[arg(long, value_parser = |text: &str| text.parse::<MinKeep>())]
    min_keep: Option<MinKeep>,
    /// When it begins: a time or a date; now without it.
    #[arg(long, value_parser = when::instant)]
    now: Option<Timestamp>,
    /// For how many years.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100), conflicts_with = "until")]
    years: u16,
    /// Until when: a time, a date, or a distance such as +90d.
    #[arg(long, allow_hyphen_values = true, value_parser = When::read)]
    until: Option<When>,
    /// The size of one snapshot in GB.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    gb: u32,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// The settings of a function that has what the arguments say; the environment says the rest.
fn settings(arguments: &Arguments) -> Result<Settings, BoxError> {
    let given = [
        ("SNAPKEEP_KEEP", arguments.keep.as_ref().map(ToString::to_string)),
        ("SNAPKEEP_SCHEDULE", arguments.schedule.as_ref().map(ToString::to_string)),
        ("SNAPKEEP_TIMEZONE", arguments.timezone.as_ref().map(|zone| zone.name().to_owned())),
        ("SNAPKEEP_GRACE", None),
        ("SNAPKEEP_MIN_KEEP", None),
    ];
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    for (key, given) in given {
        let set = || std::env::var(key).ok();
        if let Some(value) = given.or_else(set) {
            vars.insert(key.to_owned(), value);
        }
    }
    // There is no ledger; a function has one.
    vars.insert("SNAPKEEP_LEDGER_TABLE".to_owned(), "none".to_owned());
    let read = Settings::read(&vars, Function::Prune);
    // Only the variables are at fault, and they have names.
    let mut settings = read.map_err(|BadSettings(bad)| {
        let all: Vec<String> = bad.into_iter().map(|problem| problem.message).collect();
        all.join("; ")
    })?;
    if settings.policies.default.retention == Retention::Unset {
        return Err(
            "--keep is missing, and SNAPKEEP_KEEP is not set: say what to keep, for example \
                    --keep \"daily=7 weekly=4\", or --keep all"
                .into(),
        );
    }
    settings.grace = arguments.grace.unwrap_or(settings.grace);
    settings.min_keep = arguments.min_keep.clone().unwrap_or(settings.min_keep);
    Ok(settings)
}

#[derive(Serialize)]
struct Simulation {
    start: Timestamp,
    end: Timestamp,
    schedule: String,
    keep: String,
    timezone: String,
    grace_seconds: i64,
    points: Vec<Point>,
    #[serde(rename = "final")]
    last: Vec<Left>,
    dst: Vec<OddSlot>,
    taken: usize,
    deleted: usize,
}

/// What exists just before a midnight.
#[derive(Clone, Serialize)]
struct Point {
    at: Timestamp,
    kept: usize,
    marked: usize,
    size_gb: u64,
    cost_usd_month: f64,
}

/// A snapshot that exists at the end.
#[derive(Serialize)]
struct Left {
    slot: String,
    state: &'static str,
    reasons: Vec<String>,
}

/// A slot whose civil time the zone's clocks skip or repeat.
#[derive(Serialize)]
struct OddSlot {
    slot: String,
    civil: String,
    kind: &'static str,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let settings = settings(arguments)?;
    let zone = &settings.policies.default.zone;
    let start = arguments.now.unwrap_or_else(when::now);
    let end = match arguments.until {
        Some(until) => until.from(start)?,
        None => {
            let begins = start.to_zoned(zone.rules().clone());
            begins.checked_add(i64::from(arguments.years).years())?.timestamp()
        }
    };
    if end <= start {
        return Err(format!("--until: {end} is not after the start, {start}").into());
    }
    let simulation = simulate(&settings, arguments.gb, start, end)?;
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&simulation)?);
    } else {
        print(&simulation, zone);
    }
    Ok(ExitCode::SUCCESS)
}

fn simulate(
    settings: &Settings,
    gb: u32,
    start: Timestamp,
    end: Timestamp,
) -> Result<Simulation, BoxError> {
    let Policy { schedule, zone: timezone, retention, .. } = &settings.policies.default;
    let (id, place) = (ResourceId("simulated".to_owned()), "simulated-1".parse()?);
    let mut facts = Facts::of(place);
    let place = facts.place.clone();
    let tags = [(settings.tag.clone(), String::new())].into();
    let name = "simulated".to_owned();
    let instance = Instance {
        id: id.clone(),
        name,
        place,
        tags,
        disk: None,
        unready: None,
        size_gb: None,
        created_at: None,
    };
    facts.instances.insert(id.clone(), instance);
    let mut forecast = Forecast::of(id, facts, gb, settings, Capabilities::default());
    let latest = schedule.latest(timezone, start).timestamp();
    let first = if latest == start { start } else { schedule.next(timezone, start).timestamp() };
    let before_end = end - SignedDuration::from_secs(1);
    let actions = if first < end { forecast.until(first, before_end) } else { Vec::new() };
    let count = |act| actions.iter().filter(|action| action.act == act).count();
    let days = (civil(start, timezone), civil(end, timezone));
    let odd = schedule.odd_slots(timezone, days);
    let odd = odd.filter(|(slot, ..)| (start..end).contains(&slot.timestamp()));
    Ok(Simulation {
        start,
        end,
        schedule: schedule.to_string(),
        keep: retention.keep().to_string(),
        timezone: timezone.name().to_owned(),
        grace_seconds: settings.grace.as_secs(),
        points: points(&actions, days, timezone, (start, end)),
        dst: odd
            .map(|(slot, civil, kind)| OddSlot {
                slot: slot.to_string(),
                civil: civil.strftime("%Y-%m-%dT%H:%M").to_string(),
                kind: match kind {
                    OddTime::Skipped => "skipped",
                    OddTime::Repeated => "repeated",
                },
            })
            .collect(),
        taken: count(Act::Take),
        deleted: count(Act::Delete),
        last: left(&mut forecast, before_end),
    })
}

fn civil(at: Timestamp, zone: &Zone) -> Date {
    at.to_zoned(zone.rules().clone()).date()
}

/// What exists just before each midnight after the start, up to the end.
fn points(
    actions: &[Action],
    (first, last): (Date, Date),
    zone: &Zone,
    (start, end): (Timestamp, Timestamp),
) -> Vec<Point> {
    let mut there: BTreeMap<Slot, (bool, u32)> = BTreeMap::new();
    let mut actions = actions.iter().peekable();
    let midnights = first.series(1.day()).take_while(|day| *day <= last);
    let midnights =
        midnights.filter_map(|day| Some(day.to_zoned(zone.rules().clone()).ok()?.timestamp()));
    let midnights = midnights.filter(|at| *at > start && *at <= end);
    midnights
        .map(|at| {
            while let Some(action) = actions.next_if(|action| action.at < at) {
                // Nothing fails here, so that each slot has one snapshot.
                let key = action.record.slot;
                match action.act {
                    Act::Delete => drop(there.remove(&key)),
                    Act::Take | Act::Rescue => drop(there.insert(key, (false, action.size_gb))),
                    Act::Mark => drop(there.insert(key, (true, action.size_gb))),
                }
            }
            let marked = there.values().filter(|(marked, _)| *marked).count();
            let size_gb: u64 = there.values().map(|(_, gb)| u64::from(*gb)).sum();
            let kept = there.len() - marked;
            Point { at, kept, marked, size_gb, cost_usd_month: dollars(size_gb) }
        })
        .collect()
}

/// The most that so many gigabytes cost in a month, to the cent.
pub(crate) fn dollars(size_gb: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 GB")]
    let dollars = size_gb as f64 * DOLLARS_A_GB;
    (dollars * 100.0).round() / 100.0
}

/// The snapshots that exist at the end, the newest first, and why each stays or goes.
fn left(forecast: &mut Forecast<'_>, end: Timestamp) -> Vec<Left> {
    let verdicts = forecast.plan(end).verdicts;
    let mut all: Vec<Left> = verdicts
        .into_iter()
        .map(|judged| {
            let record = forecast.record(&judged.name);
            let reasons = match judged.verdict {
                Verdict::Kept(rules) => rules.iter().map(KeptBy::to_string).collect(),
                Verdict::Guarded(Guard::Floor) => vec![KeptBy::Minimum.to_string()],
                Verdict::Guarded(guard) => vec![guard.to_string()],
                _ => vec!["no rule keeps it".to_owned()],
            };
            let state = record.map_or("available", |record| record.state.as_str());
            Left { slot: judged.slot.to_string(), state, reasons }
        })
        .collect();
    all.sort_by(|a, b| b.slot.cmp(&a.slot));
    all
}

fn print(simulation: &Simulation, zone: &Zone) {
    let Simulation { start, end, schedule, keep, timezone, taken, deleted, .. } = simulation;
    output::wrapped(
        &format!("Under `{schedule}` in {timezone} and `{keep}`, from {start} to {end}:"),
        "",
    );
    output::wrapped(
        &format!("{taken} snapshots are taken and {deleted} deleted. This exists at midnight:"),
        "",
    );
    say!("");
    let row = |point: &Point| {
        let Point { at, kept, marked, size_gb, cost_usd_month } = point;
        let day = civil(*at, zone).to_string();
        [
            day,
            kept.to_string(),
            marked.to_string(),
            size_gb.to_string(),
            format!("{cost_usd_month:.2}"),
        ]
    };
    let rows = shown(&simulation.points, zone).map(row).collect();
    output::table(["midnight", "kept", "marked", "GB", "$ a month, at most"], rows, &[1, 2, 3, 4]);
    say!("");
    output::wrapped("At the end there are:", "");
    for Left { slot, state, reasons } in &simulation.last {
        output::wrapped(&format!("  {slot}  {state:<9}  {}", reasons.join(", ")), "      ");
    }
    if !simulation.dst.is_empty() {
        say!("");
        output::wrapped("Clocks change on these nights:", "");
    }
    for OddSlot { slot, civil, kind } in &simulation.dst {
        output::wrapped(&format!("  {civil} is {kind}: the slot is {slot}"), "      ");
    }
}

/// The points that a person reads: each of them for a fortnight, then the first of each month.
fn shown<'a>(points: &'a [Point], zone: &'a Zone) -> impl Iterator<Item = &'a Point> {
    let last = points.len().saturating_sub(1);
    let all = points.iter().enumerate();
    let all =
        all.filter(move |(at, point)| *at < 14 || *at == last || civil(point.at, zone).day() == 1);
    all.map(|(_, point)| point)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(keep: &str, schedule: &str, zone: &str, days: i64) -> Simulation {
        let arguments = Arguments {
            keep: Some(keep.parse().unwrap()),
            schedule: Some(schedule.parse().unwrap()),
            timezone: Some(zone.parse().unwrap()),
            grace: Some(SignedDuration::from_hours(72)),
            min_keep: Some(MinKeep::Count(1)),
            now: None,
            years: 1,
            until: None,
            gb: 20,
            json: false,
        };
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end = start + SignedDuration::from_hours(24 * days);
        simulate(&settings(&arguments).unwrap(), 20, start, end).unwrap()
    }

    #[test]
    fn a_year_of_daily_snapshots() {
        let year = simulated("daily=7", "daily@02:30", "Europe/Berlin", 365);
        // Seven are kept at the end, and three wait for the end of their grace.
        assert_eq!((year.taken, year.deleted, year.last.len()), (365, 355, 10));
        let first = serde_json::to_string(&year.points[0]).unwrap();
        assert_eq!(
            first,
            r#"{"at":"2026-01-01T23:00:00Z","kept":1,"marked":0,"size_gb":20,"cost_usd_month":1.0}"#
        );
        assert!(year.points[30..].iter().all(|point| (point.kept, point.marked) == (7, 3)));
        assert_eq!(year.last[0].slot, "2026-12-31T01:30:00Z");
        assert_eq!((year.last[0].state, year.last[9].state), ("available", "expiring"));
        assert_eq!(year.last[9].reasons, ["no rule keeps it"]);
        let nights: Vec<_> = year.dst.iter().map(|odd| (odd.civil.as_str(), odd.kind)).collect();
        assert_eq!(nights, [("2026-03-29T02:30", "skipped"), ("2026-10-25T02:30", "repeated")]);
    }

    #[test]
    fn it_begins_with_the_first_slot_at_or_after_the_start() {
        let hours = simulated("all", "every-12h", "UTC", 2);
        assert_eq!((hours.taken, hours.deleted), (4, 0));
        assert_eq!(hours.last[3].slot, "2026-01-01T00:00:00Z");
        let later = simulated("all", "daily@03:00", "UTC", 1);
        assert_eq!((later.taken, later.points.len()), (1, 1));
        let none = simulated("all", "monthly@15-03:00", "UTC", 7);
        assert!(none.taken == 0 && none.last.is_empty() && none.points.len() == 7);
    }
}
