//! Tags and variables that cannot be read: in doubt, snapshot and don't delete.

use serde_json::{Value, json};
use snapkeep_cloud::knobs::Knobs;
use snapkeep_cloud::lambda::Outcome;

use crate::harness::{World, count, finding, findings, fine};

#[tokio::test(flavor = "multi_thread")]
async fn bad_tags_are_snapshotted_and_not_pruned() {
    let world = World::start(&[("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "1h")]).await;
    let bad = [
        ("keep", "snapkeep:keep", "daily=x"),
        ("schedule", "snapkeep:schedule", "daily@25:00"),
        ("zone", "snapkeep:timezone", "Europe/Munich"),
        ("key", "snapkeep:retention", "daily=7"),
        ("case", "snapkeep:Keep", "daily=7"),
        ("policy", "snapkeep", "gold"),
    ];
    world.launch(&["good"], &[("snapkeep", "")]);
    for (name, key, value) in bad {
        world.launch(&[name], &[("snapkeep", "")]);
        world.tag(name, key, value);
    }
    // These opt nothing in.
    world.launch(&["wrong-case"], &[("Snapkeep", "")]);
    world.launch(&["no-opt-in"], &[("snapkeep:keep", "daily=7")]);

    for night in 1..=4 {
        let [create, _, prune] = world.night().await.map(fine);
        assert_eq!(count(&create, "requested"), 7, "{create:#}");
        for report in [&create, &prune] {
            for (name, key, value) in bad {
                let arn = world.arn(name);
                let found = findings(report, "bad-tag");
                let found = found.iter().find(|f| f["resource"] == arn.as_str());
                let found = found.unwrap_or_else(|| panic!("{name} in {report:#}"));
                let members = (&found["name"], &found["key"], &found["value"]);
                assert_eq!(members, (&json!(name), &json!(key), &json!(value)), "{found}");
                let text = format!("{}{}", found["message"], found["fix"]);
                assert!(text.len() > 20, "{found}");
            }
            for name in ["wrong-case", "no-opt-in"] {
                let found = findings(report, "bad-tag");
                assert!(found.iter().any(|f| f["name"] == name), "{name} in {report:#}");
            }
        }
        assert_eq!(count(&prune, "marked"), u64::from(night > 1), "{prune:#}");
    }
    world.advance(60);
    fine(world.tick("prune").await);
    for (name, ..) in bad {
        assert_eq!(world.snapshots_of(name).len(), 4, "{name}");
    }
    assert_eq!(world.snapshots_of("good").len(), 1);
    for name in ["wrong-case", "no-opt-in"] {
        assert!(world.snapshots_of(name).is_empty(), "{name}");
    }
    world.end().await;
}

/// The message of a function that refused to start.
async fn refusal(world: &World, function: &str) -> String {
    let invocation = world.deployment.function(function).invoke(world.event(function)).await;
    match invocation.outcome {
        Outcome::InitError { message } => message,
        Outcome::Error { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_retention_stops_prune_and_not_create() {
    let bad = [("SNAPKEEP_KEEP", "daily=sevn"), ("SNAPKEEP_GRACE", "1h")];
    let mut world = World::start(&bad).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "requested"), 1);
    let told = finding(&create, "bad-variable");
    let (key, value) = (&told["key"], &told["value"]);
    assert_eq!((key, value), (&json!("SNAPKEEP_KEEP"), &json!("daily=sevn")));
    world.advance(10);
    assert_eq!(count(&fine(world.tick("poll").await), "available"), 1);
    let message = refusal(&world, "prune").await;
    for part in ["SNAPKEEP_KEEP", "daily=sevn", "daily=7"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(world.deleted().is_empty());
    // What it was made with cannot be read, so the snapshot itself says nothing: it would stay.
    assert!(!world.snapshots()[0].tags.contains_key("snapkeep:keep"));

    for (function, key, value) in [
        ("create", "SNAPKEEP_SCHEDULE", "daily"),
        ("create", "SNAPKEEP_TIMEZONE", "Mars/Olympus"),
        ("prune", "SNAPKEEP_GRACE", "3 days"),
        ("prune", "SNAPKEEP_MIN_KEEP", "0"),
        ("prune", "SNAPKEEP_MAX_DELETE_PERCENT", "200"),
        ("poll", "SNAPKEEP_PENDING_TIMEOUT", "soon"),
    ] {
        world.redeploy(&[(key, value)]);
        let message = refusal(&world, function).await;
        assert!(message.contains(key) && message.contains(value), "{function}: {message}");
    }
    world.redeploy(&[("SNAPKEEP_KEEP", "last=1")]);
    fine(world.tick("prune").await);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_retention_keeps_everything_and_says_so() {
    // Blank is unset.
    let world = World::start(&[("SNAPKEEP_KEEP", " "), ("SNAPKEEP_GRACE", "1h")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(5).await;
    let prune = fine(world.tick("prune").await);
    assert!(!findings(&prune, "keeps-everything").is_empty(), "{prune:#}");
    assert_eq!((count(&prune, "marked"), count(&prune, "kept")), (0, 5), "{prune:#}");
    assert_eq!(world.snapshots().len(), 5);
    assert!(world.deleted().is_empty());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn named_policies_good_and_bad() {
    let policies = "gold: schedule=every-6h timezone=Europe/Berlin keep=last=2; silver: keep=daily";
    let world = World::start(&[("SNAPKEEP_POLICIES", policies), ("SNAPKEEP_GRACE", "1h")]).await;
    world.launch(&["gold"], &[("snapkeep", "gold")]);
    world.launch(&["silver"], &[("snapkeep", "silver")]);
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "requested"), 2, "{create:#}");
    let told = findings(&create, "bad-variable");
    let told: Vec<&Value> = told.into_iter().filter(|f| f["key"] == "SNAPKEEP_POLICIES").collect();
    assert!(!told.is_empty(), "{create:#}");
    let tags = world.snapshots_of("gold")[0].tags.clone();
    let tag = |key: &str| tags[key].clone().unwrap();
    assert_eq!(tag("snapkeep:policy"), "gold");
    assert_eq!(tag("snapkeep:keep"), "last=2");
    assert_eq!(tag("snapkeep:timezone"), "Europe/Berlin");
    // Midnight in Berlin.
    assert_eq!(tag("snapkeep:slot"), "2025-12-31T23:00:00Z");
    world.advance(10);
    fine(world.tick("poll").await);
    world.quiet_nights(3).await;
    let prune = fine(world.tick("prune").await);
    assert_eq!(count(&prune, "pruned") + count(&prune, "expiring"), 1, "{prune:#}");
    assert_eq!(world.snapshots_of("silver").len(), 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_regions_and_one_that_is_not_enabled() {
    let knobs = Knobs { disabled_regions: vec!["ap-east-1".to_owned()], ..Knobs::default() };
    let world = World::start_with(knobs, &[("SNAPKEEP_REGIONS", "all")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    for function in ["create", "prune"] {
        let report = fine(world.tick(function).await);
        assert_eq!(count(&report, "regions"), 18, "{report:#}");
        assert_eq!(finding(&report, "region-not-enabled")["name"], "ap-east-1");
    }
    assert_eq!(world.made().len(), 1);

    // But where snapshots of ours are, it is no mere information.
    world.advance(10);
    fine(world.tick("poll").await);
    world.lightsail().knobs.disabled_regions.push("eu-west-1".to_owned());
    let prune = world.tick("prune").await;
    let found = finding(&prune, "region-unreachable");
    assert_eq!((&found["name"], &found["severity"]), (&json!("eu-west-1"), &json!("error")));
    assert_eq!(prune["failures"][0]["region"], "eu-west-1");
    assert_eq!(world.states(), ["available"]);
    world.end().await;
}
