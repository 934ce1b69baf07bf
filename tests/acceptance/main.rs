//! The acceptance run, on the embedded cloud: the very command, functions and wire that a real account sees.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::json;
use snapkeep_aws::dynamodb::schema;
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::embedded::{Cloud, CloudConfig};
use snapkeep_cloud::http::lock;
use snapkeep_cloud::lambda::{Function, FunctionConfig};
use snapkeep_cloud::runner;
use snapkeep_cloud::schedule::{Rule, Schedule};
use snapkeep_tests::binaries::binary;
use snapkeep_tests::{at, read};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const REGION: &str = "us-east-1";

/// A cloud in which ten minutes pass in a second, a deployment on it, and somebody else's instance with
/// a snapshot.
async fn cloud(vars: &[(&str, &str)]) -> Cloud {
    cloud_with(vars).await.0
}

async fn cloud_with(vars: &[(&str, &str)]) -> (Cloud, Vec<Function>) {
    let clock = Clock::running(at("2026-01-01T12:00:00Z"), 600.0);
    let mut config = CloudConfig::new(clock, schema::create_table_request("ledger"));
    config.ttl_attribute = Some(schema::EXPIRES_AT.to_owned());
    let cloud = Cloud::start(config).await.unwrap();
    let functions = ["create", "poll", "prune"].map(|name| {
        let mut config = FunctionConfig::new(name, binary(name));
        config.env = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        config.env.insert("SNAPKEEP_REGIONS".to_owned(), REGION.to_owned());
        config.env.insert("SNAPKEEP_LEDGER_TABLE".to_owned(), "ledger".to_owned());
        config.env.insert("SNAPKEEP_CLOCK_URL".to_owned(), cloud.endpoints().clock);
        cloud.deploy(config, None)
    });
    let now = cloud.clock().now();
    let mut lightsail = lock(cloud.lightsail());
    let launch = json!({"instanceNames": ["db"], "availabilityZone": "us-east-1a",
        "blueprintId": "debian_12", "bundleId": "nano_3_0"});
    // Both lie in the past, so that every list shows them.
    let earlier = now - jiff::SignedDuration::from_mins(5);
    lightsail.call(earlier, REGION, "CreateInstances", &launch).unwrap();
    let take = json!({"instanceName": "db", "instanceSnapshotName": "by-hand"});
    lightsail.call(now, REGION, "CreateInstanceSnapshot", &take).unwrap();
    drop(lightsail);
    (cloud, functions.into())
}

