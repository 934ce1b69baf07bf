//! The table at the demo's end, and the findings.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use jiff::Timestamp;
use snapkeep_app::ports::Ledger;
use snapkeep_aws::dynamodb::DynamoLedger;
use snapkeep_cloud::embedded::Cloud;
use snapkeep_cloud::http::lock;
use snapkeep_cloud::lightsail::Snapshot;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::snapshot::{HOLD, MANAGED_BY};

use super::{Story, script};
use crate::BoxError;
use crate::output::{self, say};

/// One instance.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) opted_in: bool,
    /// Its policy's name, or why it has none; `*` if its tags override it.
    policy: String,
    /// The tags that override the policy.
    overrides: Vec<String>,
    /// Snapshots of ours ever made.
    pub(super) taken: Vec<Snapshot>,
    failed: u64,
    /// Snapshots of ours that are there at the end.
    pub(super) kept: Vec<Snapshot>,
    /// Live records.
    pub(super) records: Vec<Record>,
    /// Snapshots deleted.
    pub(super) pruned: Vec<Snapshot>,
}

pub(super) fn is_ours(snapshot: &Snapshot) -> bool {
    snapshot.tags.get(MANAGED_BY).is_some_and(|value| value.as_deref() == Some("demo"))
}

pub(super) async fn rows(
    cloud: &Cloud,
    story: &Story,
    end: Timestamp,
) -> Result<Vec<Row>, BoxError> {
    let mut records = Vec::new();
    for region in ["eu-west-1", "us-east-1"] {
        records.extend(ledger(cloud).live(&region.parse()?).await?.records);
    }
    let lightsail = lock(cloud.lightsail());
    let row = |(region, name, opted_in): (&'static str, &'static str, bool)| {
        let of = |s: &&Snapshot| s.from_name == name && is_ours(s);
        let events = |operation: &str| -> Vec<Snapshot> {
            let events = lightsail.events.iter().filter(|e| e.region == region);
            let events = events.filter(|e| e.operation == operation).map(|e| &e.snapshot);
            events.filter(of).cloned().collect()
        };
        let mut kept: Vec<Snapshot> =
            lightsail.snapshots(region).into_iter().filter(of).cloned().collect();
        kept.retain(|s| s.state(end) == "available");
        kept.sort_by_key(|s| s.requested_at);
        let records: Vec<Record> =
            records.iter().filter(|r| r.resource_name == name).cloned().collect();
        let tags = lightsail.tags_of_instance(region, name).unwrap_or_default();
        let overrides: Vec<String> = tags
            .iter()
            .filter_map(|(key, value)| {
                let part = key.strip_prefix("snapkeep:").filter(|part| *part != "confirm")?;
                Some(format!("{part}={}", value.as_deref().unwrap_or_default()))
            })
            .collect();
        let star = if overrides.is_empty() { "" } else { "*" };
        let policy = match records.last() {
            Some(record) => format!("{}{star}", record.policy.name),
            None if tags.contains_key("snapkeep") => "(off)".to_owned(),
            None => "(no tag)".to_owned(),
        };
        Row {
            name,
            opted_in,
            policy,
            overrides,
            taken: events("CreateInstanceSnapshot"),
            failed: story.failed.get(name).copied().unwrap_or(0),
            kept,
            records,
            pruned: events("DeleteInstanceSnapshot"),
        }
    };
    Ok(script::cast().map(row).collect())
}

/// The ledger, as the functions see it.
pub(super) fn ledger(cloud: &Cloud) -> DynamoLedger {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    let endpoints = cloud.endpoints();
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(snapkeep_aws::sdk::http_client())
        .credentials_provider(Credentials::new("demo", "demo", None, None, "demo"))
        .endpoint_url(endpoints.dynamodb)
        .region(Region::new("us-east-1"));
    DynamoLedger::new(aws_sdk_dynamodb::Client::from_conf(config.build()), endpoints.table)
}

