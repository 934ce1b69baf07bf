//! Reads the functions' variables from text into values that are always valid.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

use crate::capabilities::Capabilities;
use crate::finding::Finding;
use crate::function::Function;
use crate::ledger::lease::Lease;
use crate::place::Place;
use crate::policy::confirmation::ConfirmationCode;
use crate::policy::keep::MinKeep;
use crate::policy::{Policies, Policy, Retention};
use crate::time::{Zone, parse_duration};
use values::{
    codes, event_bus, metrics, percent, protect, regions, role_arns, switch, table_name, tag_text,
    topic, whole_number,
};

mod values;

/// The Regions to look after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// All Regions that the provider names.
    All,
    /// These Regions.
    Only(Vec<Place>),
}

/// A provider whose places are looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What its places begin with, before a colon; `None` for the one without a name.
    pub name: Option<&'static str>,
    /// The Regions to look after.
    pub regions: Regions,
    /// The variable that names them.
    pub regions_variable: &'static str,
}

/// The metrics to emit; each costs money every month.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricsLevel {
    /// The metrics that alarms watch.
    Alarms,
    /// All metrics of the deployment.
    #[default]
    All,
    /// All metrics of the deployment, and an age for each resource.
    Resources,
}

/// The id of a deployment, on which the tags and names of its snapshots depend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeploymentId(String);

impl Default for DeploymentId {
    fn default() -> Self {
        DeploymentId("snapkeep".to_owned())
    }
}

impl FromStr for DeploymentId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        tag_text(text, 256).map(DeploymentId)
    }
}

impl Deref for DeploymentId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// A role to assume in another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn {
    /// Its ARN; `*` stands for the function's name.
    pub arn: String,
    /// Its account.
    pub account: String,
}

/// The configuration of the functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The ledger's table.
    pub table: String,
    /// This deployment's id.
    pub deployment: DeploymentId,
    /// The policies.
    pub policies: Policies,
    /// The minimum that no tag and no policy can undercut.
    pub min_keep: MinKeep,
    /// The time from mark to deletion.
    pub grace: SignedDuration,
    /// The limit of the brake, in percent.
    pub max_delete_percent: u32,
    /// The confirming codes for every resource.
    pub confirmed: Vec<ConfirmationCode>,
    /// The most marks of a run in a place; a run that would make more makes none there.
    pub max_deletes: Option<u32>,
    /// How long all snapshots of a deleted instance stay.
    pub orphan_keep: Option<SignedDuration>,
    /// A snapshot that is pending for longer blocks no later slot.
    pub pending_timeout: SignedDuration,
    /// The providers that are looked after.
    pub providers: Vec<Provider>,
    /// The roles for the other accounts that are looked after.
    pub roles: Vec<RoleArn>,
    /// The prefix of the tags that people set on instances.
    pub tag: String,
    /// Whether `prune` changes nothing.
    pub dry_run: bool,
    /// The metrics to emit.
    pub metrics: MetricsLevel,
    /// The topic through which people are notified.
    pub topic: Option<String>,
    /// The event bus through which programs are notified.
    pub event_bus: Option<String>,
    /// The function's memory in MB, if Lambda states it.
    pub memory_mb: Option<u64>,
    /// The invalid variables that do not stop this function.
    pub problems: Vec<Finding>,
}

/// What a run judges by, besides the facts of one resource.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The current time, read once.
    pub now: Timestamp,
    /// The lease of this run's claims: it lasts until the run ends, at most an invocation's longest
    /// life.
    pub lease: Lease,
    /// How long the run has worked so far: with `now`, the time of an answer.
    pub elapsed: SignedDuration,
    /// What the provider can do in the place.
    pub capabilities: Capabilities,
}

/// The error of a start: one message that names every invalid variable with its value and expected
/// form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refusing to start: {}", .0.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; "))]
pub struct BadSettings(pub Vec<Finding>);

struct Reader<'a> {
    vars: &'a BTreeMap<String, String>,
    function: Function,
    fatal: Vec<Finding>,
    noted: Vec<Finding>,
}

impl Reader<'_> {
    /// Reads one variable; empty means unset. An invalid one is fatal only to functions that use
    /// it.
    fn read<T>(
        &mut self,
        key: &str,
        users: &[Function],
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.vars.get(key).map(|text| text.trim()).filter(|text| !text.is_empty())
        else {
            return default;
        };
        match parse(text) {
            Ok(value) => value,
            Err(accepted) => {
                let problem = Finding::bad_variable(key, text, accepted);
                let list =
                    if users.contains(&self.function) { &mut self.fatal } else { &mut self.noted };
                list.push(problem);
                default
            }
        }
    }
}

