//! `snapkeep status`: a line for each instance, and what is wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use snapkeep_domain::ledger::protected::Proof;
use snapkeep_domain::ledger::record::State;
use snapkeep_domain::policy::Policy;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::{Judged, Seen};
use snapkeep_domain::snapshot::SnapshotState;
use snapkeep_domain::time::{Slot, format_duration};

use crate::findings::{self, Shown};
use crate::output::{self, say};
use crate::pictures::{self, Span};
use crate::report::{self, Month};
use crate::simulate::dollars;
use crate::when::{When, whole};
use crate::who::Who;
use crate::world::{Reading, View, World};
use crate::{BoxError, CommandResult};

/// Shows a line for each instance, opted in or not, the last run of each function, and what is wrong.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Write a picture of it into this file: one HTML page that needs nothing but itself.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Since when the picture also has what was deleted: a time, a date, or a distance such as -90d.
    #[arg(long, value_name = "TIME", requires = "html", allow_hyphen_values = true, value_parser = When::read)]
    since: Option<When>,
    /// Show it again every so many seconds, until Ctrl-C.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "30",
        conflicts_with = "json",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// How everything stands.
#[derive(Serialize)]
pub(crate) struct Status {
    now: Timestamp,
    deployment: String,
    ok: bool,
    pub(crate) functions: Vec<FunctionRun>,
    findings: Vec<Value>,
    pub(crate) instances: Vec<Row>,
    pub(crate) totals: Totals,
}

#[derive(Serialize)]
pub(crate) struct FunctionRun {
    pub(crate) function: &'static str,
    pub(crate) place: String,
    pub(crate) last_run: Timestamp,
    age_seconds: i64,
    failures: u64,
    left: u64,
}

/// An instance, or a deleted one that left snapshots.
#[derive(Default, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) state: &'static str,
    pub(crate) policy: Option<String>,
    pub(crate) schedule: Option<String>,
    pub(crate) keep: Option<String>,
    timezone: Option<String>,
    overrides: Vec<&'static str>,
    pub(crate) newest_available: Option<Timestamp>,
    pub(crate) age_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) promise_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overdue: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_slot: Option<Timestamp>,
    snapshots: usize,
    pub(crate) kept: usize,
    pub(crate) marked: usize,
    pub(crate) held: usize,
    pending: usize,
    pub(crate) size_gb: u64,
    pub(crate) cost_usd_month: f64,
    pub(crate) proven: Option<Proof>,
}

