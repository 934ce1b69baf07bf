//! The functions on Tencent Cloud Lighthouse, beside Lightsail.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Map, Value, json};
use snapkeep_cloud::knobs::{Fault, FaultKind};
use snapkeep_cloud::lighthouse::knobs::{SECRET_ID, SECRET_KEY, SnapshotTags};
use snapkeep_cloud::lighthouse::{Answer, Event, Lighthouse, Snapshot};

use crate::harness::*;

const REGION: &str = "ap-guangzhou";
const PLACE: &str = "lighthouse:ap-guangzhou";

/// Variables of a deployment for this provider alone; its keys are in a secret.
const VARS: [(&str, &str); 4] = [
    ("SNAPKEEP_PROVIDERS", "lighthouse"),
    ("SNAPKEEP_LIGHTHOUSE_REGIONS", REGION),
    ("SNAPKEEP_LIGHTHOUSE_SECRET", "snapkeep/lighthouse"),
    ("SNAPKEEP_GRACE", "1d"),
];

async fn start(vars: &[(&str, &str)]) -> World {
    let world = World::start(&[&VARS, vars].concat()).await;
    let keys = json!({"secretId": SECRET_ID, "secretKey": SECRET_KEY});
    world.cloud.secrets().put("snapkeep/lighthouse", &keys.to_string());
    world
}

