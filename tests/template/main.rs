//! The stack as CloudFormation gets it: `template.yaml`, translated, against the code that it deploys.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use serde_json::{Value, json};
use snapkeep_app::metrics::{DIMENSION, METRICS, NAMESPACE};
use snapkeep_aws::dynamodb::schema;
use snapkeep_aws::notifications::{SOURCE, TICK};
use snapkeep_aws::providers::{self, read_settings};
use snapkeep_domain::finding::{Code, Notify, Topic};
use snapkeep_domain::function::Function;
use snapkeep_domain::policy::settings::VARIABLES;
use snapkeep_tests::read;

mod alarms;
mod rights;
mod stacks;

const FUNCTIONS: [&str; 3] = ["Create", "Poll", "Prune"];

/// The template as CloudFormation gets it.
fn stack() -> &'static Value {
    static STACK: OnceLock<Value> = OnceLock::new();
    STACK.get_or_init(|| translated("template.yaml"))
}

fn translated(template: &str) -> Value {
    serde_json::from_slice(&snapkeep_tests::translated(template)).unwrap()
}

fn resource(id: &str) -> &'static Value {
    let found = &stack()["Resources"][id];
    assert!(found.is_object(), "{id} is not in the stack");
    found
}

fn properties(id: &str) -> &'static Value {
    &resource(id)["Properties"]
}

fn of_type(kind: &str) -> BTreeMap<&'static str, &'static Value> {
    let all = stack()["Resources"].as_object().unwrap();
    let these = all.iter().filter(|(_, resource)| resource["Type"] == kind);
    these.map(|(id, resource)| (id.as_str(), &resource["Properties"])).collect()
}

/// One text, or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap()).collect(),
        other => panic!("{other}"),
    }
}

fn statements(function: &str) -> Vec<&'static Value> {
    let role = properties(&format!("{function}Role"));
    let policies = role["Policies"].as_array().unwrap();
    policies
        .iter()
        .flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().unwrap())
        // What is there on a condition.
        .map(|statement| statement.get("Fn::If").map_or(statement, |chosen| &chosen[1]))
        .collect()
}

fn statement(function: &str, action: &str) -> &'static Value {
    let all = statements(function);
    let of = |s: &&&Value| s["Effect"] == "Allow" && texts(&s["Action"]).contains(&action);
    all.iter().find(of).unwrap_or_else(|| panic!("{function} has no {action}"))
}

