//! Nights as they should be, and events as they really come.

use jiff::SignedDuration;
use serde_json::json;
use snapkeep_cloud::lambda::Outcome;
use snapkeep_cloud::schedule::{rule_event, scheduler_event};
use snapkeep_tests::{REGION, at};

use crate::harness::{START, World, count, finding, findings, fine, report};

#[tokio::test(flavor = "multi_thread")]
async fn a_normal_night() {
    let world = World::start(&[("SNAPKEEP_KEEP", "daily=7")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["other"], &[]);

    let first = fine(world.tick("create").await);
    assert_eq!((count(&first, "instances"), count(&first, "protected")), (2, 1));
    assert_eq!(count(&first, "requested"), 1);
    assert_eq!(first["function"], "create");
    assert_eq!(at(first["now"].as_str().unwrap()), world.now());
    assert_eq!(world.states(), ["requested"]);
    let made = world.snapshots();
    assert_eq!(made.len(), 1);
    assert!(made[0].name.starts_with("web-20251231T030000Z-"), "{}", made[0].name);
    let tag = |key: &str| made[0].tags[key].clone().unwrap();
    assert_eq!(tag("snapkeep:managed-by"), "snapkeep");
    assert_eq!(tag("snapkeep:slot"), "2025-12-31T03:00:00Z");
    assert_eq!(tag("snapkeep:source"), world.arn("web"));
    assert_eq!(tag("snapkeep:policy"), "default");
    assert_eq!(tag("snapkeep:keep"), "daily=7");
    assert_eq!(tag("snapkeep:timezone"), "UTC");

    let second = fine(world.tick("create").await);
    assert_eq!((count(&second, "requested"), count(&second, "served")), (0, 1));
    let early = fine(world.tick("poll").await);
    assert_eq!((count(&early, "followed"), count(&early, "available")), (1, 0));
    assert_eq!(world.states(), ["pending"]);

    world.advance(10);
    let settled = fine(world.tick("poll").await);
    assert_eq!((count(&settled, "followed"), count(&settled, "available")), (1, 1));
    assert_eq!(world.states(), ["available"]);
    let third = fine(world.tick("create").await);
    assert_eq!((count(&third, "requested"), count(&third, "served")), (0, 1));
    assert_eq!(world.made().len(), 1);

    // An idle poll asks the ledger only, and never scans.
    let calls = world.lightsail().calls.clone();
    assert_eq!(count(&fine(world.tick("poll").await), "followed"), 0);
    assert_eq!(world.lightsail().calls, calls);
    assert!(!world.cloud.dynamodb().requests().contains_key("Scan"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_hours_at_the_default_cadence() {
    let world = World::start(&[("SNAPKEEP_KEEP", "last=3")]).await;
    world.launch(&["web", "db"], &[("snapkeep", "")]);
    world.tag("db", "snapkeep:schedule", "every-6h");
    for minute in (5..8 * 60).step_by(5) {
        world.cloud.clock().set(at(START) + SignedDuration::from_mins(minute));
        for (function, every) in [("create", 15), ("poll", 10), ("prune", 60)] {
            if minute % every == 0 {
                let report = fine(world.tick(function).await);
                assert!(findings(&report, "missed-slots").is_empty(), "{report:#}");
            }
        }
    }
    let slots = |instance: &str| -> Vec<String> {
        let all = world.snapshots_of(instance);
        all.iter().map(|s| s.tags["snapkeep:slot"].clone().unwrap()).collect()
    };
    assert_eq!(slots("web"), ["2025-12-31T03:00:00Z", "2026-01-01T03:00:00Z"]);
    assert_eq!(slots("db"), ["2026-01-01T00:00:00Z", "2026-01-01T06:00:00Z"]);
    assert!(world.states().iter().all(|state| state == "available"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_twice_and_two_at_once() {
    let world = World::start(&[]).await;
    world.launch(&["web"], &[("snapkeep", "on")]);
    let create = world.deployment.function("create");

    let event = world.event("create");
    fine(report(create.invoke(event.clone()).await));
    fine(report(create.invoke(event.clone()).await));
    assert_eq!(world.made().len(), 1);
    // Lambda tries again as the same request.
    fine(report(create.invoke_as("11111111-2222-4333-8444-555555555555".into(), event).await));
    assert_eq!(world.made().len(), 1);

    world.advance(10);
    fine(world.tick("poll").await);
    for night in 2..=6 {
        world.to_next_slot();
        let event = world.event("create");
        let (one, two) = tokio::join!(create.invoke(event.clone()), create.invoke(event));
        let (one, two) = (fine(report(one)), fine(report(two)));
        assert_eq!(count(&one, "requested") + count(&two, "requested"), 1, "{one:#}\n{two:#}");
        assert_eq!(world.made().len(), night);
        world.advance(10);
        fine(world.tick("poll").await);
    }
    assert!(create.instances_started() >= 2);
    assert_eq!(world.states(), vec!["available"; 6]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_three_pages_of_everything() {
    let vars = [("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "1h")];
    let world = World::start(&vars).await;
    let all: Vec<String> = (0..65).map(|number| format!("web-{number:02}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.launch(&all, &[("snapkeep", "")]);

    let [create, poll, prune] = world.night().await.map(fine);
    assert_eq!((count(&create, "protected"), count(&create, "requested")), (65, 65));
    assert_eq!(count(&poll, "available"), 65);
    assert_eq!((count(&prune, "snapshots"), count(&prune, "kept")), (65, 65));

    let [create, poll, prune] = world.night().await.map(fine);
    assert_eq!((count(&create, "requested"), count(&poll, "available")), (65, 65));
    assert_eq!((count(&prune, "snapshots"), count(&prune, "marked")), (130, 65));
    world.advance(60);
    let prune = fine(world.tick("prune").await);
    assert_eq!((count(&prune, "snapshots"), count(&prune, "pruned")), (130, 65), "{prune:#}");
    assert_eq!(world.snapshots().len(), 65);
    assert!(all.iter().all(|name| world.snapshots_of(name).len() == 1));
    world.advance(10);
    assert_eq!(count(&fine(world.tick("poll").await), "deleted"), 65);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_again_under_the_same_name() {
    let vars =
        [("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "1h"), ("SNAPKEEP_ORPHAN_KEEP", "1d")];
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    world.to_next_slot();
    fine(world.tick("create").await);
    world.advance(10);
    fine(world.tick("poll").await);
    let old = world.arn("web");
    assert_eq!(world.snapshots().len(), 2);

    world.terminate("web");
    world.launch(&["web"], &[("snapkeep", "")]);
    let new = world.arn("web");
    assert_ne!(old, new);
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "requested"), 1, "the same slot, but another instance");
    world.advance(10);
    fine(world.tick("poll").await);

    for _ in 0..6 {
        let [.., prune] = world.night().await.map(fine);
        let orphan = finding(&prune, "orphan");
        assert_eq!((&orphan["resource"], &orphan["name"]), (&json!(old), &json!("web")));
    }
    world.advance(60);
    fine(world.tick("prune").await);
    let of = |arn: &str| world.snapshots().iter().filter(|s| s.from_arn == arn).count();
    // The old one's go after their time, all but the minimum: the new one is another resource.
    assert_eq!((of(&old), of(&new)), (1, 1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_prints_its_metrics_whatever_the_log_level() {
    let world = World::start(&[("AWS_LAMBDA_LOG_LEVEL", "error")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    for (function, metric, value) in
        [("create", "Taken", 1), ("poll", "Available", 0), ("prune", "Overdue", 0)]
    {
        let invocation = world.deployment.function(function).invoke(json!({})).await;
        let lines: Vec<&str> =
            invocation.log.lines().filter(|line| line.contains("_aws")).collect();
        let [line] = lines[..] else { panic!("{}", invocation.log) };
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["Deployment"], &line["Function"]),
            (&json!("snapkeep"), &json!(function))
        );
        assert_eq!(line[metric], value, "{line}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_every_kind_and_garbage() {
    let world = World::start(&[]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    for function in ["create", "poll", "prune"] {
        let function = world.deployment.function(function);
        let scheduler = scheduler_event("tick", world.now(), REGION);
        assert_eq!(scheduler["detail"], json!("{}"));
        fine(report(function.invoke(scheduler).await));
        fine(report(function.invoke(json!({})).await));
        // Its time is for the log: an old event does not bring the past back.
        fine(report(function.invoke(rule_event("tick", at("2020-01-01T00:00:00Z"), REGION)).await));
    }
    assert_eq!(world.made().len(), 1);

    for function in ["create", "poll", "prune"] {
        let function = world.deployment.function(function);
        for garbage in [json!([]), json!("tick"), json!(null), json!({"source": "aws.events"})] {
            let invocation = function.invoke(garbage.clone()).await;
            let Outcome::Error { error_type, message, .. } = invocation.outcome else {
                panic!("{garbage}: {:?}", invocation.outcome);
            };
            assert_eq!(error_type, "BadEvent");
            assert!(message.contains(&garbage.to_string()), "{message}");
        }
        // And the process lives on.
        fine(report(function.invoke(json!({})).await));
        assert_eq!(function.instances_started(), 1);
    }
    assert_eq!(world.made().len(), 1);
    world.end().await;
}
