//! Versions side by side, and stacks that go and come again.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};

use crate::harness::{World, count, findings, fine, names};

const VARS: [(&str, &str); 2] = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "0h")];

/// Puts an item past all locking, as another version would.
fn put(world: &World, item: &Value) {
    let request = serde_json::from_value(json!({"TableName": "ledger", "Item": item})).unwrap();
    world.cloud.dynamodb().database().put_item(request).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_version_wrote_is_read() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "on")]);
    world.quiet_nights(1).await;
    // The item as it was then: everything that it must have, and nothing that came later.
    let now = world.items().remove(0);
    let first = json!({
        "resource": now["resource"], "slot": {"S": "2026-01-01T03:00:00Z"}, "place": {"S": "eu-west-1"},
        "live": {"S": "kept#available"},
        "format": {"N": "1"}, "version": {"N": "4"}, "state": {"S": "available"},
        "attempt": {"N": "1"}, "reason": {"S": ""}, "name": now["name"], "region": {"S": "eu-west-1"},
        "resource_name": {"S": "web"}, "times": {"M": {"available": {"S": "2026-01-01T03:10:00Z"}}},
        "policy": {"M": {"name": {"S": "default"}, "schedule": {"S": "daily@03:00"},
            "keep": {"S": "last=2"}, "timezone": {"S": "UTC"}}},
    });
    assert_eq!(now["format"], first["format"], "a newer format needs a test of its own here");
    put(&world, &first);
    // It serves its slot, and goes when its time has come.
    assert_eq!(count(&fine(world.tick("create").await), "served"), 1);
    world.quiet_nights(2).await;
    assert_eq!(world.states(), ["expiring", "available", "available"]);
    world.quiet_nights(1).await;
    assert_eq!(
        names(&world.deleted().into_iter().map(|e| e.snapshot).collect::<Vec<_>>()),
        [first["name"]["S"].as_str().unwrap()]
    );
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_wrote_is_left_alone_and_nothing_of_its_resource_is_pruned() {
    let world = World::start(&VARS).await;
    world.launch(&["web", "db"], &[("snapkeep", "on")]);
    world.quiet_nights(1).await;
    let arn = world.arn("web");
    let mut newer = world.items().into_iter().find(|item| item["resource"]["S"] == arn).unwrap();
    newer["format"] = json!({"N": "2"});
    newer["made_of"] = json!({"S": "what we do not know"});
    put(&world, &newer);
    for _ in 0..5 {
        let [create, _, prune] = world.night().await;
        assert_eq!(count(&create, "requested"), 2, "snapshots go on: {create:#}");
        let unreadable = findings(&prune, "unreadable-record");
        assert!(unreadable[0]["message"].as_str().unwrap().contains("update snapkeep"));
        assert_eq!(unreadable[0]["resource"], arn);
    }
    assert_eq!(world.snapshots_of("web").len(), 6);
    assert!(world.snapshots_of("db").len() < 4);
    assert!(world.items().contains(&newer), "as it was");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_told_is_left_alone_and_said() {
    let nowhere = [
        ("SNAPKEEP_TOPIC", "arn:aws:sns:us-east-1:123456789012:gone"),
        ("AWS_ENDPOINT_URL_SNS", "http://127.0.0.1:9"),
    ];
    let world = World::start(&nowhere).await;
    let newer = json!({
        "resource": {"S": "conditions"}, "slot": {"S": "bad-tag#web"}, "format": {"N": "2"},
        "version": {"N": "1"},
    });
    put(&world, &newer);
    let poll = world.tick("poll").await;
    let unreadable = findings(&poll, "unreadable-record");
    assert_eq!((unreadable.len(), &unreadable[0]["name"]), (1, &json!("bad-tag#web")));
    assert!(world.all_items().contains(&newer), "as it was");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_goes_deletes_nothing_and_one_made_again_takes_up_its_snapshots() {
    let vars = [VARS[0], VARS[1], ("SNAPKEEP_DEPLOYMENT", "snapkeep-eu-west-1")];
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "on")]);
    world.quiet_nights(2).await;
    let before = world.snapshots();
    // The functions and rules go; the table stays behind, and the new stack has another one.
    world.to_next_slot();
    let again = world.deploy_beside("ledger-of-the-new-stack", &vars);
    assert_eq!(names(&world.snapshots()), names(&before));

    assert_eq!(count(&fine(world.tick_of(&again, "create").await), "requested"), 1);
    world.advance(10);
    assert_eq!(count(&fine(world.tick_of(&again, "poll").await), "available"), 1);
    let adopted = fine(world.tick_of(&again, "prune").await);
    assert_eq!((count(&adopted, "adopted"), count(&adopted, "pruned")), (2, 0));
    // No slot is taken twice, and the old ones go by the rules like the new ones.
    assert_eq!(count(&fine(world.tick_of(&again, "create").await), "served"), 1);
    for expected in [("marked", 1), ("pruned", 1)] {
        world.advance(60);
        let prune = fine(world.tick_of(&again, "prune").await);
        assert_eq!(count(&prune, expected.0), expected.1, "{prune:#}");
    }
    assert_eq!(names(&world.snapshots()).len(), 2);
    assert_eq!(world.deleted()[0].snapshot.name, before[0].name);
    again.shutdown().await;
    world.end().await;
}
