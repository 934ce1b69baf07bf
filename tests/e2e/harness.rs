//! A cloud with the three functions deployed on it, and what tests do to it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::MutexGuard;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use snapkeep_aws::dynamodb::schema;
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::embedded::{Cloud, CloudConfig, Endpoints};
use snapkeep_cloud::events::EventRule;
use snapkeep_cloud::http;
use snapkeep_cloud::knobs::{Fault, Knobs};
use snapkeep_cloud::lambda::{Function, FunctionConfig, Invocation, Outcome};
use snapkeep_cloud::lightsail::{Answer, Event, Lightsail, Snapshot};
use snapkeep_cloud::schedule::rule_event;
use snapkeep_tests::binaries::binary;
use snapkeep_tests::{REGION, at};

/// When every cloud starts.
pub(crate) const START: &str = "2026-01-01T00:00:00Z";
/// The default policy's schedule is due at this hour.
const DUE_HOUR: i64 = 3;

/// Variables of a deployment, upon the ones that all tests share.
fn variables(vars: &[(&str, &str)]) -> BTreeMap<String, String> {
    // One attempt a call: the SDK's own patience is real time, and not what is tested here.
    let shared = [("AWS_MAX_ATTEMPTS", "1"), ("SNAPKEEP_REGIONS", "eu-west-1 us-east-1")];
    let all = shared.iter().chain(vars);
    all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The functions of one deployment.
pub(crate) struct Deployment {
    functions: BTreeMap<&'static str, Function>,
}

impl Deployment {
    /// The function itself.
    pub(crate) fn function(&self, name: &str) -> &Function {
        &self.functions[name]
    }

    /// Ends the processes of a deployment that the cloud does not know of.
    pub(crate) async fn shutdown(&self) {
        for function in self.functions.values() {
            function.shutdown().await;
        }
    }
}

/// A cloud, and a deployment on it.
pub(crate) struct World {
    pub(crate) cloud: Cloud,
    pub(crate) deployment: Deployment,
    timeout: Duration,
}

impl World {
    /// A cloud without faults.
    pub(crate) async fn start(vars: &[(&str, &str)]) -> Self {
        Self::start_with(Knobs::default(), vars).await
    }

    pub(crate) async fn start_with(knobs: Knobs, vars: &[(&str, &str)]) -> Self {
        Self::start_for(Duration::from_secs(60), knobs, vars).await
    }

    /// With functions that may run for so long.
    pub(crate) async fn start_for(timeout: Duration, knobs: Knobs, vars: &[(&str, &str)]) -> Self {
        let clock = Clock::stepped(at(START));
        let table = schema::create_table_request("ledger");
        let mut config = CloudConfig::new(clock, table);
        config.ttl_attribute = Some(schema::EXPIRES_AT.to_owned());
        config.knobs = knobs;
        let cloud = Cloud::start(config).await.unwrap();
        let deployment = deploy(&cloud, vars, None, timeout);
        World { cloud, deployment, timeout }
    }

    /// Deploys with other variables; what ran before serves no more events.
    pub(crate) fn redeploy(&mut self, vars: &[(&str, &str)]) {
        self.deployment = deploy(&self.cloud, vars, None, self.timeout);
    }

    /// A second deployment, with a table of its own.
    pub(crate) fn deploy_beside(&self, table: &str, vars: &[(&str, &str)]) -> Deployment {
        let request = schema::create_table_request(table);
        self.cloud.dynamodb().create_table(request, Some(schema::EXPIRES_AT)).unwrap();
        deploy(&self.cloud, vars, Some(table), self.timeout)
    }

    /// Variables by which a deployment uses the cloud's own bus and topic.
    pub(crate) const LISTENERS: [(&'static str, &'static str); 2] = [
        ("SNAPKEEP_EVENT_BUS", "default"),
        ("SNAPKEEP_TOPIC", "arn:aws:sns:us-east-1:123456789012:snapkeep"),
    ];

    /// From now on the events of this source and type whose detail names a function invoke it, if the
    /// test calls [`World::deliver`].
    pub(crate) fn listen(&self, source: &str, detail_type: &str) {
        let rule = |function: &str| EventRule {
            name: format!("on-event-{function}"),
            source: source.to_owned(),
            detail_type: detail_type.to_owned(),
            detail_equals: [("function".to_owned(), json!(function))].into(),
            function: function.to_owned(),
        };
        self.cloud.events().set_rules(["create", "poll", "prune"].map(rule).to_vec());
    }

    /// Invokes what events asked for, and what that asks for in turn; the functions and their reports.
    pub(crate) async fn deliver(&self) -> Vec<(String, Value)> {
        let mut reports = Vec::new();
        loop {
            let due = self.cloud.events().take_due();
            if due.is_empty() {
                return reports;
            }
            for due in due {
                let function = self.deployment.function(&due.function);
                let invocation = function.invoke_as(due.request_id, due.event).await;
                reports.push((due.function, report(invocation)));
            }
        }
    }

    /// What the command answers about this deployment: exit status, stdout, stderr.
    pub(crate) fn command(
        &self,
        arguments: &[&str],
        vars: &[(&str, &str)],
    ) -> (i32, String, String) {
        self.command_with(arguments, vars, |_| ())
    }

    /// The same, with what happens to its process meanwhile.
    pub(crate) fn command_with(
        &self,
        arguments: &[&str],
        vars: &[(&str, &str)],
        meanwhile: impl FnOnce(u32),
    ) -> (i32, String, String) {
        let mut env = variables(vars);
        let Endpoints { clock, table, .. } = self.cloud.endpoints();
        env.insert("SNAPKEEP_CLOCK_URL".to_owned(), clock);
        env.insert("SNAPKEEP_LEDGER_TABLE".to_owned(), table);
        let mut command = std::process::Command::new(binary("snapkeep"));
        command.args(arguments).env_clear().envs(self.cloud.function_env(&env));
        // What a test says itself comes last, also an endpoint.
        command.envs(vars.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let id = child.id();
        // A pipe that nobody empties would stop it.
        let ended = std::thread::spawn(|| child.wait_with_output());
        meanwhile(id);
        let ran = ended.join().unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ran.status.code().unwrap_or(-1), text(ran.stdout), text(ran.stderr))
    }

    /// What was put on the bus and published to the topic since this was asked last.
    pub(crate) fn notices(&self) -> Vec<Value> {
        let notices = self.cloud.events().notices();
        self.cloud.events().forget_notices();
        notices
    }

    pub(crate) async fn end(self) {
        tokio::time::timeout(Duration::from_secs(10), self.cloud.shutdown()).await.unwrap();
    }

    // Time.

    pub(crate) fn now(&self) -> Timestamp {
        self.cloud.clock().now()
    }

    pub(crate) fn advance(&self, minutes: i64) -> Timestamp {
        self.cloud.clock().advance(SignedDuration::from_mins(minutes))
    }

    /// On to the next 03:00.
    pub(crate) fn to_next_slot(&self) -> Timestamp {
        let (day, due) = (24 * 3600, DUE_HOUR * 3600);
        let now = self.now().as_second();
        let next = (now - due).div_euclid(day) * day + day + due;
        self.cloud.clock().set(Timestamp::from_second(next).unwrap());
        self.now()
    }

    // The functions.

    /// The event of the function's rule, now.
    pub(crate) fn event(&self, function: &str) -> Value {
        rule_event(&format!("snapkeep-{function}"), self.now(), "us-east-1")
    }

    /// Invokes a function by its rule and returns its report.
    pub(crate) async fn tick(&self, function: &str) -> Value {
        self.tick_of(&self.deployment, function).await
    }

    /// [`World::tick`] of another deployment.
    pub(crate) async fn tick_of(&self, deployment: &Deployment, function: &str) -> Value {
        report(deployment.function(function).invoke(self.event(function)).await)
    }

    /// On to 03:00: `create`, `poll` ten minutes later, `prune` at 04:00. Returns their reports.
    pub(crate) async fn night(&self) -> [Value; 3] {
        self.to_next_slot();
        let create = self.tick("create").await;
        self.advance(10);
        let poll = self.tick("poll").await;
        self.advance(50);
        [create, poll, self.tick("prune").await]
    }

    /// So many nights in which nothing may fail.
    pub(crate) async fn quiet_nights(&self, nights: u32) {
        for _ in 0..nights {
            for report in self.night().await {
                assert_eq!(report["failures"], json!([]), "{report:#}");
                assert_eq!(report["left"], 0, "{report:#}");
            }
        }
    }

    // Lightsail.

    pub(crate) fn lightsail(&self) -> MutexGuard<'_, Lightsail> {
        http::lock(self.cloud.lightsail())
    }

    /// Calls Lightsail as a person would.
    pub(crate) fn call(&self, operation: &str, body: &Value) -> Value {
        match self.lightsail().call(self.now(), REGION, operation, body) {
            Ok(Answer::Body(answer)) => answer,
            other => panic!("{operation}: {other:?}"),
        }
    }

    /// Launches instances; returns when they run, a minute later.
    pub(crate) fn launch(&self, names: &[&str], pairs: &[(&str, &str)]) {
        for name in names {
            let body = json!({
                "instanceNames": [name],
                "availabilityZone": format!("{REGION}a"),
                "blueprintId": "debian_12",
                "bundleId": "nano_3_0",
                "tags": tags(pairs),
            });
            self.call("CreateInstances", &body);
        }
        self.advance(1);
    }

    pub(crate) fn terminate(&self, name: &str) {
        self.call("DeleteInstance", &json!({ "instanceName": name }));
    }

    /// Tags an instance or a snapshot.
    pub(crate) fn tag(&self, name: &str, key: &str, value: &str) {
        let body = json!({"resourceName": name, "tags": tags(&[(key, value)])});
        self.call("TagResource", &body);
    }

    pub(crate) fn untag(&self, name: &str, key: &str) {
        self.call("UntagResource", &json!({"resourceName": name, "tagKeys": [key]}));
    }

    /// The ARN of an instance.
    pub(crate) fn arn(&self, name: &str) -> String {
        let lightsail = self.lightsail();
        let instances = lightsail.instances(REGION);
        instances.iter().find(|instance| instance.name == name).unwrap().arn.clone()
    }

    /// Replaces all faults.
    pub(crate) fn faults(&self, faults: &[Fault]) {
        self.lightsail().knobs.faults = faults.to_vec();
    }

    /// The snapshots there are, the oldest first.
    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> =
            self.lightsail().snapshots(REGION).into_iter().cloned().collect();
        all.sort_by(|a, b| (a.requested_at, &a.name).cmp(&(b.requested_at, &b.name)));
        all
    }

    /// Those of an instance of this name.
    pub(crate) fn snapshots_of(&self, instance: &str) -> Vec<Snapshot> {
        self.snapshots().into_iter().filter(|s| s.from_name == instance).collect()
    }

    /// Every snapshot that was made so far.
    pub(crate) fn made(&self) -> Vec<Event> {
        self.events("CreateInstanceSnapshot")
    }

    /// Every snapshot that was deleted so far.
    pub(crate) fn deleted(&self) -> Vec<Event> {
        self.events("DeleteInstanceSnapshot")
    }

    fn events(&self, operation: &str) -> Vec<Event> {
        let lightsail = self.lightsail();
        lightsail.events.iter().filter(|e| e.operation == operation).cloned().collect()
    }

    // The ledger.

    /// The ledger's records as DynamoDB has them, by sort key.
    pub(crate) fn items(&self) -> Vec<Value> {
        let mut items = self.all_items();
        items.retain(|item| item.get("state").is_some());
        items
    }

    /// All that the table has, by sort key.
    pub(crate) fn all_items(&self) -> Vec<Value> {
        let (mut items, mut start) = (Vec::new(), Value::Null);
        loop {
            let request = json!({"TableName": "ledger", "ExclusiveStartKey": start});
            let request = serde_json::from_value(request).unwrap();
            let answer = self.cloud.dynamodb().database().scan(request).unwrap();
            let answer = serde_json::to_value(answer).unwrap();
            items.extend(answer["Items"].as_array().unwrap().iter().cloned());
            start = answer["LastEvaluatedKey"].clone();
            if start.is_null() {
                break;
            }
        }
        items.sort_by_key(|item| item[schema::SLOT]["S"].to_string());
        items
    }

    /// The state of every record, by sort key.
    pub(crate) fn states(&self) -> Vec<String> {
        let state = |item: &Value| item["state"]["S"].as_str().unwrap().to_owned();
        self.items().iter().map(state).collect()
    }

    /// The ledger is lost; an empty table takes its place.
    pub(crate) fn lose_ledger(&self) {
        let request = serde_json::from_value(json!({"TableName": "ledger"})).unwrap();
        self.cloud.dynamodb().database().delete_table(request).unwrap();
        let request = schema::create_table_request("ledger");
        self.cloud.dynamodb().create_table(request, Some(schema::EXPIRES_AT)).unwrap();
    }
}

