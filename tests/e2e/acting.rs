//! The commands that act: what they make is what they say, and what they clean up is only what they made.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use snapkeep_cloud::knobs::{Fault, FaultKind};

use crate::harness::*;
use crate::operating::{VARS, list, read, refused};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_says_what_it_does_and_leaves_nothing_but_the_instance() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", ""), ("team", "blue")]);
    world.quiet_nights(3).await;
    let names: Vec<String> = world.snapshots_of("web").iter().map(|one| one.name.clone()).collect();
    let held = |world: &World| {
        world.snapshots_of("web").iter().any(|one| one.tags.contains_key("snapkeep:hold"))
    };
    refused(&world, &["restore", "web"], &["--yes", "--print"]);
    let (code, out, _) =
        world.command(&["restore", "web", "--as-of", "2026-01-02T12:00:00Z", "--print"], &VARS);
    let lines: Vec<&str> = out.lines().collect();
    assert!(code == 0 && lines.len() >= 3, "{out}");
    assert!(
        lines[0].contains("tag-resource") && lines[0].contains(&names[1]),
        "the hold comes first: {out}"
    );
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("aws lightsail ") && line.contains("--region eu-west-1"))
    );
    assert_eq!(world.lightsail().calls.get("CreateInstancesFromSnapshot"), None);
    world.cloud.clock().set(world.now());
    let planned = read(&world, &["restore", "web", "--print"], 0);
    assert_eq!(
        (&planned["state"], &planned["to"], &planned["instance"]),
        (&json!("planned"), &json!("web-restored"), &Value::Null)
    );
    assert_eq!(planned["cost_usd_month"], 5.0);
    // It runs a moment after it was launched: time passes while the command waits.
    let done = running(&world, &["restore", "web", "--yes", "--json"]).await;
    assert_eq!(done.0, 0, "{done:?}");
    let done: Value = serde_json::from_str(&done.1).unwrap();
    assert_eq!((&done["state"], &done["snapshot"]), (&json!("running"), &json!(names[2])));
    assert_eq!(
        (&done["held"], &done["zone"], &done["bundle"]),
        (&json!(false), &json!("eu-west-1a"), &json!("nano_3_0"))
    );
    assert!(!held(&world), "the hold is gone again");
    let copy = world.call("GetInstance", &json!({"instanceName": "web-restored"}));
    let tags = copy["instance"]["tags"].to_string();
    assert!(tags.contains("team") && tags.contains("blue") && tags.contains("snapkeep"), "{tags}");
    refused(&world, &["restore", "web", "--to", "web-restored", "--yes"], &["web-restored"]);
    refused(&world, &["restore", "web", "--as-of", "2025-06-01", "--yes"], &[&names[0]]);
    refused(&world, &["restore", "web", "--yes"], &["--to"]);
    // A refused launch leaves no hold, and says why.
    let fault: Fault = serde_json::from_value(
        json!({"operation": "CreateInstancesFromSnapshot", "kind": "denied"}),
    )
    .unwrap_or_else(|error| panic!("{error}"));
    world.faults(&[fault]);
    let (code, out, err) =
        world.command(&["restore", "web", "--to", "copy", "--yes", "--json"], &VARS);
    let failed: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!((code, &failed["state"]), (1, &json!("failed")), "{failed:#}");
    assert!(!held(&world));
    world.faults(&[]);
    // What is gone is restored with what the ledger remembers.
    world.terminate("web");
    world.quiet_nights(1).await;
    let gone = read(&world, &["restore", "web", "--print"], 0);
    assert_eq!(
        (&gone["to"], &gone["tags"]),
        (&json!("web"), &json!([{"key": "snapkeep", "value": "on"}]))
    );
    world.end().await;
}

/// Waits for what a command does, for a minute at most.
fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(100));
        if done() {
            break;
        }
    }
}

