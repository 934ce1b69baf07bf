//! The demo's cast, and what happens to it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use snapkeep_cloud::embedded::Cloud;
use snapkeep_cloud::http::lock;
use snapkeep_cloud::knobs::{Fault, FaultKind};

use super::Story;
use crate::BoxError;

/// The default policy and two more.
pub(super) fn settings() -> BTreeMap<String, String> {
    [
        ("SNAPKEEP_DEPLOYMENT", "demo"),
        ("SNAPKEEP_REGIONS", "eu-west-1 us-east-1"),
        ("SNAPKEEP_KEEP", "daily=7 weekly=4 monthly=12"),
        (
            "SNAPKEEP_POLICIES",
            "gold: schedule=every-6h timezone=Europe/Berlin keep=hourly=8 daily=14 monthly=6; \
             weekly: schedule=weekly@sun-03:00 keep=weekly=8",
        ),
        ("SNAPKEEP_ORPHAN_KEEP", "30d"),
        ("AWS_MAX_ATTEMPTS", "1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

type Cast = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// Region, name, tags. Created through CreateInstances, as anybody would.
const CAST: [Cast; 12] = [
    ("eu-west-1", "web-1", &[("snapkeep", "")]),
    ("eu-west-1", "web-2", &[("snapkeep", "on")]),
    ("eu-west-1", "shop", &[("snapkeep", "gold")]),
    ("eu-west-1", "shop-db", &[("snapkeep", "gold")]),
    ("eu-west-1", "wiki", &[("snapkeep", "weekly")]),
    ("eu-west-1", "old-blog", &[("snapkeep", "")]),
    (
        "us-east-1",
        "api-1",
        &[
            ("snapkeep", ""),
            ("snapkeep:schedule", "daily@09:30"),
            ("snapkeep:timezone", "America/New_York"),
        ],
    ),
    ("us-east-1", "api-2", &[("snapkeep", ""), ("snapkeep:keep", "last=10")]),
    ("us-east-1", "mail", &[("snapkeep", ""), ("snapkeep:keep", "all")]),
    ("us-east-1", "stage", &[("snapkeep", "off")]),
    ("us-east-1", "lab", &[("snapkeep", "weekly")]),
    ("us-east-1", "scratch", &[]),
];

/// A snapshot made by hand, which nobody may touch.
pub(super) const BY_HAND: (&str, &str) = ("eu-west-1", "by-hand-before-upgrade");
/// The instance whose snapshots are put on hold.
pub(super) const HELD: (&str, &str) = ("us-east-1", "api-1");

pub(super) struct Script {
    start: Timestamp,
    scene: usize,
    /// The snapshot that is held.
    held: Option<String>,
}

type Scene = fn(&mut Script, &Cloud, &Story) -> Result<(), BoxError>;

/// What happens: on which day, what it is, and how.
const SCENES: [(i64, &str, Scene); 10] = [
    (1, "a snapshot is made by hand", |_, cloud, _| {
        let (region, name) = BY_HAND;
        let body = json!({"instanceName": "web-2", "instanceSnapshotName": name});
        call(cloud, region, "CreateInstanceSnapshot", body)
    }),
    (9, "a snapshot of web-1 fails", |_, cloud, _| {
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::FailSnapshot);
        lock(cloud.lightsail()).knobs.faults.push(fault.of("web-1").times(1));
        Ok(())
    }),
    (18, "a night of throttling in eu-west-1", |script, cloud, _| {
        let mut fault = Fault::on("CreateInstanceSnapshot", FaultKind::Throttle);
        fault.region = Some("eu-west-1".to_owned());
        fault.from = Some(script.start + SignedDuration::from_hours(18 * 24 + 2));
        fault.until = Some(script.start + SignedDuration::from_hours(18 * 24 + 5));
        lock(cloud.lightsail()).knobs.faults.push(fault);
        Ok(())
    }),
    (25, "old-blog is deleted", |_, cloud, _| {
        call(cloud, "eu-west-1", "DeleteInstance", json!({"instanceName": "old-blog"}))
    }),
    (33, "somebody mistypes a tag of lab", |_, cloud, _| {
        tag(cloud, "us-east-1", "lab", "snapkeep:keep", "weekly=four")
    }),
    (36, "the tag of lab is mended", |_, cloud, _| {
        tag(cloud, "us-east-1", "lab", "snapkeep:keep", "weekly=4")
    }),
    (40, "a snapshot of api-1 is put on hold", |script, cloud, _| {
        let (region, of) = HELD;
        let oldest = {
            let lightsail = lock(cloud.lightsail());
            let all = lightsail.snapshots(region);
            let ours = all.iter().filter(|s| s.from_name == of);
            ours.min_by_key(|s| s.requested_at).map(|s| s.name.clone())
        };
        let name = oldest.ok_or("api-1 has no snapshot to hold")?;
        tag(cloud, region, &name, "snapkeep:hold", "")?;
        script.held = Some(name);
        Ok(())
    }),
    (50, "the policy of shop is tightened", |_, cloud, _| {
        tag(cloud, "eu-west-1", "shop", "snapkeep:keep", "last=2")
    }),
    (60, "the tightening is confirmed", |_, cloud, story| {
        let codes: Vec<&str> = story.codes.iter().map(String::as_str).collect();
        if codes.is_empty() {
            return Ok(());
        }
        tag(cloud, "eu-west-1", "shop", "snapkeep:confirm", &codes.join(" "))
    }),
    (70, "an answer is lost", |_, cloud, _| {
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::LostResponse);
        lock(cloud.lightsail()).knobs.faults.push(fault.of("api-2").times(1));
        Ok(())
    }),
];

fn call(cloud: &Cloud, region: &str, operation: &str, body: Value) -> Result<(), BoxError> {
    let now = cloud.clock().now();
    let answer = lock(cloud.lightsail()).call(now, region, operation, &body);
    answer.map(drop).map_err(|e| format!("{operation}: {}: {}", e.kind, e.message).into())
}

fn tag(cloud: &Cloud, region: &str, name: &str, key: &str, value: &str) -> Result<(), BoxError> {
    let body = json!({"resourceName": name, "tags": [{"key": key, "value": value}]});
    call(cloud, region, "TagResource", body)
}

/// Launches the cast through the real wire, with the real SDK.
async fn launch(cloud: &Cloud) -> Result<(), BoxError> {
    use aws_sdk_lightsail::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_lightsail::types::Tag;
    for (region, name, tags) in CAST {
        let config = aws_sdk_lightsail::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(snapkeep_aws::sdk::http_client())
            .credentials_provider(Credentials::new("demo", "demo", None, None, "demo"))
            .endpoint_url(cloud.endpoints().lightsail)
            .region(Region::new(region));
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
        aws_sdk_lightsail::Client::from_conf(config.build())
            .create_instances()
            .instance_names(name)
            .availability_zone(format!("{region}a"))
            .blueprint_id("debian_12")
            .bundle_id("nano_3_0")
            .set_tags(Some(tags.collect()))
            .send()
            .await
            .map_err(|error| aws_sdk_lightsail::error::DisplayErrorContext(error).to_string())?;
    }
    Ok(())
}

impl Script {
    pub(super) async fn new(cloud: &Cloud, start: Timestamp) -> Result<Self, BoxError> {
        launch(cloud).await?;
        Ok(Script { start, scene: 0, held: None })
    }

    /// Plays what is due by now; says what it was.
    pub(super) fn play(
        &mut self,
        cloud: &Cloud,
        now: Timestamp,
        story: &Story,
    ) -> Result<Option<&'static str>, BoxError> {
        let Some((day, what, play)) = SCENES.get(self.scene) else { return Ok(None) };
        if now < self.start + SignedDuration::from_hours(day * 24) + SignedDuration::from_mins(30) {
            return Ok(None);
        }
        self.scene += 1;
        play(self, cloud, story)?;
        Ok(Some(what))
    }
}

/// The cast as it began: Region, name, and whether it opted in.
pub(super) fn cast() -> impl Iterator<Item = (&'static str, &'static str, bool)> {
    CAST.iter().map(|(region, name, tags)| {
        let opted = tags.iter().any(|(key, value)| *key == "snapkeep" && *value != "off");
        (*region, *name, opted)
    })
}
