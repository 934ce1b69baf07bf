//! The operator's commands, run as a person runs them: what they announce is what happens, and what they
//! do is only what they say.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use snapkeep_cloud::knobs::{Fault, FaultKind};
use snapkeep_tests::at;

use crate::harness::*;

pub(crate) const VARS: [(&str, &str); 2] = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "1d")];

/// A command's JSON, which must end with this status.
pub(crate) fn read(world: &World, arguments: &[&str], code: i32) -> Value {
    let (status, out, err) = world.command(&[arguments, &["--json"]].concat(), &VARS);
    assert_eq!(status, code, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}{err}"))
}

/// A command that refuses: exit status 2, nothing on stdout, and this in its message.
pub(crate) fn refused(world: &World, arguments: &[&str], words: &[&str]) {
    let (status, out, err) = world.command(arguments, &VARS);
    assert_eq!((status, out.as_str()), (2, ""), "{arguments:?}: {err}");
    for word in words {
        assert!(err.contains(word), "{arguments:?} does not say {word}: {err}");
    }
}

pub(crate) fn list<'a>(value: &'a Value, member: &str) -> &'a Vec<Value> {
    value[member].as_array().unwrap_or_else(|| panic!("{member} in {value:#}"))
}

/// The names of what a snapshot's actions are, and when.
fn announced(plan: &Value) -> BTreeMap<(String, String), Timestamp> {
    let one = |action: &Value| {
        let text = |member: &str| action[member].as_str().unwrap().to_owned();
        ((text("snapshot"), text("action")), at(&text("at")))
    };
    list(plan, "actions").iter().map(one).collect()
}