pub(super) fn print(rows: &[Row], story: &Story, cloud: &Cloud, days: u64) {
    say!("\nAfter {days} days:");
    print_instances(rows);
    print_reasons(story);
    say!("\nWhat was reported:");
    print_findings(story);
    print_calls(rows, story, cloud);
}

fn print_instances(rows: &[Row]) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    let header = [
        "instance", "policy", "taken", "failed", "kept", "marked", "held", "pruned", "newest", "GB",
    ];
    table.set_header(header);
    for row in rows {
        let in_state = |state: State| row.records.iter().filter(|r| r.state == state).count();
        let marked = in_state(State::Expiring);
        let held = row.kept.iter().filter(|s| s.tags.contains_key(HOLD)).count();
        let newest = row
            .kept
            .last()
            .map_or("–".to_owned(), |s| s.requested_at.strftime("%m-%d").to_string());
        let gb: u32 = row.kept.iter().map(|s| s.size_gb).sum();
        table.add_row([
            row.name.to_owned(),
            row.policy.clone(),
            row.taken.len().to_string(),
            row.failed.to_string(),
            row.kept.len().saturating_sub(marked).to_string(),
            marked.to_string(),
            held.to_string(),
            row.pruned.len().to_string(),
            newest,
            gb.to_string(),
        ]);
    }
    for column in [2, 3, 4, 5, 6, 7, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.to_string().lines() {
        say!("{}", line.trim_end());
    }
    let overrides: Vec<String> = rows
        .iter()
        .filter(|row| !row.overrides.is_empty())
        .map(|row| format!("{} {}", row.name, row.overrides.join(" ")))
        .collect();
    output::wrapped(&format!("* overridden by tags: {}.", overrides.join("; ")), "  ");
    output::wrapped(
        "Marked snapshots are announced for deletion and still there. GB is the sum of disk sizes: an upper bound, \
         for snapshots are billed incrementally.",
        "",
    );
}

fn print_reasons(story: &Story) {
    say!("\nWhy snapshots were pruned:");
    for ((name, reason), count) in &story.reasons {
        output::wrapped(&format!("  {name:<9} {count:>4}  {reason}"), "                  ");
    }
}

fn print_findings(story: &Story) {
    let mut findings: Vec<_> = story.findings.iter().collect();
    findings.sort_by_key(|(_, told)| (told.severity == "info", told.first));
    for ((code, name, _), told) in findings.iter().filter(|(_, told)| told.severity != "info") {
        let more = if told.times > 1 { format!(" ({} times)", told.times) } else { String::new() };
        let message = &told.message;
        let at = told.first.strftime("%m-%d %H:%M");
        output::wrapped(&format!("  {at}  {code} {name}: {message}{more}"), "               ");
        if !told.fix.is_empty() {
            output::wrapped(&format!("               fix: {}", told.fix), "               ");
        }
    }
    let info = findings.iter().filter(|(_, told)| told.severity == "info").count();
    let are = if info == 1 { "finding that is" } else { "findings that are" };
    say!("  and {info} {are} only information");
}

fn print_calls(rows: &[Row], story: &Story, cloud: &Cloud) {
    let calls = &lock(cloud.lightsail()).calls;
    let count = |operation: &str| calls.get(operation).copied().unwrap_or(0);
    let taken: usize = rows.iter().map(|row| row.taken.len()).sum();
    let invocations: Vec<String> =
        story.invocations.iter().map(|(name, count)| format!("{name} {count}")).collect();
    say!("");
    let invocations = invocations.join(", ");
    let failures = story.failures;
    output::wrapped(&format!("Invocations: {invocations}; calls that failed: {failures}."), "  ");
    let calls = format!(
        "Calls: CreateInstanceSnapshot {}, GetInstanceSnapshot {}, DeleteInstanceSnapshot {} for {taken} \
         snapshots; pages: GetInstances {}, GetInstanceSnapshots {}.",
        count("CreateInstanceSnapshot"),
        count("GetInstanceSnapshot"),
        count("DeleteInstanceSnapshot"),
        count("GetInstances"),
        count("GetInstanceSnapshots"),
    );
    output::wrapped(&calls, "  ");
}