#[test]
fn the_ledger_is_the_codes_table_and_outlives_the_stack() {
    let table = schema::create_table_request("ledger");
    let ledger = properties("Ledger");
    for part in ["AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode"] {
        assert_eq!(ledger[part], table[part], "{part}");
    }
    assert_eq!(ledger["TimeToLiveSpecification"]["AttributeName"], schema::EXPIRES_AT);
    assert_eq!(ledger["DeletionProtectionEnabled"], true);
    assert_eq!(ledger["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
    // DynamoDB encrypts every table; this would choose a key in KMS, whose requests cost.
    assert!(ledger.get("SSESpecification").is_none());
    assert!(ledger.get("TableName").is_none(), "a retained table would block the next stack");
    for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
        assert_eq!(resource("Ledger")[policy], "Retain");
    }
    for function in FUNCTIONS {
        let index = format!("${{Ledger.Arn}}/index/{}", schema::INDEX);
        let table = json!([{"Fn::GetAtt": ["Ledger", "Arn"]}, {"Fn::Sub": index}]);
        assert_eq!(statement(function, "dynamodb:Query")["Resource"], table);
    }
}

#[test]
fn a_stack_that_goes_takes_no_snapshot_with_it() {
    let kept = ["Ledger"];
    for (id, resource) in stack()["Resources"].as_object().unwrap() {
        let kind = resource["Type"].as_str().unwrap();
        // Nothing of the stack is a snapshot, and nothing runs when the stack goes.
        assert!(!kind.starts_with("AWS::Lightsail") && !kind.starts_with("Custom::"), "{id}");
        assert_ne!(kind, "AWS::CloudFormation::CustomResource", "{id}");
        let retained = resource["DeletionPolicy"] == "Retain";
        assert_eq!(retained, kept.contains(&id.as_str()), "{id}");
    }
}

#[test]
fn every_function_has_a_rule_a_log_that_ends_and_dead_letters() {
    let dead_letters = json!({"Fn::GetAtt": ["DeadLetters", "Arn"]});
    for function in FUNCTIONS {
        let own = properties(function);
        assert_eq!(
            (&own["Runtime"], &own["Handler"]),
            (&json!("provided.al2023"), &json!("bootstrap"))
        );
        assert!(
            (30..=900).contains(&own["Timeout"].as_u64().unwrap()),
            "an intent's lease is 15 minutes"
        );
        for (rule, member) in [("Tick", "ScheduleExpression"), ("GoOn", "EventPattern")] {
            let id = format!("{function}{rule}");
            let rule = properties(&id);
            assert!(rule.get(member).is_some(), "{id}");
            let target = &rule["Targets"][0];
            assert_eq!(target["Arn"], json!({"Fn::GetAtt": [function, "Arn"]}));
            assert_eq!(target["DeadLetterConfig"]["Arn"], dead_letters);
            assert_eq!(target["RetryPolicy"]["MaximumEventAgeInSeconds"], 3600);
            let may = properties(&format!("{id}Permission"));
            assert_eq!(may["Action"], "lambda:InvokeFunction");
            assert_eq!(may["Principal"], "events.amazonaws.com");
            assert_eq!(may["FunctionName"], json!({"Ref": function}));
            assert_eq!(may["SourceArn"], json!({"Fn::GetAtt": [id, "Arn"]}));
        }
        let later = properties(&format!("{function}EventInvokeConfig"));
        assert_eq!(later["DestinationConfig"]["OnFailure"]["Destination"], dead_letters);
        assert_eq!(later["MaximumEventAgeInSeconds"], 3600);
        let log = own["LoggingConfig"]["LogGroup"]["Ref"].as_str().unwrap();
        assert!(properties(log).get("RetentionInDays").is_some(), "{log}");
        let role = json!({"Fn::GetAtt": [format!("{function}Role"), "Arn"]});
        assert_eq!(own["Role"], role, "a role of its own");
    }
    assert_eq!(of_type("AWS::Lambda::Function").len(), 3);
    let queue = &properties("DeadLettersPolicy")["PolicyDocument"]["Statement"][0];
    assert_eq!(queue["Principal"]["Service"], "events.amazonaws.com");
    let rules = FUNCTIONS.iter().flat_map(|function| {
        ["Tick", "GoOn"].map(|rule| json!({"Fn::GetAtt": [format!("{function}{rule}"), "Arn"]}))
    });
    let rules: Vec<Value> = rules.collect();
    assert_eq!(queue["Condition"]["ArnEquals"]["aws:SourceArn"], json!(rules));
    assert_eq!(of_type("AWS::Events::Rule").len(), rules.len());
}

#[test]
fn a_tick_goes_to_the_function_that_it_names_in_this_deployment() {
    let deployment = &properties("Create")["Environment"]["Variables"]["SNAPKEEP_DEPLOYMENT"];
    for function in FUNCTIONS {
        let rule = properties(&format!("{function}GoOn"));
        // The bus that the functions send to.
        let bus = &properties(function)["Environment"]["Variables"]["SNAPKEEP_EVENT_BUS"];
        assert_eq!(rule["EventBusName"], *bus);
        let pattern = json!({
            "source": [SOURCE],
            "detail-type": [TICK],
            "detail": {"deployment": [deployment], "function": [function.to_lowercase()]},
        });
        assert_eq!(rule["EventPattern"], pattern, "{function}");
    }
}

#[test]
fn the_functions_do_not_all_start_in_the_same_minute() {
    let minutes = |function: &str| -> BTreeSet<u32> {
        let rule = properties(&format!("{function}Tick"));
        let cron = rule["ScheduleExpression"].as_str().unwrap();
        let cron = cron.strip_prefix("cron(").and_then(|cron| cron.strip_suffix(" * * * ? *)"));
        let (first, every) = cron.unwrap().split_once('/').unwrap_or((cron.unwrap(), "60"));
        (first.parse().unwrap()..60).step_by(every.parse().unwrap()).collect()
    };
    let [create, poll, prune] = FUNCTIONS.map(minutes);
    assert_eq!((create.len(), poll.len(), prune.len()), (4, 6, 1));
    assert!(create.is_disjoint(&poll) && prune.is_disjoint(&create));
    // What is due at a full hour is asked for at once, and looked at before the next is due.
    assert!(create.contains(&0));
}

/// The memory that a function has unless somebody says otherwise.
fn memory(function: &str) -> u64 {
    let parameter = format!("{function}Memory");
    assert_eq!(properties(function)["MemorySize"], json!({"Ref": parameter}));
    stack()["Parameters"][parameter]["Default"].as_u64().unwrap()
}

#[test]
fn every_variable_is_a_parameter_and_every_parameter_is_explained() {
    let vars = properties("Create")["Environment"]["Variables"].as_object().unwrap();
    let set: BTreeSet<&str> = vars.keys().map(String::as_str).collect();
    let known: BTreeSet<&str> = VARIABLES
        .into_iter()
        .filter(|name| *name != "SNAPKEEP_CLOCK_URL")
        .chain(providers::variables())
        .collect();
    assert_eq!(set, known);
    let parameters = stack()["Parameters"].as_object().unwrap();
    let interface = &stack()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"];
    let groups = interface.as_array().unwrap();
    let grouped: Vec<&str> = groups.iter().flat_map(|group| texts(&group["Parameters"])).collect();
    for (name, parameter) in parameters {
        assert!(parameter["Description"].as_str().unwrap().ends_with('.'), "{name}");
        assert!(grouped.contains(&name.as_str()), "{name} is in no group");
        // Named policies are text that only the functions can judge; they say what is wrong with it.
        let checked = ["AllowedPattern", "AllowedValues", "MaxValue"];
        let checks = checked.iter().any(|check| parameter.get(check).is_some());
        assert!(checks || name == "Policies", "{name} is not checked");
        // Whoever deploys says what is kept.
        assert_eq!(parameter.get("Default").is_none(), name == "Keep", "{name}");
    }
}

/// The variables that the stack sets when these parameters are given.
fn variables(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    let vars = properties("Create")["Environment"]["Variables"].as_object().unwrap();
    let value = |value: &Value| {
        let Some(name) = value["Ref"].as_str() else { return "stack-region".to_owned() };
        let own = given.iter().find(|(parameter, _)| *parameter == name);
        let default = || match &stack()["Parameters"][name]["Default"] {
            Value::String(text) => text.clone(),
            Value::Null => "ledger".to_owned(),
            other => other.to_string(),
        };
        own.map_or_else(default, |(_, text)| (*text).to_owned())
    };
    vars.iter().map(|(name, from)| (name.clone(), value(from))).collect()
}

#[test]
fn what_a_pattern_lets_through_the_functions_read() {
    for (parameter, good, bad) in [
        (
            "Schedule",
            &["hourly", "every-6h", "weekly@sun-03:00", "monthly@31-23:59"][..],
            &["dayly", "every-5h", "daily@3", "daily@24:00", "monthly@32-03:00"][..],
        ),
        (
            "Keep",
            &["all", "last=3", "daily=7 weekly=4 within=1y6m"],
            &["", "dayly=7", "last=0", "daily=7,weekly=4"],
        ),
        ("TimeZone", &["UTC", "Europe/Berlin"], &["", "Europe Berlin"]),
        ("MinKeep", &["1", "12", "daily=2 weekly=1"], &["0", "", "-1"]),
        ("Grace", &["3d", "12h", "2w"], &["3", "3m", ""]),
        ("MaxDeletes", &["", "10"], &["-1", "ten"]),
        ("Confirm", &["", "0a1b2c3d 11111111"], &["a,b"]),
        ("OrphanKeep", &["", "30d"], &["30"]),
        ("Regions", &["all", "eu-west-1 us-east-1"], &["", "eu-west-1,us-east-1"]),
        ("Tag", &["snapkeep", "backup/1"], &["", "a b"]),
        ("PendingTimeout", &["6h", "1d"], &["6", ""]),
        (
            "RoleArns",
            &["", "arn:aws:iam::222233334444:role/snapkeep-* arn:aws:iam::333344445555:role/a/b"],
            &["222233334444", "arn:aws:iam::222233334444:role/a,b c"],
        ),
        (
            "Providers",
            &["lightsail", "lighthouse", "lightsail lighthouse"],
            &["", "tencent", "lightsail,lighthouse"],
        ),
        (
            "LighthouseRegions",
            &["all", "ap-guangzhou na-siliconvalley"],
            &["", "guangzhou", "ap-tokyo,"],
        ),
        (
            "LighthouseSecret",
            &[
                "",
                "arn:aws:secretsmanager:eu-west-1:111122223333:secret:snapkeep/lighthouse-AbCdEf",
            ],
            &["snapkeep/lighthouse"],
        ),
        (
            "LighthouseEndpoint",
            &["https://lighthouse.intl.tencentcloudapi.com"],
            &["", "lighthouse.tencentcloudapi.com", "http://127.0.0.1:1"],
        ),
        ("EventBus", &["default", "our.bus"], &["", "a b"]),
    ] {
        let pattern = stack()["Parameters"][parameter]["AllowedPattern"].as_str().unwrap();
        let pattern = regex_lite::Regex::new(pattern).unwrap();
        for text in good {
            assert!(pattern.is_match(text), "{parameter}: {text}");
            let vars = variables(&[("Keep", "all"), (parameter, text)]);
            for function in Function::ALL {
                let (settings, _) = read_settings(&vars, function)
                    .unwrap_or_else(|error| panic!("{parameter}: {error}"));
                let bad =
                    settings.problems.iter().find(|problem| problem.code == Code::BadProvider);
                assert_eq!(bad, None, "{parameter}: {text}");
            }
        }
        for text in bad {
            assert!(!pattern.is_match(text), "{parameter}: {text}");
        }
    }
}

#[test]
fn every_metric_is_in_the_handbook() {
    let operations = read("docs/OPERATIONS.md");
    for metric in METRICS {
        let row = format!(
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.unit.as_str(),
            metric.of.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
            metric.meaning
        );
        assert!(operations.contains(&row), "missing in docs/OPERATIONS.md: {row}");
    }
}

#[test]
fn every_finding_is_in_the_handbook_with_its_severity() {
    let operations = read("docs/OPERATIONS.md");
    for code in Code::ALL {
        let section = format!("\n### {}\n\n{:?}. ", code.as_str(), code.severity());
        assert!(operations.contains(&section), "missing in docs/OPERATIONS.md: {section}");
    }
}

#[test]
fn every_event_is_in_the_handbook_and_whether_people_hear_of_it() {
    let operations = read("docs/OPERATIONS.md");
    for topic in Topic::ALL {
        let row =
            operations.lines().find(|line| line.starts_with(&format!("| `{}`", topic.as_str())));
        let of_topic = |code: &&Code| match code.notify() {
            Notify::Never => false,
            Notify::OnEvent(of) | Notify::WhileActive(of) => of == topic,
        };
        let people = row.unwrap_or_else(|| panic!("{}", topic.as_str())).rsplit("| ").next();
        let nobody = Code::ALL.iter().find(of_topic).is_none();
        assert_eq!(people == Some("no |"), nobody, "{}", topic.as_str());
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_the_logs_of_the_stack() {
    let text = read("infra/dashboard.yaml");
    let (_, rest) = text.split_once("- |\n").unwrap();
    let (body, _) = rest.split_once("\n        - CreateLogs").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let widgets = body["widgets"].as_array().unwrap();
    let metrics = widgets.iter().filter_map(|widget| widget["properties"]["metrics"].as_array());
    let shown: BTreeSet<&str> = metrics
        .flatten()
        .map(|metric| {
            assert_eq!((&metric[0], &metric[2]), (&json!(NAMESPACE), &json!(DIMENSION)));
            metric[1].as_str().unwrap()
        })
        .collect();
    assert_eq!(shown, METRICS.iter().map(|metric| metric.name).collect());
    let exports: Vec<&str> = stack()["Outputs"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|output| output["Export"]["Name"]["Fn::Sub"].as_str())
        .collect();
    for imported in text.split("\"Fn::ImportValue\": !Sub \"${Stack}-").skip(1) {
        let (name, _) = imported.split_once('"').unwrap();
        assert!(exports.contains(&format!("${{AWS::StackName}}-{name}").as_str()), "{name}");
    }
}
