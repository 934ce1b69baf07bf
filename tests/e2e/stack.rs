//! The stack as the template makes it, taken by an implementation of AWS that is not ours: its table
//! is the ledger, its topic and event bus listen, and its rules say whom a Tick is for.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use snapkeep_cloud::knobs::{Knobs, Rate};
use snapkeep_cloud::lambda::{Function, FunctionConfig};
use snapkeep_tests::binaries::binary;
use snapkeep_tests::{REGION, python, root, translated};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::*;

/// A running moto with the stack on it.
struct Moto {
    process: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    stack: Value,
}

impl Moto {
    async fn start() -> Self {
        let mut process = Command::new(python())
            .arg(root().join("tests/python/moto_stack.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ask = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut moto = Moto { process, ask, answers, stack: Value::Null };
        moto.stack = moto.answer(&translated("template.yaml")).await;
        moto
    }

    /// Sends a line and reads one.
    async fn answer(&mut self, line: &[u8]) -> Value {
        self.ask.write_all(line).await.unwrap();
        self.ask.write_all(b"\n").await.unwrap();
        let line = tokio::time::timeout(Duration::from_secs(120), self.answers.next_line()).await;
        serde_json::from_str(&line.unwrap().unwrap().unwrap()).unwrap()
    }

    /// What people and programs heard since they were asked last: subjects, and events with codes.
    async fn heard(&mut self) -> (Vec<String>, Vec<String>) {
        let heard = self.answer(b"").await;
        let subject = |message: &Value| message["Subject"].as_str().unwrap().to_owned();
        let event = |event: &Value| {
            assert_eq!(event["source"], "snapkeep");
            let detail = &event["detail"];
            assert_eq!(detail["deployment"], "snapkeep-us-east-1-123456789012");
            assert_eq!(event["resources"][0], detail["resource"]);
            assert!(!detail["message"].as_str().unwrap().is_empty());
            event["detail-type"].as_str().unwrap().to_owned()
        };
        let all = |of: &str| heard[of].as_array().unwrap().clone();
        (all("topic").iter().map(subject).collect(), all("bus").iter().map(event).collect())
    }

    /// Puts this event on the bus, if it is one, and returns what each rule of the stack handed on since it was
    /// asked last.
    async fn handed_on(&mut self, event: Option<&Value>) -> BTreeMap<String, Vec<Value>> {
        let line = event.map(ToString::to_string).unwrap_or_default();
        let heard = self.answer(line.as_bytes()).await;
        serde_json::from_value(heard["rules"].clone()).unwrap()
    }

    /// The function of this logical id, with the environment that the stack gives it.
    fn function(&self, id: &str, world: &World, more: &[(&str, &str)]) -> Function {
        Function::new(self.config(id, world, more))
    }

    fn config(&self, id: &str, world: &World, more: &[(&str, &str)]) -> FunctionConfig {
        let name = self.stack["resources"][id].as_str().unwrap();
        let variables = self.stack["environments"][name].as_object().unwrap();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let mut config = FunctionConfig::new(name, binary(&id.to_lowercase()));
        config.env = world.cloud.function_env(&variables);
        config.env.extend(variables);
        config.env.insert("SNAPKEEP_CLOCK_URL".to_owned(), world.cloud.endpoints().clock);
        let url = self.stack["url"].as_str().unwrap();
        for service in ["DYNAMODB", "SNS", "EVENTBRIDGE"] {
            config.env.insert(format!("AWS_ENDPOINT_URL_{service}"), url.to_owned());
        }
        config.env.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        config
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_tells_people_once_and_again_when_it_is_over() {
    let world = World::start(&[]).await;
    let mut moto = Moto::start().await;
    let functions = ["Create", "Poll", "Prune"].map(|id| moto.function(id, &world, &[]));
    let tick = async |function: usize, name: &str| {
        fine(report(functions[function].invoke(world.event(name)).await))
    };
    world.launch(&["web"], &[("snapkeep", "on"), ("snapkeep:keep", "dayly=7")]);
    let held_back = "snapkeep: Snapshot Held Back: web";

    assert_eq!(count(&tick(0, "create").await, "requested"), 1);
    assert_eq!(
        moto.heard().await,
        (vec![held_back.to_owned()], vec!["Snapshot Held Back".to_owned()])
    );
    world.advance(10);
    tick(1, "poll").await;
    // That a snapshot is available is for programs.
    assert_eq!(moto.heard().await, (vec![], vec!["Snapshot Available".to_owned()]));
    for _ in 0..2 {
        world.advance(60);
        assert_eq!(findings(&tick(0, "create").await, "bad-tag").len(), 1);
        assert_eq!(findings(&tick(2, "prune").await, "bad-tag").len(), 1);
    }
    assert_eq!(moto.heard().await, (vec![], vec![]), "once, not at every tick");

    world.tag("web", "snapkeep:keep", "daily=7");
    tick(0, "create").await;
    let (people, events) = moto.heard().await;
    assert_eq!(people, [format!("{held_back} (resolved)")]);
    assert_eq!(events, ["Snapshot Held Back"]);
    tick(2, "prune").await;
    assert_eq!(moto.heard().await, (vec![], vec![]));

    // An event bus that is out of order does not silence people, nor are they told twice for its sake.
    world.tag("web", "snapkeep:keep", "dayly=7");
    let dead = [("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9"), ("AWS_MAX_ATTEMPTS", "1")];
    let create = moto.function("Create", &world, &dead);
    let told = report(create.invoke(world.event("create")).await);
    assert_eq!(told["failures"][0]["operation"], "PutEvents", "{told:#}");
    assert_eq!(moto.heard().await, (vec![held_back.to_owned()], vec![]));
    tick(0, "create").await;
    assert_eq!(moto.heard().await, (vec![], vec![]));

    create.shutdown().await;
    for function in &functions {
        function.shutdown().await;
    }
    moto.process.kill().await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_goes_by_the_stacks_rules_to_the_function_that_sent_it_and_to_no_other() {
    let knobs = Knobs {
        rates: vec![Rate {
            operation: "CreateInstanceSnapshot".to_owned(),
            region: None,
            per_second: 2.0,
            burst: Some(2),
        }],
        ..Knobs::default()
    };
    let world = World::start_with(knobs, &[]).await;
    let mut moto = Moto::start().await;
    let names: Vec<String> = (0..16).map(|number| format!("web-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.launch(&names, &[("snapkeep", "on")]);
    // So little time that the pace of two a second does not let all of them through.
    let mut config = moto.config("Create", &world, &[]);
    config.timeout = Duration::from_secs(6);
    let create = Function::new(config);

    let mut report = report_of(&create, &world.event("create")).await;
    let (mut requested, mut runs) = (count(&report, "requested"), 0);
    assert!(report["left"].as_u64().unwrap() > 0, "{report:#}");
    while report["left"] != 0 {
        runs += 1;
        let handed_on = moto.handed_on(None).await;
        let of = |rule: &str| handed_on[rule].clone();
        assert_eq!((of("PollGoOn").len(), of("PruneGoOn").len()), (0, 0));
        let [tick] = &of("CreateGoOn")[..] else { panic!("{handed_on:#?}") };
        assert_eq!(tick["detail"]["run"], runs);
        assert_eq!(tick["detail"]["place"], REGION);
        report = report_of(&create, tick).await;
        requested += count(&report, "requested");
    }
    assert_eq!((requested, world.made().len()), (16, 16), "{report:#}");
    let handed_on = moto.handed_on(None).await;
    assert!(handed_on.values().all(Vec::is_empty), "nothing was left: {handed_on:#?}");

    // By hand: each function's Tick is for it alone, and what is not for this deployment is for nobody.
    let tick = |source: &str, kind: &str, deployment: &str, function: &str| {
        json!({"source": source, "detail-type": kind, "detail":
            {"deployment": deployment, "function": function, "place": REGION, "run": 1}})
    };
    let deployment = moto.stack["outputs"]["Deployment"].as_str().unwrap().to_owned();
    for function in ["Create", "Poll", "Prune"] {
        let own = tick("snapkeep", "Tick", &deployment, &function.to_lowercase());
        for (rule, events) in moto.handed_on(Some(&own)).await {
            let expected = usize::from(rule == format!("{function}GoOn"));
            assert_eq!(events.len(), expected, "{rule} on a Tick for {function}");
        }
    }
    for other in [
        tick("snapkeep", "Tick", "another", "create"),
        tick("snapkeep", "Tick", &deployment, "restore"),
        tick("somebody", "Tick", &deployment, "create"),
        tick("snapkeep", "Snapshot Available", &deployment, "create"),
    ] {
        let handed_on = moto.handed_on(Some(&other)).await;
        assert!(handed_on.values().all(Vec::is_empty), "{other}: {handed_on:#?}");
    }

    create.shutdown().await;
    moto.process.kill().await.unwrap();
    world.end().await;
}

async fn report_of(function: &Function, event: &Value) -> Value {
    report(function.invoke(event.clone()).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_out_of_order_is_a_failure_and_stops_no_snapshot() {
    let vars = [
        ("SNAPKEEP_TOPIC", "arn:aws:sns:us-east-1:123456789012:gone"),
        ("AWS_ENDPOINT_URL_SNS", "http://127.0.0.1:9"),
    ];
    let world = World::start(&vars).await;
    world.launch(&["web"], &[("snapkeep", "on"), ("snapkeep:zone", "x")]);
    let report = world.tick("create").await;
    assert_eq!(
        (count(&report, "requested"), report["failures"][0]["operation"].clone()),
        (1, json!("Publish"))
    );
    assert_eq!(report["failures"].as_array().unwrap().len(), 1, "{report:#}");
    world.end().await;
}