/// The command, as a person with these variables runs it.
fn command(cloud: &Cloud, arguments: &[&str]) -> Command {
    let vars = cloud.function_env(&BTreeMap::new());
    let mut command = Command::new(binary("snapkeep"));
    command
        .args(["acceptance", "--every", "0.05"])
        .args(arguments)
        .env_clear()
        .envs(vars)
        .env("AWS_ENDPOINT_URL_LAMBDA", cloud.endpoints().lambda)
        .env("SNAPKEEP_CLOCK_URL", cloud.endpoints().clock)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end, which is not far.
async fn finished(mut command: Command) -> Output {
    let ended = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    ended.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What the Region has.
fn there_is(cloud: &Cloud) -> BTreeSet<String> {
    let lightsail = lock(cloud.lightsail());
    let instances = lightsail.instances(REGION).into_iter().map(|instance| instance.name.clone());
    instances.chain(lightsail.snapshots(REGION).into_iter().map(|s| s.name.clone())).collect()
}

fn baseline() -> BTreeSet<String> {
    ["by-hand".to_owned(), "db".to_owned()].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_works_is_accepted_and_nothing_is_left() {
    let vars = [("SNAPKEEP_GRACE", "1h"), ("SNAPKEEP_DEPLOYMENT", "dep")];
    let (cloud, functions) = cloud_with(&vars).await;
    // Its own rules tick all the while, as they do in a real account.
    let clock = cloud.clock().clone();
    let rules = tokio::spawn(async move {
        let rules = [(15, "create"), (10, "poll"), (60, "prune")]
            .map(|(minutes, name)| Rule::every(minutes, name, name).unwrap());
        let schedule = Schedule::new(rules.to_vec(), REGION, clock.now());
        runner::run(&clock, schedule, &functions, |_, _| {}).await;
    });
    let output = finished(command(&cloud, &["--yes"])).await;
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    // The cost comes before the first step.
    let (cost, step) = (said.find("It costs about $0.0").unwrap(), said.find("\nok ").unwrap());
    assert!(cost < step, "{said}");
    for step in
        ["the same tick twice more takes no other", "within the grace", "is deleted", "it is held"]
    {
        assert!(said.contains(step), "{step}: {said}");
    }
    assert_eq!(there_is(&cloud), baseline());
    let events = |operation: &str| {
        let lightsail = lock(cloud.lightsail());
        lightsail.events.iter().filter(|e| e.operation == operation).count()
    };
    rules.abort();
    // Three of its own and the one by hand; all of its own went.
    assert_eq!((events("CreateInstanceSnapshot"), events("DeleteInstanceSnapshot")), (4, 3));
    cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_removes_what_was_made() {
    let cloud = cloud(&[("SNAPKEEP_GRACE", "0h")]).await;
    let mut process = command(&cloud, &["--yes"]).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains("is asked for") {
            break;
        }
    }
    assert!(there_is(&cloud).len() > baseline().len());
    let pid = process.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest.push_str(&line);
    }
    assert_eq!(process.wait().await.unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("the account has what it had before"), "{rest}");
    assert_eq!(there_is(&cloud), baseline());
    cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_work_is_said_and_nothing_is_left_either() {
    // It keeps what should go.
    let vars = [("SNAPKEEP_GRACE", "0h"), ("SNAPKEEP_MIN_KEEP", "last=9")];
    let cloud = cloud(&vars).await;
    let output = finished(command(&cloud, &["--yes"])).await;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED  prune announced nothing"), "{said}");
    assert_eq!(there_is(&cloud), baseline());
    cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_without_credentials_consent_or_a_deployment_that_can_be_tried() {
    let cloud = cloud(&[("SNAPKEEP_GRACE", "3d")]).await;
    let mut nobody = command(&cloud, &["--yes"]);
    nobody.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    nobody.env("AWS_EC2_METADATA_DISABLED", "true");
    let refusals = [
        (nobody, "no credentials"),
        (
            command(&cloud, &["--yes"]),
            "SNAPKEEP_GRACE and 10m are longer than --patience (90 minutes)",
        ),
        (command(&cloud, &["--deployment", "other"]), "no deployment `other`"),
        (command(&cloud, &["--clean", "db"]), "begins with snapkeep-acceptance-"),
    ];
    for (command, why) in refusals {
        let output = finished(command).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(there_is(&cloud), baseline());
    cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_consent_it_only_says_what_it_costs_and_leftovers_can_be_removed_later() {
    let cloud = cloud(&[("SNAPKEEP_GRACE", "0h")]).await;
    let output = finished(command(&cloud, &[])).await;
    let said = said(&output);
    assert!(said.contains("It costs about $") && said.contains("nothing was made"), "{said}");
    assert_eq!((output.status.code(), there_is(&cloud)), (Some(2), baseline()));

    let name = "snapkeep-acceptance-left";
    let launch = json!({"instanceNames": [name], "availabilityZone": "us-east-1a",
        "blueprintId": "debian_12", "bundleId": "nano_3_0"});
    let now = cloud.clock().now();
    lock(cloud.lightsail()).call(now, REGION, "CreateInstances", &launch).unwrap();
    let output = finished(command(&cloud, &["--clean", name])).await;
    assert!(output.status.success());
    assert_eq!(there_is(&cloud), baseline());
    cloud.shutdown().await;
}

#[test]
fn its_policy_has_the_rights_that_it_uses() {
    let policy: serde_json::Value =
        serde_json::from_str(&read("infra/acceptance-policy.json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let granted: BTreeSet<String> = statements
        .iter()
        .flat_map(|statement| statement["Action"].as_array().unwrap())
        .map(|action| action.as_str().unwrap().to_owned())
        .collect();
    let calls = regex_lite::Regex::new(r"client\s*\.([a-z_]+)\(").unwrap();
    let mut used: BTreeSet<String> = ["GetInstance", "GetInstances", "GetInstanceSnapshot"]
        .into_iter()
        .chain(["GetInstanceSnapshots", "DeleteInstanceSnapshot"])
        .map(|action| format!("lightsail:{action}"))
        .collect();
    for (file, service) in [
        ("acceptance/account", "lightsail"),
        ("acceptance/deployment", "lambda"),
        ("deployed", "lambda"),
    ] {
        let text = read(format!("infra/cli/src/{file}.rs"));
        for call in calls.captures_iter(&text) {
            let words = call[1].split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
            used.insert(format!("{service}:{}", words.collect::<String>()));
        }
    }
    used.remove("lambda:Invoke");
    used.insert("lambda:InvokeFunction".to_owned());
    assert_eq!(granted, used);
}
