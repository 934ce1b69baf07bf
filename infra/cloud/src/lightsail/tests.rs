use serde_json::json;

use super::*;
use crate::knobs::Fault;
use crate::knobs::PageTokens;

const NOW: &str = "2026-01-01T00:00:00Z";

fn at(seconds: i64) -> Timestamp {
    NOW.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

struct Cloud(Lightsail);

impl Cloud {
    fn new() -> Self {
        Cloud(Lightsail::new(Knobs::default()))
    }

    fn call(&mut self, seconds: i64, operation: &str, body: Value) -> Result<Value, ApiError> {
        match self.0.call(at(seconds), "eu-west-1", operation, &body)? {
            Answer::Body(body) => Ok(body),
            Answer::Broken => Ok(json!("broken")),
            Answer::Hung(time) => Ok(json!({ "hung": time.as_secs() })),
        }
    }

    fn launch(&mut self, name: &str) {
        let body = json!({"instanceNames": [name], "availabilityZone": "eu-west-1a",
            "blueprintId": "debian_12", "bundleId": "nano_3_0", "tags": [{"key": "snapkeep"}]});
        self.call(0, "CreateInstances", body).unwrap();
    }

    fn snapshot(&mut self, seconds: i64, of: &str, name: &str) -> Result<Value, ApiError> {
        let body = json!({"instanceName": of, "instanceSnapshotName": name,
            "tags": [{"key": "a", "value": "b"}, {"key": "alone"}]});
        self.call(seconds, "CreateInstanceSnapshot", body)
    }

    fn state(&mut self, seconds: i64, name: &str) -> String {
        let body = json!({ "instanceSnapshotName": name });
        let answer = self.call(seconds, "GetInstanceSnapshot", body).unwrap();
        answer["instanceSnapshot"]["state"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_snapshot_gives_two_operations_and_settles_with_time() {
    let mut cloud = Cloud::new();
    cloud.launch("web");
    assert_eq!(cloud.snapshot(5, "web", "s-1").unwrap_err().kind, "OperationFailureException");
    let answer = cloud.snapshot(60, "web", "s-1").unwrap();
    let operations = answer["operations"].as_array().unwrap();
    assert_eq!(operations.len(), 2);
    assert_eq!(operations[0]["resourceType"], "InstanceSnapshot");
    assert_eq!(operations[0]["status"], "Started");
    assert_eq!(cloud.state(60, "s-1"), "pending");
    assert_eq!(cloud.state(140, "s-1"), "available");
    let id = json!({"operationId": operations[0]["id"]});
    let operation = cloud.call(140, "GetOperation", id).unwrap();
    assert_eq!(operation["operation"]["status"], "Succeeded");
    let shown =
        cloud.call(140, "GetInstanceSnapshot", json!({"instanceSnapshotName": "s-1"})).unwrap();
    let tags = &shown["instanceSnapshot"]["tags"];
    assert_eq!(*tags, json!([{"key": "a", "value": "b"}, {"key": "alone"}]));
    assert_eq!(shown["instanceSnapshot"]["createdAt"], 1_767_225_690);
}

#[test]
fn names_are_one_space_and_ids_are_never_used_again() {
    let mut cloud = Cloud::new();
    cloud.launch("web");
    let taken = cloud.snapshot(60, "web", "web").unwrap_err();
    assert_eq!((taken.kind, taken.code), ("InvalidInputException", "NameExists"));
    for bad in ["x", "-web", "web-", "we b", ""] {
        assert_eq!(cloud.snapshot(60, "web", bad).unwrap_err().code, "InvalidInputException");
    }
    cloud.snapshot(60, "web", "s-1").unwrap();
    let first = cloud.0.instances("eu-west-1")[0].arn.clone();
    cloud.call(61, "DeleteInstance", json!({"instanceName": "web"})).unwrap();
    cloud.launch("web");
    assert_ne!(cloud.0.instances("eu-west-1")[0].arn, first);
    assert_eq!(cloud.0.snapshots("eu-west-1")[0].from_arn, first);
}

#[test]
fn pages_survive_what_happens_between_them() {
    let mut cloud = Cloud::new();
    cloud.0.knobs.page_size = 2;
    cloud.launch("web");
    for at in 0..5 {
        cloud.snapshot(100 + at, "web", &format!("s-{at}")).unwrap();
    }
    let mut seen = Vec::new();
    let mut body = json!({});
    loop {
        let answer = cloud.call(200, "GetInstanceSnapshots", body.clone()).unwrap();
        for snapshot in answer["instanceSnapshots"].as_array().unwrap() {
            seen.push(snapshot["name"].as_str().unwrap().to_owned());
        }
        let gone = json!({"instanceSnapshotName": seen[0]});
        let _ = cloud.call(200, "DeleteInstanceSnapshot", gone);
        match answer.get("nextPageToken") {
            Some(token) => body["pageToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(seen, ["s-4", "s-3", "s-2", "s-1", "s-0"]);
    let bad = cloud.call(200, "GetInstanceSnapshots", json!({"pageToken": "x"})).unwrap_err();
    assert_eq!(bad.kind, "InvalidInputException");
}

#[test]
fn automatic_snapshots_keep_seven_and_block_manual_ones() {
    let mut cloud = Cloud::new();
    cloud.launch("web");
    let add_on = json!({"resourceName": "web", "addOnRequest": {"addOnType": "AutoSnapshot",
        "autoSnapshotAddOnRequest": {"snapshotTimeOfDay": "06:00"}}});
    cloud.call(60, "EnableAddOn", add_on).unwrap();
    let ten_days = 10 * 86_400;
    let answer = cloud.call(ten_days, "GetAutoSnapshots", json!({"resourceName": "web"})).unwrap();
    let autos = answer["autoSnapshots"].as_array().unwrap();
    assert_eq!(autos.len(), 7);
    let begins = autos[0]["createdAt"].as_i64().unwrap() - at(0).as_second();
    let busy = cloud.snapshot(begins + 86_401, "web", "s-1").unwrap_err();
    assert!(busy.message.contains("Please wait for it to complete before trying again"));
    assert!(cloud.snapshot(begins + 86_400 + 3600, "web", "s-1").is_ok());
}

#[test]
fn faults_hit_as_often_as_they_say() {
    let mut cloud = Cloud::new();
    cloud.launch("web");
    let fault = |kind| Fault::on("CreateInstanceSnapshot", kind).times(1);
    cloud.0.knobs.faults = vec![fault(FaultKind::Throttle)];
    assert_eq!(cloud.snapshot(60, "web", "s-1").unwrap_err().kind, "ThrottlingException");
    cloud.0.knobs.faults.push(fault(FaultKind::LostResponse));
    assert_eq!(cloud.snapshot(60, "web", "s-1").unwrap(), "broken");
    assert_eq!(cloud.state(61, "s-1"), "pending");
    cloud.0.knobs.faults.push(fault(FaultKind::FailSnapshot).of("s-2"));
    cloud.snapshot(60, "web", "s-3").unwrap();
    cloud.snapshot(60, "web", "s-2").unwrap();
    assert_eq!(
        (cloud.state(600, "s-2").as_str(), cloud.state(600, "s-3").as_str()),
        ("error", "available")
    );
    cloud.0.knobs.faults.push(fault(FaultKind::Vanish));
    cloud.snapshot(700, "web", "s-4").unwrap();
    let gone = cloud.call(730, "GetInstanceSnapshot", json!({"instanceSnapshotName": "s-4"}));
    assert_eq!(gone.unwrap_err().code, "DoesNotExist");
}

#[test]
fn bad_requests_are_refused_and_do_no_harm() {
    let mut cloud = Cloud::new();
    cloud.launch("web");
    for (operation, body, kind) in [
        ("CreateInstanceSnapshot", json!({}), "InvalidInputException"),
        ("CreateInstanceSnapshot", json!({"instanceSnapshotName": 3}), "SerializationException"),
        ("GetInstance", json!([]), "SerializationException"),
        ("GetInstance", json!({"instanceName": "none"}), "NotFoundException"),
        ("AttachDisk", json!({}), "UnknownOperationException"),
        (
            "TagResource",
            json!({"resourceName": "web", "tags": [{"key": "a*"}]}),
            "InvalidInputException",
        ),
        ("TagResource", json!({"resourceName": "web", "tags": {"a": 1}}), "SerializationException"),
    ] {
        assert_eq!(
            cloud.call(60, operation, body.clone()).unwrap_err().kind,
            kind,
            "{operation} {body}"
        );
    }
    let elsewhere = cloud.0.call(at(60), "mars-north-1", "GetInstances", &json!({}));
    assert_eq!(elsewhere.unwrap_err().kind, "UnrecognizedClientException");
}

#[test]
fn a_hanging_call_has_no_effect_and_other_regions_do_not_hang() {
    let mut cloud = Cloud::new();
    cloud.launch("web");
    let hang = Fault::hang("CreateInstanceSnapshot", 7).in_region("eu-west-1");
    cloud.0.knobs.faults = vec![hang.times(1)];
    let there = cloud.0.call(at(60), "us-east-1", "CreateInstanceSnapshot", &json!({}));
    assert_eq!(there.unwrap_err().kind, "InvalidInputException");
    assert_eq!(cloud.snapshot(60, "web", "s-1").unwrap(), json!({ "hung": 7 }));
    assert!(cloud.0.snapshots("eu-west-1").is_empty());
    cloud.snapshot(60, "web", "s-1").unwrap();
}

#[test]
fn throttled_calls_are_counted_whatever_throttles_them() {
    let mut cloud = Cloud::new();
    let rate = r#"[{"operation": "GetInstances", "per_second": 1, "burst": 2}]"#;
    cloud.0.knobs.rates = serde_json::from_str(rate).unwrap();
    cloud.0.knobs.faults = vec![Fault::on("GetRegions", FaultKind::Throttle)];
    let now = Instant::now();
    let refused = |cloud: &mut Cloud| cloud.0.admit(now, "eu-west-1", "GetInstances").is_err();
    assert_eq!([(); 4].map(|()| refused(&mut cloud)), [false, false, true, true]);
    assert!(cloud.0.admit(now, "us-east-1", "GetInstances").is_ok());
    assert_eq!(cloud.call(0, "GetRegions", json!({})).unwrap_err().kind, "ThrottlingException");
    let expected = [("GetInstances", 2), ("GetRegions", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!((&cloud.0.throttled, &cloud.0.calls), (&expected.clone().into(), &expected.into()));
}

#[test]
fn a_region_without_a_name_answers() {
    let mut cloud = Cloud::new();
    cloud.0.knobs.regions = vec!["eu-west-1".to_owned(), "us-east-1".to_owned()];
    cloud.0.knobs.unnamed_regions = vec!["us-east-1".to_owned(), "eu-gov-1".to_owned()];
    let named = cloud.call(0, "GetRegions", json!({})).unwrap();
    assert_eq!(named["regions"].as_array().unwrap().len(), 1);
    for (region, there) in
        [("eu-west-1", true), ("us-east-1", true), ("eu-gov-1", true), ("x", false)]
    {
        let answer = cloud.0.call(at(0), region, "GetInstances", &json!({}));
        assert_eq!(answer.is_ok(), there, "{region}");
    }
}

#[test]
fn tokens_that_are_offsets_show_twice_or_miss_what_moves() {
    let mut cloud = Cloud::new();
    cloud.0.knobs.page_size = 2;
    cloud.0.knobs.page_tokens = PageTokens::Offset;
    cloud.launch("web");
    for at in 0..4 {
        cloud.snapshot(100 + at, "web", &format!("s-{at}")).unwrap();
    }
    let page = |cloud: &mut Cloud, token: &Value| {
        let answer =
            cloud.call(200, "GetInstanceSnapshots", json!({ "pageToken": token })).unwrap();
        let names = answer["instanceSnapshots"].as_array().unwrap().iter();
        let names: Vec<String> = names.map(|s| s["name"].as_str().unwrap().to_owned()).collect();
        (names.join(" "), answer["nextPageToken"].clone())
    };
    let (first, token) = page(&mut cloud, &Value::Null);
    assert_eq!((first.as_str(), page(&mut cloud, &token).0.as_str()), ("s-3 s-2", "s-1 s-0"));
    cloud.snapshot(150, "web", "new").unwrap();
    assert_eq!(page(&mut cloud, &token).0, "s-2 s-1", "again");
    for name in ["new", "s-3"] {
        cloud.call(200, "DeleteInstanceSnapshot", json!({"instanceSnapshotName": name})).unwrap();
    }
    assert_eq!(page(&mut cloud, &token), ("s-0".to_owned(), Value::Null), "s-1 is missed");
}

#[test]
fn page_tokens_expire() {
    let mut cloud = Cloud::new();
    cloud.0.knobs.page_size = 1;
    cloud.launch("web");
    cloud.launch("db");
    for tokens in [PageTokens::Stable, PageTokens::Offset] {
        cloud.0.knobs.page_tokens = tokens;
        cloud.0.knobs.page_token_seconds = None;
        let first = cloud.call(0, "GetInstances", json!({})).unwrap();
        let next = json!({"pageToken": first["nextPageToken"]});
        assert!(cloud.call(86_400, "GetInstances", next.clone()).is_ok());
        cloud.0.knobs.page_token_seconds = Some(60);
        assert!(cloud.call(60, "GetInstances", next.clone()).is_ok());
        let expired = cloud.call(61, "GetInstances", next).unwrap_err();
        assert_eq!(expired.kind, "InvalidInputException");
        assert!(expired.message.ends_with("has expired"), "{}", expired.message);
    }
}
