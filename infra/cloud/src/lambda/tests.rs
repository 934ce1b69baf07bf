//! Plays function processes with a small Python client of the Runtime API.

use std::sync::Mutex;

use serde_json::json;

use super::*;

/// A runtime that does what its event says.
const RUNTIME: &str = r#"
import json, os, sys, time, urllib.request
mode = sys.argv[1] if len(sys.argv) > 1 else ""
base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime"
def post(path, body, headers={}):
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request).read()
if mode == "exit":
    print("about to give up", file=sys.stderr)
    sys.exit(3)
if mode == "init-error":
    post("/init/error", {"errorType": "Config", "errorMessage": "no table"})
    sys.exit(1)
if mode == "dawdle":
    time.sleep(60)
while True:
    with urllib.request.urlopen(base + "/invocation/next") as next:
        event, headers = json.load(next), next.headers
    id = headers["Lambda-Runtime-Aws-Request-Id"]
    do = event.get("do")
    print("handling", do, flush=True)
    if do == "error":
        post(f"/invocation/{id}/error", {"errorType": "Oops", "errorMessage": "it broke"},
             {"Lambda-Runtime-Function-Error-Type": "Runtime.Oops"})
        continue
    if do == "crash":
        os._exit(7)
    if do == "sleep":
        time.sleep(event["seconds"])
    if do == "wrong":
        try:
            post("/invocation/other/response", {})
        except urllib.error.HTTPError as error:
            print("refused", error.code, flush=True)
    left = int(headers["Lambda-Runtime-Deadline-Ms"]) / 1000 - time.time()
    env = {k: v for k, v in os.environ.items()}
    post(f"/invocation/{id}/response",
         {"pid": os.getpid(), "id": id, "left": left, "env": env, "event": event,
          "arn": headers["Lambda-Runtime-Invoked-Function-Arn"],
          "trace": headers["Lambda-Runtime-Trace-Id"]})
    print("after", do, flush=True)
"#;

fn config(mode: &str, timeout: Duration) -> FunctionConfig {
    FunctionConfig {
        // -S -E: starts faster, and reads nothing of this machine's set-up.
        args: ["-S", "-E", "-c", RUNTIME, mode].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        timeout,
        ..FunctionConfig::new("greet", "python3")
    }
}

fn function(mode: &str) -> Function {
    Function::new(config(mode, Duration::from_secs(20)))
}

fn pid(invocation: &Invocation) -> u64 {
    let answer = invocation.outcome.success();
    answer.and_then(|answer| answer["pid"].as_u64()).unwrap_or_else(|| panic!("{invocation:?}"))
}

#[tokio::test]
async fn a_warm_instance_answers_again_with_its_own_log() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let function = Function::with_sink(config("", Duration::from_secs(20)), {
        let lines = Arc::clone(&lines);
        Arc::new(move |name, line| lines.lock().unwrap().push(format!("{name}: {line}")))
    });
    let first = function.invoke(json!({"do": "this"})).await;
    let second = function.invoke_as("again".to_owned(), json!({"do": "wrong"})).await;
    assert_eq!(pid(&first), pid(&second));
    assert_eq!(function.instances_started(), 1);
    assert_eq!(first.log, "handling this\nafter this\n");
    assert_eq!(second.log, "handling wrong\nrefused 400\nafter wrong\n");
    assert!(lines.lock().unwrap().contains(&"greet: handling this".to_owned()));

    let answer = first.outcome.success().unwrap();
    assert_eq!(answer["id"], first.request_id);
    assert_eq!(second.outcome.success().unwrap()["id"], "again");
    assert_eq!(answer["event"], json!({"do": "this"}));
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:123456789012:function:greet");
    assert_eq!(answer["env"]["GREETING"], "hello");
    assert_eq!(answer["env"]["AWS_LAMBDA_FUNCTION_NAME"], "greet");
    assert_eq!(answer["env"]["AWS_REGION"], "us-east-1");
    assert_eq!(answer["env"]["HOME"], Value::Null, "the environment is clean");
    let left = answer["left"].as_f64().unwrap();
    assert!((1.0..=20.0).contains(&left), "{left}");
}

