use std::time::Instant;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::*;

async fn started() -> Cloud {
    let table = json!({
        "TableName": "ledger",
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    });
    let clock = Clock::stepped("2026-01-01T00:00:00Z".parse().unwrap());
    let mut config = CloudConfig::new(clock, table);
    config.ttl_attribute = Some("expires".to_owned());
    Cloud::start(config).await.unwrap()
}

async fn call(method: Method, url: String, body: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(url);
    send(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
}

/// The status and the answer, or nothing if the connection breaks.
async fn send(request: Request<Body>) -> Option<(u16, String)> {
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.ok()?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8(bytes.to_vec()).unwrap()))
}

#[tokio::test]
async fn all_of_it_answers_and_ends() {
    let cloud = started().await;
    let endpoints = cloud.endpoints();
    let written = serde_json::to_value(&endpoints).unwrap();
    let keys: Vec<_> = written.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["clock", "dynamodb", "lambda", "lightsail", "sts", "table"]);

    let clock = |path: &str| format!("{}{path}", endpoints.clock);
    let time = |text: &str| (200, text.to_owned());
    assert_eq!(call(Method::GET, clock("/"), "").await, time("2026-01-01T00:00:00Z"));
    let moved = call(Method::POST, clock("/advance"), "90").await;
    assert_eq!(moved, time("2026-01-01T00:01:30Z"));
    assert_eq!(call(Method::POST, clock("/advance"), "soon").await.0, 400);
    let turned = call(Method::PUT, clock("/knobs"), r#"{"page_size": 3}"#).await;
    assert!(turned.0 == 200 && turned.1.contains(r#""page_size":3"#), "{turned:?}");
    assert_eq!(http::lock(cloud.lightsail()).knobs.page_size, 3);
    for bad in ["3", r#"{"page_sise": 3}"#, r#"{"page_size": "many"}"#] {
        assert_eq!(call(Method::PUT, clock("/knobs"), bad).await.0, 400, "{bad}");
    }
    assert_eq!(call(Method::GET, clock("/knobs"), "").await, turned);
    assert_eq!(call(Method::POST, endpoints.lightsail.clone(), "{}").await.0, 403);
    assert_eq!(call(Method::GET, endpoints.dynamodb.clone(), "").await.0, 200);
    cloud.clock().set("2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(call(Method::GET, clock("/"), "").await, time("2026-01-01T00:00:00Z"));

    tokio::time::timeout(Duration::from_secs(5), cloud.shutdown()).await.unwrap();
    for url in [endpoints.lightsail, endpoints.dynamodb, endpoints.clock] {
        let address = url.trim_start_matches("http://").to_owned();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{url}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_and_functions_get_the_cloud() {
    let cloud = started().await;
    let settings = BTreeMap::from([("SNAPKEEP_KEEP".to_owned(), "7d".to_owned())]);
    let env = cloud.function_env(&settings);
    assert_eq!(env["SNAPKEEP_KEEP"], "7d");
    assert_eq!(env["SNAPKEEP_LEDGER_TABLE"], "ledger");
    assert_eq!(env["SNAPKEEP_CLOCK_URL"], cloud.endpoints().clock);

    let script = r#"
import json, os, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    id = http.urlopen(api + "next").headers["Lambda-Runtime-Aws-Request-Id"]
    now = http.urlopen(os.environ["SNAPKEEP_CLOCK_URL"]).read().decode()
    http.urlopen(api + id + "/response", json.dumps(now).encode())
"#;
    let mut config = FunctionConfig::new("now", "python3");
    config.args = ["-S", "-E", "-c", script].map(str::to_owned).to_vec();
    let function = cloud.deploy(config, None);
    let invocation = function.invoke(json!({})).await;
    assert_eq!(invocation.outcome.success(), Some(&json!("2026-01-01T00:00:00Z")));

    let port = cloud.endpoints().clock.rsplit(':').next().unwrap().parse().unwrap();
    let mut config = CloudConfig::new(Clock::real(), json!({}));
    config.ports.clock = Some(port);
    let refused = Cloud::start(config).await;
    assert!(refused.err().unwrap().to_string().starts_with("cannot listen for the clock"));
    cloud.shutdown().await;
    let after = function.invoke(json!({})).await;
    assert!(after.outcome.is_failure());
}

/// Calls Lightsail as an SDK would, signed in form: the status, the answer, and how long it took.
async fn lightsail(
    cloud: &Cloud,
    region: &str,
    operation: &str,
    body: &Value,
) -> (u16, Value, Duration) {
    let began = Instant::now();
    let request = Request::post(cloud.endpoints().lightsail)
        .header("authorization", signature("lightsail", region))
        .header("x-amz-target", format!("Lightsail_20161128.{operation}"))
        .body(Body::from(body.to_string()));
    let (status, text) = send(request.unwrap()).await.unwrap_or_default();
    (status, serde_json::from_str(&text).unwrap_or_default(), began.elapsed())
}

fn signature(service: &str, region: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=any/20260101/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature={}",
        "0".repeat(64)
    )
}

#[tokio::test]
async fn slow_and_hanging_calls_hold_nobody_else() {
    let cloud = started().await;
    let knobs = json!({
        "latency": [{"operation": "GetInstances", "region": "eu-west-1", "millis": 300}],
        "faults": [{"operation": "*", "kind": "hang", "seconds": 1, "region": "eu-west-2"}],
    });
    let clock = cloud.endpoints().clock;
    let turned = call(Method::PUT, format!("{clock}/knobs"), &knobs.to_string()).await;
    assert_eq!(turned.0, 200, "{}", turned.1);
    let none = json!({});
    let (hung, slow, slow_too, fast) = tokio::join!(
        lightsail(&cloud, "eu-west-2", "GetInstances", &none),
        lightsail(&cloud, "eu-west-1", "GetInstances", &none),
        lightsail(&cloud, "eu-west-1", "GetInstances", &none),
        lightsail(&cloud, "us-east-1", "GetInstances", &none),
    );
    assert!(hung.0 == 0 && hung.2 >= Duration::from_secs(1), "no answer: {hung:?}");
    assert!(fast.0 == 200 && fast.2 < Duration::from_millis(300), "{fast:?}");
    for slow in [slow, slow_too] {
        assert!(slow.0 == 200 && slow.2 >= Duration::from_millis(300), "{slow:?}");
        assert!(slow.2 < hung.2, "{slow:?} {hung:?}");
    }
    cloud.shutdown().await;
}

#[tokio::test]
async fn calls_and_throttled_calls_are_counted_on_the_wire() {
    let cloud = started().await;
    let calls = format!("{}/calls", cloud.endpoints().clock);
    let rate = r#"{"rates": [{"operation": "GetInstances", "per_second": 0.001, "burst": 2}]}"#;
    let knobs = format!("{}/knobs", cloud.endpoints().clock);
    assert_eq!(call(Method::PUT, knobs.clone(), rate).await.0, 200);
    for bad in [r#"{"rates": [{"operation": "*", "per_sec": 1}]}"#, r#"{"page_tokens": "odd"}"#] {
        assert_eq!(call(Method::PUT, knobs.clone(), bad).await.0, 400, "{bad}");
    }
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let (status, body, _) = lightsail(&cloud, "eu-west-1", "GetInstances", &json!({})).await;
        statuses.push((status, body["__type"].as_str().unwrap_or_default().to_owned()));
    }
    let expected = [(200, ""), (200, ""), (400, "ThrottlingException")];
    assert_eq!(statuses, expected.map(|(status, kind)| (status, kind.to_owned())));
    let counted = call(Method::GET, calls.clone(), "").await.1;
    let expected = json!({"calls": {"GetInstances": 3}, "throttled": {"GetInstances": 1}});
    assert_eq!(serde_json::from_str::<Value>(&counted).unwrap(), expected);
    assert_eq!(call(Method::DELETE, calls.clone(), "").await.0, 204);
    assert_eq!(call(Method::GET, calls, "").await.1, r#"{"calls":{},"throttled":{}}"#);
    cloud.shutdown().await;
}
