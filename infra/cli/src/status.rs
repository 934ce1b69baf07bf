//! `snapkeep status`: a line for each instance, and what is wrong.

use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use snapkeep_app::survey::Surveyed;
use snapkeep_domain::finding::Severity;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::Policy;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::Seen;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Hold, SnapshotState};
use snapkeep_domain::time::{Slot, format_duration};

use crate::output::{self, say};
use crate::simulate::dollars;
use crate::when::whole;
use crate::world::{Reading, Shown, World};
use crate::{BoxError, CommandResult};

/// Shows a line for each instance, opted in or not, the last run of each function, and what is wrong.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reading: Reading,
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
    resource: String,
    name: String,
    place: String,
    region: String,
    pub(crate) state: &'static str,
    policy: Option<String>,
    schedule: Option<String>,
    keep: Option<String>,
    timezone: Option<String>,
    overrides: Vec<&'static str>,
    pub(crate) newest_available: Option<Timestamp>,
    pub(crate) age_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) promise_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overdue: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_slot: Option<Timestamp>,
    snapshots: usize,
    pub(crate) kept: usize,
    pub(crate) marked: usize,
    pub(crate) held: usize,
    pending: usize,
    pub(crate) size_gb: u64,
    cost_usd_month: f64,
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
    let (status, findings) = read(&arguments.reading).await?;
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status, &findings);
    }
    Ok(if status.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the world, and says how everything stands.
pub(crate) async fn read(reading: &Reading) -> Result<(Status, Vec<Shown>), BoxError> {
    let world = reading.read().await?;
    let plans: Vec<_> = world
        .survey
        .places
        .iter()
        .map(|surveyed| (surveyed.place.clone(), world.resources(surveyed)))
        .collect();
    let findings = world.findings(&plans);
    let instances: Vec<Row> = world
        .survey
        .places
        .iter()
        .flat_map(|surveyed| surveyed.facts.resources().into_iter().map(move |id| (surveyed, id)))
        .filter_map(|(surveyed, id)| row(&world, surveyed, &id))
        .collect();
    Ok((status(&world, &findings, instances), findings))
}

fn status(world: &World, findings: &[Shown], mut instances: Vec<Row>) -> Status {
    instances
        .sort_by(|a, b| (&a.place, &a.name, &a.resource).cmp(&(&b.place, &b.name, &b.resource)));
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
            age_seconds: world.now.duration_since(run.at).as_secs(),
            failures: run.failures,
            left: run.left,
        })
        .collect();
    functions.sort_by(|a, b| (&a.place, a.function).cmp(&(&b.place, b.function)));
    Status {
        now: world.now,
        deployment: world.prune.deployment.to_string(),
        ok: findings.iter().all(|finding| finding.severity == Severity::Info),
        functions,
        findings: findings.iter().map(|finding| finding.json.clone()).collect(),
        instances,
        totals,
    }
}

