//! The demo's cast, and what happens to it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use snapkeep_cloud::embedded::Cloud;
use snapkeep_cloud::http::lock;
use snapkeep_cloud::knobs::{Fault, FaultKind};
use snapkeep_cloud::lighthouse::{Answer, Lighthouse};

use super::{Providers, Story};
use crate::BoxError;

/// The default policy and two more.
pub(super) fn settings(providers: Providers) -> BTreeMap<String, String> {
    let names = match providers {
        Providers::Lightsail => "lightsail",
        Providers::Lighthouse => "lighthouse",
        Providers::Both => "lightsail lighthouse",
    };
    [
        ("SNAPKEEP_DEPLOYMENT", "demo"),
        ("SNAPKEEP_PROVIDERS", names),
        ("SNAPKEEP_REGIONS", "eu-west-1 us-east-1"),
        ("SNAPKEEP_LIGHTHOUSE_REGIONS", "ap-guangzhou ap-tokyo"),
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

/// An instance as it begins, created as anybody would.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    pub(super) place: &'static str,
    pub(super) name: &'static str,
    tags: &'static [(&'static str, &'static str)],
}

impl Cast {
    fn is_lighthouse(&self) -> bool {
        self.place.starts_with("lighthouse:")
    }

    /// Its Region, as its provider names it.
    pub(super) fn region(&self) -> &'static str {
        self.place.strip_prefix("lighthouse:").unwrap_or(self.place)
    }

    pub(super) fn opted_in(&self) -> bool {
        self.tags.iter().any(|(key, value)| *key == "snapkeep" && *value != "off")
    }

    /// Whether it is deleted on the way.
    pub(super) fn ends(&self) -> bool {
        ["old-blog", "gz-old"].contains(&self.name)
    }
}

const fn cast_of(
    place: &'static str,
    name: &'static str,
    tags: &'static [(&'static str, &'static str)],
) -> Cast {
    Cast { place, name, tags }
}

const CAST: [Cast; 19] = [
    cast_of("eu-west-1", "web-1", &[("snapkeep", "")]),
    cast_of("eu-west-1", "web-2", &[("snapkeep", "on")]),
    cast_of("eu-west-1", "shop", &[("snapkeep", "gold")]),
    cast_of("eu-west-1", "shop-db", &[("snapkeep", "gold")]),
    cast_of("eu-west-1", "wiki", &[("snapkeep", "weekly")]),
    cast_of("eu-west-1", "old-blog", &[("snapkeep", "")]),
    cast_of(
        "us-east-1",
        "api-1",
        &[
            ("snapkeep", ""),
            ("snapkeep:schedule", "daily@09:30"),
            ("snapkeep:timezone", "America/New_York"),
        ],
    ),
    cast_of("us-east-1", "api-2", &[("snapkeep", ""), ("snapkeep:keep", "last=10")]),
    cast_of("us-east-1", "mail", &[("snapkeep", ""), ("snapkeep:keep", "all")]),
    cast_of("us-east-1", "stage", &[("snapkeep", "off")]),
    cast_of("us-east-1", "lab", &[("snapkeep", "weekly")]),
    cast_of("us-east-1", "scratch", &[]),
    cast_of("lighthouse:ap-guangzhou", "gz-web", &[("snapkeep", "")]),
    cast_of("lighthouse:ap-guangzhou", "gz-db", &[("snapkeep", "gold")]),
    cast_of("lighthouse:ap-guangzhou", "gz-old", &[("snapkeep", "on")]),
    cast_of("lighthouse:ap-tokyo", "tk-api", &[("snapkeep", ""), ("snapkeep:keep", "last=10")]),
    cast_of(
        "lighthouse:ap-tokyo",
        "tk-wiki",
        &[("snapkeep", "weekly"), ("snapkeep:timezone", "Asia/Tokyo")],
    ),
    cast_of("lighthouse:ap-tokyo", "tk-stage", &[("snapkeep", "off")]),
    cast_of("lighthouse:ap-tokyo", "tk-lab", &[]),
];

