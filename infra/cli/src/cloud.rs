//! `snapkeep cloud`: the embedded cloud for people and for programs that are not ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use snapkeep_aws::dynamodb::schema;
use snapkeep_aws::notifications::SOURCE;
use snapkeep_aws::providers::read_settings;
use snapkeep_cloud::clock::Clock;
use snapkeep_cloud::embedded::{Cloud, CloudConfig, Endpoints, Ports, Saved};
use snapkeep_cloud::events::EventRule;
use snapkeep_cloud::knobs::Knobs;
use snapkeep_cloud::lambda::{ACCOUNT, Function, FunctionConfig, Invocation};
use snapkeep_cloud::lighthouse::knobs::{SECRET_ID, SECRET_KEY};
use snapkeep_cloud::runner;
use snapkeep_cloud::schedule::{Delivery, Due, NotAnInterval, Rule, Schedule};
use snapkeep_domain::policy::settings::BadSettings;
use tokio::signal::unix::{SignalKind, signal};

use self::run_log::RunLog;
use self::state::StateFolder;
use crate::CommandResult;
use crate::output::{self, say};

mod run_log;
mod state;

/// The name of the ledger's table in the embedded cloud.
pub(crate) const TABLE: &str = "snapkeep-ledger";

/// The functions' names.
fn names() -> [&'static str; 3] {
    snapkeep_domain::function::Function::ALL.map(|function| function.as_str())
}

/// What else functions get of our own environment: who is told may be elsewhere than in this cloud.
const PASSED_ON: [&str; 7] = [
    "AWS_MAX_ATTEMPTS",
    "AWS_ENDPOINT_URL_SNS",
    "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "TENCENTCLOUD_SECRET_ID",
    "TENCENTCLOUD_SECRET_KEY",
    "TENCENTCLOUD_TOKEN",
];

/// Runs the embedded cloud until Ctrl-C or SIGTERM. SNAPKEEP_ variables configure the functions.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// When simulated time begins; now without it.
    #[arg(long)]
    start: Option<Timestamp>,
    /// A folder that keeps the cloud over restarts: instances, snapshots, ledger, knobs and time.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Simulated seconds a real second.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Write the endpoints to this file, as JSON, once everything answers.
    #[arg(long)]
    ready_file: Option<PathBuf>,
    /// Port of Lightsail; a free one without it.
    #[arg(long)]
    lightsail_port: Option<u16>,
    /// Port of Tencent Cloud Lighthouse; a free one without it.
    #[arg(long)]
    lighthouse_port: Option<u16>,
    /// Port of DynamoDB; a free one without it.
    #[arg(long)]
    dynamodb_port: Option<u16>,
    /// Port of the clock; a free one without it.
    #[arg(long)]
    clock_port: Option<u16>,
    /// Port of the event bus and the topic; a free one without it.
    #[arg(long)]
    events_port: Option<u16>,
    /// The Region that the functions run in.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// A JSON file with knobs: faults, limits, unknowns. They can be turned later by PUT /knobs.
    #[arg(long)]
    knobs: Option<PathBuf>,
    /// Do not run the functions by the clock: only the services, and what a function's own events ask for.
    #[arg(long)]
    no_schedule: bool,
    /// Print what the functions log.
    #[arg(long)]
    logs: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    let accepted = "a number of simulated seconds a real second, from 0.01 to 1000000";
    let speed: f64 = text.parse().map_err(|_| accepted.to_owned())?;
    if (0.01..=1e6).contains(&speed) { Ok(speed) } else { Err(accepted.to_owned()) }
}

/// The three functions, carried by this very command.
pub(crate) fn deploy(
    cloud: &Cloud,
    settings: &BTreeMap<String, String>,
    logs: bool,
) -> std::io::Result<Vec<Function>> {
    let command = std::env::current_exe()?;
    let function = |name: &str| {
        let mut config = FunctionConfig::new(name, &command);
        config.args = vec!["function".to_owned(), name.to_owned()];
        config.env.clone_from(settings);
        let Endpoints { clock, table, lighthouse, .. } = cloud.endpoints();
        config.env.insert("SNAPKEEP_CLOCK_URL".to_owned(), clock);
        config.env.insert("SNAPKEEP_LEDGER_TABLE".to_owned(), table);
        add_lighthouse(&mut config.env, lighthouse);
        let sink =
            logs.then(|| Arc::new(|name: &str, line: &str| eprintln!("{name}: {line}")) as _);
        cloud.deploy(config, sink)
    };
    Ok(names().map(function).to_vec())
}

