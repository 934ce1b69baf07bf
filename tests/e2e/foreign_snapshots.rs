//! What is not ours is never touched: other people's snapshots, look-alikes, other deployments.

use serde_json::{Value, json};

use crate::harness::{World, count, finding, findings, fine, names};

const VARS: [(&str, &str); 2] = [("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "1h")];

fn by_hand(world: &World, name: &str, tags: &Value) {
    let body = json!({"instanceName": "web", "instanceSnapshotName": name, "tags": tags});
    world.call("CreateInstanceSnapshot", &body);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_snapshots_and_look_alikes() {
    let world = World::start(&VARS).await;
    world.launch(&["web", "db"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    let ours = world.snapshots_of("web")[0].clone();

    by_hand(&world, "before-the-upgrade", &json!([]));
    by_hand(&world, "tagged-by-a-person", &json!([{"key": "snapkeep", "value": ""}]));
    // All of our tags, copied.
    let copied: Value =
        ours.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    by_hand(&world, "copy", &copied);
    // Our form of name, without tags; and our tags and a name of ours, but of another origin.
    by_hand(&world, "web-20251230T030000Z-0badcafe", &json!([]));
    let of_db =
        json!({"instanceName": "db", "instanceSnapshotName": "copy-of-web", "tags": copied});
    world.call("CreateInstanceSnapshot", &of_db);
    let foreign = [
        "before-the-upgrade",
        "tagged-by-a-person",
        "copy",
        "web-20251230T030000Z-0badcafe",
        "copy-of-web",
    ];
    world.advance(5);

    let mut pruned = 0;
    for _ in 0..5 {
        let [.., prune] = world.night().await.map(fine);
        let alike = findings(&prune, "look-alike");
        let alike: Vec<&str> = alike.iter().map(|f| f["name"].as_str().unwrap()).collect();
        assert_eq!(alike, ["copy", "copy-of-web"], "{prune:#}");
        assert!(count(&prune, "foreign") >= 3, "{prune:#}");
        world.advance(60);
        pruned += count(&fine(world.tick("prune").await), "pruned");
    }
    assert_eq!(pruned, 10);
    let left = world.snapshots();
    assert!(foreign.iter().all(|name| names(&left).contains(name)), "{:?}", names(&left));
    assert_eq!(left.len(), foreign.len() + 2);
    let deleted = world.deleted();
    assert!(deleted.iter().all(|event| !foreign.contains(&event.snapshot.name.as_str())));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_by_a_stranger() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    fine(world.tick("create").await);
    let name = world.snapshots()[0].name.clone();
    world.call("DeleteInstanceSnapshot", &json!({ "instanceSnapshotName": name }));
    world.lose_ledger();
    by_hand(&world, &name, &json!([]));
    world.advance(5);

    // What looks foreign is believed at the second look: tags may come late.
    let first = world.tick("create").await;
    assert_eq!(finding(&first, "create-deferred")["value"], "NameExists");
    world.advance(15);
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "attempts_failed"), 1, "{create:#}");
    let failed = finding(&create, "attempt-failed");
    assert!(failed["message"].as_str().unwrap().contains(&name), "{failed}");
    world.advance(61);
    assert_eq!(count(&fine(world.tick("create").await), "requested"), 1);
    world.advance(10);
    fine(world.tick("poll").await);
    assert_eq!(world.snapshots().len(), 2);
    assert_ne!(world.snapshots()[1].name, name);
    for _ in 0..3 {
        fine(world.tick("prune").await);
        world.advance(60);
    }
    assert_eq!(names(&world.snapshots())[0], name, "the stranger's stays");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_deployments_in_one_account() {
    let mut one = VARS.to_vec();
    one.push(("SNAPKEEP_DEPLOYMENT", "one"));
    let two = [("SNAPKEEP_DEPLOYMENT", "two"), ("SNAPKEEP_KEEP", "all")];
    let world = World::start(&one).await;
    let other = world.deploy_beside("ledger-two", &two);
    world.launch(&["web"], &[("snapkeep", "")]);
    let owner = |tags: &snapkeep_cloud::lightsail::Tags| tags["snapkeep:managed-by"].clone();

    for _ in 0..4 {
        world.to_next_slot();
        for minutes in [0, 10] {
            world.advance(minutes);
            let function = if minutes == 0 { "create" } else { "poll" };
            fine(world.tick(function).await);
            fine(world.tick_of(&other, function).await);
        }
        for _ in 0..3 {
            for report in [world.tick("prune").await, world.tick_of(&other, "prune").await] {
                let report = fine(report);
                assert!(findings(&report, "look-alike").is_empty(), "{report:#}");
                assert!(findings(&report, "adopted").is_empty(), "{report:#}");
                assert!(count(&report, "foreign") > 0, "{report:#}");
            }
            world.advance(60);
        }
    }
    let left = world.snapshots();
    let of = |name: &str| left.iter().filter(|s| owner(&s.tags).as_deref() == Some(name)).count();
    assert_eq!((world.made().len(), of("one"), of("two")), (8, 1, 4), "{:?}", names(&left));
    let deleted = world.deleted();
    assert_eq!(deleted.len(), 3);
    assert!(deleted.iter().all(|e| owner(&e.snapshot.tags).as_deref() == Some("one")));
    other.shutdown().await;
    world.end().await;
}
