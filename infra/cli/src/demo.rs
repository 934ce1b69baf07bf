//! `snapkeep demo`: 90 days of snapshot life on the embedded cloud, in seconds.
//!
//! The functions are the real ones, in processes of their own, over the real wire; only time is
//! simulated. What goes wrong on the way is in [`script`], what must hold at the end in [`promises`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use snapkeep_aws::dynamodb::schema;
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::embedded::{Cloud, CloudConfig};
use snapkeep_cloud::events::Events;
use snapkeep_cloud::lambda::{Function, Outcome};
use snapkeep_cloud::schedule::{Due, Rule, Schedule};
use tokio::signal::unix::{SignalKind, signal};

use self::script::Cast;
use crate::cloud::{TABLE, add_notices, deploy, environment, event_rules};
use crate::output;
use crate::output::say;
use crate::{BoxError, CommandResult, INTERRUPTED};

mod books;
mod promises;
mod script;
mod table;

/// Lets 90 days pass in seconds, and prints what was created, kept and pruned, and why.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many days pass.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=366))]
    days: u16,
    /// Whose instances are launched.
    #[arg(long, value_enum, default_value_t = Providers::Lightsail)]
    provider: Providers,
    /// Write a picture of how it ends into this file: one HTML page that needs nothing but itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Whose instances take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Providers {
    /// Amazon Lightsail.
    Lightsail,
    /// Tencent Cloud Lighthouse.
    Lighthouse,
    /// Both, in one deployment.
    Both,
}

/// When the story begins.
const START: &str = "2026-01-01T00:00:00Z";

/// What the run's reports said.
#[derive(Default)]
struct Story {
    /// The findings, each with how often it was reported: by code, name and condition.
    findings: BTreeMap<(String, String, String), Told>,
    /// Invocations by function.
    invocations: BTreeMap<String, u64>,
    /// Calls that did not work.
    failures: u64,
    /// Codes that the brake printed.
    codes: BTreeSet<String>,
    /// Slots reported as missed, by the resource's name.
    missed: BTreeMap<String, u64>,
    /// Attempts reported as failed, by the resource's name.
    failed: BTreeMap<String, u64>,
    /// Invocations that did not answer.
    broken: Vec<String>,
    /// Why snapshots were deleted, by the resource's name, and how many for each reason.
    reasons: BTreeMap<(String, String), u64>,
    /// When somebody stopped it.
    stopped: Option<Timestamp>,
}

