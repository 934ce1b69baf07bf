//! What the functions may do: derived from the ports that they use, at home and in other accounts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use snapkeep_domain::snapshot::{HOLD, KEEP, MANAGED_BY, POLICY, SLOT, SOURCE, TIMEZONE};
use snapkeep_tests::read;

use super::{FUNCTIONS, properties, statement, statements, texts, translated};

/// What each method of a port needs at AWS: that is what `shared/aws` calls for it.
const RIGHTS: &[(&str, &[&str])] = &[
    ("inventory.regions", &["lightsail:GetRegions"]),
    ("inventory.places", &[]),
    ("inventory.instances", &["lightsail:GetInstances"]),
    ("inventory.instance", &["lightsail:GetInstance"]),
    ("inventory.snapshots", &["lightsail:GetInstanceSnapshots"]),
    ("inventory.look_up", &["lightsail:GetInstanceSnapshot"]),
    ("inventory.capabilities", &[]),
    // Lightsail tells none.
    ("inventory.quota", &[]),
    // A snapshot is tagged as it is made.
    ("creator.create", &["lightsail:CreateInstanceSnapshot", "lightsail:TagResource"]),
    ("deleter.delete", &["lightsail:DeleteInstanceSnapshot"]),
    ("ledger.claim", &["dynamodb:PutItem"]),
    ("ledger.advance", &["dynamodb:PutItem"]),
    ("ledger.open", &["dynamodb:Query"]),
    ("ledger.live", &["dynamodb:Query"]),
    ("ledger.recent", &["dynamodb:Query"]),
    ("ledger.memory", &["dynamodb:Query"]),
    // A resource is remembered whole at first, and then member by member.
    ("ledger.remember", &["dynamodb:PutItem", "dynamodb:UpdateItem"]),
    ("ledger.note", &["dynamodb:UpdateItem"]),
    ("ledger.put_run", &["dynamodb:PutItem"]),
    ("conditions.known", &["dynamodb:Query"]),
    ("conditions.put", &["dynamodb:PutItem"]),
    ("notifier.listens", &[]),
    ("notifier.events", &["events:PutEvents"]),
    ("notifier.mail", &["sns:Publish"]),
    ("relay.go_on", &["events:PutEvents"]),
];

/// The ports' methods that a text calls.
fn called(text: &str) -> BTreeSet<String> {
    let call = regex_lite::Regex::new(
        r"\b(inventory|creator|deleter|ledger|conditions|notifier|relay)\s*\.\s*([a-z_]+)\(",
    )
    .unwrap();
    call.captures_iter(text).map(|found| format!("{}.{}", &found[1], &found[2])).collect()
}

/// The methods that a runner calls, itself or by what it shares with the others.
fn methods(function: &str) -> BTreeSet<String> {
    let runner = runner(&function.to_lowercase());
    let mut all = called(&runner);
    // After its run, every function tells people.
    all.extend(called(&read("shared/app/src/notify.rs")));
    all.extend(shared(&runner));
    all
}

/// A runner's own code, and the gathering if it uses that.
fn runner(function: &str) -> String {
    let mut own = read(format!("shared/app/src/{function}.rs"));
    if own.contains("use crate::gather::") {
        own += &read("shared/app/src/gather.rs");
    }
    let modules = own.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let modules = modules.map(|module| read(format!("shared/app/src/{function}/{module}.rs")));
    modules.fold(own.clone(), |all, module| all + &module)
}

/// What the lanes call for a runner: in the functions that it uses of them, and in those that these use.
fn shared(runner: &str) -> BTreeSet<String> {
    let lanes = read("shared/app/src/lane.rs") + &read("shared/app/src/lane/places.rs");
    let mut functions: BTreeMap<&str, &str> = BTreeMap::new();
    for part in lanes.split("fn ").skip(1) {
        functions.insert(part.split(['(', '<']).next().unwrap(), part);
    }
    let uses = |text: &str, of: &[&str]| -> Vec<&str> {
        let used = |name: &&str| of.iter().any(|of| text.contains(&format!("{of}{name}(")));
        functions.keys().copied().filter(used).collect()
    };
    let mut todo = uses(runner, &["run.", "Run::"]);
    assert!(todo.contains(&"finish"), "nothing is used of the lanes");
    let (mut seen, mut all) = (BTreeSet::new(), BTreeSet::new());
    while let Some(name) = todo.pop() {
        if seen.insert(name) {
            all.extend(called(functions[name]));
            todo.extend(uses(functions[name], &["self."]));
        }
    }
    all
}

#[test]
fn rights_are_the_ports() {
    for function in FUNCTIONS {
        let methods = methods(function);
        let mut needed = BTreeSet::new();
        for method in &methods {
            let right = RIGHTS.iter().find(|(name, _)| name == method);
            let (_, actions) = right.unwrap_or_else(|| panic!("{method}: say what it needs"));
            needed.extend(*actions);
        }
        // Where a failed invocation goes, the way into other accounts, and the keys of Lighthouse.
        needed.extend(["sqs:SendMessage", "sts:AssumeRole", "secretsmanager:GetSecretValue"]);
        let granted: BTreeSet<&str> = statements(function)
            .into_iter()
            .filter(|statement| statement["Effect"] == "Allow")
            .flat_map(|statement| texts(&statement["Action"]))
            .collect();
        assert_eq!(granted, needed, "{function}");
        let managed = &properties(&format!("{function}Role"))["ManagedPolicyArns"];
        let logs = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
        assert_eq!(*managed, json!([logs]), "{function}");
    }
}