/// What a command needs to read this cloud, as the functions do.
pub(crate) fn environment(
    cloud: &Cloud,
    settings: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let Endpoints { lightsail, dynamodb, clock, table, lighthouse, .. } = cloud.endpoints();
    let mut env = settings.clone();
    env.extend(
        [
            ("AWS_ENDPOINT_URL_LIGHTSAIL", lightsail.as_str()),
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.as_str()),
            ("AWS_ACCESS_KEY_ID", "embedded"),
            ("AWS_SECRET_ACCESS_KEY", "embedded"),
            ("AWS_REGION", "us-east-1"),
            ("SNAPKEEP_CLOCK_URL", clock.as_str()),
            ("SNAPKEEP_LEDGER_TABLE", table.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    add_lighthouse(&mut env, lighthouse);
    env
}

/// The embedded cloud's own Lighthouse and its keys, unless the settings name others.
fn add_lighthouse(env: &mut BTreeMap<String, String>, endpoint: String) {
    let keys = ["TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"];
    env.entry("SNAPKEEP_LIGHTHOUSE_ENDPOINT".to_owned()).or_insert(endpoint);
    if !env.contains_key("SNAPKEEP_LIGHTHOUSE_SECRET") && !env.contains_key(keys[0]) {
        env.extend(
            keys.map(str::to_owned).into_iter().zip([SECRET_ID, SECRET_KEY].map(str::to_owned)),
        );
    }
}

/// The bus and the topic that functions use: the embedded cloud's own, unless the settings name others. An
/// empty variable switches one off.
pub(crate) fn add_notices(settings: &mut BTreeMap<String, String>, region: &str) {
    let topic = format!("arn:aws:sns:{region}:{ACCOUNT}:snapkeep");
    for (variable, endpoint, value) in [
        ("SNAPKEEP_EVENT_BUS", "AWS_ENDPOINT_URL_EVENTBRIDGE", "default".to_owned()),
        ("SNAPKEEP_TOPIC", "AWS_ENDPOINT_URL_SNS", topic),
    ] {
        // What an endpoint elsewhere has is not known here.
        if !settings.contains_key(endpoint) {
            settings.entry(variable.to_owned()).or_insert(value);
        }
    }
}

/// The rules of the schedule: every so many minutes.
pub(crate) fn rules() -> Result<Vec<Rule>, NotAnInterval> {
    let rules = [(15, "create"), (10, "poll"), (60, "prune")];
    rules.iter().map(|(minutes, of)| Rule::every(*minutes, format!("snapkeep-{of}"), *of)).collect()
}

/// The rules of the bus, as the template makes them: a deployment's Tick invokes the function that it names.
pub(crate) fn event_rules(settings: &BTreeMap<String, String>) -> Vec<EventRule> {
    let deployment = settings.get("SNAPKEEP_DEPLOYMENT").map(|id| id.trim());
    let deployment = deployment.filter(|id| !id.is_empty()).unwrap_or("snapkeep");
    let rule = |function: &str| EventRule {
        name: format!("snapkeep-tick-{function}"),
        source: SOURCE.to_owned(),
        detail_type: "Tick".to_owned(),
        detail_equals: [("function", function), ("deployment", deployment)]
            .map(|(member, value)| (member.to_owned(), value.into()))
            .into(),
        function: function.to_owned(),
    };
    names().map(rule).to_vec()
}

fn knobs(file: Option<&Path>) -> Result<Knobs, String> {
    let Some(file) = file else { return Ok(Knobs::default()) };
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let knobs: Knobs =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    knobs.check().map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(knobs)
}

fn check_region(knobs: &Knobs, region: &str) -> Result<(), String> {
    let known = || knobs.regions.join(", ");
    let refusal = || format!("invalid --region `{region}`: expected one of {}", known());
    if knobs.has_region(region) { Ok(()) } else { Err(refusal()) }
}

/// What a function would refuse to start with is refused here, once and in one place.
fn check(settings: &BTreeMap<String, String>) -> Result<(), BadSettings> {
    let mut vars = settings.clone();
    vars.insert("SNAPKEEP_LEDGER_TABLE".to_owned(), TABLE.to_owned());
    let all = snapkeep_domain::function::Function::ALL;
    let read = |function| read_settings(&vars, function).map(|(settings, _)| settings.problems);
    for function in all {
        for problem in read(function)? {
            if function == snapkeep_domain::function::Function::Prune {
                eprintln!("snapkeep: {}; {}", problem.message, problem.fix.unwrap_or_default());
            }
        }
    }
    Ok(())
}

/// A ready file that another cloud wrote, and that still answers, is not overwritten.
async fn refuse_a_second_one(file: &Path) -> Result<(), String> {
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(()) };
    let written: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(address) = written["clock"].as_str().and_then(|url| url.strip_prefix("http://"))
    else {
        return Ok(());
    };
    let answers = tokio::net::TcpStream::connect(address.trim_end_matches('/'));
    match tokio::time::timeout(Duration::from_secs(1), answers).await {
        Ok(Ok(_)) => Err(format!(
            "{} belongs to an embedded cloud that is running at {address}: stop that one, or name another file",
            file.display()
        )),
        _ => Ok(()),
    }
}

/// Writes beside the file and moves it: whoever waits for the file never reads half of it.
fn write_whole(file: &Path, text: &str) -> Result<(), String> {
    let part = file.with_extension("part");
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, file))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn print_endpoints(endpoints: &Endpoints, arguments: &Arguments, start: Timestamp) {
    say!("Lightsail  {}", endpoints.lightsail);
    say!("Lighthouse {}  (SecretId {SECRET_ID}, SecretKey {SECRET_KEY})", endpoints.lighthouse);
    say!("DynamoDB   {}  (table {})", endpoints.dynamodb, endpoints.table);
    say!("clock      {}  ({start}, {} s a second)", endpoints.clock, arguments.speed);
    say!("events     {}  (told so far: {}/notices)", endpoints.events, endpoints.clock);
    say!("");
    // The aws CLI of version 1 reads only the second name of the Region.
    say!("export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any");
    say!("export AWS_REGION={0} AWS_DEFAULT_REGION={0}", arguments.region);
    say!("export AWS_ENDPOINT_URL_LIGHTSAIL={}", endpoints.lightsail);
    say!("export AWS_ENDPOINT_URL_DYNAMODB={}", endpoints.dynamodb);
    say!("export AWS_ENDPOINT_URL_LAMBDA={}", endpoints.lambda);
    say!("export AWS_ENDPOINT_URL_EVENTBRIDGE={}", endpoints.events);
    say!("export AWS_ENDPOINT_URL_SNS={}", endpoints.events);
    say!(
        "aws lightsail create-instances --instance-names web-1 --availability-zone {}a \\\n    \
         --blueprint-id debian_12 --bundle-id nano_3_0 --tags key=snapkeep",
        arguments.region
    );
    // Its rule would come within fifteen minutes of simulated time.
    say!("aws lambda invoke --function-name create /dev/stdout");
    say!("aws lightsail get-instance-snapshots");
    say!("\nCtrl-C ends it.");
}