/// The variable that names the Regions of the provider without a name.
const REGIONS: &str = "SNAPKEEP_REGIONS";
/// The variable in which Lambda states a function's memory, in MB.
const MEMORY_VARIABLE: &str = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE";

/// The variables that this code knows, to find typos.
pub const VARIABLES: [&str; 22] = [
    "SNAPKEEP_LEDGER_TABLE",
    "SNAPKEEP_DEPLOYMENT",
    "SNAPKEEP_SCHEDULE",
    "SNAPKEEP_KEEP",
    "SNAPKEEP_TIMEZONE",
    "SNAPKEEP_POLICIES",
    "SNAPKEEP_MIN_KEEP",
    "SNAPKEEP_GRACE",
    "SNAPKEEP_MAX_DELETE_PERCENT",
    "SNAPKEEP_CONFIRM",
    "SNAPKEEP_MAX_DELETES",
    "SNAPKEEP_ORPHAN_KEEP",
    "SNAPKEEP_PENDING_TIMEOUT",
    "SNAPKEEP_REGIONS",
    "SNAPKEEP_ROLE_ARNS",
    "SNAPKEEP_TAG",
    "SNAPKEEP_PROTECT",
    "SNAPKEEP_DRY_RUN",
    "SNAPKEEP_TOPIC",
    "SNAPKEEP_EVENT_BUS",
    "SNAPKEEP_METRICS",
    "SNAPKEEP_CLOCK_URL",
];

impl Settings {
    /// The provider of a place, if it is looked after.
    #[must_use]
    pub fn provider_of(&self, place: &Place) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name == place.provider())
    }

    /// Reads the variables for this function.
    ///
    /// # Errors
    /// When a variable that the function uses is missing or invalid.
    pub fn read(vars: &BTreeMap<String, String>, function: Function) -> Result<Self, BadSettings> {
        use Function::{Create, Poll, Prune};
        let all = [Create, Poll, Prune];
        let mut reader = Reader { vars, function, fatal: Vec::new(), noted: Vec::new() };
        let table = reader.read("SNAPKEEP_LEDGER_TABLE", &all, String::new(), table_name);
        if table.is_empty() && reader.fatal.is_empty() {
            let form = "the name of the ledger's DynamoDB table; it is required";
            reader.fatal.push(Finding::bad_variable("SNAPKEEP_LEDGER_TABLE", "", form));
        }
        let deployment =
            reader.read("SNAPKEEP_DEPLOYMENT", &all, DeploymentId::default(), str::parse);
        let schedule_users = [Create, Prune];
        let default = Policy::default();
        let schedule =
            reader.read("SNAPKEEP_SCHEDULE", &schedule_users, default.schedule, str::parse);
        let zone =
            reader.read("SNAPKEEP_TIMEZONE", &schedule_users, Zone::utc(), str::parse::<Zone>);
        let noted = reader.noted.len();
        let mut retention =
            reader.read("SNAPKEEP_KEEP", &[Prune], Retention::Unset, Retention::read);
        if reader.noted.len() > noted {
            retention = Retention::Unreadable;
        }
        let default = Policy { schedule, zone, retention, ..default };
        let policies = vars.get("SNAPKEEP_POLICIES").map_or("", String::as_str);
        let mut policies = Policies::read(default, policies);
        policies.protects_all = reader.read("SNAPKEEP_PROTECT", &schedule_users, false, protect);
        let provider = nameless(reader.read(REGIONS, &schedule_users, Regions::All, regions));
        let prune = [Prune];
        let duration = |text: &str| parse_duration(text);
        let settings = Settings {
            table,
            deployment,
            policies,
            min_keep: reader.read("SNAPKEEP_MIN_KEEP", &prune, MinKeep::default(), str::parse),
            grace: reader.read("SNAPKEEP_GRACE", &prune, SignedDuration::from_hours(72), duration),
            max_delete_percent: reader.read("SNAPKEEP_MAX_DELETE_PERCENT", &prune, 50, percent),
            confirmed: reader.read("SNAPKEEP_CONFIRM", &prune, Vec::new(), codes),
            max_deletes: reader
                .read("SNAPKEEP_MAX_DELETES", &prune, None, |text| whole_number(text).map(Some)),
            orphan_keep: reader
                .read("SNAPKEEP_ORPHAN_KEEP", &prune, None, |text| duration(text).map(Some)),
            pending_timeout: reader.read(
                "SNAPKEEP_PENDING_TIMEOUT",
                &all,
                SignedDuration::from_hours(6),
                duration,
            ),
            providers: vec![provider],
            roles: reader.read("SNAPKEEP_ROLE_ARNS", &all, Vec::new(), role_arns),
            tag: reader.read("SNAPKEEP_TAG", &schedule_users, "snapkeep".to_owned(), |text| {
                tag_text(text, 100)
            }),
            dry_run: reader.read("SNAPKEEP_DRY_RUN", &prune, false, switch),
            // A typo here must not stop snapshots: it is reported, and nobody is notified.
            topic: reader.read("SNAPKEEP_TOPIC", &[], None, topic),
            metrics: reader.read("SNAPKEEP_METRICS", &[], MetricsLevel::default(), metrics),
            event_bus: reader.read("SNAPKEEP_EVENT_BUS", &[], None, event_bus),
            memory_mb: vars.get(MEMORY_VARIABLE).and_then(|text| text.parse().ok()),
            problems: Vec::new(),
        };
        if !reader.fatal.is_empty() {
            return Err(BadSettings(reader.fatal));
        }
        let mut problems = reader.noted;
        problems.extend(settings.policies.problems.iter().cloned());
        problems.extend(unknown_variables(vars));
        Ok(Settings { problems, ..settings })
    }
}