fn deploy(
    cloud: &Cloud,
    vars: &[(&str, &str)],
    table: Option<&str>,
    timeout: Duration,
) -> Deployment {
    let functions = ["create", "poll", "prune"].map(|name| {
        let mut config = FunctionConfig::new(name, binary(name));
        config.env = variables(vars);
        config.env.insert("SNAPKEEP_LEDGER_TABLE".to_owned(), table.unwrap_or("ledger").to_owned());
        let Endpoints { clock, lighthouse, .. } = cloud.endpoints();
        config.env.insert("SNAPKEEP_CLOCK_URL".to_owned(), clock);
        config.env.entry("SNAPKEEP_LIGHTHOUSE_ENDPOINT".to_owned()).or_insert(lighthouse);
        config.timeout = timeout;
        // The bus knows the first deployment only.
        let function = if table.is_some() {
            config.env = cloud.function_env(&config.env);
            Function::new(config)
        } else {
            cloud.deploy(config, None)
        };
        (name, function)
    });
    Deployment { functions: functions.into() }
}

fn tags(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

/// The report of an invocation that succeeded.
#[track_caller]
pub(crate) fn report(invocation: Invocation) -> Value {
    match invocation.outcome {
        Outcome::Success(report) => report,
        other => panic!("{other:?}\n{}", invocation.log),
    }
}

/// A counter of a report.
pub(crate) fn count(report: &Value, counter: &str) -> u64 {
    report["counts"][counter].as_u64().unwrap_or(0)
}

/// The findings of a code.
pub(crate) fn findings<'a>(report: &'a Value, code: &str) -> Vec<&'a Value> {
    let all = report["findings"].as_array().unwrap();
    all.iter().filter(|finding| finding["code"] == code).collect()
}

/// The one finding of a code.
#[track_caller]
pub(crate) fn finding<'a>(report: &'a Value, code: &str) -> &'a Value {
    let found = findings(report, code);
    assert_eq!(found.len(), 1, "{code} in {report:#}");
    found[0]
}

/// Asserts that nothing failed, and returns the report.
#[track_caller]
pub(crate) fn fine(report: Value) -> Value {
    assert_eq!(report["failures"], json!([]), "{report:#}");
    report
}

/// The names of snapshots.
pub(crate) fn names(snapshots: &[Snapshot]) -> Vec<&str> {
    snapshots.iter().map(|snapshot| snapshot.name.as_str()).collect()
}