struct Told {
    times: u64,
    first: Timestamp,
    severity: String,
    message: String,
    fix: String,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let start: Timestamp = START.parse()?;
    let end = start + SignedDuration::from_hours(24 * i64::from(arguments.days));
    let clock = Clock::stepped(start);
    let mut config = CloudConfig::new(clock.clone(), schema::create_table_request(TABLE));
    config.ttl_attribute = Some(schema::EXPIRES_AT.to_owned());
    let mut settings = script::settings(arguments.provider);
    add_notices(&mut settings, &config.region);
    config.event_rules = event_rules(&settings);
    let cloud = Cloud::start(config).await?;
    let functions = deploy(&cloud, &settings, false)?;
    let cast = script::cast(arguments.provider);
    let told = pass_time(&cloud, &clock, &functions, &cast, (start, end)).await;
    let (story, instances) = match told {
        Ok(told) => told,
        Err(error) => {
            cloud.shutdown().await;
            return Err(error);
        }
    };
    let end = story.stopped.unwrap_or(end);
    let books = books::read(&cloud, &cast, &instances, end)?;
    let rows = table::rows(&cloud, &cast, &books, &story).await?;
    let checked = promises::check(&books, &story, &rows, (start, end));
    table::print(&rows, &story, &books, days_between(start, end));
    let drawn = match &arguments.html {
        Some(file) => picture(&cloud, &settings, file, (start, end)).await,
        None => Ok(()),
    };
    cloud.shutdown().await;
    drawn?;
    // Who closed standard output has seen enough.
    if output::is_broken() {
        return Ok(ExitCode::SUCCESS);
    }
    if story.stopped.is_some() {
        say!("\nStopped before the end; the promises were not checked.");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    say!("\nChecked against the embedded cloud's own records:");
    for (promise, violations) in &checked {
        say!("  {}  {promise}", if violations.is_empty() { "ok    " } else { "BROKEN" });
        violations
            .iter()
            .for_each(|one| output::wrapped(&format!("          {one}"), "          "));
    }
    if checked.iter().any(|(_, violations)| !violations.is_empty()) {
        return Ok(ExitCode::FAILURE);
    }
    say!("\nEvery promise held.");
    Ok(ExitCode::SUCCESS)
}

/// Has `snapkeep status` draw how it ends.
async fn picture(
    cloud: &Cloud,
    settings: &BTreeMap<String, String>,
    file: &Path,
    (start, end): (Timestamp, Timestamp),
) -> Result<(), BoxError> {
    let mut status = tokio::process::Command::new(std::env::current_exe()?);
    status.arg("status").arg("--html").arg(file);
    status.args(["--since", &start.to_string(), "--now", &end.to_string()]);
    status.env_clear().envs(environment(cloud, settings));
    let drawn = status.output().await?;
    // Something is wrong in every demo, which is exit status 1.
    if !matches!(drawn.status.code(), Some(0 | 1)) {
        return Err(String::from_utf8_lossy(&drawn.stderr).trim().to_owned().into());
    }
    say!("\nThe picture is in {}.", file.display());
    Ok(())
}

fn days_between(start: Timestamp, end: Timestamp) -> u64 {
    u64::try_from((end.as_second() - start.as_second()) / 86_400).unwrap_or_default()
}

/// Steps from event to event; what the script wants to happen, happens in between.
async fn pass_time(
    cloud: &Cloud,
    clock: &Clock,
    functions: &[Function],
    cast: &[Cast],
    (start, end): (Timestamp, Timestamp),
) -> Result<(Story, BTreeMap<String, String>), BoxError> {
    // Hourly ticks meet every slot of the demo's policies; the cadence of a deployment (15, 10 and 60
    // minutes) does the same with five times as many ticks that find nothing to do.
    let rules = vec![
        Rule::every(60, "snapkeep-create", "create")?,
        Rule::every(60, "snapkeep-poll", "poll")?,
        Rule::every(720, "snapkeep-prune", "prune")?,
    ];
    let mut schedule = Schedule::new(rules, "us-east-1", start);
    let mut script = script::Script::new(cloud, cast, start).await?;
    let mut story = Story::default();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let bar = ProgressBar::new(days_between(start, end));
    bar.set_style(ProgressStyle::with_template("{bar:40} day {pos}/{len}")?);
    say!("What happens:");
    while let Some(due) = schedule.pop().filter(|due| due.at <= end) {
        let stopped = interrupt.recv().now_or_never().is_some();
        if stopped || output::is_broken() {
            story.stopped = Some(due.at);
            break;
        }
        clock.set(due.at);
        if let Some(scene) = script.play(cloud, due.at, &story)? {
            bar.suspend(|| say!("  {}  {scene}", due.at.strftime("%m-%d")));
        }
        bar.set_position(days_between(start, due.at));
        // Time stands still until what the functions' own events ask for is done too.
        let mut todo = VecDeque::from([due]);
        while let Some(due) = todo.pop_front() {
            story.invoke(functions, due).await;
            todo.extend(cloud.events().take_due());
        }
        story.read(cloud.events());
    }
    bar.finish_and_clear();
    Ok((story, script.instances))
}

impl Story {
    /// Reads what programs are told of deletions, and empties the mailbox.
    fn read(&mut self, events: &Events) {
        for notice in events.notices() {
            if notice["detail-type"] != "Snapshot Pruned" {
                continue;
            }
            let text = |member: &str| notice["detail"][member].as_str().unwrap_or_default();
            let reason = text("message").split_once(": ").map_or("", |(_, reason)| reason);
            *self.reasons.entry((text("name").to_owned(), reason.to_owned())).or_default() += 1;
        }
        events.forget_notices();
    }

    async fn invoke(&mut self, functions: &[Function], due: Due) {
        let Some(function) = functions.iter().find(|f| f.name() == due.function) else { return };
        let invocation = function.invoke_as(due.request_id, due.event).await;
        *self.invocations.entry(due.function.clone()).or_default() += 1;
        match invocation.outcome {
            Outcome::Success(report) => self.hear(&report, due.at),
            other => self.broken.push(format!("{} at {}: {other:?}", due.function, due.at)),
        }
    }

    fn hear(&mut self, report: &Value, at: Timestamp) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.failures += report["failures"].as_array().map_or(0, |list| list.len() as u64);
        for finding in report["findings"].as_array().into_iter().flatten() {
            let (code, name) = (text(&finding["code"]), text(&finding["name"]));
            let number = text(&finding["value"]).parse().unwrap_or(1);
            match code.as_str() {
                "brake" => drop(self.codes.insert(text(&finding["value"]))),
                "missed-slots" => *self.missed.entry(name.clone()).or_default() += number,
                "attempt-failed" => *self.failed.entry(name.clone()).or_default() += 1,
                _ => {}
            }
            // The words of these change from tick to tick; the condition is the same.
            let changing =
                ["orphan", "opted-out", "create-deferred", "brake", "waiting-for-pending"];
            let message = text(&finding["message"]);
            let same =
                if changing.contains(&code.as_str()) { String::new() } else { message.clone() };
            let told = self.findings.entry((code, name, same)).or_insert_with(|| Told {
                times: 0,
                first: at,
                severity: text(&finding["severity"]),
                message,
                fix: text(&finding["fix"]),
            });
            told.times += 1;
        }
    }
}
