//! One reading of the world, from which the reading commands answer: which deployment it is, what
//! exists, what the ledger says, and what the functions' own planners make of it. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use snapkeep_app::ports::Invocation;
use snapkeep_app::survey::{self, Survey, Surveyed};
use snapkeep_aws::clock::{Budget, Clock};
use snapkeep_aws::dynamodb::DynamoLedger;
use snapkeep_aws::lightsail::Accounts;
use snapkeep_aws::providers::{Access, read_settings};
use snapkeep_domain::finding::{Finding, Severity};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{BadSettings, Context, Settings};
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::poll::FOLLOWED;
use snapkeep_domain::prune::Plan;
use snapkeep_domain::resource::ResourceId;

use crate::BoxError;
use crate::when::{self, whole};

const TABLE: &str = "SNAPKEEP_LEDGER_TABLE";
const DEPLOYMENT: &str = "SNAPKEEP_DEPLOYMENT";
/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What every reading command takes.
#[derive(clap::Args)]
pub(crate) struct Reading {
    /// The deployment, if there are several.
    #[arg(long)]
    deployment: Option<String>,
    /// Only this Region.
    #[arg(long)]
    region: Option<String>,
    /// The time that counts as now: a time or a date.
    #[arg(long, value_parser = when::instant)]
    now: Option<Timestamp>,
}

/// The world at one time.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    /// The settings that count for schedules.
    pub(crate) create: Settings,
    /// The settings that count for all else.
    pub(crate) prune: Settings,
    pub(crate) survey: Survey,
}

/// A finding as commands show it.
pub(crate) struct Shown {
    pub(crate) severity: Severity,
    pub(crate) json: Value,
    pub(crate) message: String,
    pub(crate) fix: Option<String>,
}

impl Reading {
    /// Reads the world.
    pub(crate) async fn read(&self) -> Result<World, BoxError> {
        let sdk = snapkeep_aws::sdk::sdk_config().await;
        let vars = self.variables(&sdk).await?;
        let bad = |BadSettings(bad): BadSettings| -> BoxError {
            let all: Vec<String> = bad.into_iter().map(|problem| problem.message).collect();
            all.join("; ").into()
        };
        let (create, _) = read_settings(&vars[0], Function::Create).map_err(bad)?;
        let (prune, providers) = read_settings(&vars[1], Function::Prune).map_err(bad)?;
        let filled = |key: &str| vars[1].get(key).filter(|text| !text.trim().is_empty()).cloned();
        let clock = Clock::from_vars(filled, providers.endpoint_elsewhere()).map_err(bad)?;
        let now = match self.now {
            Some(now) => now,
            None => clock.now().await?,
        };
        let now = whole(now);
        let function = Function::Prune;
        let accounts = Accounts::by_roles(&sdk, &prune.roles, &prune.deployment, function).await;
        let inventory = Access::new(&sdk, accounts, &providers, &vars[1]).inventories();
        let client = aws_sdk_dynamodb::Client::new(&sdk);
        let ledger = DynamoLedger::new(client, prune.table.clone());
        let deadline = Budget::until(SystemTime::now() + PATIENCE);
        let invocation = Invocation { now, lease: Lease::NONE, tick: None, deadline };
        let read = survey::read(&inventory, &ledger, &prune, &invocation).await;
        let table = &prune.table;
        let mut survey = read.map_err(|error| {
            format!(
                "cannot read the deployment {} with the table {table}: {error}; check the credentials, \
                 their rights to read Lightsail and the table, and the Region",
                &*prune.deployment
            )
        })?;
        if let Some(region) = &self.region {
            self.only(region, &mut survey)?;
        }
        Ok(World { now, create, prune, survey })
    }

