//! What goes wrong at the provider and with the processes.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use snapkeep_cloud::dynamodb;
use snapkeep_cloud::knobs::{Fault, FaultKind};
use snapkeep_cloud::lambda::Outcome;
use snapkeep_tests::at;

use crate::harness::{World, count, finding, findings, fine};

const CREATE: &str = "CreateInstanceSnapshot";

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_under_the_same_name() {
    let world = World::start(&[("AWS_MAX_ATTEMPTS", "2")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.faults(&[Fault::on(CREATE, FaultKind::LostResponse).times(1)]);
    let report = fine(world.tick("create").await);
    assert_eq!((count(&report, "tracked"), count(&report, "requested")), (1, 0), "{report:#}");
    assert_eq!(world.lightsail().calls[CREATE], 2);
    assert_eq!((world.made().len(), world.states()), (1, vec!["requested".to_owned()]));
    world.advance(10);
    fine(world.tick("poll").await);
    // The same for the answers of the ledger's own writes: the lease, the claim, the record.
    for skipped in 0..3 {
        world.to_next_slot();
        world.cloud.dynamodb().lose_next_response(1, Some("PutItem"));
        let report = fine(world.tick("create").await);
        let counts = (count(&report, "requested"), count(&report, "conflicts"));
        assert_eq!(counts, (1, 0), "{skipped}: {report:#}");
        world.advance(10);
        fine(world.tick("poll").await);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle() {
    // Before the effect, and after it: what follows keeps the SDK asking again until the kill.
    for first in [FaultKind::Dropped, FaultKind::LostResponse] {
        let world = World::start(&[("AWS_MAX_ATTEMPTS", "5")]).await;
        world.launch(&["web"], &[("snapkeep", "")]);
        let then = Fault::on(CREATE, FaultKind::ServerError);
        world.faults(&[Fault::on(CREATE, first).times(1), then]);
        let asked = async {
            while !world.lightsail().calls.contains_key(CREATE) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let create = world.deployment.function("create");
        let event = world.event("create");
        let killed = create.invoke_and_kill_when(event.clone(), asked).await;
        assert!(matches!(killed.outcome, Outcome::Crashed { .. }), "{:?}", killed.outcome);
        let effect = usize::from(first == FaultKind::LostResponse);
        assert_eq!(world.made().len(), effect);
        assert_eq!(world.states(), ["intended"]);

        world.faults(&[]);
        // Lambda's own second try may come too early to be sure that the first is over.
        let again = fine(world.tick("create").await);
        assert_eq!(count(&again, "requested") + count(&again, "tracked"), 0, "{again:#}");
        assert_eq!(world.made().len(), effect);
        for _ in 0..3 {
            world.advance(15);
            fine(world.tick("create").await);
        }
        fine(world.tick("poll").await);
        assert_eq!((world.made().len(), world.states()), (1, vec!["available".to_owned()]));
        assert_eq!(create.instances_started(), 2);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_night() {
    let world = World::start(&[]).await;
    world.launch(&["web", "db"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    let slot = world.to_next_slot();
    let over = slot + SignedDuration::from_hours(1);
    let throttled = Fault { until: Some(over), ..Fault::on(CREATE, FaultKind::Throttle) };
    world.faults(&[throttled]);
    while world.now() < over {
        let report = world.tick("create").await;
        assert_eq!(report["failures"].as_array().unwrap().len(), 2, "{report:#}");
        for failure in report["failures"].as_array().unwrap() {
            assert_eq!(failure["code"], "ThrottlingException");
            assert_eq!(failure["region"], "eu-west-1");
        }
        assert_eq!(findings(&report, "create-deferred").len(), 2);
        assert_eq!(world.made().len(), 2);
        let intended = world.states().iter().filter(|state| *state == "intended").count();
        assert_eq!(intended, 2);
        fine(world.tick("poll").await);
        world.advance(15);
    }
    let report = fine(world.tick("create").await);
    assert_eq!((count(&report, "requested"), count(&report, "missed")), (2, 0), "{report:#}");
    world.advance(10);
    assert_eq!(count(&fine(world.tick("poll").await), "available"), 2);
    assert_eq!(world.made().len(), 4);
    let slot = Some(slot.to_string());
    let of_slot = world.snapshots().iter().filter(|s| s.tags["snapkeep:slot"] == slot).count();
    assert_eq!(of_slot, 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twenty_fails() {
    let world = World::start(&[]).await;
    let all: Vec<String> = (0..20).map(|number| format!("web-{number:02}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    world.launch(&all, &[("snapkeep", "")]);
    world.faults(&[Fault::on(CREATE, FaultKind::Denied).of("web-07")]);
    let report = world.tick("create").await;
    assert_eq!(count(&report, "requested"), 19);
    assert_eq!(report["failures"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["failures"][0]["name"], "web-07");
    assert_eq!(report["failures"][0]["code"], "AccessDeniedException");
    assert_eq!(report["failures"][0]["resource"], world.arn("web-07"));
    assert_eq!(finding(&report, "create-deferred")["name"], "web-07");
    assert!(world.snapshots_of("web-07").is_empty());

    world.faults(&[]);
    world.advance(15);
    let report = fine(world.tick("create").await);
    assert_eq!((count(&report, "requested"), count(&report, "served")), (1, 19));
    assert_eq!(world.made().len(), 20);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_region_fails() {
    let world = World::start(&[]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    let down = Fault::on("*", FaultKind::ServerError);
    world.faults(&[Fault { region: Some("us-east-1".to_owned()), ..down.clone() }]);
    let report = world.tick("create").await;
    assert_eq!(count(&report, "requested"), 1);
    assert_eq!(report["failures"][0]["region"], "us-east-1");

    // With no Region left, or without the ledger, it is Lambda that tries the whole tick again.
    world.faults(&[down]);
    let failed = |outcome: Outcome| match outcome {
        Outcome::Error { error_type, .. } => error_type,
        other => panic!("{other:?}"),
    };
    for function in ["create", "prune"] {
        let invocation = world.deployment.function(function).invoke(json!({})).await;
        assert_eq!(failed(invocation.outcome), "ProviderUnavailable");
    }
    world.faults(&[]);
    for function in ["create", "poll", "prune"] {
        world.cloud.dynamodb().fault_next(dynamodb::Fault::Throttle, 100, None);
        let invocation = world.deployment.function(function).invoke(json!({})).await;
        assert_eq!(failed(invocation.outcome), "LedgerUnavailable");
        world.cloud.dynamodb().clear_faults();
    }
    assert_eq!(world.made().len(), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_stays_pending() {
    let vars = [("SNAPKEEP_PENDING_TIMEOUT", "2h"), ("SNAPKEEP_SCHEDULE", "hourly")];
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.faults(&[Fault::on(CREATE, FaultKind::StuckPending).times(1)]);
    fine(world.tick("create").await);
    let stuck = world.snapshots()[0].name.clone();
    for time in ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"] {
        world.cloud.clock().set(at(time));
        let poll = fine(world.tick("poll").await);
        assert!(findings(&poll, "pending-too-long").is_empty());
        let create = fine(world.tick("create").await);
        let waiting = finding(&create, "waiting-for-pending");
        assert!(waiting["message"].as_str().unwrap().contains(&stuck), "{waiting}");
        assert_eq!(world.made().len(), 1);
    }

    world.cloud.clock().set(at("2026-01-01T02:15:00Z"));
    let poll = fine(world.tick("poll").await);
    assert_eq!(finding(&poll, "pending-too-long")["value"], json!(stuck));
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "requested"), 1);
    assert_eq!(finding(&create, "missed-slots")["value"], "1", "01:00 passed meanwhile");
    world.advance(5);
    let poll = fine(world.tick("poll").await);
    assert_eq!(count(&poll, "available"), 1);
    assert_eq!(finding(&poll, "pending-too-long")["value"], json!(stuck));
    assert_eq!(world.states(), ["pending", "available"]);
    let prune = fine(world.tick("prune").await);
    assert_eq!(count(&prune, "not_available"), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_fails() {
    let vars = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "1h")];
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    let slot = world.to_next_slot();
    world.faults(&[Fault::on(CREATE, FaultKind::FailSnapshot)]);
    let next = slot + SignedDuration::from_hours(24);
    let (mut failed, mut exhausted) = (0, false);
    while world.now() < next {
        let create = fine(world.tick("create").await);
        exhausted = !findings(&create, "attempts-exhausted").is_empty();
        world.advance(5);
        let poll = fine(world.tick("poll").await);
        failed += findings(&poll, "attempt-failed").len();
        world.advance(10);
    }
    let attempts: Vec<_> = world.made().into_iter().filter(|made| made.at >= slot).collect();
    assert_eq!((attempts.len(), failed, exhausted), (5, 5, true));
    let minutes: Vec<i64> =
        attempts.windows(2).map(|two| two[0].at.duration_until(two[1].at).as_mins()).collect();
    // Counted from the failure, which is seen 5 minutes later, to the first tick after.
    assert_eq!(minutes, [75, 135, 255, 495]);
    let slots: Vec<_> = attempts.iter().map(|a| a.snapshot.tags["snapkeep:slot"].clone()).collect();
    assert_eq!(slots, vec![Some(slot.to_string()); 5]);

    world.faults(&[]);
    let create = fine(world.tick("create").await);
    assert_eq!(count(&create, "requested"), 1, "{create:#}");
    assert!(findings(&create, "missed-slots").is_empty());
    world.advance(10);
    assert_eq!(count(&fine(world.tick("poll").await), "available"), 1);
    // What the failed attempts left behind goes; the good ones stay.
    for _ in 0..4 {
        fine(world.tick("prune").await);
        world.advance(60);
    }
    fine(world.tick("poll").await);
    assert_eq!(world.snapshots().len(), 2);
    assert_eq!(world.deleted().len(), 5);
    assert!(world.deleted().iter().all(|e| e.snapshot.fate == Some(FaultKind::FailSnapshot)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_vanish() {
    let world = World::start(&[]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.faults(&[Fault::on(CREATE, FaultKind::Vanish).times(1)]);
    fine(world.tick("create").await);
    // Gone while pending: asked twice, 15 minutes apart, then the next attempt an hour later.
    for _ in 0..2 {
        world.advance(10);
        let poll = fine(world.tick("poll").await);
        assert!(findings(&poll, "attempt-failed").is_empty());
    }
    world.advance(10);
    assert_eq!(finding(&fine(world.tick("poll").await), "attempt-failed")["value"], "1");
    assert_eq!(world.states(), ["failed"]);
    world.advance(60);
    assert_eq!(count(&fine(world.tick("create").await), "requested"), 1);
    world.advance(10);
    fine(world.tick("poll").await);
    assert_eq!(world.states(), ["available"]);

    // Deleted by somebody else once available: a tombstone, and no other in its place.
    let name = world.snapshots()[0].name.clone();
    world.call("DeleteInstanceSnapshot", &json!({ "instanceSnapshotName": name }));
    assert!(findings(&fine(world.tick("prune").await), "vanished").is_empty());
    world.advance(20);
    let vanished = fine(world.tick("prune").await);
    assert_eq!(finding(&vanished, "vanished")["value"], json!(name));
    assert_eq!(world.states(), ["deleted"]);
    assert_eq!(count(&fine(world.tick("create").await), "served"), 1);
    assert_eq!(world.made().len(), 2);
    world.end().await;
}