#[tokio::test]
async fn an_error_keeps_the_instance_and_a_crash_costs_it() {
    let function = function("");
    let failed = function.invoke(json!({"do": "error"})).await;
    let payload = json!({"errorType": "Oops", "errorMessage": "it broke"});
    let (error_type, message) = ("Oops".to_owned(), "it broke".to_owned());
    assert_eq!(failed.outcome, Outcome::Error { error_type, message, payload });
    assert!(failed.outcome.is_failure());

    let crashed = function.invoke(json!({"do": "crash"})).await;
    assert_eq!(crashed.outcome, Outcome::Crashed { status: "exit status: 7".to_owned() });
    assert_eq!(crashed.log, "handling crash\n");
    assert_eq!(function.instances_started(), 1);

    pid(&function.invoke(json!({})).await);
    assert_eq!(function.instances_started(), 2);
    function.retire_idle().await;
    pid(&function.invoke(json!({})).await);
    assert_eq!(function.instances_started(), 3);
}

#[tokio::test]
async fn a_process_that_never_asks_is_an_init_error() {
    let message = async |function: Function| match function.invoke(json!({})).await.outcome {
        Outcome::InitError { message } => message,
        other => panic!("{other:?}"),
    };
    let text = message(function("exit")).await;
    assert!(text.contains("exit status: 3") && text.contains("about to give up"), "{text}");
    let text = message(function("init-error")).await;
    assert!(text.contains("Config: no table"), "{text}");
    let absent = FunctionConfig::new("absent", "/nonexistent/bootstrap");
    let text = message(Function::new(absent)).await;
    assert!(text.contains("cannot start /nonexistent/bootstrap"), "{text}");
}

#[tokio::test]
async fn out_of_time_is_killed_and_replaced() {
    let function = Function::new(config("", Duration::from_secs(2)));
    pid(&function.invoke(json!({})).await);
    let late = function.invoke(json!({"do": "sleep", "seconds": 60})).await;
    assert_eq!(late.outcome, Outcome::TimedOut);
    assert_eq!(late.log, "handling sleep\n");
    assert!(late.duration < Duration::from_secs(10));
    pid(&function.invoke(json!({})).await);
    assert_eq!(function.instances_started(), 2);
}

#[tokio::test]
async fn a_kill_in_the_middle_is_a_crash() {
    let function = function("");
    let (seen, sees) = tokio::sync::oneshot::channel::<()>();
    let killer = async move {
        let _ = sees.await;
    };
    let event = json!({"do": "sleep", "seconds": 60});
    let (killed, ()) = tokio::join!(function.invoke_and_kill_when(event, killer), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = seen.send(());
    });
    let Outcome::Crashed { status } = killed.outcome else { panic!("{killed:?}") };
    assert!(status.contains("signal: 9"), "{status}");
    pid(&function.invoke(json!({})).await);
}

#[tokio::test]
async fn concurrent_events_start_more_instances() {
    let function = function("");
    let event = || json!({"do": "sleep", "seconds": 0.3});
    let (one, two) = tokio::join!(function.invoke(event()), function.invoke(event()));
    assert_ne!(pid(&one), pid(&two));
    assert_eq!(function.instances_started(), 2);
    pid(&function.invoke(json!({})).await);
    assert_eq!(function.instances_started(), 2);
}

#[tokio::test]
async fn shutdown_ends_processes_at_work_and_idle() {
    for mode in ["", "dawdle"] {
        let function = function(mode);
        let (invocation, ()) =
            tokio::join!(function.invoke(json!({"do": "sleep", "seconds": 60})), async {
                tokio::time::sleep(Duration::from_millis(200)).await;
                function.shutdown().await;
            });
        assert!(invocation.outcome.is_failure());
        assert!(invocation.duration < Duration::from_secs(10));
        let refused = function.invoke(json!({})).await;
        assert!(matches!(refused.outcome, Outcome::InitError { .. }), "{refused:?}");
    }
}
