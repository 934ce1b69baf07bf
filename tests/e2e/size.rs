//! How much memory and how many calls the functions need; docs/OPERATIONS.md has the figures.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::read_to_string;

use serde_json::json;

use crate::harness::{World, count, fine};

/// The most memory that a function's newest process has had, in MB.
pub(crate) fn peak(world: &World, function: &str) -> u64 {
    let name = world.deployment.function(function).name().to_owned();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let children = tasks.map(|task| task.unwrap().path().join("children"));
    let children = children.filter_map(|file| read_to_string(file).ok()).collect::<String>();
    let of = |pid: &&str| {
        read_to_string(format!("/proc/{pid}/environ"))
            .is_ok_and(|vars| vars.contains(&format!("AWS_LAMBDA_FUNCTION_NAME={name}\0")))
    };
    let newest =
        children.split_whitespace().filter(of).max_by_key(|pid| pid.parse::<u32>().unwrap());
    let status = read_to_string(format!("/proc/{}/status", newest.unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

/// Prints one line a function: instances, snapshots, peak memory, calls to Lightsail.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: cargo test -p snapkeep-tests --test e2e -- --ignored --nocapture size"]
async fn size() {
    let mut rows = Vec::new();
    for instances in [1, 100, 1000] {
        let vars = [("SNAPKEEP_KEEP", "last=9"), ("SNAPKEEP_GRACE", "0h")];
        let world = World::start(&vars).await;
        let names: Vec<String> = (0..instances).map(|number| format!("web-{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        world.launch(&names, &[("snapkeep", "on")]);
        world.quiet_nights(10).await;
        world.to_next_slot();
        for (function, counter, minutes) in
            [("create", "requested", 10), ("poll", "available", 50), ("prune", "marked", 60)]
        {
            world.lightsail().calls.clear();
            let report = fine(world.tick(function).await);
            assert!(count(&report, counter) >= instances, "{report:#}");
            let calls: u64 = world.lightsail().calls.values().sum();
            let snapshots = world.snapshots().len();
            let peak = peak(&world, function);
            rows.push(json!([instances, snapshots, function, peak, calls]));
            world.advance(minutes);
        }
        world.end().await;
    }
    for row in rows {
        println!("{row}");
    }
}
