//! A client that is not ours: boto3 drives the embedded cloud, in the tests' Python environment.

use std::process::Stdio;

use snapkeep_aws::dynamodb::schema;
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::embedded::{Cloud, CloudConfig};
use snapkeep_tests::{python, root};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_is_content() {
    let clock = Clock::running("2026-01-01T00:00:00Z".parse().unwrap(), 60.0);
    let config = CloudConfig::new(clock, schema::create_table_request("ledger"));
    let cloud = Cloud::start(config).await.unwrap();
    let endpoints = cloud.endpoints();
    let output = tokio::process::Command::new(python())
        .arg(root().join("tests/python/boto3_client.py"))
        .args(["--lightsail", &endpoints.lightsail])
        .args(["--events", &endpoints.events])
        .args(["--clock", &endpoints.clock])
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    cloud.shutdown().await;
}