    /// Leaves out every other Region.
    fn only(&self, region: &str, survey: &mut Survey) -> Result<(), BoxError> {
        let known: BTreeSet<String> =
            survey.places.iter().map(|one| one.place.region().to_owned()).collect();
        if !known.contains(region) {
            let known: Vec<String> = known.into_iter().collect();
            let known = known.join(", ");
            return Err(format!("--region {region}: the deployment looks after {known}").into());
        }
        survey.places.retain(|one| one.place.region() == region);
        survey.memory.protected.retain(|item| item.place.region() == region);
        survey.memory.runs.retain(|run| run.place.region() == region);
        Ok(())
    }

    /// The variables that count for schedules, and those that count for all else: the environment's
    /// if it names a table, or else those of the deployed functions.
    async fn variables(&self, sdk: &SdkConfig) -> Result<[BTreeMap<String, String>; 2], BoxError> {
        let own = snapkeep_aws::environment::vars();
        if own.get(TABLE).is_some_and(|table| !table.trim().is_empty()) {
            return Ok([own.clone(), own]);
        }
        let mut deployments: BTreeMap<String, Vec<Deployed>> = BTreeMap::new();
        for one in deployed(sdk).await? {
            let id = one.vars.get(DEPLOYMENT).cloned().unwrap_or_else(|| "snapkeep".to_owned());
            deployments.entry(id).or_default().push(one);
        }
        if let Some(wanted) = &self.deployment {
            deployments.retain(|id, _| id == wanted);
        }
        let named: Vec<&str> = deployments.keys().map(String::as_str).collect();
        let found = match (named.as_slice(), &self.deployment) {
            ([one], _) => deployments[*one].clone(),
            ([], Some(wanted)) => {
                return Err(format!("--deployment {wanted}: no function belongs to it").into());
            }
            ([], None) => {
                return Err(format!(
                    "no function has the variable {TABLE}: set {TABLE} and the deployment's other variables, or \
                     AWS_REGION to the Region that it is deployed in"
                )
                .into());
            }
            (several, _) => {
                let several = several.join(", ");
                return Err(format!(
                    "there are several deployments: {several}; choose one by --deployment"
                )
                .into());
            }
        };
        let of = |function: Function| {
            let named = |one: &&Deployed| one.name.to_lowercase().contains(function.as_str());
            let own = found.iter().find(named).or_else(|| found.first());
            own.map(|one| one.vars.clone()).unwrap_or_default()
        };
        Ok([of(Function::Create), of(Function::Prune)])
    }
}

/// A deployed function.
#[derive(Clone)]
struct Deployed {
    name: String,
    vars: BTreeMap<String, String>,
}

/// The functions that have a ledger.
async fn deployed(sdk: &SdkConfig) -> Result<Vec<Deployed>, BoxError> {
    let client = aws_sdk_lambda::Client::new(sdk);
    let mut pages = client.list_functions().into_paginator().send();
    let mut all = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| {
            let error = snapkeep_aws::sdk::chain(&error);
            format!(
                "{TABLE} is not set, and the deployed functions cannot be listed (lambda:ListFunctions): {error}"
            )
        })?;
        for function in page.functions.unwrap_or_default() {
            let vars = function.environment.and_then(|one| one.variables).unwrap_or_default();
            if vars.contains_key(TABLE) {
                let name = function.function_name.unwrap_or_default();
                all.push(Deployed { name, vars: vars.into_iter().collect() });
            }
        }
    }
    Ok(all)
}