/// The line of an instance; `None` for what is gone and left nothing.
fn row(world: &World, surveyed: &Surveyed, id: &ResourceId) -> Option<Row> {
    let facts = &surveyed.facts;
    let instance = facts.instances.get(id);
    let (known_name, seen) = facts.listing.of(id).unwrap_or_default();
    if instance.is_none() && seen.is_empty() {
        return None;
    }
    let records = facts.records.get(id).map_or(&[][..], Vec::as_slice);
    let protection = instance.map(|instance| world.protection(&instance.tags));
    let name = instance.map_or(known_name, |instance| &instance.name);
    let mut row = Row {
        resource: id.0.clone(),
        name: name.to_owned(),
        place: surveyed.place.to_string(),
        region: surveyed.place.region().to_owned(),
        state: match protection.as_ref().map(|protection| protection.opt_in) {
            Some(OptIn::On) => "protected",
            Some(OptIn::Off) => "off",
            Some(OptIn::Untagged) => "unprotected",
            None => "deleted",
        },
        ..Row::default()
    };
    let protected = facts.protected.get(id);
    let hold = match &protection {
        Some(protection) => protection.hold.clone(),
        None => protected.and_then(|item| item.hold()),
    };
    row.count(world, seen.values().copied(), records, hold.as_ref());
    let (Some(instance), Some(protection)) = (instance, protection) else { return Some(row) };
    if protection.opt_in != OptIn::On {
        return Some(row);
    }
    let since = protected.and_then(|item| item.since).unwrap_or(world.now);
    row.promise(world, &protection, since);
    let overrides = ["schedule", "keep", "timezone"];
    let set = |part: &&str| instance.tags.contains_key(&format!("{}:{part}", world.create.tag));
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
        let Row { resource, name, place, .. } = self;
        labels(&[("resource", resource), ("name", name), ("place", place)])
    }

    /// Counts its snapshots.
    fn count<'a>(
        &mut self,
        world: &World,
        seen: impl Iterator<Item = &'a Seen> + Clone,
        records: &[Record],
        hold: Option<&Hold>,
    ) {
        let of = |one: &Seen| {
            records.iter().find(|record| (record.slot, record.attempt) == (one.slot, one.attempt))
        };
        let available = |one: &&Seen| one.state == SnapshotState::Available;
        let going = |one: &&Seen| {
            of(one).is_some_and(|record| matches!(record.state, State::Expiring | State::Deleting))
        };
        let holds = |one: &&Seen| {
            let zone = one.policy.retention().1;
            let mut all = one.hold.as_deref().into_iter().chain(hold);
            all.any(|hold| hold.holds(world.now, &zone))
        };
        let good = seen.clone().filter(available);
        self.snapshots = good.clone().count();
        self.marked = good.clone().filter(going).count();
        self.kept = self.snapshots - self.marked;
        self.held = good.clone().filter(holds).count();
        self.pending = seen.clone().filter(|one| one.state == SnapshotState::Pending).count();
        self.size_gb = seen.map(|one| u64::from(one.size_gb)).sum();
        self.cost_usd_month = dollars(self.size_gb);
        self.newest_available = good.map(|one| one.slot).max().map(Slot::timestamp);
        let age = self.newest_available.map(|newest| world.now.duration_since(newest).as_secs());
        self.age_seconds = age;
    }

    /// What its policy promises.
    fn promise(&mut self, world: &World, protection: &Protection, since: Timestamp) {
        let Policy { name, schedule, zone, retention, .. } = &protection.policy;
        let period = schedule.period(zone, world.now);
        let promise = period.saturating_add(world.prune.pending_timeout);
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
    say!("Deployment {deployment} at {now}");
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
    for Shown { severity, json, message, fix } in findings {
        let code = json["code"].as_str().unwrap_or_default();
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        output::wrapped(&format!("{severity} {code}: {message}"), "  ");
        if let Some(fix) = fix {
            output::wrapped(&format!("  to do: {fix}"), "    ");
        }
    }
}

fn print_instances(instances: &[Row]) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(80);
    table.set_header([
        "instance", "place", "policy", "newest", "promise", "kept", "mark", "held", "GB", "$",
    ]);
    for one in instances {
        let policy = match &one.policy {
            Some(policy) if one.overrides.is_empty() => policy.clone(),
            Some(policy) => format!("{policy} +{}", one.overrides.join("+")),
            None => one.state.to_owned(),
        };
        let span = |seconds: Option<i64>| {
            seconds.map_or("–".to_owned(), |s| format_duration(SignedDuration::from_secs(s)))
        };
        let late = if one.overdue == Some(true) { "!" } else { "" };
        table.add_row([
            one.name.clone(),
            one.place.clone(),
            policy,
            format!("{}{late}", span(one.age_seconds)),
            span(one.promise_seconds),
            one.kept.to_string(),
            one.marked.to_string(),
            one.held.to_string(),
            one.size_gb.to_string(),
            format!("{:.2}", one.cost_usd_month),
        ]);
    }
    // A place or a state in two lines would be hard to read.
    let longest = instances.iter().map(|one| one.place.len()).max().unwrap_or_default();
    let place = u16::try_from(longest.min(16) + 2).unwrap_or(16);
    for (at, width) in [(1, place), (2, 13)] {
        if let Some(column) = table.column_mut(at) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
        }
    }
    for column in 5..10 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().for_each(|line| say!("{}", line.trim_end()));
}