/// Sends a signal to a command that runs.
fn send(signal: &str, child: u32) {
    let mut kill = std::process::Command::new("kill");
    let sent = kill.args([format!("-{signal}"), child.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

/// Runs a command while time passes in the cloud.
async fn running(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let clock = world.cloud.clock().clone();
    let passes = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            clock.advance(SignedDuration::from_secs(10));
        }
    });
    let done = tokio::task::block_in_place(|| world.command(arguments, &VARS));
    passes.abort();
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_proves_and_removes_what_it_made() {
    let world = World::start(&VARS).await;
    world.launch(&["web", "db"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    refused(&world, &["drill"], &["--yes"]);
    let before = world.call("GetInstances", &json!({}));
    let (code, out, err) = running(&world, &["drill", "--yes", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let drills: Value = serde_json::from_str(&out).unwrap();
    let [first] = list(&drills, "drills").as_slice() else { panic!("{drills:#}") };
    assert_eq!(
        (&first["ok"], &first["removed"], &first["message"]),
        (&json!(true), &json!(true), &Value::Null)
    );
    assert!(first["instance"].as_str().unwrap().contains("-drill-"));
    let names = |all: &Value| all["instances"].as_array().unwrap().len();
    assert_eq!(names(&world.call("GetInstances", &json!({}))), names(&before));
    // Time went on without runs, which it says.
    let status = read(&world, &["status"], 1);
    let proven = |name: &str| {
        let rows = list(&status, "instances");
        rows.iter().find(|row| row["name"] == name).unwrap()["proven"].clone()
    };
    let proof = proven(first["name"].as_str().unwrap());
    assert_eq!(proof["ok"], json!(true), "{status:#}");
    // The next one is the other, whose proof is the oldest: it has none.
    let (code, out, _) = running(&world, &["drill", "--yes", "--json"]).await;
    let second: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_ne!(second["drills"][0]["name"], first["name"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_cleans_up_after_every_failure_and_signal() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    let left = |world: &World| {
        let all = world.call("GetInstances", &json!({}));
        let drills = all["instances"].to_string().matches("-drill-").count();
        let held = world
            .snapshots_of("web")
            .iter()
            .filter(|one| one.tags.contains_key("snapkeep:hold"))
            .count();
        (drills, held)
    };
    // The launch has its effect, and its answer is lost.
    let lost: Fault = serde_json::from_value(
        json!({"operation": "CreateInstancesFromSnapshot", "kind": "lost_response", "times": 1}),
    )
    .unwrap_or_else(|error| panic!("{error}"));
    world.faults(&[lost]);
    let (code, out, err) = running(&world, &["drill", "web", "--yes", "--json"]).await;
    let drills: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!(drills["drills"][0]["removed"], json!(true), "{code} {drills:#}");
    assert_eq!(left(&world), (0, 0));
    world.faults(&[]);
    // Time stands still, so that the instance never runs; then a signal comes.
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let ran = world.command_with(&["drill", "web", "--yes", "--json"], &VARS, |child| {
            wait_until(|| world.lightsail().calls.contains_key("CreateInstancesFromSnapshot"));
            world.lightsail().calls.remove("CreateInstancesFromSnapshot");
            std::thread::sleep(Duration::from_millis(300));
            send(signal, child);
        });
        assert_eq!(ran.0, code, "{ran:?}");
        let drills: Value = serde_json::from_str(&ran.1).unwrap();
        assert_eq!(
            (&drills["ok"], &drills["drills"][0]["removed"]),
            (&json!(false), &json!(true)),
            "{drills:#}"
        );
        assert_eq!(left(&world), (0, 0));
    }
    let status = read(&world, &["status"], 1);
    assert_eq!(status["instances"][0]["proven"]["ok"], json!(false), "failures are noted, too");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_without_an_answer_is_never_called_removed() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    world.faults(&[Fault::on("CreateInstancesFromSnapshot", FaultKind::Dropped)]);
    let (code, out, err) = world.command(&["drill", "web", "--yes", "--json"], &VARS);
    let drills: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &drills["drills"][0]["removed"]), (1, &json!(false)), "{drills:#}");
    let name = drills["drills"][0]["instance"].as_str().unwrap();
    let command = format!("aws lightsail delete-instance --instance-name {name}");
    let message = drills["drills"][0]["message"].as_str().unwrap();
    // Whoever reads no answer reads it, too.
    assert!(message.contains(&command) && err.contains(&command), "{message}\n{err}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_it_cleans_up_does_not_end_the_cleaning() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    world.faults(&[Fault::hang("DeleteInstance", 3).times(1)]);
    let clock = world.cloud.clock().clone();
    let ran = world.command_with(&["drill", "web", "--yes", "--json"], &VARS, |child| {
        wait_until(|| {
            clock.advance(SignedDuration::from_secs(10));
            world.lightsail().calls.contains_key("DeleteInstance")
        });
        send("INT", child);
    });
    assert_eq!(ran.0, 130, "{ran:?}");
    let drills: Value = serde_json::from_str(&ran.1).unwrap();
    assert_eq!(drills["drills"][0]["removed"], json!(true), "{drills:#}");
    let all = world.call("GetInstances", &json!({})).to_string();
    assert!(!all.contains("-drill-"), "{all}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_what_waits_for_an_answer() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    world.faults(&[Fault::hang("GetInstances", 30)]);
    for (signal, code, arguments) in [
        ("INT", 130, &["status", "--watch", "1"][..]),
        ("TERM", 143, &["check"]),
        ("TERM", 143, &["restore", "web", "--yes"]),
        ("INT", 130, &["drill", "--yes"]),
    ] {
        let asked = |world: &World| world.lightsail().calls.get("GetInstances").copied();
        let before = asked(&world);
        let ran = world.command_with(arguments, &VARS, |child| {
            wait_until(|| asked(&world) > before);
            send(signal, child);
        });
        assert_eq!(ran.0, code, "{arguments:?}: {ran:?}");
        let line = if arguments[0] == "check" { "SNAPKEEP UNKNOWN" } else { "" };
        assert!(ran.1.starts_with(line) && ran.1.lines().count() <= 1, "{ran:?}");
    }
    assert!(!world.lightsail().calls.contains_key("CreateInstancesFromSnapshot"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_policy_allows_what_the_commands_do_and_no_more() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["db"], &[("snapkeep", "")]);
    world.quiet_nights(4).await;
    world.terminate("db");
    world.lightsail().calls.clear();
    let before = world.cloud.dynamodb().requests();
    // The deployment is found by its functions' variables.
    let lambda = world.cloud.endpoints().lambda;
    let found = [("SNAPKEEP_LEDGER_TABLE", ""), ("AWS_ENDPOINT_URL_LAMBDA", lambda.as_str())];
    let (code, out, err) = world.command(&["status", "--json"], &found);
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = world.command(&["status", "--deployment", "other"], &found);
    assert!(code == 2 && err.contains("other") && err.contains("snapkeep"), "{err}");
    let name = world.snapshots_of("web")[0].name.clone();
    for arguments in [
        &["list"][..],
        &["check"],
        &["plan", "--at", "+7d"],
        &["explain", "web"],
        &["lint"],
        &["report"],
        &["hold", &name],
        &["release", &name],
        &["confirm", "web", "12345678"],
        &["restore", "db", "--print"],
    ] {
        let (code, out, err) = world.command(arguments, &VARS);
        assert!(code < 2, "{arguments:?}: {out}{err}");
    }
    for arguments in [&["restore", "web", "--yes"][..], &["drill", "web", "--yes"]] {
        assert_eq!(running(&world, arguments).await.0, 0);
    }
    let mut used: BTreeSet<String> =
        world.lightsail().calls.keys().map(|call| format!("lightsail:{call}")).collect();
    let after = world.cloud.dynamodb().requests();
    let made = after.iter().filter(|(call, count)| before.get(*call) != Some(count));
    used.extend(made.map(|(call, _)| format!("dynamodb:{call}")));
    used.insert("lambda:ListFunctions".to_owned());
    let policy: Value =
        serde_json::from_str(include_str!("../../infra/operator-policy.json")).unwrap();
    let actions = list(&policy, "Statement").iter().flat_map(|one| list(one, "Action"));
    let granted: BTreeSet<String> = actions.map(|one| one.as_str().unwrap().to_owned()).collect();
    assert_eq!(granted, used);
    world.end().await;
}