impl World {
    /// What `prune` judges by in a place.
    pub(crate) fn cx(&self, surveyed: &Surveyed) -> Context<'_> {
        let (settings, capabilities) = (&self.prune, surveyed.capabilities);
        let elapsed = SignedDuration::ZERO;
        Context { settings, now: self.now, lease: Lease::NONE, elapsed, capabilities }
    }

    /// What an instance's tags say.
    pub(crate) fn protection(&self, tags: &snapkeep_domain::snapshot::Tags) -> Protection {
        Protection::read(tags, &self.create.tag, &self.create.policies)
    }

    /// Everything that there is or was in a place, with what `prune` plans for it now.
    pub(crate) fn resources(&self, surveyed: &Surveyed) -> Vec<(ResourceId, Plan)> {
        let cx = self.cx(surveyed);
        let mut facts = surveyed.facts.clone();
        let all = facts.resources();
        all.into_iter()
            .map(|id| {
                let plan = facts.plan(&id, &cx);
                (id, plan)
            })
            .collect()
    }

    /// What a person should know, judged from what is there now, the worst first.
    pub(crate) fn findings(&self, plans: &[(Place, Vec<(ResourceId, Plan)>)]) -> Vec<Shown> {
        let mut all: Vec<Shown> = Vec::new();
        let report = &self.survey.report;
        all.extend(report.findings.iter().map(|finding| shown(finding, None)));
        for failure in &report.failures {
            let place = failure.region.as_deref().unwrap_or_default();
            let message = format!(
                "{place} could not be read: {} failed with {}: {}",
                failure.operation, failure.code, failure.message
            );
            let fix =
                "check the rights of the caller, and whether the provider is in order".to_owned();
            all.push(own(
                Severity::Error,
                ("region-unreachable", "name", place),
                place,
                message,
                fix,
            ));
        }
        for surveyed in &self.survey.places {
            let look_alikes = surveyed.facts.listing.findings();
            all.extend(look_alikes.iter().map(|finding| shown(finding, Some(&surveyed.place))));
        }
        for (place, plans) in plans {
            let findings = plans.iter().flat_map(|(_, plan)| &plan.findings);
            all.extend(findings.map(|finding| shown(finding, Some(place))));
        }
        all.extend(self.silent());
        all.sort_by_key(|one| match one.severity {
            Severity::Error => 0,
            Severity::Warning => 1,
            Severity::Info => 2,
        });
        all
    }

    /// The functions of which no run ended for too long, in places with protected instances.
    fn silent(&self) -> Vec<Shown> {
        let mut all = Vec::new();
        for surveyed in &self.survey.places {
            let is_on = |tags| self.protection(tags).opt_in == OptIn::On;
            if !surveyed.facts.instances.values().any(|one| is_on(&one.tags)) {
                continue;
            }
            let mut records = surveyed.facts.records.values().flatten();
            let under_way = records.any(|record| FOLLOWED.contains(&record.state));
            // With nothing under way, a run of `poll` reads the ledger and writes nothing.
            let expected = |function: &Function| *function != Function::Poll || under_way;
            for function in Function::ALL.into_iter().filter(expected) {
                let hours = if function == Function::Prune { 3 } else { 1 };
                let mut runs = self.survey.memory.runs.iter();
                let own_run =
                    runs.find(|run| run.function == function && run.place == surveyed.place);
                let age = own_run.map(|run| self.now.duration_since(run.at));
                let over = SignedDuration::from_hours(hours);
                if age.is_some_and(|age| age <= over) {
                    continue;
                }
                let place = surveyed.place.to_string();
                let message = match own_run {
                    Some(run) => format!("no run of {function} in {place} since {}", whole(run.at)),
                    None => format!("{function} has never run in {place}"),
                };
                let fix = format!("look at the rule, the errors and the throttles of {function}");
                let key = ("silent", "key", function.as_str());
                all.push(own(Severity::Error, key, &place, message, fix));
            }
        }
        all
    }
}

/// A finding of the functions, with its place.
fn shown(finding: &Finding, place: Option<&Place>) -> Shown {
    let mut json = serde_json::to_value(finding).unwrap_or_default();
    let place = finding.place.as_ref().or(place);
    if let (Some(members), Some(place)) = (json.as_object_mut(), place) {
        members.insert("place".to_owned(), json!(place.to_string()));
    }
    let Finding { severity, message, fix, .. } = finding.clone();
    Shown { severity, json, message, fix }
}

/// A finding of the command's own.
fn own(
    severity: Severity,
    (code, member, value): (&str, &str, &str),
    place: &str,
    message: String,
    fix: String,
) -> Shown {
    let mut json =
        json!({"severity": severity, "code": code, "place": place, "message": message, "fix": fix});
    json[member] = json!(value);
    Shown { severity, json, message, fix: Some(fix) }
}
