//! The embedded bus and topic, as the functions use them through the real SDK.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};
use snapkeep_cloud::events::Event;

use crate::harness::*;

fn of_kind<'a>(notices: &'a [Value], kind: &str, member: &str) -> Vec<&'a str> {
    let those = notices.iter().filter(|notice| notice["kind"] == kind);
    those.map(|notice| notice[member].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_reach_the_mailbox_and_events_invoke_functions() {
    let world = World::start(&World::LISTENERS).await;
    world.launch(&["web"], &[("snapkeep", "on"), ("snapkeep:keep", "dayly=7")]);
    assert_eq!(count(&fine(world.tick("create").await), "requested"), 1);
    let notices = world.notices();
    assert_eq!(of_kind(&notices, "event", "detail-type"), ["Snapshot Held Back"]);
    assert_eq!(of_kind(&notices, "mail", "subject"), ["snapkeep: Snapshot Held Back: web"]);
    let mail = notices.iter().find(|notice| notice["kind"] == "mail").unwrap();
    assert_eq!(mail["attributes"]["code"], "bad-tag");
    assert!(mail["message"].as_str().unwrap().contains("dayly=7"));

    world.advance(10);
    world.listen("a test", "Go On");
    let go_on = |function: &str| Event {
        region: "us-east-1".to_owned(),
        time: None,
        source: "a test".to_owned(),
        detail_type: "Go On".to_owned(),
        resources: Vec::new(),
        detail: json!({ "function": function }).as_object().unwrap().clone(),
    };
    assert!(world.deliver().await.is_empty());
    world.cloud.events().put(world.now(), go_on("poll"));
    world.cloud.events().put(world.now(), go_on("nobody"));
    let reports = world.deliver().await;
    assert_eq!((reports.len(), reports[0].0.as_str()), (1, "poll"));
    assert_eq!(count(&reports[0].1, "available"), 1, "{reports:#?}");
    let told = world.notices();
    let types = of_kind(&told, "event", "detail-type");
    assert_eq!(types, ["Go On", "Go On", "Snapshot Available"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_without_bus_and_topic_tells_nobody() {
    let world = World::start(&[]).await;
    world.launch(&["web"], &[("snapkeep", "on"), ("snapkeep:keep", "dayly=7")]);
    fine(world.tick("create").await);
    assert!(world.notices().is_empty());
    world.end().await;
}