/// The same of what happened since then, as the ledger tells it.
fn happened(
    world: &World,
    names: &[&str],
    since: Timestamp,
) -> BTreeMap<(String, String), Timestamp> {
    let mut told = BTreeMap::new();
    for name in names {
        let story = read(world, &["explain", name], 0);
        for life in list(&story, "snapshots") {
            for event in list(life, "history") {
                let act = match (event["from"].as_str(), event["to"].as_str().unwrap()) {
                    (None, "intended") => "take",
                    (_, "expiring") => "mark",
                    (_, "deleting") => "delete",
                    (Some("expiring"), "available") => "rescue",
                    _ => continue,
                };
                let (snapshot, when) =
                    (life["snapshot"].as_str().unwrap(), at(event["at"].as_str().unwrap()));
                if when > since {
                    told.entry((snapshot.to_owned(), act.to_owned())).or_insert(when);
                }
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_what_is_done_snapshot_by_snapshot() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["db"], &[("snapkeep", ""), ("snapkeep:keep", "last=3")]);
    world.quiet_nights(5).await;
    let now = world.now();
    let plan = read(&world, &["plan", "--at", "+3d"], 0);
    assert_eq!((&plan["ok"], list(&plan, "blocked").len()), (&json!(true), 0), "{plan:#}");
    let announced = announced(&plan);
    let kinds: BTreeSet<&str> = announced.keys().map(|(_, act)| act.as_str()).collect();
    assert_eq!(kinds, ["take", "mark", "delete"].into());
    let marked = list(&plan, "actions").iter().find(|one| one["action"] == "mark").unwrap();
    assert_eq!(marked["reasons"], json!(["no rule keeps it"]));
    assert_eq!(
        at(marked["execute_at"].as_str().unwrap()),
        at(marked["at"].as_str().unwrap()) + SignedDuration::from_hours(24)
    );
    assert_eq!(
        plan["totals"]["take"],
        json!({"snapshots": 6, "size_gb": 120, "cost_usd_month": 6.0})
    );
    // Half a night more, because the real time comes later by the functions' cadence.
    world.quiet_nights(3).await;
    world.advance(60);
    world.tick("prune").await;
    world.tick("poll").await;
    let happened = happened(&world, &["web", "db"], now);
    for (what, when) in &announced {
        let real = happened.get(what).unwrap_or_else(|| panic!("{what:?} did not happen"));
        let late = real.duration_since(*when);
        assert!(
            !late.is_negative() && late <= SignedDuration::from_hours(3),
            "{what:?}: {when}, {real}"
        );
    }
    for (what, when) in &happened {
        assert!(
            announced.contains_key(what) || *when > now + SignedDuration::from_hours(72),
            "{what:?}"
        );
    }
    // What is gone still has its story, and the reasons of its end.
    let gone = happened.keys().find(|(_, act)| act == "delete").unwrap().0.clone();
    let story = read(&world, &["explain", &gone], 0);
    let [life] = list(&story, "snapshots").as_slice() else { panic!("{story:#}") };
    assert_eq!((&life["state"], &life["keep"]), (&json!("deleted"), &Value::Null));
    let mark = list(life, "history").iter().find(|event| event["to"] == "expiring").unwrap();
    assert!(mark["reason"].as_str().unwrap().contains("outlive"), "{mark}");
    assert_eq!(mark["function"], "prune");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_is_tried_out_before_anything_happens() {
    let world = World::start(&[("SNAPKEEP_KEEP", "last=9"), ("SNAPKEEP_GRACE", "1d")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(6).await;
    let vars = [("SNAPKEEP_KEEP", "last=9"), ("SNAPKEEP_GRACE", "1d")];
    let (code, out, _) = world.command(&["plan", "--keep", "web=last=1", "--json"], &vars);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &plan["ok"]), (1, &json!(false)));
    let blocked = list(&plan, "blocked");
    assert_eq!(blocked.len(), 6, "{plan:#}");
    assert!(blocked.iter().take(5).all(|one| one["by"] == "brake" && one["action"] == "mark"));
    let code = blocked[0]["code"].as_str().unwrap().to_owned();
    assert!(
        list(&plan, "findings").iter().any(|one| one["code"] == "brake" && one["value"] == *code)
    );
    // The code is what prune prints, and what confirms it.
    world.tag("web", "snapkeep:keep", "last=1");
    let report = world.tick("prune").await;
    assert_eq!(finding(&report, "brake")["value"], *code);
    let (status, out, err) = world.command(&["confirm", "web", &code], &vars);
    assert_eq!(status, 0, "{out}{err}");
    assert!(
        out.contains(&format!("snapkeep:confirm={code}")) && out.contains("eu-west-1"),
        "{out}"
    );
    assert_eq!(count(&world.tick("prune").await, "marked"), 5);
    // What is so already needs no call.
    let calls = world.lightsail().calls.get("TagResource").copied();
    assert_eq!(world.command(&["confirm", "web", &code], &vars).0, 0);
    assert_eq!(world.lightsail().calls.get("TagResource").copied(), calls);
    refused(&world, &["plan", "--keep", "web=dayly=1"], &["dayly=1"]);
    refused(&world, &["plan", "--at", "2020-01-01"], &["--at", "2020-01-01"]);
    refused(&world, &["confirm", "web", "xyz"], &["8 letters"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_listed_with_why_they_stay_or_go() {
    let world = World::start(&[("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "3d")]).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["off"], &[("snapkeep", "")]);
    world.launch(&["bad"], &[("snapkeep", "")]);
    world.quiet_nights(4).await;
    world.tag("off", "snapkeep", "off");
    world.tag("bad", "snapkeep:schedule", "sometimes");
    let oldest = world.snapshots_of("web")[0].name.clone();
    world.tag(&oldest, "snapkeep:hold", "until=2026-03-31");
    let all = read(&world, &["list"], 0);
    let of = |name: &str| -> Vec<Value> {
        all.as_array().unwrap().iter().filter(|one| one["name"] == name).cloned().collect()
    };
    let web = of("web");
    let newest_first: Vec<&str> = web.iter().map(|one| one["slot"].as_str().unwrap()).collect();
    assert!(newest_first.is_sorted_by(|a, b| a > b), "{newest_first:?}");
    assert_eq!((&web[0]["keep"], &web[0]["reasons"]), (&json!(true), &json!(["last"])));
    let held = web.iter().find(|one| one["snapshot"] == *oldest).unwrap();
    assert_eq!(
        (&held["keep"], &held["reasons"]),
        (&json!(true), &json!(["no rule keeps it", "held"]))
    );
    assert_eq!((&held["held"], &held["held_until"]), (&json!(true), &json!("2026-03-31")));
    let marked: Vec<&Value> = web.iter().filter(|one| one["state"] == "expiring").collect();
    assert!(
        marked.iter().any(|one| one["keep"] == false && one["execute_at"].is_string()),
        "{web:#?}"
    );
    assert!(of("off").iter().all(
        |one| one["keep"] == true && one["reasons"].as_array().unwrap().contains(&json!("off"))
    ));
    assert!(
        of("bad").iter().all(|one| one["keep"] == true
            && one["reasons"].as_array().unwrap().contains(&json!("bad-tag")))
    );
    let one = read(&world, &["list", "off"], 0);
    assert!(
        !one.as_array().unwrap().is_empty()
            && one.as_array().unwrap().iter().all(|one| one["name"] == "off")
    );
    let plan = read(&world, &["plan"], 1);
    let by = |name: &str| {
        list(&plan, "blocked").iter().any(|one| one["name"] == "bad" && one["by"] == name)
    };
    assert!(by("bad-tag"), "{plan:#}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_mean_several_or_none_are_refused() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["old"], &[("snapkeep", "")]);
    let first = world.arn("old");
    let body = json!({"instanceNames": ["web"], "availabilityZone": "us-east-1a", "blueprintId": "debian_12",
        "bundleId": "nano_3_0", "tags": [{"key": "snapkeep", "value": ""}]});
    world.lightsail().call(world.now(), "us-east-1", "CreateInstances", &body).unwrap();
    world.quiet_nights(2).await;
    world.terminate("old");
    world.launch(&["old"], &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    refused(
        &world,
        &["explain", "web"],
        &["several", "eu-west-1", "us-east-1", "living", "arn:aws:lightsail"],
    );
    let one = read(&world, &["explain", "web", "--region", "us-east-1"], 0);
    assert_eq!((&one["place"], &one["state"]), (&json!("us-east-1"), &json!("protected")));
    let by_id = read(&world, &["explain", &first], 0);
    assert_eq!((&by_id["resource"], &by_id["state"]), (&json!(first), &json!("deleted")));
    // In one place the living one is meant, and the gone one is named.
    let (code, out, err) = world.command(&["explain", "old", "--json"], &VARS);
    let living: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &living["state"]), (0, &json!("protected")));
    assert!(err.contains(&first), "{err}");
    refused(&world, &["explain", "webb"], &["webb", "web"]);
    refused(&world, &["hold", "nobody"], &["nobody"]);
    refused(&world, &["status", "--region", "eu-west-2"], &["eu-west-2", "eu-west-1"]);
    let foreign = json!({"instanceName": "web", "instanceSnapshotName": "by-hand"});
    world.call("CreateInstanceSnapshot", &foreign);
    refused(&world, &["hold", "by-hand"], &["by-hand", "not ours"]);
    refused(&world, &["hold", &first], &["deleted"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_gone_where_nobody_can_look() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(2).await;
    let fault =
        json!({"operation": "GetInstanceSnapshots", "kind": "denied", "region": "eu-west-1"});
    world.faults(&[serde_json::from_value(fault).unwrap()]);
    let story = read(&world, &["explain", "web"], 0);
    assert_eq!(story["state"], "protected");
    assert_eq!(story["findings"][0]["code"], "region-unreachable", "{story:#}");
    refused(&world, &["list", "web"], &["eu-west-1", "cannot be read", "GetInstanceSnapshots"]);
    refused(&world, &["hold", "web"], &["eu-west-1", "cannot be read"]);
    assert_eq!(world.command(&["list"], &VARS).0, 1);
    world.end().await;
}

/// The states that the story of a snapshot went through.
fn states(world: &World, snapshot: &str) -> Vec<String> {
    let story = read(world, &["explain", snapshot], 0);
    let [life] = &list(&story, "snapshots")[..] else { panic!("{snapshot}: {story:#}") };
    assert_eq!(life["snapshot"], *snapshot);
    let word = |event: &Value| event["to"].as_str().unwrap().to_owned();
    list(life, "history").iter().map(word).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_has_its_whole_story_after_the_next_one() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    let mut faults = vec![Fault::on("CreateInstanceSnapshot", FaultKind::FailSnapshot).times(1)];
    let whole = ["intended", "requested", "failed"];
    for attempt in 1..=3 {
        world.faults(&faults);
        fine(world.tick("create").await);
        faults = vec![Fault::on("CreateInstanceSnapshot", FaultKind::Vanish).times(1)];
        for _ in 0..4 {
            world.advance(20);
            fine(world.tick("poll").await);
        }
        world.advance(60 << attempt);
    }
    let made: Vec<String> = world.made().into_iter().map(|made| made.snapshot.name).collect();
    let [failed, vanished, ..] = made.as_slice() else { panic!("{made:?}") };
    // What failed is still there, and has a record of its own; of what vanished only the slot's record tells.
    assert_eq!(states(&world, failed), whole);
    let vanished = states(&world, vanished);
    assert_eq!(vanished.first().zip(vanished.last()), Some((&whole[0].into(), &whole[2].into())));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_one_tag_and_keeps_what_no_rule_does() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.quiet_nights(3).await;
    let name = world.snapshots_of("web")[0].name.clone();
    let before = world.snapshots_of("web")[0].tags.clone();
    let done = read(&world, &["hold", &name, "--until", "2026-02-01"], 0);
    assert_eq!(
        (&done["snapshot"], &done["key"], &done["value"], &done["changed"]),
        (&json!(name), &json!("snapkeep:hold"), &json!("until=2026-02-01"), &json!(true))
    );
    let mut after = world.snapshots_of("web")[0].tags.clone();
    assert_eq!(after.remove("snapkeep:hold"), Some(Some("until=2026-02-01".to_owned())));
    assert_eq!(after, before, "nothing else");
    let plan = read(&world, &["plan"], 0);
    assert!(
        list(&plan, "actions").iter().any(|one| one["action"] == "rescue"
            && one["snapshot"] == *name
            && one["reasons"] == json!(["held"])),
        "{plan:#}"
    );
    assert_eq!(read(&world, &["hold", "web"], 0)["key"], "snapkeep:hold");
    let (code, out, _) = world.command(&["release", &name], &VARS);
    assert!(code == 0 && out.contains("Still held") && out.contains("web"), "{out}");
    assert_eq!(read(&world, &["release", "web"], 0)["changed"], json!(true));
    assert_eq!(read(&world, &["release", "web"], 0)["changed"], json!(false));
    refused(&world, &["hold", &name, "--until", "2025-12-31"], &["2025-12-31", "over"]);
    refused(&world, &["hold", &name, "--until", "+3d"], &["+3d"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_counts_what_was_promised_and_what_was_kept() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["dev"], &[]);
    world.quiet_nights(3).await;
    world.to_next_slot();
    world.advance(12 * 60);
    world.quiet_nights(2).await;
    let report = read(&world, &["report"], 1);
    assert_eq!((&report["month"], &report["ok"]), (&json!("2026-01"), &json!(false)));
    let [web] = list(&report, "instances").as_slice() else { panic!("{report:#}") };
    assert_eq!([&web["promised"], &web["served"], &web["missed"]], [6, 5, 1], "{web:#}");
    assert_eq!(web["missed_slots"], json!(["2026-01-04T03:00:00Z"]));
    let deletion = &list(&report, "deletions")[0];
    assert_eq!(
        (&deletion["function"], &deletion["reasons"], &deletion["size_gb"]),
        (&json!("prune"), &json!(["no rule keeps it"]), &json!(20))
    );
    assert_eq!(report["unprotected"][0]["name"], "dev");
    assert!(report["cost"]["cost_usd"].as_f64().unwrap() > 0.0);
    let (code, out, _) = world.command(&["report", "--csv"], &VARS);
    assert_eq!(
        (code, out.lines().next().unwrap()),
        (1, "resource,name,place,promised,served,missed,worst_age_seconds")
    );
    assert_eq!(out.lines().count(), 2);
    refused(&world, &["report", "--month", "2026-02"], &["2026-02"]);
    refused(&world, &["report", "--month", "January"], &["January"]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lint_says_what_was_meant() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", ""), ("snapkeep:shedule", "daily@04:00")]);
    world.launch(&["db"], &[("snapkep", "")]);
    world.launch(&["ok"], &[("snapkeep", ""), ("snapshot", "x")]);
    let found = read(&world, &["lint"], 1);
    let mut meant: Vec<(&str, &str)> = list(&found, "findings")
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["meant"].as_str().unwrap()))
        .collect();
    meant.sort_unstable();
    assert_eq!(meant, [("db", "snapkeep"), ("web", "snapkeep:schedule")], "{found:#}");
    let file = std::env::temp_dir().join(format!("snapkeep-{}.env", std::process::id()));
    std::fs::write(&file, "# a comment\nSNAPKEEP_LEDGER_TABLE=ledger\nSNAPKEEP_KEP=all\nSNAPKEEP_SCHEDULE=dayly@03:00\n").unwrap();
    let arguments = ["lint", "--offline", "--env-file", file.to_str().unwrap(), "--json"];
    let (code, out, err) =
        world.command(&arguments, &[("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")]);
    let found: Value =
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let of =
        |key: &str| list(&found, "findings").iter().find(|one| one["key"] == key).unwrap().clone();
    assert_eq!((code, &of("SNAPKEEP_KEP")["meant"]), (1, &json!("SNAPKEEP_KEEP")));
    assert_eq!(
        (&of("SNAPKEEP_SCHEDULE")["meant"], &of("SNAPKEEP_SCHEDULE")["severity"]),
        (&json!("daily@03:00"), &json!("error"))
    );
    std::fs::remove_file(&file).unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_has_every_name_and_no_reference() {
    let world = World::start(&VARS).await;
    world.launch(&["web", "db"], &[("snapkeep", "")]);
    world.quiet_nights(4).await;
    let page = |command: &str| {
        let file =
            std::env::temp_dir().join(format!("snapkeep-{}-{command}.html", std::process::id()));
        let (code, out, err) = world.command(&[command, "--html", file.to_str().unwrap()], &VARS);
        assert!(code == 0 && !out.is_empty(), "{command}: {out}{err}");
        let page = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        page
    };
    for command in ["status", "report"] {
        let page = page(command);
        for name in world.snapshots().iter().map(|one| one.name.as_str()).chain(["web", "db"]) {
            assert!(page.contains(name), "{command}: {name}");
        }
        for reference in ["src=", "href=\"http", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(reference), "{command}: {reference}");
        }
    }
    assert!(page("report").contains("slots served"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_protected_if_that_is_asked_for() {
    let world = World::start(&[("SNAPKEEP_PROTECT", "all")]).await;
    world.launch(&["web", "dev"], &[]);
    world.launch(&["old"], &[("snapkeep", "off")]);
    world.launch(&["try"], &[("snapkeep:drill", "elsewhere")]);
    let [create, ..] = world.night().await;
    assert_eq!((count(&create, "protected"), count(&create, "requested")), (2, 2), "{create:#}");
    assert!(world.snapshots_of("old").is_empty() && world.snapshots_of("try").is_empty());
    // A drill's instance is left alone for a day; afterwards its tag means nothing.
    world.quiet_nights(1).await;
    assert_eq!(world.snapshots_of("try").len(), 1);
    world.end().await;
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    for number in 0..12 {
        world.launch(&[&format!("dev-{number:02}")], &[]);
    }
    let [create, _, prune] = world.night().await;
    for report in [create, prune] {
        let found = finding(&report, "unprotected");
        assert_eq!(
            (&found["severity"], &found["value"]),
            (&json!("info"), &json!("12")),
            "{found}"
        );
        let message = found["message"].as_str().unwrap();
        assert!(message.contains("dev-09") && !message.contains("dev-10"), "{message}");
    }
    world.end().await;
}