#[test]
fn nobody_may_delete_an_instance_and_only_prune_may_delete_a_snapshot() {
    for function in FUNCTIONS {
        for action in statements(function).into_iter().flat_map(|one| texts(&one["Action"])) {
            assert!(!action.contains('*') && action != "lightsail:DeleteInstance", "{action}");
        }
    }
    for function in ["Create", "Poll"] {
        assert!(!methods(function).contains("deleter.delete"));
    }
    assert!(!methods("Prune").contains("creator.create"));
}

#[test]
fn rights_to_snapshots_stand_on_this_deployments_tag() {
    let deployment = json!({"Fn::Sub": "${AWS::StackName}-${AWS::Region}-${AWS::AccountId}"});
    let vars = &properties("Prune")["Environment"]["Variables"];
    assert_eq!(vars["SNAPKEEP_DEPLOYMENT"], deployment);
    let tag = |kind: &str| format!("aws:{kind}Tag/{MANAGED_BY}");
    for (function, action, kind) in [
        ("Create", "lightsail:CreateInstanceSnapshot", "Request"),
        ("Create", "lightsail:TagResource", "Request"),
        ("Prune", "lightsail:DeleteInstanceSnapshot", "Resource"),
    ] {
        let statement = statement(function, action);
        assert_eq!(statement["Condition"]["StringEquals"][tag(kind)], deployment, "{action}");
        assert_ne!(statement["Resource"], "*", "{action}");
    }
    // Tagging is only for the keys that we set: else a foreign snapshot could be made ours.
    let keys = &statement("Create", "lightsail:TagResource")["Condition"];
    let keys: BTreeSet<&str> =
        texts(&keys["ForAllValues:StringEquals"]["aws:TagKeys"]).into_iter().collect();
    assert_eq!(keys, [MANAGED_BY, SLOT, SOURCE, POLICY, KEEP, TIMEZONE].into());
}

#[test]
fn a_function_may_do_in_another_account_what_it_may_do_at_home() {
    let member = translated("infra/member.yaml");
    for function in FUNCTIONS {
        let role = &member["Resources"][function]["Properties"];
        let trust = &role["AssumeRolePolicyDocument"]["Statement"][0];
        assert_eq!(trust["Principal"]["AWS"], json!({"Ref": format!("{function}Role")}));
        let external = json!({"StringEquals": {"sts:ExternalId": {"Ref": "Deployment"}}});
        assert_eq!(trust["Condition"], external, "{function}");
        let of_lightsail = |statement: &&Value| {
            texts(&statement["Action"]).iter().all(|action| action.starts_with("lightsail:"))
        };
        let own: Vec<Value> =
            statements(function).into_iter().filter(of_lightsail).cloned().collect();
        let own = serde_json::to_string(&own).unwrap();
        let deployment = r#"{"Fn::Sub":"${AWS::StackName}-${AWS::Region}-${AWS::AccountId}"}"#;
        let own = own.replace(deployment, r#"{"Ref":"Deployment"}"#);
        let theirs = &role["Policies"][0]["PolicyDocument"]["Statement"];
        assert_eq!(*theirs, serde_json::from_str::<Value>(&own).unwrap(), "{function}");
        // Its role there, and no other function's.
        let name = function.to_lowercase();
        let resource = &statement(function, "sts:AssumeRole")["Resource"];
        let filled = json!({"Fn::Join": [name, {"Fn::Split": ["*", {"Ref": "RoleArns"}]}]});
        assert_eq!(*resource, json!({"Fn::Split": [" ", filled]}));
        assert_eq!(role["RoleName"], json!({"Fn::Sub": format!("${{Prefix}}-{name}")}));
    }
    let arns = &member["Outputs"]["RoleArns"]["Value"]["Fn::Sub"];
    assert!(arns.as_str().unwrap().ends_with("role/${Prefix}-*"));
}

#[test]
fn aws_itself_keeps_a_hold() {
    let all = statements("Prune");
    let denies: Vec<&Value> =
        all.iter().copied().filter(|statement| statement["Effect"] == "Deny").collect();
    let tag = format!("aws:ResourceTag/{HOLD}");
    // An empty value is the usual hold, and whether `Null` sees it is not documented clearly.
    let conditions = [
        json!({"Null": {tag.clone(): "false"}, "StringNotLike": {tag.clone(): "until=*"}}),
        json!({"StringEquals": {tag: ""}}),
    ];
    assert_eq!(denies.len(), conditions.len());
    for (deny, condition) in denies.iter().zip(conditions) {
        assert_eq!(texts(&deny["Action"]), ["lightsail:DeleteInstanceSnapshot"]);
        assert_eq!((&deny["Resource"], &deny["Condition"]), (&json!("*"), &condition));
    }
}

#[test]
fn a_list_in_a_condition_is_asked_about_as_a_list() {
    for function in FUNCTIONS {
        let condition = &statement(function, "events:PutEvents")["Condition"];
        let asked = json!({
            "ForAllValues:StringEquals": {"events:source": "snapkeep"},
            "Null": {"events:source": "false"},
        });
        assert_eq!(*condition, asked, "{function}");
    }
}
