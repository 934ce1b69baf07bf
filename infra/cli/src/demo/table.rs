//! The table at the demo's end, and the findings.

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use snapkeep_app::ports::Ledger;
use snapkeep_aws::dynamodb::DynamoLedger;
use snapkeep_cloud::embedded::Cloud;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::snapshot::HOLD;

use super::Story;
use super::books::{Books, Shot};
use super::script::Cast;
use crate::BoxError;
use crate::output::{self, say};

/// One instance.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) opted_in: bool,
    /// Whether it is deleted before the end.
    pub(super) ends: bool,
    /// Its policy's name, or why it has none; `*` if its tags override it.
    policy: String,
    /// The tags that override the policy.
    overrides: Vec<String>,
    /// Snapshots of ours ever made.
    pub(super) taken: Vec<Shot>,
    failed: u64,
    /// Snapshots of ours that are there at the end.
    pub(super) kept: Vec<Shot>,
    /// Live records.
    pub(super) records: Vec<Record>,
    /// Snapshots deleted.
    pub(super) pruned: Vec<Shot>,
}

pub(super) async fn rows(
    cloud: &Cloud,
    cast: &[Cast],
    books: &Books,
    story: &Story,
) -> Result<Vec<Row>, BoxError> {
    let mut records = Vec::new();
    let places: std::collections::BTreeSet<&str> = cast.iter().map(|one| one.place).collect();
    for place in places {
        records.extend(ledger(cloud).live(&place.parse()?).await?.records);
    }
    let row = |cast: &Cast| {
        let name = cast.name;
        let of = |all: &[Shot]| -> Vec<Shot> {
            all.iter().filter(|s| s.instance == name && s.is_ours()).cloned().collect()
        };
        let records: Vec<Record> =
            records.iter().filter(|r| r.resource_name == name).cloned().collect();
        let tags = books.tags.get(name).cloned().unwrap_or_default();
        let overrides: Vec<String> = tags
            .iter()
            .filter_map(|(key, value)| {
                let part = key.strip_prefix("snapkeep:").filter(|part| *part != "confirm")?;
                Some(format!("{part}={value}"))
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
            opted_in: cast.opted_in(),
            ends: cast.ends(),
            policy,
            overrides,
            taken: of(&books.made),
            failed: story.failed.get(name).copied().unwrap_or(0),
            kept: of(&books.there),
            records,
            pruned: of(&books.deleted),
        }
    };
    Ok(cast.iter().map(row).collect())
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

pub(super) fn print(rows: &[Row], story: &Story, books: &Books, days: u64) {
    say!("\nAfter {days} days:");
    print_instances(rows);
    print_reasons(story);
    say!("\nWhat was reported:");
    print_findings(story);
    print_calls(rows, story, books);
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
        let gb: u32 = row.kept.iter().map(|s| s.gb).sum();
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

fn print_calls(rows: &[Row], story: &Story, books: &Books) {
    let taken: usize = rows.iter().map(|row| row.taken.len()).sum();
    let invocations: Vec<String> =
        story.invocations.iter().map(|(name, count)| format!("{name} {count}")).collect();
    say!("");
    let invocations = invocations.join(", ");
    let failures = story.failures;
    output::wrapped(&format!("Invocations: {invocations}; calls that failed: {failures}."), "  ");
    let of_snapshots =
        |operation: &&String| operation.contains("Snapshot") || operation.ends_with("Instances");
    let calls: Vec<String> = books
        .calls
        .iter()
        .filter(|(operation, _)| of_snapshots(operation) && *operation != "CreateInstances")
        .map(|(operation, count)| format!("{operation} {count}"))
        .collect();
    let calls = format!("Calls for {taken} snapshots: {}.", calls.join(", "));
    output::wrapped(&calls, "  ");
}