/// The provider without a name.
fn nameless(regions: Regions) -> Provider {
    Provider { name: None, regions, regions_variable: REGIONS }
}

fn unknown_variables(vars: &BTreeMap<String, String>) -> impl Iterator<Item = Finding> {
    let ours = vars.iter().filter(|(key, value)| key.starts_with("SNAPKEEP_") && !value.is_empty());
    // What is not known may be a secret.
    let secret =
        |key: &str| ["SECRET", "KEY", "TOKEN", "PASSW"].iter().any(|part| key.contains(part));
    let ours = ours.map(move |(key, value)| (key, if secret(key) { "…" } else { value.as_str() }));
    ours.filter(|(key, _)| !VARIABLES.contains(&key.as_str())).map(|(key, value)| Finding {
        message: format!("{key} is not a variable of snapkeep and does nothing"),
        fix: Some(format!("use a variable that docs/CONFIGURATION.md lists, or remove {key}")),
        ..Finding::bad_variable(key, value, "")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(function: Function, vars: &[(&str, &str)]) -> Result<Settings, BadSettings> {
        let mut vars: BTreeMap<String, String> =
            vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        vars.entry("SNAPKEEP_LEDGER_TABLE".into()).or_insert("ledger".into());
        Settings::read(&vars, function)
    }

    #[test]
    fn empty_is_unset_and_the_defaults_are_the_contracts() {
        let settings =
            read(Function::Prune, &[("SNAPKEEP_KEEP", ""), ("SNAPKEEP_GRACE", " ")]).unwrap();
        assert_eq!(&*settings.deployment, "snapkeep");
        assert_eq!(settings.policies.default.schedule.to_string(), "daily@03:00");
        assert_eq!(settings.policies.default.retention, Retention::Unset);
        assert_eq!(settings.grace, SignedDuration::from_hours(72));
        assert_eq!((settings.max_delete_percent, settings.max_deletes), (50, None));
        assert_eq!(settings.pending_timeout, SignedDuration::from_hours(6));
        assert_eq!(
            (settings.providers[0].regions.clone(), settings.tag.as_str()),
            (Regions::All, "snapkeep")
        );
        assert!(!settings.dry_run && settings.problems.is_empty());
    }

    #[test]
    fn a_typo_in_a_retention_stops_deleting_not_snapshotting() {
        for (key, bad) in [
            ("SNAPKEEP_KEEP", "daily=x"),
            ("SNAPKEEP_MIN_KEEP", "0"),
            ("SNAPKEEP_GRACE", "3"),
            ("SNAPKEEP_MAX_DELETE_PERCENT", "101"),
            ("SNAPKEEP_MAX_DELETES", "-1"),
            ("SNAPKEEP_ORPHAN_KEEP", "1m"),
            ("SNAPKEEP_DRY_RUN", "maybe"),
        ] {
            let message = read(Function::Prune, &[(key, bad)]).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(bad), "{message}");
            let create = read(Function::Create, &[(key, bad)]).unwrap();
            assert_eq!(create.problems.len(), 1, "{key}");
            assert!(read(Function::Poll, &[(key, bad)]).is_ok(), "{key}");
        }
        let create = read(Function::Create, &[("SNAPKEEP_KEEP", "daily=x")]).unwrap();
        assert_eq!(create.policies.default.retention, Retention::Unreadable);
    }

    #[test]
    fn create_refuses_what_it_uses() {
        for (key, bad) in [
            ("SNAPKEEP_SCHEDULE", "daily"),
            ("SNAPKEEP_TIMEZONE", "Berlin"),
            ("SNAPKEEP_REGIONS", "eu-west-1,us-east-1"),
            ("SNAPKEEP_TAG", "a,b"),
            ("SNAPKEEP_ROLE_ARNS", "222233334444"),
            ("SNAPKEEP_ROLE_ARNS", "arn:aws:iam::222233334444:user/x"),
            ("SNAPKEEP_ROLE_ARNS", "arn:aws:iam::22223333444:role/x"),
            (
                "SNAPKEEP_ROLE_ARNS",
                "arn:aws:iam::222233334444:role/x arn:aws:iam::222233334444:role/y",
            ),
            ("SNAPKEEP_PENDING_TIMEOUT", "soon"),
            ("SNAPKEEP_DEPLOYMENT", "a*"),
            ("SNAPKEEP_LEDGER_TABLE", "a?b"),
            ("SNAPKEEP_LEDGER_TABLE", "ab"),
        ] {
            let message = read(Function::Create, &[(key, bad)]).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains(bad), "{message}");
        }
        assert!(Settings::read(&BTreeMap::new(), Function::Poll).is_err());
    }

    #[test]
    fn a_typo_in_who_is_told_stops_nothing_and_is_reported() {
        let topic = "arn:aws:sns:eu-west-1:111122223333:snapkeep";
        let good = [("SNAPKEEP_TOPIC", topic), ("SNAPKEEP_EVENT_BUS", "default")];
        let settings = read(Function::Poll, &good).unwrap();
        assert_eq!(settings.topic.as_deref(), Some(topic));
        assert_eq!(settings.event_bus.as_deref(), Some("default"));
        assert_eq!(settings.metrics, MetricsLevel::All);
        let few = read(Function::Prune, &[("SNAPKEEP_METRICS", "alarms")]).unwrap();
        assert_eq!(few.metrics, MetricsLevel::Alarms);
        for (key, bad) in [
            ("SNAPKEEP_TOPIC", "snapkeep"),
            ("SNAPKEEP_EVENT_BUS", "a b"),
            ("SNAPKEEP_METRICS", "most"),
        ] {
            for function in [Function::Create, Function::Poll, Function::Prune] {
                let settings = read(function, &[(key, bad)]).unwrap();
                assert_eq!((settings.topic, settings.event_bus), (None, None));
                assert_eq!(settings.problems[0].key.as_deref(), Some(key));
            }
        }
    }

    #[test]
    fn bad_named_policies_and_unknown_variables_are_reported_only() {
        let settings =
            read(Function::Prune, &[("SNAPKEEP_POLICIES", "gold"), ("SNAPKEEP_KEP", "all")])
                .unwrap();
        assert_eq!(settings.problems.len(), 2);
        let typo = &settings.problems[1];
        assert!(typo.message.contains("SNAPKEEP_KEP is not a variable of snapkeep"), "{typo:?}");
        assert!(typo.fix.as_ref().unwrap().contains("or remove SNAPKEEP_KEP"));
        // Variables that are not ours, and empty ones, are ignored.
        let quiet = read(Function::Prune, &[("HOME", "/root"), ("SNAPKEEP_KEP", "")]).unwrap();
        assert!(quiet.problems.is_empty());
    }

    #[test]
    fn one_mistake_is_one_problem_and_a_missing_table_is_one() {
        let count = |vars: &[(&str, &str)]| read(Function::Create, vars).unwrap_err().0.len();
        assert_eq!(count(&[("SNAPKEEP_SCHEDULE", "daily")]), 1);
        assert_eq!(count(&[("SNAPKEEP_LEDGER_TABLE", "")]), 1);
        assert_eq!(count(&[("SNAPKEEP_SCHEDULE", "daily"), ("SNAPKEEP_TAG", "a,b")]), 2);
    }

    #[test]
    fn what_is_said_is_what_is_read() {
        let settings = read(
            Function::Prune,
            &[
                ("SNAPKEEP_TIMEZONE", "Europe/Berlin"),
                ("SNAPKEEP_DRY_RUN", "off"),
                ("SNAPKEEP_REGIONS", "us-east-1 eu-west-1 us-east-1"),
            ],
        );
        let settings = settings.unwrap();
        assert_eq!(settings.policies.default.zone.name(), "Europe/Berlin");
        assert!(!settings.dry_run);
        let regions = ["eu-west-1", "us-east-1"].map(|name| name.parse().unwrap());
        assert_eq!(settings.providers[0].regions, Regions::Only(regions.into()));
        assert!(read(Function::Prune, &[("SNAPKEEP_DRY_RUN", "yes")]).unwrap().dry_run);
        for bad in ["all eu-west-1", "EU-WEST-1", "everywhere"] {
            assert!(read(Function::Create, &[("SNAPKEEP_REGIONS", bad)]).is_err(), "{bad}");
        }
    }
}