/// The cast of these providers.
pub(super) fn cast(providers: Providers) -> Vec<Cast> {
    let takes_part = |one: &Cast| match providers {
        Providers::Lightsail => !one.is_lighthouse(),
        Providers::Lighthouse => one.is_lighthouse(),
        Providers::Both => true,
    };
    CAST.into_iter().filter(takes_part).collect()
}

/// The name of a snapshot that is made by hand at each provider, which nobody may touch.
pub(super) const BY_HAND: &str = "by-hand-before-upgrade";

pub(super) struct Script {
    start: Timestamp,
    scenes: Vec<&'static Scene>,
    /// The names of Lighthouse's instances, by id.
    pub(super) instances: BTreeMap<String, String>,
}

type Play = fn(&Script, &Cloud, &Story) -> Result<(), BoxError>;

/// What happens: on which day, to which instance, what it is, and how.
type Scene = (i64, &'static str, &'static str, Play);

const SCENES: [Scene; 18] = [
    (1, "web-2", "a snapshot is made by hand", |_, cloud, _| {
        let body = json!({"instanceName": "web-2", "instanceSnapshotName": BY_HAND});
        call(cloud, "eu-west-1", "CreateInstanceSnapshot", body)
    }),
    (1, "gz-web", "a snapshot of gz-web is made by hand", |script, cloud, _| {
        let body = json!({"InstanceId": script.id("gz-web")?, "SnapshotName": BY_HAND});
        ask(cloud, "ap-guangzhou", "CreateInstanceSnapshot", &body).map(drop)
    }),
    (9, "web-1", "a snapshot of web-1 fails", |_, cloud, _| {
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::FailSnapshot);
        lock(cloud.lightsail()).knobs.faults.push(fault.of("web-1").times(1));
        Ok(())
    }),
    (9, "gz-web", "a snapshot of gz-web fails", |_, cloud, _| {
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::FailSnapshot);
        lighthouse(cloud)?.knobs.faults.push(fault.of("gz-web").times(1));
        Ok(())
    }),
    (18, "web-1", "a night of throttling in eu-west-1", |script, cloud, _| {
        let fault = script.throttling("eu-west-1");
        lock(cloud.lightsail()).knobs.faults.push(fault);
        Ok(())
    }),
    (18, "gz-web", "a night of throttling in ap-guangzhou", |script, cloud, _| {
        lighthouse(cloud)?.knobs.faults.push(script.throttling("ap-guangzhou"));
        Ok(())
    }),
    (25, "old-blog", "old-blog is deleted", |_, cloud, _| {
        call(cloud, "eu-west-1", "DeleteInstance", json!({"instanceName": "old-blog"}))
    }),
    (25, "gz-old", "gz-old is terminated", |script, cloud, _| {
        let body = json!({"InstanceIds": [script.id("gz-old")?]});
        // It is about to be reclaimed after the first call, and gone after the second.
        ask(cloud, "ap-guangzhou", "TerminateInstances", &body)?;
        ask(cloud, "ap-guangzhou", "TerminateInstances", &body).map(drop)
    }),
    (30, "gz-db", "a snapshot of gz-db is renamed", |script, cloud, _| {
        let id = script.oldest("gz-db", cloud)?;
        let body = json!({"SnapshotId": id, "SnapshotName": "before the migration"});
        ask(cloud, "ap-guangzhou", "ModifySnapshotAttribute", &body).map(drop)
    }),
    (33, "lab", "somebody mistypes a tag of lab", |_, cloud, _| {
        tag(cloud, "us-east-1", "lab", "snapkeep:keep", "weekly=four")
    }),
    (36, "lab", "the tag of lab is mended", |_, cloud, _| {
        tag(cloud, "us-east-1", "lab", "snapkeep:keep", "weekly=4")
    }),
    (40, "api-1", "a snapshot of api-1 is put on hold", |_, cloud, _| {
        let oldest = {
            let lightsail = lock(cloud.lightsail());
            let all = lightsail.snapshots("us-east-1");
            let ours = all.iter().filter(|s| s.from_name == "api-1");
            ours.min_by_key(|s| s.requested_at).map(|s| s.name.clone())
        };
        let name = oldest.ok_or("api-1 has no snapshot to hold")?;
        tag(cloud, "us-east-1", &name, "snapkeep:hold", "")
    }),
    (40, "tk-api", "tk-api is put on hold for three weeks", |script, cloud, _| {
        script.tag_there(cloud, "ap-tokyo", "tk-api", ("snapkeep:hold", "until=2026-03-03"))
    }),
    (50, "shop", "the policy of shop is tightened", |_, cloud, _| {
        tag(cloud, "eu-west-1", "shop", "snapkeep:keep", "last=2")
    }),
    (50, "gz-db", "the policy of gz-db is tightened", |script, cloud, _| {
        script.tag_there(cloud, "ap-guangzhou", "gz-db", ("snapkeep:keep", "last=3"))
    }),
    (60, "shop", "the tightening of shop is confirmed", |_, cloud, story| match codes(story) {
        codes if codes.is_empty() => Ok(()),
        codes => tag(cloud, "eu-west-1", "shop", "snapkeep:confirm", &codes),
    }),
    (70, "api-2", "an answer about api-2 is lost", |_, cloud, _| {
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::LostResponse);
        lock(cloud.lightsail()).knobs.faults.push(fault.of("api-2").times(1));
        Ok(())
    }),
    (70, "tk-api", "an answer about tk-api is lost", |_, cloud, _| {
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::LostResponse);
        lighthouse(cloud)?.knobs.faults.push(fault.of("tk-api").times(1));
        Ok(())
    }),
];