impl World {
    fn lighthouse(&self) -> std::sync::MutexGuard<'_, Lighthouse> {
        self.cloud.lighthouse().lock().unwrap()
    }

    /// Calls Lighthouse as a person would.
    fn ask(&self, operation: &str, body: &Value) -> Value {
        let empty = Map::new();
        let body = body.as_object().unwrap_or(&empty);
        match self.lighthouse().call(self.now(), REGION, operation, body) {
            Ok(Answer::Body(answer)) => answer,
            other => panic!("{operation}: {other:?}"),
        }
    }

    /// Launches an instance; returns its id when it runs, a minute later.
    fn launch_there(&self, name: &str, pairs: &[(&str, &str)]) -> String {
        let tags: Value = pairs.iter().map(|(k, v)| json!({"Key": k, "Value": v})).collect();
        let body = json!({"BundleId": "bundle_starter_nmc_lin_med2_01", "BlueprintId": "lhbp-f1lkcd41",
            "InstanceName": name, "Tags": tags});
        let id =
            self.ask("CreateInstances", &body)["InstanceIdSet"][0].as_str().unwrap().to_owned();
        self.advance(1);
        id
    }

    /// The snapshots there whose deletion nobody asked for, the oldest first.
    fn there(&self) -> Vec<Snapshot> {
        let lighthouse = self.lighthouse();
        let mut all: Vec<Snapshot> = lighthouse.snapshots(REGION).into_iter().cloned().collect();
        all.retain(|one| one.gone_at.is_none());
        all.sort_by(|a, b| (a.requested_at, &a.id).cmp(&(b.requested_at, &b.id)));
        all
    }

    fn events_there(&self, operation: &str) -> Vec<Event> {
        let lighthouse = self.lighthouse();
        lighthouse.events.iter().filter(|e| e.operation == operation).cloned().collect()
    }

    fn fault_there(&self, fault: Option<Fault>) {
        self.lighthouse().knobs.faults = fault.into_iter().collect();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_snapshotted_followed_and_pruned() {
    let world = start(&[("SNAPKEEP_KEEP", "last=2")]).await;
    let id = world.launch_there("网站 web.1", &[("snapkeep", "")]);
    world.quiet_nights(6).await;
    let left = world.there();
    // Two are kept, and one waits for its day of grace.
    assert_eq!(left.len(), 3, "{left:#?}");
    assert_eq!(world.events_there("CreateInstanceSnapshot").len(), 6);
    assert_eq!(world.events_there("DeleteSnapshots").len(), 3);
    let newest = left.last().unwrap();
    assert!(newest.name.starts_with("web.1-20260106T030000Z-"), "{}", newest.name);
    assert_eq!(newest.tags["snapkeep:source"], format!("{PLACE}:{id}"));
    let items = world.items();
    let of_newest = items.iter().find(|item| item["name"]["S"] == newest.name.as_str()).unwrap();
    assert_eq!(of_newest["identity"]["M"]["id"]["S"], newest.id.as_str());
    assert_eq!(of_newest["state"]["S"], "available");
    assert_eq!(of_newest["identity"]["M"]["disk"]["S"], newest.disk_id.as_str());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_snapshot() {
    let world = start(&[("SNAPKEEP_KEEP", "last=3")]).await;
    world.launch_there("web", &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    for kind in [FaultKind::LostResponse, FaultKind::ServerError, FaultKind::Dropped] {
        let before = world.events_there("CreateInstanceSnapshot").len();
        world.fault_there(Some(Fault::on("CreateInstanceSnapshot", kind)));
        world.to_next_slot();
        let create = world.tick("create").await;
        assert_eq!(count(&create, "requested"), 0, "{create:#}");
        finding(&create, "create-deferred");
        let asked = world.lighthouse().calls["CreateInstanceSnapshot"];
        // Too early to know, whatever the look shows.
        world.advance(5);
        world.fault_there(None);
        world.tick("create").await;
        let again = world.lighthouse().calls["CreateInstanceSnapshot"];
        assert_eq!(again, asked, "{kind:?}");
        world.advance(15);
        let create = fine(world.tick("create").await);
        let made = world.events_there("CreateInstanceSnapshot").len();
        assert_eq!(made, before + 1, "{kind:?} {create:#}");
        world.advance(10);
        fine(world.tick("poll").await);
    }
    let states = world.states();
    assert_eq!(states, ["available"; 4], "{:#?}", world.items());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_ledger_looks_before_it_asks_and_is_rebuilt() {
    let world = start(&[("SNAPKEEP_KEEP", "last=5")]).await;
    world.launch_there("web", &[("snapkeep", "")]);
    world.quiet_nights(3).await;
    world.lose_ledger();
    world.advance(15);
    let create = fine(world.tick("create").await);
    assert_eq!((count(&create, "requested"), count(&create, "tracked")), (0, 1), "{create:#}");
    world.advance(60);
    let prune = fine(world.tick("prune").await);
    assert_eq!(count(&prune, "adopted"), 2, "{prune:#}");
    assert_eq!(world.states(), ["available"; 3]);
    assert_eq!(world.events_there("CreateInstanceSnapshot").len(), 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tags_name_origin_and_ledger_decide() {
    for tags in [SnapshotTags::Dropped, SnapshotTags::Refused] {
        let world = start(&[("SNAPKEEP_KEEP", "last=2")]).await;
        world.lighthouse().knobs.snapshot_tags = tags;
        world.launch_there("web", &[("snapkeep", "")]);
        world.quiet_nights(5).await;
        assert_eq!(world.there().len(), 3, "{tags:?}");
        world.lose_ledger();
        world.advance(60);
        world.tick("prune").await;
        world.quiet_nights(3).await;
        // What was adopted without tags stays until its code is confirmed.
        assert_eq!(world.there().len(), 6, "{tags:?}");
        world.advance(60);
        finding(&world.tick("prune").await, "brake");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_snapshot_of_a_name_and_a_renamed_one_are_kept_and_reported() {
    let world = start(&[("SNAPKEEP_KEEP", "last=1")]).await;
    world.launch_there("web", &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    let first = world.there()[0].clone();
    let twin = Snapshot { id: "lhsnap-zzzzzzzz".to_owned(), ..first.clone() };
    world.lighthouse().insert_snapshot(REGION, twin.clone());
    world.advance(60);
    let prune = fine(world.tick("prune").await);
    assert_eq!(finding(&prune, "twin")["value"], twin.id.as_str());
    world.quiet_nights(3).await;
    let ids: Vec<String> = world.there().into_iter().map(|one| one.id).collect();
    assert!(ids.contains(&twin.id) && !ids.contains(&first.id), "{ids:?}");

    let renamed = world.there().pop().unwrap();
    let body = json!({"SnapshotId": renamed.id, "SnapshotName": "keep me"});
    world.ask("ModifySnapshotAttribute", &body);
    world.quiet_nights(4).await;
    assert!(world.there().iter().any(|one| one.id == renamed.id), "{:#?}", world.there());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lighthouse_refuses_is_said_once_and_costs_nobody_else() {
    let world =
        start(&[("SNAPKEEP_KEEP", "last=2"), ("SNAPKEEP_PROVIDERS", "lightsail lighthouse")]).await;
    world.launch(&["here"], &[("snapkeep", "")]);
    let storage = world.launch_there("storage", &[("snapkeep", "")]);
    world.lighthouse().instance_mut(REGION, &storage).unwrap().bundle =
        "storage_bundle_01".to_owned();
    let leaving = world.launch_there("leaving", &[("snapkeep", "")]);
    world.ask("TerminateInstances", &json!({"InstanceIds": [leaving]}));
    world.launch_there("web", &[("snapkeep", "")]);
    world.to_next_slot();
    let create = world.tick("create").await;
    assert_eq!(count(&create, "requested"), 2, "{create:#}");
    let refused = finding(&create, "not-supported");
    assert_eq!(refused["name"], "storage");
    assert!(finding(&create, "create-deferred")["message"].as_str().unwrap().contains("SHUTDOWN"));
    // One try a slot.
    let asked = world.lighthouse().calls["CreateInstanceSnapshot"];
    world.advance(180);
    finding(&world.tick("create").await, "not-supported");
    assert_eq!(world.lighthouse().calls["CreateInstanceSnapshot"], asked);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_or_badly_configured_costs_the_other_nothing() {
    let both = ("SNAPKEEP_PROVIDERS", "lightsail lighthouse");
    for (vars, says) in [
        (
            vec![both, ("SNAPKEEP_LIGHTHOUSE_REGIONS", "guangzhou")],
            "SNAPKEEP_LIGHTHOUSE_REGIONS=`guangzhou`",
        ),
        (vec![both, ("SNAPKEEP_LIGHTHOUSE_SECRET", "nobody")], "the secret nobody"),
        (vec![both, ("SNAPKEEP_LIGHTHOUSE_SECRET", "")], "there are no keys"),
        (vec![("SNAPKEEP_PROVIDERS", "lightsail tencent")], "`tencent` is no provider"),
    ] {
        let world = start(&vars).await;
        world.launch(&["here"], &[("snapkeep", "")]);
        world.to_next_slot();
        let create = world.tick("create").await;
        assert_eq!(count(&create, "requested"), 1, "{create:#}");
        assert!(create.to_string().contains(says), "{says}: {create:#}");
        world.advance(10);
        assert_eq!(count(&world.tick("poll").await, "available"), 1);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_once_and_again_when_they_are_refused() {
    let world = start(&[("SNAPKEEP_KEEP", "last=2")]).await;
    world.launch_there("web", &[("snapkeep", "")]);
    world.quiet_nights(1).await;
    world.lighthouse().knobs.keys = [("AKIDNEW".to_owned(), "new".to_owned())].into();
    world.to_next_slot();
    let create = world.tick("create").await;
    assert!(create.to_string().contains("AuthFailure.SecretIdNotFound"), "{create:#}");
    let keys = json!({"secretId": "AKIDNEW", "secretKey": "new"});
    world.cloud.secrets().put("snapkeep/lighthouse", &keys.to_string());
    world.advance(15);
    assert_eq!(count(&fine(world.tick("create").await), "requested"), 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_too_small_is_said_before_and_when_it_is_full() {
    let world = start(&[("SNAPKEEP_KEEP", "last=3")]).await;
    world.lighthouse().knobs.snapshot_quota = 2;
    world.launch_there("web", &[("snapkeep", "")]);
    world.launch_there("db", &[("snapkeep", "")]);
    let [create, _, prune] = world.night().await;
    for report in [&create, &prune] {
        let short = finding(report, "quota-short");
        // Three kept, one in its day of grace, one in the making: five for each.
        assert_eq!((short["value"].as_str(), short["name"].as_str()), (Some("10"), Some(PLACE)));
        assert!(short["message"].as_str().unwrap().contains("web"), "{short:#}");
    }
    world.to_next_slot();
    let full = world.tick("create").await;
    let deferred = findings(&full, "create-deferred");
    assert_eq!(deferred.len(), 2, "{full:#}");
    assert_eq!(deferred[0]["value"], "LimitExceeded.SnapshotQuotaLimitExceeded");
    assert_eq!(world.there().len(), 2, "nothing is deleted to make room");
    world.end().await;
}

/// Instances of one name at both providers, in one ledger.
#[tokio::test(flavor = "multi_thread")]
async fn ledgers_of_two_providers_never_mix() {
    let vars = [
        ("SNAPKEEP_PROVIDERS", "lightsail lighthouse"),
        ("SNAPKEEP_KEEP", "last=2"),
        ("SNAPKEEP_ORPHAN_KEEP", "1d"),
    ];
    let world = start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "")]);
    let there = world.launch_there("web", &[("snapkeep", "")]);
    world.quiet_nights(4).await;
    let here = world.arn("web");
    // Each record is of one provider: its resource, its place and its snapshot.
    let mut of_each = [0, 0];
    for item in world.items() {
        let text = |key: &str| item[key]["S"].as_str().unwrap_or_default();
        let foreign = text("resource").contains("lighthouse:");
        assert_eq!(foreign, text("region") == PLACE, "{item:#}");
        assert_eq!(foreign, item["identity"]["M"]["id"]["S"].is_string(), "{item:#}");
        assert!(text("resource").contains(if foreign { &there } else { &here }), "{item:#}");
        of_each[usize::from(foreign)] += 1;
    }
    assert!(of_each.iter().all(|count| *count >= 3), "{of_each:?}");
    // What is gone at one provider is not gone at the other, though it has the same name.
    world.terminate("web");
    for _ in 0..4 {
        world.night().await;
    }
    assert_eq!(world.snapshots().len(), 1);
    let left = world.there();
    assert_eq!(left.len(), 3, "two are kept, and one waits for its day of grace: {left:#?}");
    let newest = left.last().unwrap();
    assert!(newest.name.starts_with("web-20260108T030000Z-"), "{}", newest.name);
    world.end().await;
}