#[derive(Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) instances: usize,
    pub(crate) protected: usize,
    pub(crate) unprotected: usize,
    pub(crate) overdue: usize,
    pub(crate) snapshots: usize,
    pub(crate) marked: usize,
    pub(crate) held: usize,
    pub(crate) size_gb: u64,
    pub(crate) cost_usd_month: f64,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let Some(seconds) = arguments.watch else { return once(&arguments).await };
    loop {
        output::clear();
        // What cannot be read now may be readable at the next look.
        if let Err(error) = once(&arguments).await {
            output::complain(&format!("snapkeep: {error}"));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            () = output::broken() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn once(arguments: &Arguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let views = world.views();
    let findings = world.findings(&views).await?;
    let status = status(&world, &findings, &views);
    if let Some(file) = &arguments.html {
        let since = arguments.since.map(|since| since.from(world.now)).transpose()?;
        let pasts = match since {
            Some(from) => {
                let to = world.now + SignedDuration::from_secs(1);
                report::pasts(&world, &views, Month { from, to }).await?
            }
            None => Vec::new(),
        };
        pictures::write(file, "Status", &world, &views, &findings, &pasts, Span::ToCome)?;
    }
    if arguments.json {
        output::json(&status)?;
    } else {
        print(&status, &findings);
    }
    Ok(if status.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the world, and says how everything stands.
pub(crate) async fn read(reading: &Reading) -> Result<(Status, Vec<Shown>), BoxError> {
    let world = reading.read().await?;
    let views = world.views();
    let findings = world.findings(&views).await?;
    Ok((status(&world, &findings, &views), findings))
}

fn status(world: &World, findings: &[Shown], views: &[View<'_>]) -> Status {
    let mut instances: Vec<Row> = views.iter().filter_map(|view| row(world, view)).collect();
    let order = |row: &Row| (row.who.place.clone(), row.who.name.clone(), row.who.resource.clone());
    instances.sort_by_cached_key(order);
    let mut totals = Totals::default();
    for one in &instances {
        totals.instances += usize::from(one.state != "deleted");
        totals.protected += usize::from(one.state == "protected");
        totals.unprotected += usize::from(one.state == "unprotected");
        totals.overdue += usize::from(one.overdue == Some(true));
        totals.snapshots += one.snapshots;
        totals.marked += one.marked;
        totals.held += one.held;
        totals.size_gb += one.size_gb;
    }
    totals.cost_usd_month = dollars(totals.size_gb);
    let mut functions: Vec<FunctionRun> = world
        .survey
        .memory
        .runs
        .iter()
        .map(|run| FunctionRun {
            function: run.function.as_str(),
            place: run.place.to_string(),
            last_run: whole(run.at),
            age_seconds: world.now.duration_since(run.at).as_secs().max(0),
            failures: run.failures,
            left: run.left,
        })
        .collect();
    functions.sort_by(|a, b| (&a.place, a.function).cmp(&(&b.place, b.function)));
    Status {
        now: world.now,
        deployment: world.settings.deployment.to_string(),
        ok: findings::is_well(findings),
        functions,
        findings: findings.iter().map(|finding| finding.json.clone()).collect(),
        instances,
        totals,
    }
}

/// The line of an instance; `None` for what is gone and left nothing.
pub(crate) fn row(world: &World, view: &View<'_>) -> Option<Row> {
    if view.living.is_none() && view.seen.is_empty() {
        return None;
    }
    let protection = view.living.as_ref().map(|(_, protection)| protection);
    let state = match protection.map(|protection| protection.opt_in) {
        Some(OptIn::On) => "protected",
        Some(OptIn::Off) => "off",
        Some(OptIn::Untagged) => "unprotected",
        None => "deleted",
    };
    let proven = view.protected.and_then(|item| item.proven);
    let mut row = Row { who: view.who.clone(), state, proven, ..Row::default() };
    row.count(world.now, view);
    let Some((instance, protection)) = &view.living else { return Some(row) };
    if protection.opt_in != OptIn::On {
        return Some(row);
    }
    let since = view.protected.and_then(|item| item.since).unwrap_or(world.now);
    row.promise(world, protection, since);
    let overrides = ["schedule", "keep", "timezone"];
    let set = |part: &&str| instance.tags.contains_key(&format!("{}:{part}", world.settings.tag));
    row.overrides = overrides.into_iter().filter(set).collect();
    Some(row)
}

/// Labels of a metric.
pub(crate) fn labels(all: &[(&str, &str)]) -> String {
    let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<String> =
        all.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
    all.join(",")
}

impl Row {
    /// The labels of its metrics.
    pub(crate) fn labels(&self) -> String {
        let Who { resource, name, place, .. } = &self.who;
        labels(&[("resource", resource), ("name", name), ("place", place)])
    }

    /// Counts its snapshots.
    fn count(&mut self, now: Timestamp, view: &View<'_>) {
        let available = |seen: &&Seen| seen.state == SnapshotState::Available;
        let going = |key: &str, seen: &Seen| {
            let state = view.record(key, seen).map(|record| record.state);
            matches!(state, Some(State::Expiring | State::Deleting))
        };
        let good = view.seen.iter().filter(|(_, seen)| available(seen));
        self.snapshots = good.clone().count();
        self.marked = good.clone().filter(|(key, seen)| going(key, seen)).count();
        self.kept = self.snapshots - self.marked;
        let held = view.plan.verdicts.iter().filter(|judged| judged.held);
        let seen = |judged: &Judged| view.seen.get(&*judged.key).copied();
        self.held = held.filter_map(seen).filter(available).count();
        let pending = |seen: &&&Seen| seen.state == SnapshotState::Pending;
        self.pending = view.seen.values().filter(pending).count();
        self.size_gb = view.seen.values().map(|seen| u64::from(seen.size_gb)).sum();
        self.cost_usd_month = dollars(self.size_gb);
        self.newest_available = good.map(|(_, seen)| seen.slot).max().map(Slot::timestamp);
        let age = |newest: Timestamp| now.duration_since(newest).as_secs().max(0);
        let age = self.newest_available.map(age);
        self.age_seconds = age;
    }

    /// What its policy promises.
    fn promise(&mut self, world: &World, protection: &Protection, since: Timestamp) {
        let Policy { name, schedule, zone, retention, .. } = &protection.policy;
        let period = schedule.period(zone, world.now);
        let promise = period.saturating_add(world.settings.pending_timeout);
        let age = world.now.duration_since(self.newest_available.unwrap_or(since));
        self.policy = Some(name.clone());
        self.schedule = Some(schedule.to_string());
        self.keep = retention.text();
        self.timezone = Some(zone.name().to_owned());
        self.promise_seconds = Some(promise.as_secs());
        self.overdue = Some(age > promise);
        self.next_slot = Some(schedule.next(zone, world.now).timestamp());
    }
}

fn print(status: &Status, findings: &[Shown]) {
    let Status { now, deployment, instances, totals, .. } = status;
    output::wrapped(&format!("Deployment {deployment} at {now}"), "  ");
    for FunctionRun { function, place, age_seconds, failures, left, .. } in &status.functions {
        let age = format_duration(SignedDuration::from_secs(*age_seconds));
        let bad = match (failures, left) {
            (0, 0) => String::new(),
            (failures, left) => format!("; failures: {failures}, left for the next run: {left}"),
        };
        output::wrapped(&format!("  {function} in {place}: last run {age} ago{bad}"), "    ");
    }
    say!("");
    print_instances(instances);
    say!("");
    let Totals { protected, unprotected, overdue, snapshots, size_gb, cost_usd_month, .. } = totals;
    output::wrapped(
        &format!(
            "{protected} protected, {unprotected} unprotected, {overdue} overdue; {snapshots} snapshots of \
             {size_gb} GB, at most {cost_usd_month:.2} dollars a month"
        ),
        "",
    );
    findings::print(findings);
}

fn print_instances(instances: &[Row]) {
    let span = |seconds: Option<i64>| {
        seconds.map_or("–".to_owned(), |s| format_duration(SignedDuration::from_secs(s)))
    };
    let row = |one: &Row| {
        let policy = match &one.policy {
            Some(policy) if one.overrides.is_empty() => policy.clone(),
            Some(policy) => format!("{policy} +{}", one.overrides.join("+")),
            None => one.state.to_owned(),
        };
        let late = if one.overdue == Some(true) { "!" } else { "" };
        [
            one.who.name.clone(),
            one.who.place.clone(),
            policy,
            format!("{}{late}", span(one.age_seconds)),
            span(one.promise_seconds),
            one.kept.to_string(),
            one.marked.to_string(),
            one.held.to_string(),
            one.size_gb.to_string(),
            format!("{:.2}", one.cost_usd_month),
        ]
    };
    let headers =
        ["instance", "place", "policy", "newest", "promise", "kept", "mark", "held", "GB", "$"];
    output::table(headers, instances.iter().map(row).collect(), &[5, 6, 7, 8, 9]);
}