/// The codes that the brake printed.
fn codes(story: &Story) -> String {
    let codes: Vec<&str> = story.codes.iter().map(String::as_str).collect();
    codes.join(" ")
}

/// Calls Lightsail as a person would.
fn call(cloud: &Cloud, region: &str, operation: &str, body: Value) -> Result<(), BoxError> {
    let now = cloud.clock().now();
    let answer = lock(cloud.lightsail()).call(now, region, operation, &body);
    answer.map(drop).map_err(|e| format!("{operation}: {}: {}", e.kind, e.message).into())
}

fn tag(cloud: &Cloud, region: &str, name: &str, key: &str, value: &str) -> Result<(), BoxError> {
    let body = json!({"resourceName": name, "tags": [{"key": key, "value": value}]});
    call(cloud, region, "TagResource", body)
}

fn lighthouse(cloud: &Cloud) -> Result<std::sync::MutexGuard<'_, Lighthouse>, BoxError> {
    cloud.lighthouse().lock().map_err(|_| "the embedded Lighthouse broke down".into())
}

/// Calls Lighthouse as a person would.
fn ask(cloud: &Cloud, region: &str, operation: &str, body: &Value) -> Result<Value, BoxError> {
    let body = body.as_object().cloned().unwrap_or_default();
    match lighthouse(cloud)?.call(cloud.clock().now(), region, operation, &body) {
        Ok(Answer::Body(answer)) => Ok(answer),
        Ok(_) => Err(format!("{operation}: no answer").into()),
        Err(error) => Err(format!("{operation}: {}: {}", error.code, error.message).into()),
    }
}

/// Launches an instance of Lightsail through the real wire, with the real SDK.
async fn launch(cloud: &Cloud, cast: &Cast) -> Result<(), BoxError> {
    use aws_sdk_lightsail::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_lightsail::types::Tag;
    let config = aws_sdk_lightsail::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(snapkeep_aws::sdk::http_client())
        .credentials_provider(Credentials::new("demo", "demo", None, None, "demo"))
        .endpoint_url(cloud.endpoints().lightsail)
        .region(Region::new(cast.region()));
    let tags = cast.tags.iter().map(|(key, value)| Tag::builder().key(*key).value(*value).build());
    aws_sdk_lightsail::Client::from_conf(config.build())
        .create_instances()
        .instance_names(cast.name)
        .availability_zone(format!("{}a", cast.region()))
        .blueprint_id("debian_12")
        .bundle_id("nano_3_0")
        .set_tags(Some(tags.collect()))
        .send()
        .await
        .map_err(|error| aws_sdk_lightsail::error::DisplayErrorContext(error).to_string())?;
    Ok(())
}

