//! The commands that read: they answer what the functions' own planners say, and change nothing.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};
use snapkeep_cloud::knobs::{Fault, FaultKind};

use crate::harness::*;

const VARS: [(&str, &str); 2] = [("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_GRACE", "2d")];

/// A row of `status` by the instance's name.
fn row<'a>(status: &'a Value, name: &str) -> &'a Value {
    let rows = status["instances"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {status:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_each_instance_what_is_promised_and_what_is_wrong() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.launch(&["db"], &[("snapkeep", ""), ("snapkeep:keep", "last=5")]);
    world.launch(&["dev"], &[]);
    world.launch(&["old"], &[("snapkeep", "off")]);
    for _ in 0..5 {
        world.night().await;
    }
    let before = world.lightsail().events.len();
    let (code, out, err) = world.command(&["status", "--json"], &VARS);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(status["ok"], json!(true));
    let web = row(&status, "web");
    assert_eq!(web["state"], "protected");
    assert_eq!(web["newest_available"], "2026-01-05T03:00:00Z");
    let of = |one: &Value| {
        ["snapshots", "kept", "marked", "pending"].map(|key| one[key].as_u64().unwrap())
    };
    assert_eq!(of(web), [4, 2, 2, 0], "{web:#}");
    assert_eq!(web["size_gb"].as_u64(), Some(80));
    assert_eq!(web["cost_usd_month"].as_f64(), Some(4.0));
    assert_eq!(web["promise_seconds"].as_i64(), Some(30 * 3600));
    assert_eq!(web["next_slot"], "2026-01-06T03:00:00Z");
    let db = row(&status, "db");
    assert_eq!(
        (of(db), &db["overrides"], &db["keep"]),
        ([5, 5, 0, 0], &json!(["keep"]), &json!("last=5"))
    );
    assert_eq!(
        (&row(&status, "dev")["state"], &row(&status, "old")["state"]),
        (&json!("unprotected"), &json!("off"))
    );
    let totals = &status["totals"];
    assert_eq!([&totals["instances"], &totals["protected"], &totals["unprotected"]], [4, 2, 1]);
    // Of what is gone, the snapshots are told.
    world.terminate("web");
    world.advance(36 * 60);
    let (code, out, _) = world.command(&["status", "--json"], &VARS);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["ok"]), (1, &json!(false)));
    assert_eq!(row(&status, "web")["state"], "deleted");
    assert!(row(&status, "web").get("next_slot").is_none());
    assert_eq!(row(&status, "db")["overdue"], json!(true));
    let codes: Vec<&str> = status["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["code"].as_str().unwrap())
        .collect();
    assert!(["overdue", "silent", "orphan"].iter().all(|code| codes.contains(code)), "{codes:?}");
    assert!(
        status["findings"][0]["severity"] == "error" && status["findings"][0]["place"].is_string()
    );
    // Nothing was changed, and people read the same.
    assert_eq!(world.lightsail().events.len(), before);
    let narrow = [&VARS[..], &[("COLUMNS", "80")]].concat();
    let (code, out, _) = world.command(&["status"], &narrow);
    assert_eq!(code, 1);
    assert!(out.contains("silent: no run of create in eu-west-1 ended since"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_it_in_one_line_and_in_metrics() {
    let world = World::start(&VARS).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.night().await;
    let metrics = std::env::temp_dir().join(format!("snapkeep-{}.prom", std::process::id()));
    let arguments = ["check", "--prometheus", metrics.to_str().unwrap()];
    let (code, out, err) = world.command(&arguments, &VARS);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(
        out,
        "SNAPKEEP OK - 1 protected, all in order | protected=1 unprotected=0 overdue=0 marked=0 held=0 \
         snapshots=1 size=20GB worst_age=3600s;;\n"
    );
    let text = std::fs::read_to_string(&metrics).unwrap();
    let place = "place=\"eu-west-1\"";
    assert!(
        text.contains("# TYPE snapkeep_check_status gauge\nsnapkeep_check_status 0\n"),
        "{text}"
    );
    assert!(text.contains("snapkeep_overdue{resource=\"arn:aws:lightsail:"), "{text}");
    assert!(text.contains(&format!("name=\"web\",{place},state=\"kept\"}} 1\n")), "{text}");
    assert!(text.contains(&format!("{{function=\"prune\",{place}}} ")), "{text}");
    world.advance(48 * 60);
    let (code, out, _) = world.command(&["check"], &VARS);
    assert_eq!((code, out.lines().count()), (2, 1), "{out}");
    assert!(out.starts_with("SNAPKEEP CRITICAL - ") && out.contains("web (overdue)"), "{out}");
    assert!(out.contains("overdue=1") && out.contains("worst_age=176400s;;"), "{out}");
    // Whatever happens, there is one line, and the only metric says that nothing is known.
    let down = [("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")];
    for (arguments, vars) in [(&arguments[..], &down[..]), (&["check", "--what"], &[])] {
        let (code, out, err) = world.command(arguments, vars);
        assert_eq!((code, out.lines().count(), err.as_str()), (3, 1, ""), "{out}");
        assert!(out.starts_with("SNAPKEEP UNKNOWN - "), "{out}");
    }
    let text = std::fs::read_to_string(&metrics).unwrap();
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(samples, ["snapkeep_check_status 3"]);
    std::fs::remove_file(&metrics).unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_and_nothing_is_printed() {
    let world = World::start(&VARS).await;
    for (arguments, vars, says) in [
        (&["status", "--json", "--region", "mars-1"][..], &VARS[..], "--region mars-1"),
        (&["status", "--now", "tomorrow"], &VARS, "RFC 3339"),
        (&["status"], &[("SNAPKEEP_KEEP", "dayly=7")], "SNAPKEEP_KEEP=`dayly=7`"),
        (&["status"], &[("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")], "the table ledger"),
    ] {
        let (code, out, err) = world.command(arguments, vars);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_create_and_poll_would_report_is_found_without_them() {
    let vars = [&VARS[..], &[("SNAPKEEP_SCHEDULE", "weekly@sun-03:00")]].concat();
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    world.faults(&[Fault::on("CreateInstanceSnapshot", FaultKind::FailSnapshot)]);
    for attempt in 0..5 {
        fine(world.tick("create").await);
        world.advance(10);
        fine(world.tick("poll").await);
        world.advance(61 << attempt);
    }
    world.launch(&["db"], &[("snapkeep", "")]);
    world.faults(&[Fault::on("CreateInstanceSnapshot", FaultKind::StuckPending)]);
    fine(world.tick("create").await);
    world.advance(10);
    fine(world.tick("poll").await);
    world.advance(7 * 60);
    let (code, out, err) = world.command(&["status", "--json"], &vars);
    let status: Value =
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}{err}"));
    let found = |code: &str| {
        let findings = status["findings"].as_array().unwrap();
        let one = findings.iter().find(|one| one["code"] == code);
        one.unwrap_or_else(|| panic!("{code}: {status:#}")).clone()
    };
    assert_eq!((code, &found("attempts-exhausted")["name"]), (1, &json!("web")));
    let long = found("pending-too-long");
    assert_eq!((&long["name"], &long["snapshot"]), (&json!("db"), &long["value"]));
    let (code, out, _) = world.command(&["check"], &vars);
    assert!(code == 2 && out.contains("web (attempts-exhausted)"), "{out}");
    // Neither is overdue: a week is not over.
    assert_eq!(status["totals"]["overdue"], json!(0), "{status:#}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_without_the_names_of_the_regions_is_said() {
    let vars = [&VARS[..], &[("SNAPKEEP_REGIONS", "all")]].concat();
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    for _ in 0..2 {
        world.night().await;
    }
    world.faults(&[Fault::on("GetRegions", FaultKind::Denied)]);
    let (code, out, _) = world.command(&["status", "--json"], &vars);
    let status: Value = serde_json::from_str(&out).unwrap();
    let first = &status["findings"][0];
    assert_eq!((code, &first["code"]), (1, &json!("region-unreachable")), "{status:#}");
    assert!(first["message"].as_str().unwrap().contains("GetRegions"), "{first:#}");
    assert_eq!(row(&status, "web")["state"], "protected");
    // A place that cannot be read keeps what the ledger knows of it.
    world.faults(&[Fault::on("GetInstances", FaultKind::Denied).in_region("eu-west-1")]);
    let late = ["status", "--json", "--now", "2026-01-20"];
    let (_, out, _) = world.command(&late, &vars);
    let status: Value = serde_json::from_str(&out).unwrap();
    for code in ["overdue", "silent", "region-unreachable"] {
        let here = |one: &&Value| one["code"] == code && one["place"] == "eu-west-1";
        assert!(
            status["findings"].as_array().unwrap().iter().any(|one| here(&one)),
            "{code}: {status:#}"
        );
    }
    world.end().await;
}
