//! What goes, what stays, and what a person can say about it.

use serde_json::json;

use crate::harness::{World, count, finding, findings, fine, names};

#[tokio::test(flavor = "multi_thread")]
async fn holds_outlast_everything() {
    let world = World::start(&[("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "2d")]).await;
    world.launch(&["app", "db", "web"], &[("snapkeep", "")]);
    world.tag("db", "snapkeep:hold", "");
    world.quiet_nights(1).await;
    let held = world.snapshots_of("web")[0].name.clone();
    world.tag(&held, "snapkeep:hold", "");
    world.quiet_nights(1).await;
    // One more is held only after it was announced.
    let late = world.snapshots_of("app")[0].name.clone();
    world.tag(&late, "snapkeep:hold", "until=2026-01-08");
    world.advance(60);
    let prune = fine(world.tick("prune").await);
    assert_eq!(count(&prune, "rescued"), 1, "{prune:#}");
    world.quiet_nights(5).await;

    // The seventh; the last two of the others still have their days of grace.
    assert_eq!(world.snapshots_of("db").len(), 7);
    let of_web = world.snapshots_of("web");
    assert!(names(&of_web).contains(&held.as_str()) && of_web.len() == 4, "{:?}", names(&of_web));
    let of_app = world.snapshots_of("app");
    assert!(names(&of_app).contains(&late.as_str()) && of_app.len() == 4, "{:?}", names(&of_app));
    assert!(world.deleted().iter().all(|e| e.snapshot.from_name != "db"));

    // Set free, they go after the whole grace; the dated hold ends by itself.
    world.untag(&held, "snapkeep:hold");
    world.untag("db", "snapkeep:hold");
    world.quiet_nights(1).await;
    assert!(names(&world.snapshots()).contains(&held.as_str()));
    assert_eq!(world.snapshots_of("db").len(), 8);
    world.quiet_nights(4).await;
    assert!(!names(&world.snapshots()).contains(&held.as_str()));
    assert!(!names(&world.snapshots()).contains(&late.as_str()));
    for instance in ["app", "db", "web"] {
        assert_eq!(world.snapshots_of(instance).len(), 3, "{instance}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tightened_policy_needs_its_code() {
    let ten = [("SNAPKEEP_KEEP", "last=10"), ("SNAPKEEP_GRACE", "1h")];
    let mut world = World::start(&ten).await;
    world.launch(&["db", "web"], &[("snapkeep", "")]);
    world.quiet_nights(6).await;
    assert_eq!(world.snapshots().len(), 12);

    let two = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "1h")];
    world.redeploy(&two);
    let mut code = String::new();
    for _ in 0..3 {
        world.advance(60);
        let prune = fine(world.tick("prune").await);
        assert_eq!((count(&prune, "marked"), count(&prune, "pruned")), (0, 0));
        let brakes = findings(&prune, "brake");
        assert_eq!(brakes.len(), 2, "{prune:#}");
        code = brakes[0]["value"].as_str().unwrap().to_owned();
        assert!(brakes[0]["fix"].as_str().unwrap().contains(&code));
        for gone in world.snapshots_of("db").iter().take(4) {
            let named = |brake: &&serde_json::Value| {
                brake["message"].as_str().unwrap().contains(&gone.name)
            };
            assert!(brakes.iter().any(named), "{} in {prune:#}", gone.name);
        }
    }
    assert_eq!(world.snapshots().len(), 12);

    // By tag for one, by variable for all.
    world.tag("web", "snapkeep:confirm", &format!("00000000 {code}"));
    let prune = fine(world.tick("prune").await);
    assert_eq!((count(&prune, "marked"), findings(&prune, "brake").len()), (4, 1), "{prune:#}");
    world.advance(60);
    assert_eq!(count(&fine(world.tick("prune").await), "pruned"), 4);
    assert_eq!((world.snapshots_of("db").len(), world.snapshots_of("web").len()), (6, 2));

    world.redeploy(&[two[0], two[1], ("SNAPKEEP_CONFIRM", &code)]);
    let prune = fine(world.tick("prune").await);
    assert_eq!((count(&prune, "marked"), findings(&prune, "brake").len()), (4, 0), "{prune:#}");
    world.advance(60);
    assert_eq!(count(&fine(world.tick("prune").await), "pruned"), 4);
    assert_eq!((world.snapshots_of("db").len(), world.snapshots_of("web").len()), (2, 2));
    fine(world.tick("poll").await);
    assert_eq!(world.states().iter().filter(|state| *state == "deleted").count(), 8);

    // The code is for these rules only: other ones need another.
    let one = [("SNAPKEEP_KEEP", "within=1h"), ("SNAPKEEP_MAX_DELETE_PERCENT", "0")];
    world.redeploy(&[one[0], one[1], ("SNAPKEEP_CONFIRM", &code)]);
    let prune = fine(world.tick("prune").await);
    let brakes = findings(&prune, "brake");
    assert_eq!((brakes.len(), count(&prune, "marked")), (2, 0), "{prune:#}");
    assert_ne!(brakes[0]["value"], json!(code));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_is_rebuilt() {
    // The first to run on the empty table may be either.
    for first in ["prune", "create"] {
        let vars = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "1d")];
        let world = World::start(&vars).await;
        world.launch(&["web"], &[("snapkeep", "")]);
        world.quiet_nights(4).await;
        // The first is deleted, the second marked; what there is must be found again.
        let before = names(&world.snapshots()).join(" ");
        let (made, deleted) = (world.made().len(), world.deleted().len());
        assert!(world.states().iter().any(|state| state == "expiring"));
        world.lose_ledger();
        assert!(world.items().is_empty());

        world.advance(15);
        let mut adopted = 0;
        if first == "create" {
            let create = fine(world.tick("create").await);
            assert_eq!((count(&create, "tracked"), count(&create, "requested")), (1, 0));
            fine(world.tick("poll").await);
            adopted = 1;
        }
        let prune = fine(world.tick("prune").await);
        adopted += count(&prune, "adopted");
        assert_eq!(adopted, world.snapshots().len() as u64, "{prune:#}");
        assert!(!findings(&prune, "adopted").is_empty(), "{prune:#}");
        assert_eq!((count(&prune, "marked"), count(&prune, "pruned")), (0, 0));
        let create = fine(world.tick("create").await);
        assert_eq!((count(&create, "served"), count(&create, "requested")), (1, 0));
        assert_eq!((world.made().len(), world.deleted().len()), (made, deleted));
        assert_eq!(names(&world.snapshots()).join(" "), before);
        assert!(world.states().iter().all(|state| state == "available"), "{:?}", world.states());

        // Marked again from the next run on, and deleted after a whole new grace.
        world.advance(60);
        let prune = fine(world.tick("prune").await);
        assert!(count(&prune, "marked") > 0, "{prune:#}");
        assert_eq!((count(&prune, "pruned"), findings(&prune, "brake").len()), (0, 0));
        let marked = world.now();
        world.quiet_nights(4).await;
        let early = |event: &&snapkeep_cloud::lightsail::Event| {
            event.at < marked + jiff::SignedDuration::from_hours(24)
        };
        assert_eq!(world.deleted().iter().filter(early).count(), deleted);
        assert_eq!((world.made().len(), world.snapshots().len()), (made + 4, 3));
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_schedule_empties_nothing() {
    let vars = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "1h")];
    let mut world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(3).await;
    assert_eq!(world.snapshots().len(), 3);
    // Marked, and then create stops: what waits keeps its mark and stays.
    world.advance(24 * 60 * 4);
    for _ in 0..3 {
        let prune = fine(world.tick("prune").await);
        assert_eq!(finding(&prune, "stale")["name"], "web");
        assert_eq!((count(&prune, "pruned"), count(&prune, "rescued")), (0, 0), "{prune:#}");
        world.advance(60);
    }
    assert_eq!(world.states(), ["expiring", "available", "available"]);
    // It runs again: missed slots are caught up once, and pruning goes on.
    world.to_next_slot();
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "requested"), 1);
    assert_eq!(finding(&create, "missed-slots")["value"], "4", "{create:#}");
    world.advance(10);
    fine(world.tick("poll").await);
    let prune = fine(world.tick("prune").await);
    assert_eq!((count(&prune, "pruned"), count(&prune, "marked")), (1, 1), "{prune:#}");

    // A dry run says what it would do, and does not.
    world.redeploy(&[vars[0], vars[1], ("SNAPKEEP_DRY_RUN", "on")]);
    world.advance(120);
    let prune = fine(world.tick("prune").await);
    let name = world.snapshots()[0].name.clone();
    let dry = finding(&prune, "dry-run");
    assert_eq!(dry["value"], json!(format!("delete {name}")), "{prune:#}");
    assert_eq!(world.snapshots().len(), 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_and_untagged_keep_everything() {
    let world = World::start(&[("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "1d")]).await;
    world.launch(&["off", "bare", "web"], &[("snapkeep", "")]);
    world.quiet_nights(2).await;
    world.tag("off", "snapkeep", "off");
    world.untag("bare", "snapkeep");
    world.launch(&["late"], &[("snapkeep", "off")]);
    for night in 0..4 {
        let [create, _, prune] = world.night().await.map(fine);
        assert_eq!(count(&create, "requested"), 1);
        assert_eq!(findings(&create, "opted-out").len(), 2);
        assert_eq!(finding(&prune, "no-longer-tagged")["name"], "bare");
        assert_eq!(count(&prune, "rescued"), if night == 0 { 2 } else { 0 }, "{prune:#}");
    }
    assert_eq!(world.snapshots_of("off").len(), 2);
    assert_eq!(world.snapshots_of("bare").len(), 2);
    assert!(world.snapshots_of("late").is_empty());
    assert!(world.deleted().iter().all(|event| event.snapshot.from_name == "web"));
    assert!(!world.deleted().is_empty());
    world.end().await;
}
