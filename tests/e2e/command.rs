//! The `snapkeep` command as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;
use snapkeep_aws::sdk::http_client;
use snapkeep_tests::binaries::binary;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("snapkeep"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(|key| key.starts_with("SNAPKEEP_")) {
            command.env_remove(key);
        }
    }
    command
}

/// A folder of its own for a test, empty.
fn folder(test: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("snapkeep-{test}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What a command says that is refused: exit status 2, and one message.
async fn refused(command: &mut Command) -> String {
    let waited = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let Output { status, stderr, .. } = waited.unwrap().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    said
}

#[tokio::test]
async fn a_closed_standard_output_is_no_error() {
    for arguments in [
        &["cloud", "--no-schedule"][..],
        &["demo", "--days", "1"],
        &["retention", "--keep", "last=1", "-"],
    ] {
        let mut running =
            command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // As `head -1` does, or sooner.
        drop(running.stdout.take());
        let mut said = String::new();
        let ended = async {
            running.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            running.wait().await.unwrap()
        };
        let status = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
        assert!(status.success(), "{arguments:?}: {status} {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let running = command(&["demo", "--days", "1"]).stdout(full).stderr(Stdio::piped()).spawn();
    let ended = tokio::time::timeout(Duration::from_secs(60), running.unwrap().wait_with_output());
    let Output { status, stderr, .. } = ended.await.unwrap().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[tokio::test]
async fn the_demo_keeps_its_promises_at_both_providers() {
    let mut demo = command(&["demo", "--days", "2", "--provider", "both"]);
    let waited = tokio::time::timeout(Duration::from_secs(300), demo.output()).await;
    let Output { status, stdout, .. } = waited.unwrap().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    assert!(status.success() && said.contains("Every promise held."), "{said}");
    for name in ["web-1", "gz-web", "tk-api"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("{name} "))), "{said}");
    }
}

#[tokio::test]
async fn what_the_cloud_cannot_run_with_is_refused_at_once() {
    let folder = folder("refused");
    let knobs = folder.join("knobs.json");
    std::fs::write(&knobs, r#"{"faults": [{"operation": "Reboot", "kind": "throttle"}]}"#).unwrap();
    let knobs = knobs.to_str().unwrap();
    let said = refused(&mut command(&["cloud", "--knobs", knobs])).await;
    assert!(said.contains("knobs.json") && said.contains("`Reboot`"), "{said}");
    let said = refused(&mut command(&["cloud", "--region", "mars-1"])).await;
    assert!(said.contains("`mars-1`") && said.contains("eu-west-1"), "{said}");
    let said = refused(command(&["cloud"]).env("SNAPKEEP_SCHEDULE", "sometimes")).await;
    assert!(said.contains("SNAPKEEP_SCHEDULE=`sometimes`"), "{said}");
    let said = refused(command(&["cloud"]).env("SNAPKEEP_KEEP", "daily=x")).await;
    assert!(said.contains("SNAPKEEP_KEEP=`daily=x`"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

/// Starts a cloud and waits until its ready file says where it is, which it returns.
async fn started(file: &Path, arguments: &[&str]) -> (Child, Value) {
    let before = std::fs::read(file).ok();
    let mut cloud = command(&["cloud", "--no-schedule", "--ready-file", file.to_str().unwrap()])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        match std::fs::read(file) {
            Ok(text) if before.as_ref() != Some(&text) => {
                return (cloud, serde_json::from_slice(&text).unwrap());
            }
            _ => assert!(cloud.try_wait().unwrap().is_none(), "it ended"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no ready file");
}

/// Ends a cloud as Ctrl-C and service managers do.
async fn end(mut cloud: Child) {
    let id = cloud.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(cloud.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_ready_file_belongs_to_one_cloud_that_runs() {
    let folder = folder("ready");
    let file = folder.join("ready.json");
    let (first, _) = started(&file, &[]).await;
    let name = file.to_str().unwrap();
    let said = refused(&mut command(&["cloud", "--no-schedule", "--ready-file", name])).await;
    assert!(said.contains("ready.json") && said.contains("is running"), "{said}");
    end(first).await;
    assert!(!file.exists(), "whoever reads it would take it for a cloud that runs");
    // What a cloud left that was killed is in nobody's way.
    std::fs::write(&file, r#"{"clock": "http://127.0.0.1:1"}"#).unwrap();
    let (second, _) = started(&file, &[]).await;
    end(second).await;
    std::fs::remove_dir_all(folder).unwrap();
}

/// The standard configuration for a service of a cloud.
async fn sdk(cloud: &Value, service: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "test"))
        .endpoint_url(cloud[service].as_str().unwrap())
        .http_client(http_client())
        .load()
        .await
}

#[tokio::test]
async fn a_cloud_with_a_state_goes_on_after_a_restart() {
    let folder = folder("state");
    let (file, state) = (folder.join("ready.json"), folder.join("state"));
    let state = state.to_str().unwrap();
    let (cloud, ready) =
        started(&file, &["--state", state, "--start", "2026-01-01T00:00:00Z"]).await;
    let lightsail = aws_sdk_lightsail::Client::new(&sdk(&ready, "lightsail").await);
    let launch = lightsail.create_instances().instance_names("web");
    let launch = launch.availability_zone("us-east-1a").blueprint_id("debian_12");
    launch.bundle_id("nano_3_0").send().await.unwrap();
    let ledger = aws_sdk_dynamodb::Client::new(&sdk(&ready, "dynamodb").await);
    let table = ready["table"].as_str().unwrap();
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let item = || ledger.put_item().table_name(table).item("slot", text("2026"));
    item().item("resource", text("web")).item("n", text("1")).send().await.unwrap();
    let said = refused(&mut command(&["cloud", "--state", state])).await;
    assert!(said.contains(state) && said.contains("is running"), "{said}");
    end(cloud).await;

    let early = ["cloud", "--state", state, "--start", "2025-12-31T00:00:00Z"];
    let said = refused(&mut command(&early)).await;
    assert!(said.contains("2025-12-31T00:00:00Z") && said.contains("2026-01-01T00:0"), "{said}");
    // By then the instance runs.
    let later = ["--state", state, "--start", "2026-01-01T00:10:00Z"];
    let (cloud, _) = started(&file, &later).await;
    end(cloud).await;
    let (cloud, ready) = started(&file, &["--state", state]).await;
    let lightsail = aws_sdk_lightsail::Client::new(&sdk(&ready, "lightsail").await);
    let web = lightsail.get_instance().instance_name("web").send().await.unwrap().instance.unwrap();
    assert_eq!(web.created_at().unwrap().to_string()[..16], *"2026-01-01T00:00");
    // Time went on from there: what is made now is not much later.
    let order = lightsail.create_instance_snapshot().instance_name("web");
    order.instance_snapshot_name("web-1").send().await.unwrap();
    let made = lightsail.get_instance_snapshot().instance_snapshot_name("web-1");
    let made = made.send().await.unwrap().instance_snapshot.unwrap();
    assert_eq!(made.created_at().unwrap().to_string()[..13], *"2026-01-01T00");
    let ledger = aws_sdk_dynamodb::Client::new(&sdk(&ready, "dynamodb").await);
    let kept =
        ledger.get_item().table_name(table).key("resource", text("web")).key("slot", text("2026"));
    assert_eq!(kept.send().await.unwrap().item.unwrap()["n"], text("1"));
    end(cloud).await;
    std::fs::remove_dir_all(folder).unwrap();
}
