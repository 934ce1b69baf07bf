//! The `snapkeep` command as a user runs it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

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

async fn started(file: &Path) -> Child {
    let mut cloud = command(&["cloud", "--no-schedule", "--ready-file", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if file.exists() {
            return cloud;
        }
        assert!(cloud.try_wait().unwrap().is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no ready file");
}

#[tokio::test]
async fn a_ready_file_belongs_to_one_cloud_that_runs() {
    let folder = folder("ready");
    let file = folder.join("ready.json");
    let mut first = started(&file).await;
    let name = file.to_str().unwrap();
    let said = refused(&mut command(&["cloud", "--no-schedule", "--ready-file", name])).await;
    assert!(said.contains("ready.json") && said.contains("is running"), "{said}");
    let kill = |cloud: &Child| {
        let id = cloud.id().unwrap().to_string();
        std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap()
    };
    assert!(kill(&first).success());
    assert!(first.wait().await.unwrap().success());
    assert!(!file.exists(), "whoever reads it would take it for a cloud that runs");
    // What a cloud left that was killed is in nobody's way.
    std::fs::write(&file, r#"{"clock": "http://127.0.0.1:1"}"#).unwrap();
    std::fs::write(folder.join("not-json"), "x").unwrap();
    let mut second = command(&["cloud", "--no-schedule", "--ready-file", name])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if !std::fs::read_to_string(&file).unwrap_or_default().contains("127.0.0.1:1\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(kill(&second).success() && second.wait().await.unwrap().success());
    std::fs::remove_dir_all(folder).unwrap();
}
