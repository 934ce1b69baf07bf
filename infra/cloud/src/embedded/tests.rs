use std::time::Instant;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::*;
use crate::runner::run_with;
use crate::schedule::{Delivery, Schedule};

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
    let all = [
        "clock",
        "dynamodb",
        "events",
        "lambda",
        "lighthouse",
        "lightsail",
        "secrets",
        "sts",
        "table",
    ];
    assert_eq!(keys, all);

    let clock = |path: &str| format!("{}{path}", endpoints.clock);
    let time = |text: &str| (200, text.to_owned());
    assert_eq!(call(Method::GET, clock("/"), "").await, time("2026-01-01T00:00:00Z"));
    let moved = call(Method::POST, clock("/advance"), "90").await;
    assert_eq!(moved, time("2026-01-01T00:01:30Z"));
    assert_eq!(call(Method::POST, clock("/advance"), "soon").await.0, 400);
    for (speed, status) in [("60", 200), ("0", 200), ("-1", 400), ("1e7", 400), ("fast", 400)] {
        assert_eq!(call(Method::POST, clock("/speed"), speed).await.0, status, "{speed}");
    }
    let standing = call(Method::GET, clock("/"), "").await;
    assert_eq!(call(Method::GET, clock("/"), "").await, standing, "it stands still again");
    let turned = call(Method::PUT, clock("/knobs"), r#"{"page_size": 3}"#).await;
    assert!(turned.0 == 200 && turned.1.contains(r#""page_size":3"#), "{turned:?}");
    assert_eq!(http::lock(cloud.lightsail()).knobs.page_size, 3);
    for bad in [
        "3",
        r#"{"page_sise": 3}"#,
        r#"{"page_size": "many"}"#,
        r#"{"page_size": 0}"#,
        r#"{"latency": [{"operation": "GetInstance5", "millis": 1}]}"#,
        r#"{"latency": [{"operation": "*", "region": "mars-1", "millis": 1}]}"#,
    ] {
        assert_eq!(call(Method::PUT, clock("/knobs"), bad).await.0, 400, "{bad}");
    }
    assert_eq!(call(Method::GET, clock("/knobs"), "").await, turned);
    assert_eq!(call(Method::POST, endpoints.lightsail.clone(), "{}").await.0, 403);
    assert_eq!(call(Method::GET, endpoints.dynamodb.clone(), "").await.0, 200);
    cloud.clock().set("2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(call(Method::GET, clock("/"), "").await, time("2026-01-01T00:00:00Z"));

    tokio::time::timeout(Duration::from_secs(5), cloud.shutdown()).await.unwrap();
    for url in [endpoints.lightsail, endpoints.dynamodb, endpoints.clock, endpoints.events] {
        let address = url.trim_start_matches("http://").to_owned();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "{url}");
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_and_functions_get_the_cloud() {
    let cloud = started().await;
    let settings = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let env = cloud.function_env(&settings);
    assert_eq!(env["GREETING"], "hello");
    assert_eq!(env["AWS_ENDPOINT_URL_DYNAMODB"], cloud.endpoints().dynamodb);
    assert_eq!(env["AWS_ENDPOINT_URL_SNS"], cloud.endpoints().events);
    let elsewhere = "http://127.0.0.1:9".to_owned();
    let settings = BTreeMap::from([("AWS_ENDPOINT_URL_SNS".to_owned(), elsewhere.clone())]);
    assert_eq!(cloud.function_env(&settings)["AWS_ENDPOINT_URL_SNS"], elsewhere);

    let script = r#"
import json, os, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    id = http.urlopen(api + "next").headers["Lambda-Runtime-Aws-Request-Id"]
    now = http.urlopen(os.environ["CLOCK"]).read().decode()
    http.urlopen(api + id + "/response", json.dumps(now).encode())
"#;
    let mut config = FunctionConfig::new("now", "python3");
    config.args = ["-S", "-E", "-c", script].map(str::to_owned).to_vec();
    config.env.insert("CLOCK".to_owned(), cloud.endpoints().clock);
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
        .header("content-type", "application/x-amz-json-1.1")
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

    // Each account has its own.
    let account =
        |id: &str, what: &str| format!("{}/accounts/{id}/{what}", cloud.endpoints().clock);
    let put = call(Method::PUT, account("222233334444", "knobs"), r#"{"page_size": 3}"#).await;
    assert_eq!(put.0, 200);
    let other = cloud.accounts().other("222233334444");
    let turned = http::lock(&other).knobs.clone();
    assert_eq!((turned.page_size, turned.rates.len()), (3, 0));
    let home = call(Method::GET, account("111122223333", "knobs"), "").await;
    assert_eq!(home, call(Method::GET, knobs, "").await);
    assert_eq!(call(Method::GET, account("222233334444", "calls"), "").await.0, 200);
    assert_eq!(call(Method::GET, account("2222", "calls"), "").await.0, 404);
    cloud.shutdown().await;
}

/// Puts entries on the bus as an SDK would; the answer.
async fn put_events(cloud: &Cloud, entries: &Value) -> (u16, Value) {
    let request = Request::post(cloud.endpoints().events)
        .header("authorization", signature("events", "eu-west-1"))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "AWSEvents.PutEvents")
        .body(Body::from(json!({ "Entries": entries }).to_string()));
    let (status, text) = send(request.unwrap()).await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

async fn publish(cloud: &Cloud, form: &str) -> (u16, String) {
    let request = Request::post(cloud.endpoints().events)
        .header("authorization", signature("sns", "eu-west-1"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()));
    send(request.unwrap()).await.unwrap()
}

async fn notices(cloud: &Cloud) -> Value {
    let url = format!("{}/notices", cloud.endpoints().clock);
    serde_json::from_str(&call(Method::GET, url, "").await.1).unwrap()
}

#[tokio::test]
async fn events_and_mails_are_in_the_mailbox() {
    let cloud = started().await;
    let good = json!({"Source": "shop", "DetailType": "Order", "Detail": r#"{"n": 1}"#,
        "EventBusName": "default", "Resources": ["arn:x"]});
    let with = |member: &str, value: &str| {
        let mut entry = good.clone();
        entry[member] = value.into();
        entry
    };
    let entries = [
        good.clone(),
        with("Source", ""),
        with("DetailType", ""),
        with("Detail", "{"),
        with("Detail", "[]"),
        with("Source", "aws.ec2"),
        json!({"Source": "shop", "DetailType": "Order"}),
    ];
    let (status, answer) = put_events(&cloud, &entries.into_iter().collect()).await;
    assert_eq!((status, &answer["FailedEntryCount"]), (200, &json!(6)));
    let answers = answer["Entries"].as_array().unwrap();
    assert_eq!(answers[0]["EventId"].as_str().unwrap().len(), 36);
    let codes = answers.iter().filter_map(|entry| entry["ErrorCode"].as_str());
    let codes: Vec<&str> = codes.collect();
    let (argument, detail) = ("InvalidArgument", "MalformedDetail");
    let source = "NotAuthorizedForSource";
    assert_eq!(codes, [argument, argument, detail, detail, source, argument]);
    for bad in [json!([]), Value::Null, vec![good; 11].into()] {
        let (status, answer) = put_events(&cloud, &bad).await;
        assert_eq!((status, &answer["__type"]), (400, &json!("ValidationException")));
    }

    cloud.clock().advance(SignedDuration::from_secs(60));
    let attributes = "&MessageAttributes.entry.1.Name=code&MessageAttributes.entry.1.Value.DataType=\
                      String&MessageAttributes.entry.1.Value.StringValue=bad-tag";
    let mail = "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A1%3Apeople\
                &Message=a+%3Cb%3E%0A";
    let (status, answer) = publish(&cloud, &format!("{mail}&Subject=Hello{attributes}")).await;
    assert!(status == 200 && answer.contains("<MessageId>"), "{answer}");
    for (bad, code) in [
        (format!("{mail}&Subject=a%0Ab"), "InvalidParameter"),
        (mail.replace("Message=", "Massage="), "InvalidParameter"),
        (mail.replace("arn%3A", ""), "InvalidParameter"),
        (mail.replace("Publish", "Subscribe"), "InvalidAction"),
    ] {
        let (status, answer) = publish(&cloud, &bad).await;
        assert!(status == 400 && answer.contains(code), "{bad}: {answer}");
    }
    for kind in ["application/x-www-form-urlencoded", "application/x-amz-json-1.1"] {
        let unsigned = Request::post(cloud.endpoints().events).header("content-type", kind);
        let unsigned = match kind.contains("json") {
            true => unsigned.header("x-amz-target", "AWSEvents.PutEvents"),
            false => unsigned,
        };
        let (status, answer) = send(unsigned.body(Body::empty()).unwrap()).await.unwrap();
        assert!(status == 403 && answer.contains("MissingAuthenticationToken"), "{answer}");
    }

    let expected = json!([
        {"at": "2026-01-01T00:00:00Z", "kind": "event", "source": "shop", "detail-type": "Order",
            "resources": ["arn:x"], "detail": {"n": 1}},
        {"at": "2026-01-01T00:01:00Z", "kind": "mail", "topic": "arn:aws:sns:eu-west-1:1:people",
            "subject": "Hello", "message": "a <b>\n", "attributes": {"code": "bad-tag"}},
    ]);
    assert_eq!(notices(&cloud).await, expected);
    let url = format!("{}/notices", cloud.endpoints().clock);
    assert_eq!(call(Method::DELETE, url, "").await.0, 204);
    assert_eq!(notices(&cloud).await, json!([]));
    cloud.shutdown().await;
}

/// A function that answers with what it was invoked with, after a while; `fail` in its detail fails it.
const ECHO: &str = r#"
import json, os, time, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
while True:
    event = http.urlopen(api + "next")
    id, body = event.headers["Lambda-Runtime-Aws-Request-Id"], event.read()
    time.sleep(0.3)
    end = "/error" if json.loads(body)["detail"].get("fail") else "/response"
    http.urlopen(api + id + end, body)
"#;

#[tokio::test]
async fn an_event_that_a_rule_matches_invokes_a_function_and_several_do_at_once() {
    let cloud = started().await;
    let mut config = FunctionConfig::new("echo", "python3");
    config.args = ["-S", "-E", "-c", ECHO].map(str::to_owned).to_vec();
    let functions = [cloud.deploy(config, None)];
    let rule = |function: &str| EventRule {
        name: format!("orders-{function}"),
        source: "shop".to_owned(),
        detail_type: "Order".to_owned(),
        detail_equals: BTreeMap::from([("to".to_owned(), json!(function))]),
        function: function.to_owned(),
    };
    cloud.events().set_rules(vec![rule("echo"), rule("nobody")]);
    let start = cloud.clock().now();
    let schedule = Schedule::new(Vec::new(), "us-east-1", start);
    let habits = Delivery { retries: true, ..Delivery::default() };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let clock = cloud.clock();
    let schedule = schedule.with_habits(habits);
    let work = run_with(clock, schedule, cloud.events(), &functions, |due, invocation| {
        let _ = tell.send((due.attempt, due.rule.clone(), invocation.outcome.clone()));
    });
    let driver = async {
        let order = |detail: Value| json!({"Source": "shop", "DetailType": "Order", "Detail": detail.to_string()});
        let several: Vec<Value> = (0..4).map(|n| order(json!({"to": "echo", "n": n}))).collect();
        put_events(&cloud, &several.into()).await;
        let others = json!([order(json!({"to": "nobody"})), order(json!({"to": "else"}))]);
        put_events(&cloud, &others).await;
        for _ in 0..4 {
            let (attempt, rule, outcome) = told.recv().await.unwrap();
            assert_eq!((attempt, rule.as_str()), (1, "orders-echo"));
            let event = outcome.success().unwrap();
            assert_eq!((&event["source"], &event["region"]), (&json!("shop"), &json!("eu-west-1")));
        }
        assert!(functions[0].instances_started() > 1, "at once");

        put_events(&cloud, &json!([order(json!({"to": "echo", "fail": true}))])).await;
        for attempt in 1..=3 {
            let failed = told.recv().await.unwrap();
            assert!(failed.0 == attempt && failed.2.is_failure(), "{failed:?}");
            clock.advance(SignedDuration::from_mins(2));
        }
    };
    tokio::select! {
        () = work => panic!("the bus has rules"),
        () = driver => {}
    }
    cloud.shutdown().await;
}
