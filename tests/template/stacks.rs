//! The other ways in: the stack for `cargo lambda deploy`, and the role that may deploy.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};
use snapkeep_domain::policy::settings::VARIABLES;
use snapkeep_tests::{python, read, root};

use super::{FUNCTIONS, memory, of_type, stack, statements, texts, translated};

/// What of the functions' own a stack without functions says by their names.
fn by_name(value: &Value) -> Value {
    let mut text = value.to_string();
    for function in FUNCTIONS {
        let name = format!("${{AWS::StackName}}-{}", function.to_lowercase());
        text = text
            .replace(&json!({"Ref": function}).to_string(), &json!({"Fn::Sub": name}).to_string());
    }
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_stack_for_cargo_lambda_is_generated_from_the_template() {
    let script = root().join("infra/generate.py");
    let output = Command::new(python()).arg(script).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_template_of_a_release_is_the_same_and_needs_no_build() {
    let script = root().join("infra/generate.py");
    for architecture in ["x86_64", "arm64"] {
        let made = Command::new(python()).arg(&script).args(["--release", architecture]).output();
        let text = String::from_utf8(made.unwrap().stdout).unwrap();
        for function in ["create", "poll", "prune"] {
            assert!(text.contains(&format!("CodeUri: {function}.zip\n")), "{function}");
        }
        assert!(!text.contains("BuildMethod") && !text.contains("CodeUri: ."), "{text}");
        let file = std::env::temp_dir().join(format!("snapkeep-{}.yaml", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let other = translated(file.to_str().unwrap());
        std::fs::remove_file(file).unwrap();
        for (id, resource) in stack()["Resources"].as_object().unwrap() {
            assert_eq!(other["Resources"][id], *resource, "{id}");
        }
        let count = |stack: &Value| stack["Resources"].as_object().unwrap().len();
        assert_eq!(count(&other), count(stack()));
        // A word such as `off` stays a text: without quotes it would be a truth value to CloudFormation.
        for (name, parameter) in stack()["Parameters"].as_object().unwrap() {
            if name != "Architecture" {
                assert_eq!(other["Parameters"][name], *parameter, "{name}");
            }
        }
        let built = &other["Parameters"]["Architecture"];
        assert_eq!(built["AllowedValues"], json!([architecture]));
        assert_eq!(built["Default"], architecture);
    }
}

#[test]
fn the_stack_for_cargo_lambda_is_the_same_but_for_the_functions() {
    let other = translated("infra/cargo-lambda.yaml");
    let other = &other["Resources"];
    for (id, resource) in stack()["Resources"].as_object().unwrap() {
        let (kind, theirs) = (resource["Type"].as_str().unwrap(), &other[id]);
        let same = |member: &str| {
            assert_eq!(theirs["Properties"][member], resource["Properties"][member], "{id}");
        };
        match kind {
            "AWS::IAM::Role" => same_role(id, theirs),
            "AWS::SQS::QueuePolicy" => knows_its_rules(theirs, other),
            "AWS::Events::Rule" => {
                for member in ["ScheduleExpression", "EventBusName", "EventPattern"] {
                    same(member);
                }
                same_target(id, resource, theirs, other);
            }
            "AWS::Logs::LogGroup" => same("RetentionInDays"),
            "AWS::Lambda::Function" | "AWS::Lambda::Permission" => {}
            "AWS::Lambda::EventInvokeConfig" => {
                let later = id.replace("EventInvokeConfig", "Later");
                let config = &other[later]["Properties"];
                for member in ["MaximumRetryAttempts", "MaximumEventAgeInSeconds"] {
                    assert_eq!(config[member], resource["Properties"][member], "{id}");
                }
                let queue = |config: &Value| {
                    config["DestinationConfig"]["OnFailure"]["Destination"].clone()
                };
                assert_eq!(queue(config), queue(&resource["Properties"]), "{id}");
            }
            _ => {
                assert_eq!(theirs["Type"], kind, "{id} is missing");
                assert_eq!(theirs["Properties"], by_name(&resource["Properties"]), "{id}");
                assert_eq!(theirs["DeletionPolicy"], resource["DeletionPolicy"], "{id}");
            }
        }
    }
}

fn same_role(id: &str, theirs: &Value) {
    let function = id.trim_end_matches("Role");
    let own: BTreeSet<String> = statements(function).into_iter().map(without_sid).collect();
    let policy = &theirs["Properties"]["Policies"][0]["PolicyDocument"];
    let granted: BTreeSet<String> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|statement| statement.get("Fn::If").map_or(statement, |chosen| &chosen[1]))
        .map(without_sid)
        .collect();
    assert_eq!(granted, own, "{function}");
    let trust = &theirs["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
    assert_eq!(trust["Principal"], json!({"Service": "lambda.amazonaws.com"}));
    let logs = "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
    assert_eq!(theirs["Properties"]["ManagedPolicyArns"], json!([{"Fn::Sub": logs}]));
}

/// The rules are not always there, so that the queue knows them by their names.
fn knows_its_rules(policy: &Value, other: &Value) {
    let statement = &policy["Properties"]["PolicyDocument"]["Statement"][0];
    let rules = &statement["Condition"]["ArnLike"]["aws:SourceArn"];
    let arn = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule";
    let named = |bus: &str| json!({"Fn::Sub": format!("{arn}/{bus}${{AWS::StackName}}-*")});
    assert_eq!(*rules, json!([named(""), named("${EventBus}/")]));
    for function in FUNCTIONS {
        for (rule, ends) in [("Tick", ""), ("GoOn", "-go-on")] {
            let rule = &other[format!("{function}{rule}")]["Properties"]["Name"];
            let name = format!("${{AWS::StackName}}-{}{ends}", function.to_lowercase());
            assert_eq!(*rule, json!({"Fn::Sub": name}));
        }
    }
}

fn same_target(id: &str, resource: &Value, theirs: &Value, other: &Value) {
    let target = |rule: &Value| {
        let target = &rule["Properties"]["Targets"][0];
        (target["RetryPolicy"].clone(), target["DeadLetterConfig"].clone())
    };
    assert_eq!(target(theirs), target(resource), "{id}");
    let arn = theirs["Properties"]["Targets"][0]["Arn"]["Fn::Sub"].as_str().unwrap();
    let (function, may) = if id.ends_with("Tick") {
        (id.trim_end_matches("Tick"), "MayTick")
    } else {
        (id.trim_end_matches("GoOn"), "MayGoOn")
    };
    let may = &other[format!("{function}{may}")]["Properties"];
    assert_eq!(may["SourceArn"], json!({"Fn::GetAtt": [id, "Arn"]}));
    let function = function.to_lowercase();
    assert!(arn.ends_with(&format!(":function:${{AWS::StackName}}-{function}")));
    assert!(may["FunctionName"]["Fn::Sub"].as_str().unwrap().ends_with(&function));
}

/// A statement as a text that does not depend on its name, and on whether one thing is a list of one.
fn without_sid(statement: &Value) -> String {
    let mut statement = statement.clone();
    statement.as_object_mut().unwrap().remove("Sid");
    statement.to_string()
}

#[test]
fn what_the_handbook_deploys_by_cargo_lambda_is_complete() {
    let document = read("docs/DEPLOY.md");
    let functions = of_type("AWS::Lambda::Function");
    let other = translated("infra/cargo-lambda.yaml");
    for function in FUNCTIONS {
        let (own, name) = (functions[function], function.to_lowercase());
        let command = format!(
            "cargo lambda deploy snapkeep-{name} --binary-name {name} --memory {} --timeout {} \\\n       \
             --role \"$(output {function}Role)\" --env-var \"$(output Environment)\"",
            memory(function),
            own["Timeout"]
        );
        assert!(document.contains(&command), "missing in docs/DEPLOY.md: {command}");
        assert!(other["Outputs"].get(format!("{function}Role")).is_some());
    }
    // What the stack knows; the rest people say.
    let given = other["Outputs"]["Environment"]["Value"].to_string();
    for name in ["LEDGER_TABLE", "DEPLOYMENT", "TOPIC", "EVENT_BUS", "ROLE_ARNS"] {
        let name = format!("SNAPKEEP_{name}");
        assert!(
            VARIABLES.contains(&name.as_str()) && given.contains(&format!("{name}=")),
            "{name}"
        );
    }
}

#[test]
fn whoever_deploys_may_not_touch_snapshots_instances_or_the_ledgers_items() {
    let role = translated("infra/deploy-role.yaml");
    let policy = &role["Resources"]["Deployer"]["Properties"]["Policies"][0]["PolicyDocument"];
    let statements = policy["Statement"].as_array().unwrap();
    for statement in statements.iter().filter(|statement| statement["Effect"] == "Allow") {
        for action in texts(&statement["Action"]) {
            assert!(!action.starts_with("lightsail:") && !action.contains("Item"), "{action}");
            assert!(action != "*" && !action.ends_with(":*"), "{action}");
        }
    }
    let deny = statements.iter().find(|statement| statement["Effect"] == "Deny").unwrap();
    assert!(texts(&deny["Action"]).contains(&"dynamodb:DeleteTable"));
}

/// What the resource handlers declare and the stack never makes them do, because it uses none of this.
const NEVER_NEEDED: &[&str] = &[
    // Keys of one's own, networks, layers, code signing, scaling, replicas, streams, exports and imports.
    "dynamodb:AssociateTableReplica",
    "dynamodb:BatchWriteItem",
    "dynamodb:CreateTableReplica",
    "dynamodb:DeleteItem",
    "dynamodb:DeleteResourcePolicy",
    "dynamodb:DescribeImport",
    "dynamodb:DisableKinesisStreamingDestination",
    "dynamodb:EnableKinesisStreamingDestination",
    "dynamodb:GetItem",
    "dynamodb:ImportTable",
    "dynamodb:PutItem",
    "dynamodb:PutResourcePolicy",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:UpdateContributorInsights",
    "dynamodb:UpdateItem",
    "dynamodb:UpdateKinesisStreamingDestination",
    "ec2:",
    "elasticfilesystem:",
    "firehose:",
    "iam:CreateServiceLinkedRole",
    "iam:DeleteRolePermissionsBoundary",
    "iam:PutRolePermissionsBoundary",
    "kinesis:",
    "kms:",
    "lambda:AssociateRuntimeAlias",
    "lambda:DeleteFunctionCodeSigningConfig",
    "lambda:GetCodeSigningConfig",
    "lambda:GetLayerVersion",
    "lambda:PassCapacityProvider",
    "lambda:PublishVersion",
    "lambda:PutFunctionCodeSigningConfig",
    "lambda:PutFunctionRecursionConfig",
    "lambda:PutFunctionScalingConfig",
    "lambda:PutRuntimeManagementConfig",
    "logs:AssociateKmsKey",
    "logs:CreateLogDelivery",
    "logs:CreateLogStream",
    "logs:DeleteDataProtectionPolicy",
    "logs:DeleteIndexPolicy",
    "logs:DeleteResourcePolicy",
    "logs:DescribeLogStreams",
    "logs:DisassociateKmsKey",
    "logs:PutBearerTokenAuthentication",
    "logs:PutDataProtectionPolicy",
    "logs:PutIndexPolicy",
    "logs:PutLogEvents",
    "logs:PutLogGroupDeletionProtection",
    "logs:PutResourcePolicy",
    "s3:GetObjectMetadata",
    "s3:GetObjectVersion",
    "s3:ListBucket",
    "s3:REST.PUT.OBJECT",
    "s3files:",
    "sns:PutDataProtectionPolicy",
    // The ledger outlives every stack: this one is denied.
    "dynamodb:DeleteTable",
];

#[test]
fn the_deploy_role_has_what_the_resource_handlers_declare() {
    let kinds: BTreeSet<&str> = stack()["Resources"]
        .as_object()
        .unwrap()
        .values()
        .map(|resource| resource["Type"].as_str().unwrap())
        .collect();
    let script = root().join("tests/python/handlers.py");
    let output = Command::new(python()).arg(script).args(&kinds).output().unwrap();
    let handlers: Value = serde_json::from_slice(&output.stdout).unwrap();
    let role = translated("infra/deploy-role.yaml");
    let policy = &role["Resources"]["Deployer"]["Properties"]["Policies"][0]["PolicyDocument"];
    let allowed: BTreeSet<&str> = policy["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|statement| statement["Effect"] == "Allow")
        .flat_map(|statement| texts(&statement["Action"]))
        .collect();
    let mut declared = BTreeSet::new();
    for kind in kinds {
        for handler in ["create", "read", "update", "delete"] {
            let actions = handlers[kind][handler].as_array().into_iter().flatten();
            declared.extend(actions.filter_map(Value::as_str));
        }
        assert!(handlers[kind]["create"].is_array(), "{kind} declares nothing");
    }
    assert!(declared.len() > 80, "{}", declared.len());
    let never = |action: &str| {
        NEVER_NEEDED
            .iter()
            .any(|one| if one.ends_with(':') { action.starts_with(one) } else { action == *one })
    };
    let missing: Vec<&&str> =
        declared.iter().filter(|action| !allowed.contains(**action) && !never(action)).collect();
    assert!(missing.is_empty(), "the deploy role lacks {missing:?}");
    for one in NEVER_NEEDED {
        assert!(declared.iter().any(|action| action.starts_with(one)), "nothing declares {one}");
    }
}
