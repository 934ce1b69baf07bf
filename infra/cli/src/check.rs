//! `snapkeep check`: one line for Nagios and cron, and metrics for node_exporter's textfile collector.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use snapkeep_domain::finding::Severity;

use crate::CommandResult;
use crate::files;
use crate::findings::Shown;
use crate::output::say;
use crate::status::{Status, read};
use crate::world::Reading;

/// The line names this many instances at most.
const NAMES_MAX: usize = 3;
/// The exit status when nothing is known.
pub(crate) const UNKNOWN: u8 = 3;

/// Prints one line and ends with 0, 1, 2 or 3, as Nagios wants it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Write metrics to this file, for node_exporter's textfile collector.
    #[arg(long)]
    prometheus: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let checked = match read(&arguments.reading).await {
        Ok((status, findings)) => Ok(judge(&status, &findings)),
        Err(error) => Err(error.to_string()),
    };
    let (code, line, metrics) = match checked {
        Ok(Checked { code, line, metrics }) => (code, line, metrics),
        Err(why) => (UNKNOWN, unknown(&why), metric_of_status(UNKNOWN)),
    };
    if let Some(file) = &arguments.prometheus
        && let Err(error) = files::replace(file, &metrics)
    {
        say!("{}", unknown(&format!("cannot write {}: {error}", file.display())));
        return Ok(ExitCode::from(UNKNOWN));
    }
    say!("{line}");
    Ok(ExitCode::from(code))
}

/// The line when nothing is known.
pub(crate) fn unknown(why: &str) -> String {
    format!("SNAPKEEP UNKNOWN - {}", one_line(why))
}

/// A text in one line, without the character that begins the performance data.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

struct Checked {
    code: u8,
    line: String,
    metrics: String,
}

fn judge(status: &Status, findings: &[Shown]) -> Checked {
    let of = |severity| findings.iter().filter(move |one| one.severity == severity);
    let (errors, warnings) = (of(Severity::Error).count(), of(Severity::Warning).count());
    let (code, word) = match (errors, warnings) {
        (0, 0) => (0, "OK"),
        (0, _) => (1, "WARNING"),
        _ => (2, "CRITICAL"),
    };
    let totals = &status.totals;
    let text = match code {
        0 => format!("{} protected, all in order", totals.protected),
        _ => wrong(errors, warnings, of(Severity::Error).chain(of(Severity::Warning))),
    };
    let worst = status.instances.iter().filter(|one| one.state == "protected");
    let worst = worst.filter_map(|one| one.age_seconds).max().unwrap_or(0);
    let data = format!(
        "protected={} unprotected={} overdue={} marked={} held={} snapshots={} size={}GB worst_age={worst}s;;",
        totals.protected,
        totals.unprotected,
        totals.overdue,
        totals.marked,
        totals.held,
        totals.snapshots,
        totals.size_gb
    );
    let line = format!("SNAPKEEP {word} - {} | {data}", one_line(&text));
    Checked { code, line, metrics: metrics(status, code) }
}

/// What is wrong, and with what.
fn wrong<'a>(errors: usize, warnings: usize, all: impl Iterator<Item = &'a Shown>) -> String {
    let mut named: Vec<((&str, &str), Vec<&str>)> = Vec::new();
    for one in all {
        let text = |member: &str| one.json[member].as_str().unwrap_or_default();
        let who = ["name", "snapshot", "key", "place"].map(text);
        let who = who.into_iter().find(|who| !who.is_empty()).unwrap_or("the deployment");
        let (who, code) = ((who, text("place")), text("code"));
        match named.iter_mut().find(|(known, _)| *known == who) {
            Some((_, codes)) if codes.contains(&code) => {}
            Some((_, codes)) => codes.push(code),
            None => named.push((who, vec![code])),
        }
    }
    // A name that two places have says which one.
    let shown = |(name, place): (&str, &str)| {
        let several = named.iter().any(|((other, at), _)| *other == name && *at != place);
        if several && !place.is_empty() { format!("{name} in {place}") } else { name.to_owned() }
    };
    let more = match named.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = named.iter().take(NAMES_MAX);
    let named: Vec<String> =
        named.map(|(who, codes)| format!("{} ({})", shown(*who), codes.join(", "))).collect();
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let counts = [(errors, "error"), (warnings, "warning")];
    let counts = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(*n, what));
    format!("{}: {}{more}", counts.collect::<Vec<_>>().join(", "), named.join(", "))
}

fn metric_of_status(code: u8) -> String {
    format!(
        "# HELP snapkeep_check_status What the check says: 0 well, 1 warning, 2 critical, 3 unknown.\n\
         # TYPE snapkeep_check_status gauge\nsnapkeep_check_status {code}\n"
    )
}

/// The metrics in Prometheus's text format.
fn metrics(status: &Status, code: u8) -> String {
    let mut text = metric_of_status(code);
    let mut metric = |name: &str, help: &str, samples: Vec<(String, i64)>| {
        // Writing into a text does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    let of = |value: &dyn Fn(&crate::status::Row) -> Option<i64>| -> Vec<(String, i64)> {
        let all = status.instances.iter();
        all.filter_map(|one| Some((one.labels(), value(one)?))).collect()
    };
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    metric(
        "snapkeep_newest_available_timestamp_seconds",
        "The slot of the newest available snapshot.",
        of(&|one| one.newest_available.map(jiff::Timestamp::as_second)),
    );
    metric(
        "snapkeep_promise_seconds",
        "How old the newest available snapshot may be.",
        of(&|one| one.promise_seconds),
    );
    metric(
        "snapkeep_overdue",
        "Whether the newest available snapshot is older than promised.",
        of(&|one| one.overdue.map(i64::from)),
    );
    let states: Vec<(String, i64)> = status
        .instances
        .iter()
        .flat_map(|one| {
            let all = [("kept", one.kept), ("marked", one.marked), ("held", one.held)];
            all.map(|(state, n)| (format!("{},state=\"{state}\"", one.labels()), count(n)))
        })
        .collect();
    metric("snapkeep_snapshots", "Available snapshots by what becomes of them.", states);
    metric(
        "snapkeep_size_gigabytes",
        "The size of all snapshots.",
        of(&|one| i64::try_from(one.size_gb).ok()),
    );
    let runs = status.functions.iter().map(|run| {
        let labels = [("function", run.function), ("place", &run.place)];
        (crate::status::labels(&labels), run.last_run.as_second())
    });
    metric(
        "snapkeep_function_last_run_timestamp_seconds",
        "When the last run of a function began.",
        runs.collect(),
    );
    text
}