/// Launches an instance of Lighthouse; returns its id.
fn launch_there(cloud: &Cloud, cast: &Cast) -> Result<String, BoxError> {
    let tags: Value =
        cast.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    let body = json!({"BundleId": "bundle_starter_nmc_lin_med2_01", "BlueprintId": "lhbp-f1lkcd41",
        "InstanceName": cast.name, "Tags": tags});
    let answer = ask(cloud, cast.region(), "CreateInstances", &body)?;
    Ok(answer["InstanceIdSet"][0].as_str().unwrap_or_default().to_owned())
}

impl Script {
    pub(super) async fn new(
        cloud: &Cloud,
        cast: &[Cast],
        start: Timestamp,
    ) -> Result<Self, BoxError> {
        let mut instances = BTreeMap::new();
        for one in cast {
            match one.is_lighthouse() {
                true => drop(instances.insert(launch_there(cloud, one)?, one.name.to_owned())),
                false => launch(cloud, one).await?,
            }
        }
        let takes_part = |scene: &&Scene| cast.iter().any(|one| one.name == scene.1);
        let mut scenes: Vec<&Scene> = SCENES.iter().filter(takes_part).collect();
        scenes.reverse();
        Ok(Script { start, scenes, instances })
    }

    /// The id of an instance of Lighthouse.
    fn id(&self, name: &str) -> Result<&str, BoxError> {
        let found = self.instances.iter().find(|(_, of)| *of == name);
        Ok(found.map(|(id, _)| id.as_str()).ok_or_else(|| format!("there is no {name}"))?)
    }

    fn tag_there(
        &self,
        cloud: &Cloud,
        region: &str,
        name: &str,
        (key, value): (&str, &str),
    ) -> Result<(), BoxError> {
        let mut lighthouse = lighthouse(cloud)?;
        let instance = lighthouse.instance_mut(region, self.id(name)?);
        let instance = instance.ok_or_else(|| format!("{name} is gone"))?;
        instance.tags.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// The oldest snapshot of an instance of Lighthouse.
    fn oldest(&self, name: &str, cloud: &Cloud) -> Result<String, BoxError> {
        let id = self.id(name)?;
        let lighthouse = lighthouse(cloud)?;
        let all = lighthouse.snapshots("ap-guangzhou").into_iter();
        let own = all.filter(|one| one.instance_id == id && one.gone_at.is_none());
        let oldest = own.min_by_key(|one| one.requested_at).map(|one| one.id.clone());
        oldest.ok_or_else(|| format!("{name} has no snapshot").into())
    }

    /// Three hours around the next 03:00 in which a Region throttles.
    fn throttling(&self, region: &str) -> Fault {
        let at = |hour: i64| Some(self.start + SignedDuration::from_hours(18 * 24 + hour));
        let fault = Fault::on("CreateInstanceSnapshot", FaultKind::Throttle).in_region(region);
        Fault { from: at(2), until: at(5), ..fault }
    }

    /// Plays one scene that is due by now; says what it was.
    pub(super) fn play(
        &mut self,
        cloud: &Cloud,
        now: Timestamp,
        story: &Story,
    ) -> Result<Option<&'static str>, BoxError> {
        let due = |day: i64| {
            self.start + SignedDuration::from_hours(day * 24) + SignedDuration::from_mins(30)
        };
        let Some((_, _, what, play)) = self.scenes.pop_if(|scene| now >= due(scene.0)) else {
            return Ok(None);
        };
        play(self, cloud, story)?;
        Ok(Some(what))
    }
}