/// When the clock begins: the time of an earlier cloud goes on where it stopped, and never backwards.
fn begins(asked: Option<Timestamp>, left_at: Option<Timestamp>) -> Result<Timestamp, String> {
    match (asked, left_at) {
        (Some(start), Some(left)) if start < left => Err(format!(
            "--start {start} is before {left}, when the cloud of this --state ended: leave it out to go on from \
             there, or name another folder"
        )),
        (Some(start), _) => Ok(start),
        (None, left) => Ok(left.unwrap_or_else(|| Clock::real().now())),
    }
}

/// The cloud that the arguments ask for.
fn config(arguments: &Arguments, clock: &Clock, knobs: Knobs, saved: Option<Saved>) -> CloudConfig {
    let mut config = CloudConfig::new(clock.clone(), schema::create_table_request(TABLE));
    config.ttl_attribute = Some(schema::EXPIRES_AT.to_owned());
    config.region.clone_from(&arguments.region);
    config.knobs = knobs;
    config.saved = saved;
    config.ports = Ports {
        lightsail: arguments.lightsail_port,
        lighthouse: arguments.lighthouse_port,
        dynamodb: arguments.dynamodb_port,
        clock: arguments.clock_port,
        events: arguments.events_port,
    };
    config
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let folder = arguments.state.as_deref().map(StateFolder::open).transpose()?;
    let saved = folder.as_ref().map(StateFolder::read).transpose()?.flatten();
    let start = begins(arguments.start, saved.as_ref().map(|saved| saved.at))?;
    let clock = Clock::running(start, arguments.speed);
    let knobs = knobs(arguments.knobs.as_deref())?;
    check_region(&knobs, &arguments.region)?;
    if let Some(file) = &arguments.ready_file {
        refuse_a_second_one(file).await?;
    }
    // Before anything runs: a signal that comes early ends everything all the same.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut config = config(&arguments, &clock, knobs.clone(), saved);
    let mut settings = snapkeep_aws::environment::vars();
    settings.retain(|key, _| key.starts_with("SNAPKEEP_") || PASSED_ON.contains(&key.as_str()));
    add_notices(&mut settings, &arguments.region);
    check(&settings)?;
    config.event_rules = event_rules(&settings);
    let cloud = Cloud::start(config).await?;
    if arguments.knobs.is_some() {
        cloud.turn(knobs);
    }
    let functions = deploy(&cloud, &settings, arguments.logs)?;

    let endpoints = cloud.endpoints();
    if let Some(file) = &arguments.ready_file {
        write_whole(file, &(serde_json::to_string(&endpoints)? + "\n"))?;
    }
    print_endpoints(&endpoints, &arguments, start);

    let rules = if arguments.no_schedule { Vec::new() } else { rules()? };
    let habits = Delivery { retries: true, ..Delivery::default() };
    let schedule = Schedule::new(rules, arguments.region, start).with_habits(habits);
    let work = async {
        let mut log = RunLog::default();
        let tell = |due: &Due, invocation: &Invocation| {
            // A Tick's run looks at one place only.
            let whole = due.event["detail-type"] != "Tick";
            let lines = log.lines(due.at, &due.function, &invocation.outcome, whole);
            lines.iter().for_each(|line| say!("{line}"));
        };
        runner::run_with(&clock, schedule, cloud.events(), &functions, tell).await;
        // Should there be nothing to run, there is still something to serve.
        std::future::pending::<()>().await;
    };
    let keep = async {
        match &folder {
            Some(folder) => folder.keep(&cloud).await,
            None => std::future::pending().await,
        }
    };
    let mut unsaved = None;
    tokio::select! {
        () = work => {}
        error = keep => unsaved = Some(error),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = output::broken() => {}
    }
    if let (Some(folder), None) = (&folder, &unsaved) {
        unsaved = folder.write(&cloud).err();
    }
    cloud.shutdown().await;
    if let Some(file) = &arguments.ready_file {
        // Whoever reads it later must not take it for a cloud that runs.
        let _ = std::fs::remove_file(file);
    }
    unsaved.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> BTreeMap<String, String> {
        vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn bus_and_topic_are_the_clouds_own_unless_they_are_elsewhere() {
        let of = |vars: &[(&str, &str)]| {
            let mut settings = settings(vars);
            add_notices(&mut settings, "eu-west-1");
            ["SNAPKEEP_EVENT_BUS", "SNAPKEEP_TOPIC"].map(|name| settings.get(name).cloned())
        };
        let topic = "arn:aws:sns:eu-west-1:123456789012:snapkeep".to_owned();
        assert_eq!(of(&[]), [Some("default".to_owned()), Some(topic.clone())]);
        let given = [("SNAPKEEP_EVENT_BUS", "mine"), ("SNAPKEEP_TOPIC", "")];
        assert_eq!(of(&given), ["mine", ""].map(|value| Some(value.to_owned())));
        let moto = [("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:5000")];
        assert_eq!(of(&moto), [None, Some(topic)]);
    }

    #[test]
    fn ticks_of_the_deployment_invoke_its_functions() {
        for (vars, deployment) in [
            (settings(&[]), "snapkeep"),
            (settings(&[("SNAPKEEP_DEPLOYMENT", " ")]), "snapkeep"),
            (settings(&[("SNAPKEEP_DEPLOYMENT", "demo")]), "demo"),
        ] {
            let rules = event_rules(&vars);
            let functions: Vec<&str> = rules.iter().map(|rule| rule.function.as_str()).collect();
            assert_eq!(functions, names());
            for rule in &rules {
                assert_eq!((rule.source.as_str(), rule.detail_type.as_str()), ("snapkeep", "Tick"));
                assert_eq!(rule.detail_equals["deployment"], deployment);
                assert_eq!(rule.detail_equals["function"], rule.function.as_str());
            }
        }
    }
}
