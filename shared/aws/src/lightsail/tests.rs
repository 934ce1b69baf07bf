//! Tests of the adapter on the real SDK; a function answers the requests on the wire.

use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_lightsail::config::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use snapkeep_domain::place::Place;
use snapkeep_domain::snapshot::Tags;

use super::*;

/// A request: host, operation and body.
type Request = (String, String, Value);
/// An answer: status and body; `None` breaks the connection.
type Answer = Option<(u16, String)>;

fn place() -> Place {
    "eu-west-1".parse().unwrap()
}

#[derive(Clone)]
struct Wire {
    answer: Arc<dyn Fn(&Value) -> Answer + Send + Sync>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: http::Uri = request.uri().parse().unwrap();
        let target = request.headers().get("x-amz-target").unwrap().to_owned();
        let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let answer = (self.answer)(&body);
        self.seen.lock().unwrap().push((uri.host().unwrap().to_owned(), target, body));
        HttpConnectorFuture::ready(match answer {
            Some((status, body)) => {
                Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)))
            }
            None => Err(ConnectorError::io("the connection broke".into())),
        })
    }
}

fn wire(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> (SdkConfig, Wire) {
    let wire = Wire { answer: Arc::new(answer), seen: Arc::default() };
    let connector = SharedHttpConnector::new(wire.clone());
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(aws_sdk_lightsail::config::SharedCredentialsProvider::new(
            Credentials::new("key", "secret", None, None, "test"),
        ))
        .retry_config(RetryConfig::disabled())
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .build();
    (sdk, wire)
}

fn ok(body: &Value) -> Answer {
    Some((200, body.to_string()))
}

fn named(region: &str) -> SnapshotRef {
    let source = ResourceId("arn".to_owned());
    SnapshotRef { place: region.parse().unwrap(), source, name: "web-s".to_owned(), id: None }
}

fn snapshot(name: &str) -> Value {
    json!({"name": name, "arn": format!("arn:{name}"), "createdAt": 1569866438.48,
        "state": "available", "fromInstanceArn": "arn:web", "fromInstanceName": "web",
        "sizeInGb": 20, "tags": [{"key": "only"}], "isFromAutoSnapshot": true})
}

#[tokio::test]
async fn a_page_is_read_in_the_region_that_was_asked_for() {
    let (sdk, wire) = wire(|body| match body.get("pageToken").and_then(Value::as_str) {
        None => ok(&json!({"instanceSnapshots": [snapshot("a")], "nextPageToken": "1"})),
        _ => ok(&json!({"instanceSnapshots": [snapshot("b"), snapshot("a")]})),
    });
    let inventory = LightsailInventory::new(&sdk, &Accounts::default());
    let first = inventory.snapshots(&place(), None).await.unwrap();
    assert_eq!((first.elements.len(), first.next.as_deref()), (1, Some("1")));
    let last = inventory.snapshots(&place(), first.next).await.unwrap();
    assert_eq!(last.elements.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(last.next, None);
    let seen = wire.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (host, target, _) in &*seen {
        assert_eq!(host, "lightsail.eu-west-1.amazonaws.com");
        assert_eq!(target, "Lightsail_20161128.GetInstanceSnapshots");
    }
}

#[tokio::test]
async fn a_broken_element_is_named_and_costs_the_others_nothing() {
    let (sdk, _) = wire(|_| ok(&json!({"instances": [{"name": "web", "arn": "a"}, {}]})));
    let inventory = LightsailInventory::new(&sdk, &Accounts::default());
    let page = inventory.instances(&place(), None).await.unwrap();
    assert_eq!((page.elements.len(), page.broken.len()), (1, 1));
    let error = &page.broken[0];
    assert_eq!((error.kind, error.operation), (ErrorKind::Indeterminate, "GetInstances"));
}

#[tokio::test]
async fn a_token_that_is_too_old_is_told_from_other_refusals() {
    let refusal = json!({"__type": "InvalidInputException", "code": "InvalidInputException",
        "message": "The page token has expired"});
    let (sdk, _) = wire(move |_| Some((400, refusal.to_string())));
    let inventory = LightsailInventory::new(&sdk, &Accounts::default());
    let later = inventory.instances(&place(), Some("1".to_owned())).await.unwrap_err();
    assert_eq!(later.kind, ErrorKind::BadPageToken);
    let first = inventory.instances(&place(), None).await.unwrap_err();
    assert_eq!(first.kind, ErrorKind::Refused);
}

#[tokio::test]
async fn a_snapshot_is_ordered_with_its_tags() {
    let (sdk, wire) = wire(|_| ok(&json!({"operations": []})));
    let order = SnapshotRequest {
        place: "eu-west-1".parse().unwrap(),
        resource: ResourceId("arn".to_owned()),
        instance: "web".to_owned(),
        name: "web-s".to_owned(),
        tags: Tags::from([("a", "b"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned()))),
    };
    LightsailCreator::new(&sdk, &Accounts::default()).create(&order).await.unwrap();
    LightsailDeleter::new(&sdk, &Accounts::default()).delete(&named("us-west-2")).await.unwrap();
    let seen = wire.seen.lock().unwrap();
    let create = json!({"instanceSnapshotName": "web-s", "instanceName": "web",
        "tags": [{"key": "a", "value": "b"}, {"key": "c"}]});
    assert_eq!(seen[0].2, create);
    assert_eq!(seen[1].0, "lightsail.us-west-2.amazonaws.com");
    assert_eq!(seen[1].1, "Lightsail_20161128.DeleteInstanceSnapshot");
    assert_eq!(seen[1].2, json!({"instanceSnapshotName": "web-s"}));
}

#[tokio::test]
async fn only_a_not_found_of_lightsail_means_that_there_is_none() {
    let error = |kind: &str, code: Option<&str>, message: &str| {
        let mut body = json!({"__type": kind, "message": message});
        if let Some(code) = code {
            body["code"] = code.into();
        }
        (400, body.to_string())
    };
    let gone = "The InstanceSnapshot does not exist: web-s";
    for (status, body) in [
        error("NotFoundException", Some("DoesNotExist"), gone),
        error("NotFoundException", None, gone),
        error("InvalidInputException", None, gone),
    ] {
        let (sdk, _) = wire(move |_| Some((status, body.clone())));
        let inventory = LightsailInventory::new(&sdk, &Accounts::default());
        assert_eq!(inventory.look_up(&named("eu-west-1")).await.unwrap(), []);
        assert_eq!(
            inventory.instance(&place(), &ResourceId("arn".to_owned()), "web").await.unwrap(),
            None
        );
        let error = LightsailDeleter::new(&sdk, &Accounts::default())
            .delete(&named("eu-west-1"))
            .await
            .unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::NotFound, gone));
    }
    let refused = error("InvalidInputException", Some("NameExists"), "Some names are already…");
    let other: [(Answer, ErrorKind); 8] = [
        (Some(refused), ErrorKind::NameTaken),
        (Some(error("ThrottlingException", None, "Rate exceeded")), ErrorKind::Throttled),
        (Some((404, "<html>It does not exist</html>".to_owned())), ErrorKind::Refused),
        (Some((503, "busy".to_owned())), ErrorKind::Indeterminate),
        (Some((200, "no JSON".to_owned())), ErrorKind::Indeterminate),
        (ok(&json!({})), ErrorKind::Indeterminate),
        (ok(&json!({"instanceSnapshot": snapshot("another")})), ErrorKind::Indeterminate),
        (None, ErrorKind::Indeterminate),
    ];
    for (answer, kind) in other {
        let (sdk, _) = wire(move |_| answer.clone());
        let error = LightsailInventory::new(&sdk, &Accounts::default())
            .look_up(&named("eu-west-1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(!error.code.is_empty() && !error.message.is_empty(), "{error:?}");
    }
}

#[tokio::test]
async fn what_was_never_sent_had_no_effect() {
    let (sdk, wire) = wire(|_| None);
    let order = SnapshotRequest {
        place: "not_a_region".parse().unwrap(),
        resource: ResourceId(String::new()),
        instance: String::new(),
        name: String::new(),
        tags: Tags::new(),
    };
    let error = LightsailCreator::new(&sdk, &Accounts::default()).create(&order).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Refused, "NotSent"));
    assert!(wire.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_regions_come_from_home() {
    let body = json!({"regions": [{"name": "eu-west-1"}, {"name": "xx-new-1"}]});
    let (sdk, wire) = wire(move |_| ok(&body));
    let regions = LightsailInventory::new(&sdk, &Accounts::default()).regions(None).await.unwrap();
    assert_eq!(regions, ["eu-west-1", "xx-new-1"].map(|name| name.parse().unwrap()));
    assert_eq!(wire.seen.lock().unwrap()[0].0, "lightsail.us-east-1.amazonaws.com");
    let (sdk, _) = self::wire(|_| ok(&json!({"regions": [{}]})));
    assert!(LightsailInventory::new(&sdk, &Accounts::default()).regions(None).await.is_err());
}
