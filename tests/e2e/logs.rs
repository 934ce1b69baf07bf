//! The functions' real log lines answer the questions of the handbook, by its own queries.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use snapkeep_cloud::knobs::{Fault, FaultKind};
use snapkeep_tests::read;

use crate::harness::*;
use crate::insights::query;

/// The handbook's queries, by the question above each.
fn queries() -> BTreeMap<String, String> {
    let operations = read("docs/OPERATIONS.md");
    let (_, section) = operations.split_once("\n## Logs\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut queries = BTreeMap::new();
    for part in section.split("\n**").skip(1) {
        let (question, rest) = part.split_once("**").unwrap();
        let (_, code) = rest.split_once("```\n").unwrap();
        let (query, _) = code.split_once("```").unwrap();
        queries.insert(question.to_owned(), query.to_owned());
    }
    queries
}

/// What a function printed in an invocation; every line is JSON.
async fn logged(world: &World, function: &str) -> Vec<Value> {
    let invocation = world.deployment.function(function).invoke(world.event(function)).await;
    let lines = invocation.log.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handbooks_queries_answer_from_real_log_lines() {
    let vars = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "0h")];
    let world = World::start(&vars).await;
    world.launch(&["web-1", "web-12"], &[("snapkeep", "on")]);
    world.launch(&["lab"], &[("snapkeep", "on"), ("snapkeep:keep", "dayly=7")]);
    let mut lines = Vec::new();
    for night in 0..4 {
        world.to_next_slot();
        if night == 1 {
            let fault = Fault::on("CreateInstanceSnapshot", FaultKind::Denied);
            world.faults(&[fault.of("web-12").times(1)]);
        }
        for (function, minutes) in [("create", 10), ("poll", 50), ("prune", 60), ("prune", 10)] {
            lines.extend(logged(&world, function).await);
            world.advance(minutes);
        }
    }
    // Lambda takes level and time of a line from these members; a line of metrics has its own time.
    for line in lines.iter().filter(|line| line.get("_aws").is_none()) {
        let level = line["level"].as_str().unwrap();
        assert!(["INFO", "WARN", "ERROR"].contains(&level), "{line}");
        assert!(line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    let queries = queries();
    assert_eq!(queries.len(), 5, "{queries:#?}");
    let asked = |question: &str| {
        let found = queries.iter().find(|(title, _)| title.contains(question)).unwrap();
        query(found.1, &lines).unwrap_or_else(|error| panic!("{}: {error}", found.0))
    };
    let column = |rows: &[BTreeMap<String, Value>], name: &str| -> Vec<String> {
        rows.iter().filter_map(|row| row[name].as_str().map(str::to_owned)).collect()
    };

    let failed = asked("failed");
    let codes = column(&failed, "code");
    assert!(codes.contains(&"bad-tag".to_owned()) && codes.contains(&"create-deferred".to_owned()));
    assert!(codes.contains(&"AccessDeniedException".to_owned()), "{codes:?}");
    assert!(column(&failed, "level").iter().all(|level| level != "INFO"));

    let story = asked("web-1");
    assert!(column(&story, "message").iter().all(|said| !said.contains("web-12")), "{story:#?}");
    let events = column(&story, "event");
    for event in ["Snapshot Available", "Snapshot Marked", "Snapshot Pruned"] {
        assert!(events.contains(&event.to_owned()), "{event}: {events:?}");
    }

    let deleted = asked("deleted");
    assert_eq!(deleted.len(), world.deleted().len());
    assert!(!deleted.is_empty());
    let reasons = column(&deleted, "message");
    assert!(reasons.iter().all(|said| said.contains("no rule of `last=2` in UTC keeps it")));

    let runs = asked("run do");
    assert_eq!(runs.len(), 16);
    assert!(runs.iter().any(|run| run["counts.requested"] == 3), "{runs:#?}");

    let often = asked("how often");
    let denied = often.iter().find(|row| row["code"] == "AccessDeniedException").unwrap();
    assert_eq!(
        (&denied["operation"], &denied["times"]),
        (&json!("CreateInstanceSnapshot"), &json!(1))
    );
    world.end().await;
}
