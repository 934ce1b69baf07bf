//! Other accounts: looked after by the roles of `SNAPKEEP_ROLE_ARNS`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};
use snapkeep_cloud::http::{Shared, lock};
use snapkeep_cloud::knobs::{Fault, FaultKind, Knobs};
use snapkeep_cloud::lightsail::Answer;
use snapkeep_tests::REGION;

use crate::harness::*;

const THEIRS: &str = "222233334444";
const ROLES: &str = "arn:aws:iam::222233334444:role/snapkeep-*";

/// A cloud on which the three functions' roles may be assumed with this external id.
async fn start(external_id: &str, roles: &str) -> (World, Shared) {
    let trusts = ["create", "poll", "prune"].map(|function| {
        let role = format!("arn:aws:iam::{THEIRS}:role/snapkeep-{function}");
        (role, external_id.to_owned())
    });
    let knobs = Knobs { roles: trusts.into(), ..Knobs::default() };
    let vars =
        [("SNAPKEEP_ROLE_ARNS", roles), ("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "0h")];
    let world = World::start_with(knobs, &vars).await;
    let theirs = world.cloud.accounts().other(THEIRS);
    (world, theirs)
}

/// Calls their Lightsail as a person there would.
fn call(world: &World, theirs: &Shared, operation: &str, body: &Value) -> Value {
    match lock(theirs).call(world.now(), REGION, operation, body) {
        Ok(Answer::Body(answer)) => answer,
        other => panic!("{operation}: {other:?}"),
    }
}

fn launch(world: &World, theirs: &Shared) {
    // The same name as at home: neither names nor numbers tell accounts apart.
    let body = json!({
        "instanceNames": ["web"],
        "availabilityZone": format!("{REGION}a"),
        "blueprintId": "debian_12",
        "bundleId": "nano_3_0",
        "tags": [{"key": "snapkeep", "value": "on"}],
    });
    call(world, theirs, "CreateInstances", &body);
    world.launch(&["web"], &[("snapkeep", "on")]);
}

fn snapshots(world: &World, theirs: &Shared) -> Vec<Value> {
    let listed = call(world, theirs, "GetInstanceSnapshots", &json!({}));
    listed["instanceSnapshots"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_account_is_looked_after_like_our_own() {
    let (world, theirs) = start("snapkeep", ROLES).await;
    launch(&world, &theirs);
    for _ in 0..2 {
        let [create, poll, _] = world.night().await;
        assert_eq!((count(&create, "requested"), count(&poll, "available")), (2, 2), "{create:#}");
    }
    world.quiet_nights(1).await;
    // What the grace lets go, goes in both.
    assert_eq!(count(&fine(world.tick("prune").await), "pruned"), 2);
    world.advance(10);
    fine(world.tick("poll").await);
    let left = snapshots(&world, &theirs);
    assert_eq!((world.snapshots().len(), left.len()), (1, 1));
    assert!(left[0]["arn"].as_str().unwrap().contains(&format!(":{REGION}:{THEIRS}:")));
    assert_eq!(left[0]["location"]["regionName"], REGION);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_lets_us_in_no_more_stops_no_other_and_loses_nothing() {
    let (mut world, theirs) = start("snapkeep", ROLES).await;
    launch(&world, &theirs);
    world.night().await;
    // Its role is no longer in the variable: the records remain, and say so.
    world.redeploy(&[("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_GRACE", "0h")]);
    for _ in 0..3 {
        world.night().await;
    }
    assert_eq!(snapshots(&world, &theirs).len(), 1);
    assert!(lock(&theirs).events.iter().all(|event| event.operation != "DeleteInstanceSnapshot"));

    // It is there, but refuses us.
    world.redeploy(&[("SNAPKEEP_ROLE_ARNS", ROLES), ("SNAPKEEP_KEEP", "last=1")]);
    let denied = |operation: &str| Fault::on(operation, FaultKind::Denied);
    lock(&theirs).knobs.faults = vec![denied("GetInstances"), denied("GetInstanceSnapshots")];
    world.to_next_slot();
    let create = world.tick("create").await;
    assert_eq!(count(&create, "requested"), 1);
    let places: Vec<&str> = create["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["region"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["eu-west-1@222233334444", "us-east-1@222233334444"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_asks_for_another_external_id_is_a_failure_of_its_account() {
    let (world, theirs) = start("another", ROLES).await;
    launch(&world, &theirs);
    let create = world.tick("create").await;
    assert_eq!((count(&create, "requested"), snapshots(&world, &theirs).len()), (1, 0));
    let failures = create["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2, "{create:#}");
    for failure in failures {
        assert!(failure["region"].as_str().unwrap().ends_with(THEIRS));
        assert!(failure["message"].as_str().unwrap().contains("AssumeRole"), "{failure:#}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_our_own_account_is_refused_before_anything_is_taken_twice() {
    let ours = "arn:aws:iam::111122223333:role/snapkeep-create";
    let knobs =
        Knobs { roles: [(ours.to_owned(), "snapkeep".to_owned())].into(), ..Knobs::default() };
    let world = World::start_with(knobs, &[("SNAPKEEP_ROLE_ARNS", ours)]).await;
    world.launch(&["web"], &[("snapkeep", "on")]);
    let create = world.tick("create").await;
    assert_eq!(count(&create, "requested"), 0);
    let failure = &create["failures"][0];
    assert_eq!(failure["code"], "WrongAccount");
    assert!(failure["message"].as_str().unwrap().contains("SNAPKEEP_ROLE_ARNS"), "{failure:#}");
    world.end().await;
}
