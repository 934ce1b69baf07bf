//! Clients that are not ours: Tencent Cloud's own SDKs drive the embedded Lighthouse.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::process::Stdio;

use snapkeep_aws::dynamodb::schema;
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::embedded::{Cloud, CloudConfig};
use snapkeep_tests::{binaries, python, root};
use tokio::process::Command;

/// Runs a client against a cloud in which a minute is a second.
async fn is_content(client: &mut Command) {
    let clock = Clock::running("2026-01-01T00:00:00Z".parse().unwrap(), 60.0);
    let config = CloudConfig::new(clock, schema::create_table_request("ledger"));
    let cloud = Cloud::start(config).await.unwrap();
    let endpoints = cloud.endpoints();
    let client = client.args(["--lighthouse", &endpoints.lighthouse]);
    let client = client.args(["--clock", &endpoints.clock]).stdin(Stdio::null());
    let output = client.output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(" passed, 0 failed"), "{text}");
    cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python_is_content() {
    is_content(Command::new(python()).arg(root().join("tests/python/tencent_client.py"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Node and npm; CI runs it"]
async fn the_sdk_for_node_is_content() {
    let folder = binaries::target().unwrap().join("node");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json", "tencent_client.mjs"] {
        std::fs::copy(root().join("tests/node").join(file), folder.join(file)).unwrap();
    }
    install(&folder).await;
    is_content(Command::new("node").arg("tencent_client.mjs").current_dir(&folder)).await;
}

async fn install(folder: &Path) {
    let mut npm = Command::new("npm");
    let npm = npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder);
    let output = npm
        .output()
        .await
        .unwrap_or_else(|error| panic!("npm: {error}; run: sudo apt-get install -y nodejs npm"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
