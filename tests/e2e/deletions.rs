//! Deletions that are interrupted, refused, doubled or without an owner.

use std::time::Duration;

use serde_json::json;
use snapkeep_cloud::knobs::{Fault, FaultKind};
use snapkeep_cloud::lambda::Outcome;

use crate::harness::{World, count, finding, findings, fine, report};

const DELETE: &str = "DeleteInstanceSnapshot";
const VARS: [(&str, &str); 2] = [("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "1h")];

/// Two nights; the older snapshot is marked, and its grace is over.
async fn about_to_delete(more: &[(&str, &str)]) -> World {
    let vars: Vec<_> = VARS.iter().chain(more).copied().collect();
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(2).await;
    assert_eq!(world.states(), ["expiring", "available"]);
    world.advance(60);
    world
}

/// In the end: one snapshot, the newest, and a tombstone.
async fn settled(world: World) {
    world.faults(&[]);
    for _ in 0..2 {
        world.advance(60);
        fine(world.tick("prune").await);
        fine(world.tick("poll").await);
    }
    assert_eq!(world.states(), ["deleted", "available"]);
    let left = world.snapshots();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].tags["snapkeep:slot"].as_deref(), Some("2026-01-02T03:00:00Z"));
    assert_eq!(world.deleted().len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_lost_or_broken_calls() {
    for kind in [
        FaultKind::Throttle,
        FaultKind::Denied,
        FaultKind::ServerError,
        FaultKind::Dropped,
        FaultKind::LostResponse,
    ] {
        let world = about_to_delete(&[]).await;
        world.faults(&[Fault::on(DELETE, kind)]);
        let prune = world.tick("prune").await;
        if kind == FaultKind::LostResponse {
            // It is looked for again in the same run, and is gone by our hand.
            assert_eq!(count(&fine(prune), "pruned"), 1);
        } else {
            assert_eq!(count(&prune, "pruned"), 0, "{kind:?}: {prune:#}");
            assert_eq!(prune["failures"][0]["operation"], DELETE, "{kind:?}: {prune:#}");
        }
        assert_eq!(world.deleted().len(), usize::from(kind == FaultKind::LostResponse));
        settled(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_killed_in_the_middle() {
    for first in [FaultKind::Dropped, FaultKind::LostResponse] {
        let world = about_to_delete(&[("AWS_MAX_ATTEMPTS", "5")]).await;
        let then = Fault::on(DELETE, FaultKind::ServerError);
        world.faults(&[Fault::on(DELETE, first).times(1), then]);
        let asked = async {
            while !world.lightsail().calls.contains_key(DELETE) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let prune = world.deployment.function("prune");
        let killed = prune.invoke_and_kill_when(world.event("prune"), asked).await;
        assert!(matches!(killed.outcome, Outcome::Crashed { .. }), "{:?}", killed.outcome);
        assert_eq!(world.states(), ["deleting", "available"], "intent before effect");
        settled(world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_at_once() {
    let world = about_to_delete(&[]).await;
    let prune = world.deployment.function("prune");
    let event = world.event("prune");
    let (one, two) = tokio::join!(prune.invoke(event.clone()), prune.invoke(event));
    let (one, two) = (fine(report(one)), fine(report(two)));
    assert!(count(&one, "pruned") + count(&two, "pruned") >= 1, "{one:#}\n{two:#}");
    assert_eq!(world.deleted().len(), 1);
    settled(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_listing_suspends() {
    let world = about_to_delete(&[]).await;
    for operation in ["GetInstances", "GetInstanceSnapshots"] {
        let broken = Fault::on(operation, FaultKind::Throttle);
        world.faults(&[Fault { region: Some("eu-west-1".to_owned()), ..broken }]);
        let prune = world.tick("prune").await;
        assert_eq!(prune["failures"][0]["region"], "eu-west-1", "{prune:#}");
        assert_eq!((count(&prune, "pruned"), count(&prune, "rescued")), (0, 0), "{prune:#}");
        assert_eq!(world.states(), ["expiring", "available"]);
    }
    // A page that breaks off is no listing either.
    world.lightsail().knobs.page_size = 1;
    let later = Fault { skip: 1, ..Fault::on("GetInstanceSnapshots", FaultKind::ServerError) };
    world.faults(&[Fault { region: Some("eu-west-1".to_owned()), ..later }]);
    let prune = world.tick("prune").await;
    assert_eq!((count(&prune, "pruned"), count(&prune, "rescued")), (0, 0), "{prune:#}");
    assert_eq!(world.states(), ["expiring", "available"]);
    settled(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_marks_than_a_run_may_make() {
    let mut world = World::start(&[VARS[0], VARS[1], ("SNAPKEEP_MAX_DELETES", "2")]).await;
    world.launch(&["app", "db", "web"], &[("snapkeep", "")]);
    world.quiet_nights(2).await;
    let prune = fine(world.tick("prune").await);
    let told = finding(&prune, "too-many-marks");
    assert_eq!((&told["key"], &told["value"]), (&json!("SNAPKEEP_MAX_DELETES"), &json!("3")));
    assert_eq!(count(&prune, "marked"), 0);
    world.redeploy(&[VARS[0], VARS[1], ("SNAPKEEP_MAX_DELETES", "3")]);
    assert_eq!(count(&fine(world.tick("prune").await), "marked"), 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_snapshots_of_a_deleted_instance() {
    let keep = [("SNAPKEEP_KEEP", "last=3"), ("SNAPKEEP_GRACE", "1h")];
    let mut world = World::start(&keep).await;
    world.launch(&["web", "all"], &[("snapkeep", "")]);
    world.tag("all", "snapkeep:keep", "all");
    world.quiet_nights(3).await;
    world.terminate("web");
    world.terminate("all");
    // Without a variable all of them stay, and are reported with their size.
    for _ in 0..3 {
        let [.., prune] = world.night().await.map(fine);
        let orphans = findings(&prune, "orphan");
        assert_eq!(orphans.len(), 2, "{prune:#}");
        assert!(orphans.iter().all(|orphan| orphan["value"] == "60"), "{prune:#}");
        assert_eq!((count(&prune, "marked"), count(&prune, "pruned")), (0, 0));
    }
    // With it, in full for so long, counted from the newest; then the newest only.
    world.redeploy(&[keep[0], keep[1], ("SNAPKEEP_ORPHAN_KEEP", "4d")]);
    world.quiet_nights(1).await;
    world.advance(60);
    assert_eq!(world.snapshots_of("web").len(), 3);
    world.quiet_nights(1).await;
    world.advance(60);
    fine(world.tick("prune").await);
    let left = world.snapshots_of("web");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].tags["snapkeep:slot"].as_deref(), Some("2026-01-03T03:00:00Z"));
    assert_eq!(world.snapshots_of("all").len(), 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_create_finds_again_keeps_its_own_retention() {
    // Made to be kept for good; the ledger is lost and the policy tightened, both at once.
    let mut world = World::start(&[("SNAPKEEP_KEEP", "all")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    world.lose_ledger();
    world.redeploy(&[VARS[0], VARS[1], ("SNAPKEEP_MAX_DELETE_PERCENT", "0")]);
    world.advance(15);
    assert_eq!(count(&fine(world.tick("create").await), "tracked"), 1);
    fine(world.tick("poll").await);
    let [.., prune] = world.night().await.map(fine);
    // §4: its own retention is that of its tags.
    assert_eq!(count(&prune, "marked"), 0, "{prune:#}");
    assert_eq!(findings(&prune, "brake").len(), 1, "{prune:#}");
    world.end().await;
}
