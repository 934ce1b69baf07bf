//! `snapkeep report`: what a month promised, and what was kept: the auditor's page.

use std::path::PathBuf;
use std::process::ExitCode;

use futures_util::{StreamExt, stream};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use snapkeep_app::ports::Ledger;
use snapkeep_domain::audit::{Audit, Stored, Subject, available_at, gone_at, stored};
use snapkeep_domain::forecast::Act;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Standing;
use snapkeep_domain::ledger::record::{Change, Record, State};
use snapkeep_domain::policy::tags::OptIn;
use snapkeep_domain::prune::Seen;
use snapkeep_domain::time::Slot;

use crate::output::{self, say};
use crate::pictures::{self, Span};
use crate::plan;
use crate::simulate::DOLLARS_A_GB;
use crate::when::whole;
use crate::who::{Bearer, Who};
use crate::world::{Reading, View, World};
use crate::{BoxError, CommandResult};

/// How many resources' records are read at once.
const AT_ONCE: usize = 8;

/// Says what a month promised and what was kept: slots, worst ages, deletions with reasons,
/// unprotected instances, and the cost.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// The month in UTC, such as 2026-10; the running one up to now without it.
    #[arg(long, value_parser = month)]
    month: Option<Date>,
    /// Write the report with pictures into this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one line for each instance, with commas.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Reads exactly `YYYY-MM`.
fn month(text: &str) -> Result<Date, String> {
    let date = format!("{text}-01").parse::<Date>().ok();
    date.filter(|date| date.strftime("%Y-%m").to_string() == text)
        .ok_or_else(|| "expected a month such as 2026-10".to_owned())
}

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) month: String,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) ok: bool,
    pub(crate) instances: Vec<Line>,
    deletions: Vec<Deletion>,
    unprotected: Vec<Who>,
    pub(crate) cost: Cost,
}

/// What was promised of an instance, and what was kept.
#[derive(Serialize)]
pub(crate) struct Line {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) promised: usize,
    pub(crate) served: usize,
    missed: usize,
    /// How many of the missed ones have a snapshot in the making.
    pending: usize,
    missed_slots: Vec<Slot>,
    worst_age_seconds: Option<i64>,
}

#[derive(Clone, Serialize)]
struct Deletion {
    #[serde(flatten)]
    who: Who,
    snapshot: String,
    slot: Slot,
    at: Timestamp,
    function: Option<Function>,
    reasons: Vec<String>,
    size_gb: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct Cost {
    size_gb_max: u64,
    cost_usd: f64,
}

/// The time of the report.
#[derive(Clone, Copy)]
pub(crate) struct Month {
    pub(crate) from: Timestamp,
    /// The first instant after the month.
    pub(crate) to: Timestamp,
}

/// A snapshot in the time of the report.
pub(crate) struct Life {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) slot: Slot,
    /// Why it went.
    pub(crate) reasons: Vec<String>,
    pub(crate) gone_at: Option<Timestamp>,
    pub(crate) stored: Stored,
}

/// What the ledger knows of one resource.
pub(crate) struct Past {
    pub(crate) who: Who,
    audit: Audit,
    pub(crate) lives: Vec<Life>,
    deletions: Vec<Deletion>,
}

impl Past {
    /// How many slots were promised.
    pub(crate) fn promised(&self) -> usize {
        self.audit.promised
    }

    /// How many of them were served.
    pub(crate) fn served(&self) -> usize {
        self.audit.promised - self.audit.missed.len()
    }

