//! How fast, with how many calls, and in how much memory; docs/PERFORMANCE.md has the figures and the commands.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::{Value, json};
use snapkeep_aws::dynamodb::schema;
use snapkeep_cloud::knobs::{Knobs, Latency, Rate};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::snapshot_name;
use snapkeep_domain::time::Slot;
use snapkeep_tests::{REGION, python, root};

use crate::harness::{World, count, fine};
use crate::size::peak;

const CREATE: &str = "CreateInstanceSnapshot";

fn latency(millis: u64) -> Vec<Latency> {
    vec![Latency { operation: "*".to_owned(), region: None, millis }]
}

fn instances(world: &World, count: usize) {
    let names: Vec<String> = (0..count).map(|number| format!("web-{number:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.launch(&names, &[("snapkeep", "on")]);
}

/// Runs a function, and says how long it took.
async fn timed(world: &World, function: &str) -> (Value, f64) {
    let began = Instant::now();
    let report = world.tick(function).await;
    (report, began.elapsed().as_secs_f64())
}

/// The same work, one call after the other, in Python.
fn sequential(world: &World, mark: &str) -> f64 {
    let url = world.cloud.endpoints().lightsail;
    let script = Command::new(python())
        .arg(root().join("tests/python/sequential.py"))
        .args([REGION, &url, mark])
        .envs([("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any")])
        .output()
        .unwrap();
    let said = String::from_utf8(script.stdout).unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    said.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 1,000 due instances with 12,000 older snapshots at 100 ms a call, beside a sequential loop in the same run.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: see docs/PERFORMANCE.md"]
async fn create_beside_a_sequential_loop() {
    let vars = [("SNAPKEEP_REGIONS", REGION)];
    let world = World::start_for(Duration::from_secs(300), Knobs::default(), &vars).await;
    instances(&world, 1000);
    for older in 0..12 {
        for number in 0..1000 {
            let instance = format!("web-{number:05}");
            let name = format!("{instance}-by-hand-{older}");
            let body = json!({"instanceName": instance, "instanceSnapshotName": name});
            world.call(CREATE, &body);
        }
    }
    // The pages, then the requests, 32 at once.
    let bound = 50.0 * 0.1 + 1000.0_f64 / 32.0 * 0.1;
    for night in ["first", "second", "third"] {
        world.to_next_slot();
        world.lightsail().knobs.latency = latency(100);
        world.lightsail().calls.clear();
        let (report, took) = timed(&world, "create").await;
        assert_eq!(count(&fine(report), "requested"), 1000);
        let calls: BTreeMap<String, u64> = world.lightsail().calls.clone();
        let alone = sequential(&world, night);
        println!(
            "{night} night: {took:.1} s, the sequential loop {alone:.1} s: {:.1} times as fast, {:.2} of the \
             bound; {calls:?}",
            alone / took,
            bound / took
        );
        world.lightsail().knobs.latency.clear();
        world.advance(30);
        fine(world.tick("poll").await);
        fine(world.tick("prune").await);
    }
    world.end().await;
}

/// How much of a rate limit is used, and how many of the calls are throttled.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: see docs/PERFORMANCE.md"]
async fn share_of_a_rate() {
    for (per_second, burst) in [(5.0, None), (5.0, Some(1)), (5.0, Some(50)), (20.0, None)] {
        let rate = Rate { operation: CREATE.to_owned(), region: None, per_second, burst };
        let knobs = Knobs { rates: vec![rate], latency: latency(30), ..Knobs::default() };
        let vars = [("SNAPKEEP_REGIONS", REGION)];
        let world = World::start_for(Duration::from_secs(70), knobs, &vars).await;
        instances(&world, 2500);
        world.to_next_slot();
        let (report, took) = timed(&world, "create").await;
        let (calls, throttled) = {
            let lightsail = world.lightsail();
            (lightsail.calls[CREATE], lightsail.throttled.get(CREATE).copied().unwrap_or(0))
        };
        let through = count(&report, "requested");
        println!(
            "{per_second} a second, burst {burst:?}: {through} in {took:.0} s, {:.2} of the rate; {:.2} of \
             {calls} calls throttled; left {}",
            through as f64 / (per_second * took),
            throttled as f64 / calls as f64,
            report["left"]
        );
        world.end().await;
    }
}

/// Calls to Lightsail and to the ledger for each snapshot's life, over five nights of so many instances.
async fn calls_of_lives(count: usize) -> BTreeMap<String, f64> {
    let vars =
        [("SNAPKEEP_REGIONS", REGION), ("SNAPKEEP_KEEP", "last=3"), ("SNAPKEEP_GRACE", "0h")];
    let world = World::start(&vars).await;
    instances(&world, count);
    world.quiet_nights(6).await;
    world.advance(60);
    for function in ["prune", "poll"] {
        fine(world.tick(function).await);
    }
    world.lightsail().calls.clear();
    world.lightsail().events.clear();
    let before = world.cloud.dynamodb().requests();
    for _ in 0..5 {
        let [..] = world.night().await.map(fine);
        world.advance(60);
        for function in ["prune", "poll"] {
            fine(world.tick(function).await);
        }
    }
    let lives = world.deleted().len();
    assert_eq!(lives, 5 * count);
    let each = |calls: u64| calls as f64 / lives as f64;
    let mut all: BTreeMap<String, f64> =
        world.lightsail().calls.iter().map(|(name, calls)| (name.clone(), each(*calls))).collect();
    for (operation, requests) in world.cloud.dynamodb().requests() {
        let requests = requests - before.get(&operation).copied().unwrap_or(0);
        all.insert(operation, each(requests));
    }
    // Records and resources that are remembered, in bytes as DynamoDB bills them, all but exactly.
    for item in world.all_items() {
        let kind = item[schema::RESOURCE]["S"].as_str().unwrap();
        let kind = if item.get("state").is_some() { "bytes of a record" } else { kind };
        let largest = all.entry(kind.to_owned()).or_default();
        *largest = largest.max(billed(&item) as f64);
    }
    world.end().await;
    all
}

/// The names and the values of an item; the names of types are not billed.
fn billed(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.iter().fold(0, |sum, (name, value)| {
            sum + billed(value) + if name.len() == 1 { 0 } else { name.len() }
        }),
        Value::Array(values) => values.iter().map(billed).sum(),
        Value::String(text) => text.len(),
        _ => 1,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_costs_one_request_three_looks_and_one_deletion() {
    let calls = calls_of_lives(10).await;
    assert_eq!((calls[CREATE], calls["DeleteInstanceSnapshot"]), (1.0, 1.0), "{calls:?}");
    // Whether it is available, the last look, and whether it is gone.
    assert_eq!(calls["GetInstanceSnapshot"], 3.0, "{calls:?}");
    // A record is put once and comes to five more states; what is remembered of its resource is
    // written twice.
    assert!(calls["PutItem"] < 3.0 && calls["UpdateItem"] <= 7.0, "{calls:?}");
    // The last writes of a life are two units of a kilobyte, because of its history; the one query
    // reads ten resources a unit.
    assert!(calls["bytes of a record"] < 1400.0, "{calls:?}");
    assert!(calls[schema::PROTECTED] < 400.0, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: see docs/PERFORMANCE.md"]
async fn calls_for_a_life() {
    for (operation, calls) in calls_of_lives(200).await {
        println!("{operation}: {calls:.3}");
    }
}

/// Peak memory of `prune`: places, and snapshots in each.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: see docs/PERFORMANCE.md"]
async fn memory_of_prune() {
    let regions = Knobs::default().regions;
    for (places, each) in [(1, 0), (1, 20_000), (1, 100_000), (19, 15_800)] {
        let knobs = Knobs { page_size: 100, ..Knobs::default() };
        let named = regions[..places].join(" ");
        let vars = [("SNAPKEEP_REGIONS", named.as_str()), ("SNAPKEEP_KEEP", "last=400")];
        let mut world = World::start_for(Duration::from_secs(900), knobs, &vars).await;
        for region in &regions[..places] {
            history(&world, region, each, 400);
        }
        world.advance(60);
        let mut left = 1;
        while left > 0 {
            let report = world.tick("prune").await;
            left = report["left"].as_u64().unwrap();
            let (adopted, peak) = (count(&report, "adopted"), peak(&world, "prune"));
            println!("  adopted {adopted}, left {left}: {peak} MB");
        }
        // In a process of its own, with everything recorded.
        world.redeploy(&vars);
        let (report, took) = timed(&world, "prune").await;
        let (peak, snapshots) = (peak(&world, "prune"), count(&fine(report), "snapshots"));
        println!("{snapshots} snapshots in {places} places: {peak} MB, {took:.0} s");
        world.end().await;
    }
}

/// What the commands of an operator cost in a large fleet: seconds, and megabytes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: see docs/PERFORMANCE.md"]
async fn commands_of_a_fleet() {
    for per_instance in [100, 30] {
        let vars = [("SNAPKEEP_REGIONS", REGION), ("SNAPKEEP_KEEP", "last=400")];
        let knobs = Knobs { page_size: 100, ..Knobs::default() };
        let world = World::start_for(Duration::from_secs(900), knobs, &vars).await;
        history(&world, REGION, 30_000, per_instance);
        world.advance(60);
        while world.tick("prune").await["left"].as_u64() != Some(0) {}
        let pages = std::env::temp_dir().join(format!("snapkeep-{}.html", std::process::id()));
        let page = pages.to_str().unwrap();
        for arguments in [
            &["status"][..],
            &["check"],
            &["plan"],
            &["plan", "--at", "+7d"],
            &["list", "web-00007"],
            &["explain", "web-00007"],
            &["lint"],
            &["report"],
            &["status", "--html", page],
        ] {
            world.lightsail().calls.clear();
            let before = world.cloud.dynamodb().requests();
            let (mut peak, began) = (0, Instant::now());
            let (code, _, err) = world.command_with(arguments, &vars, |pid| {
                while let Some(now) = peak_of(pid) {
                    peak = now;
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            let took = began.elapsed().as_secs_f64();
            // Time stands still here, so that `check` misses runs.
            assert!(code < 3, "{arguments:?}: {err}");
            let calls: u64 = world.lightsail().calls.values().sum();
            let after = world.cloud.dynamodb().requests();
            let queries = after["Query"] - before["Query"];
            println!(
                "30,000 snapshots, {per_instance} an instance: {}: {took:.1} s, {peak} MB, {calls} calls of \
                 Lightsail, {queries} queries",
                arguments[..arguments.len().min(3)].join(" ")
            );
        }
        std::fs::remove_file(&pages).unwrap();
        world.end().await;
    }
}

/// The most memory that a process has had, in MB; `None` once it has ended.
fn peak_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb / 1024)
}

/// Snapshots of ours, as the function would have made them, so many for each instance.
fn history(world: &World, region: &str, snapshots: usize, per_instance: usize) {
    let now = world.now();
    for number in 0..snapshots.div_ceil(per_instance) {
        let instance = format!("web-{number:05}");
        let body = json!({
            "instanceNames": [instance], "availabilityZone": format!("{region}a"),
            "blueprintId": "debian_12", "bundleId": "nano_3_0", "tags": [{"key": "snapkeep"}],
        });
        let mut lightsail = world.lightsail();
        lightsail.call(now, region, "CreateInstances", &body).unwrap();
        let find = |lightsail: &snapkeep_cloud::lightsail::Lightsail| {
            let all = lightsail.instances(region);
            all.iter().find(|one| one.name == instance).unwrap().arn.clone()
        };
        let id = ResourceId(find(&lightsail));
        for hour in 0..snapshots.min((number + 1) * per_instance) - number * per_instance {
            let slot = Slot::at(now - SignedDuration::from_hours(i64::try_from(hour).unwrap()));
            let name = snapshot_name("snapkeep", &id, &instance, slot, 1);
            let tags = [
                ("snapkeep:managed-by", "snapkeep"),
                ("snapkeep:slot", &slot.to_string()),
                ("snapkeep:source", &id.0),
                ("snapkeep:policy", "default"),
                ("snapkeep:keep", "last=400"),
                ("snapkeep:timezone", "UTC"),
            ];
            let tags: Vec<Value> =
                tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
            let body =
                json!({"instanceName": instance, "instanceSnapshotName": name, "tags": tags});
            lightsail.call(now + SignedDuration::from_mins(2), region, CREATE, &body).unwrap();
        }
    }
}