    /// The greatest age of the newest available snapshot.
    pub(crate) fn worst_age(&self) -> Option<SignedDuration> {
        self.audit.worst_age
    }
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let today = world.now.to_zoned(TimeZone::UTC).date();
    let first = arguments.month.unwrap_or(today.first_of_month());
    if first > today {
        return Err(format!("--month {}: it has not begun", first.strftime("%Y-%m")).into());
    }
    let month = Month { from: instant(first)?, to: instant(first.last_of_month().tomorrow()?)? };
    let views = world.views();
    let pasts = pasts(&world, &views, month).await?;
    let report = report(&world, &views, &pasts, first, month);
    if let Some(file) = &arguments.html {
        let title = format!("Report for {}", report.month);
        let findings = world.findings(&views).await?;
        let span = Span::Between(month.from, report.to);
        pictures::write(file, &title, &world, &views, &findings, &pasts, span)?;
    }
    if arguments.json {
        output::json(&report)?;
    } else if arguments.csv {
        print_csv(&report);
    } else {
        print(&report);
    }
    let short = world.leaves_out();
    Ok(if report.ok && !short { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn instant(date: Date) -> Result<Timestamp, BoxError> {
    Ok(date.to_zoned(TimeZone::UTC)?.timestamp())
}

/// What became of everything that the ledger knows.
pub(crate) async fn pasts(
    world: &World,
    views: &[View<'_>],
    month: Month,
) -> Result<Vec<Past>, BoxError> {
    let mut all: Vec<Past> = Vec::new();
    let read = |bearer: Bearer| async move {
        let records = world.deployment.ledger.recent(&bearer.id, Slot::at(Timestamp::MIN)).await;
        (bearer, records)
    };
    let mut answers = stream::iter(world.bearers()).map(read).buffer_unordered(AT_ONCE);
    let bar = output::progress("reading the ledger");
    while let Some((bearer, records)) = answers.next().await {
        bar.inc(1);
        let view = views.iter().find(|view| view.id == bearer.id);
        all.push(past(world, &bearer, view, &records?.records, month));
    }
    bar.finish_and_clear();
    all.sort_by(|a, b| {
        let of =
            |one: &Past| (one.who.place.clone(), one.who.name.clone(), one.who.resource.clone());
        of(a).cmp(&of(b))
    });
    Ok(all)
}

fn past(
    world: &World,
    bearer: &Bearer,
    view: Option<&View<'_>>,
    records: &[Record],
    month: Month,
) -> Past {
    let remembered = world.survey.memory.protected.iter().find(|item| item.resource == bearer.id);
    let living = view.and_then(|view| view.living.as_ref());
    let schedule = match living {
        Some((_, one)) => Some((one.policy.schedule, one.policy.zone.clone())),
        None => remembered.and_then(|item| item.policy.schedule()),
    };
    let is_on = match living {
        Some((_, protection)) => protection.opt_in == OptIn::On,
        // Of what could not be read, the ledger tells.
        None => view.is_none() && remembered.is_some_and(|item| item.standing == Standing::On),
    };
    let subject = Subject {
        from: month.from,
        to: month.to,
        now: world.now,
        schedule,
        since: remembered.and_then(|item| item.since),
        is_on,
        pending_timeout: world.settings.pending_timeout,
    };
    let audit = subject.audit(records);
    let seen =
        |record: &Record| -> Option<&Seen> { view?.seen.get(record.snapshot_key()).copied() };
    let of_instance = living.and_then(|(instance, _)| instance.size_gb);
    let size = |record: &Record| {
        let marked = || record.mark.as_ref().and_then(|mark| mark.size_gb);
        seen(record).map(|seen| seen.size_gb).or_else(marked).or(of_instance)
    };
    let deletions = records
        .iter()
        .filter_map(|record| deletion(bearer, record, size(record)))
        .filter(|one| (month.from..month.to).contains(&one.at))
        .collect();
    let lives = lives(world, bearer, view, records, month, size);
    Past { who: bearer.who.clone(), audit, lives, deletions }
}

/// The snapshots that existed in the month.
fn lives(
    world: &World,
    bearer: &Bearer,
    view: Option<&View<'_>>,
    records: &[Record],
    month: Month,
    size: impl Fn(&Record) -> Option<u32>,
) -> Vec<Life> {
    let life = |record: &Record| {
        let asked = record.times.get(State::Requested);
        let from = available_at(record)?;
        let from = asked.map_or(from, |asked| asked.min(from));
        let gone_at = gone_at(record);
        let size_gb = size(record).unwrap_or_default();
        let reasons = match deletion(bearer, record, None) {
            Some(deletion) => deletion.reasons,
            None => Vec::new(),
        };
        Some(Life {
            key: record.snapshot_key().to_owned(),
            name: record.name.clone(),
            slot: record.slot,
            reasons,
            gone_at,
            stored: Stored { from, to: gone_at.unwrap_or(world.now), size_gb },
        })
    };
    let there = |life: &Life| life.stored.from < month.to && life.stored.to > month.from;
    let mut lives: Vec<Life> = records.iter().filter_map(life).collect();
    // What failed or has no record is stored, too.
    for (key, seen) in view.map(|view| &view.seen).into_iter().flatten() {
        if lives.iter().all(|life| life.key != *key) {
            lives.push(Life {
                key: (*key).to_owned(),
                name: seen.name(key).to_owned(),
                slot: seen.slot,
                reasons: Vec::new(),
                gone_at: None,
                stored: Stored { from: seen.created_at, to: world.now, size_gb: seen.size_gb },
            });
        }
    }
    lives.retain(there);
    lives
}

/// The deletion of a record's snapshot, if it is gone.
fn deletion(bearer: &Bearer, record: &Record, size_gb: Option<u32>) -> Option<Deletion> {
    // A failed attempt without a residue is gone, too, but was never there.
    if record.state != State::Deleted {
        return None;
    }
    let vanished = record.reason.starts_with("vanished");
    let asked = |change: &&Change| change.to == State::Deleting;
    let asked = record.history.past.iter().rfind(asked);
    let at = match vanished {
        true => record.times.get(State::Deleted)?,
        false => gone_at(record)?,
    };
    Some(Deletion {
        who: Who { name: record.resource_name.clone(), ..bearer.who.clone() },
        snapshot: record.name.clone(),
        slot: record.slot,
        at: whole(at),
        function: match (vanished, asked) {
            (true, _) => None,
            (false, Some(change)) => change.function,
            (false, None) => Some(Function::Prune),
        },
        reasons: match vanished {
            true => vec!["vanished".to_owned()],
            false => plan::reasons(Act::Delete, &record.reason),
        },
        size_gb,
    })
}

fn report(world: &World, views: &[View<'_>], pasts: &[Past], first: Date, month: Month) -> Report {
    let to = month.to.min(world.now);
    let lines = pasts.iter().filter_map(|past| {
        let Past { who, audit, .. } = past;
        let view = views.iter().find(|view| view.who.resource == who.resource);
        // What never was promised anything is no line.
        let is_on = view.is_some_and(View::is_on) && month.to > world.now;
        if audit.promised == 0 && !is_on {
            return None;
        }
        let missed = audit.missed.len();
        Some(Line {
            who: who.clone(),
            promised: audit.promised,
            served: audit.promised - missed,
            missed,
            pending: audit.pending,
            missed_slots: audit.missed.clone(),
            worst_age_seconds: audit.worst_age.map(|age| age.as_secs()),
        })
    });
    let instances: Vec<Line> = lines.collect();
    let lives: Vec<Stored> =
        pasts.iter().flat_map(|past| &past.lives).map(|life| life.stored).collect();
    let (size_gb_max, gb_seconds) = stored(&lives, month.from, to);
    let length = (month.to.as_second() - month.from.as_second()).max(1);
    let dollars = gb_seconds as f64 / length as f64 * DOLLARS_A_GB;
    let mut deletions: Vec<Deletion> =
        pasts.iter().flat_map(|past| past.deletions.clone()).collect();
    deletions.sort_by(|a, b| (a.at, &a.snapshot).cmp(&(b.at, &b.snapshot)));
    let unprotected = views.iter().filter(|view| {
        view.living.as_ref().is_some_and(|(instance, protection)| {
            let was_there = instance.created_at.is_none_or(|at| at < month.to);
            protection.opt_in == OptIn::Untagged && was_there
        })
    });
    Report {
        month: first.strftime("%Y-%m").to_string(),
        from: month.from,
        to,
        ok: instances.iter().all(|line| line.missed == 0),
        instances,
        deletions,
        unprotected: unprotected.map(|view| view.who.clone()).collect(),
        cost: Cost { size_gb_max, cost_usd: (dollars * 100.0).round() / 100.0 },
    }
}

fn print_csv(report: &Report) {
    say!("resource,name,place,promised,served,missed,worst_age_seconds");
    for line in &report.instances {
        let Line { who: Who { resource, name, place, .. }, promised, served, missed, .. } = line;
        let age = line.worst_age_seconds.map(|age| age.to_string()).unwrap_or_default();
        let [resource, name, place] = [resource, name, place].map(|text| quoted(text));
        say!("{resource},{name},{place},{promised},{served},{missed},{age}");
    }
}

/// A value of a CSV file.
fn quoted(text: &str) -> String {
    // A spreadsheet would take these for a formula.
    let text = match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

fn print(report: &Report) {
    let Report { month, from, to, instances, deletions, unprotected, cost, .. } = report;
    output::wrapped(&format!("Report for {month}, from {from} to {to}"), "  ");
    say!("");
    if instances.is_empty() {
        say!("No snapshot was promised.");
    } else {
        let headers = ["instance", "place", "promised", "served", "missed", "worst age"];
        let row = |line: &Line| {
            let age = line.worst_age_seconds.map(output::span);
            [
                line.who.name.clone(),
                line.who.place.clone(),
                line.promised.to_string(),
                line.served.to_string(),
                line.missed.to_string(),
                age.unwrap_or_else(|| "–".to_owned()),
            ]
        };
        output::table(headers, instances.iter().map(row).collect(), &[2, 3, 4]);
    }
    for line in instances.iter().filter(|line| line.missed > 0) {
        let slots: Vec<String> = line.missed_slots.iter().map(ToString::to_string).collect();
        output::wrapped(&format!("{} missed: {}", line.who.name, slots.join(" ")), "  ");
    }
    say!("");
    say!("Deleted: {}", deletions.len());
    for one in deletions {
        let by = one.function.map_or("somebody else", Function::as_str);
        let text = format!("  {}  {} by {by}: {}", one.at, one.snapshot, one.reasons.join(", "));
        output::wrapped(&text, "    ");
    }
    if !unprotected.is_empty() {
        let names: Vec<String> =
            unprotected.iter().map(|one| format!("{} ({})", one.name, one.place)).collect();
        output::wrapped(&format!("Nothing protects: {}", names.join(", ")), "  ");
    }
    let Cost { size_gb_max, cost_usd } = cost;
    let text =
        format!("Stored: {size_gb_max} GB at most at one time; at most {cost_usd:.2} dollars");
    output::wrapped(&text, "  ");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_written_in_one_way() {
        assert_eq!(month("2026-10").unwrap().to_string(), "2026-10-01");
        for text in ["2026-13", "2026-1", "October", "2026-10-01", ""] {
            assert!(month(text).is_err(), "{text}");
        }
    }

    #[test]
    fn values_with_commas_are_quoted_and_none_is_a_formula() {
        for (text, csv) in [
            ("web", "web"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=1+1", "'=1+1"),
        ] {
            assert_eq!(quoted(text), csv);
        }
    }
}
