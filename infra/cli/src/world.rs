//! One reading of the world, from which the reading commands answer: which deployment it is, what
//! exists, what the ledger says, and what the functions' own planners make of it. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use jiff::{SignedDuration, Timestamp};
use snapkeep_app::ports::Invocation;
use snapkeep_app::report::Failure;
use snapkeep_app::survey::{self, Survey, Surveyed};
use snapkeep_aws::clock::{Budget, Clock};
use snapkeep_aws::dynamodb::DynamoLedger;
use snapkeep_aws::lightsail::Accounts;
use snapkeep_aws::providers::{Access, read_settings};
use snapkeep_domain::finding::Severity;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{BadSettings, Context, Settings};
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::{Plan, Seen};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Hold, Instance, Tags};

use crate::BoxError;
use crate::access::{advice, no_access};
use crate::deployed::{self, Deployed, TABLE, Variables};
use crate::findings::Shown;
use crate::lint;
use crate::operate;
use crate::output::complain;
use crate::patient::Patient;
use crate::when::{self, whole};
use crate::who::{self, Who};

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

/// A deployment, and the ways to it.
pub(crate) struct Deployment {
    pub(crate) sdk: SdkConfig,
    /// What it is set to: `create`'s variables count for schedules, `prune`'s for all else.
    pub(crate) settings: Settings,
    pub(crate) ledger: DynamoLedger,
    clock: Clock,
    access: Access,
}

/// The world at one time.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) settings: Settings,
    pub(crate) survey: Survey,
    /// The only Region that was read.
    pub(crate) region: Option<String>,
    pub(crate) deployment: Deployment,
    /// The deployed functions' variables that stop them.
    pub(crate) bad_variables: Vec<Shown>,
}

/// A resource that exists or left something, and what `prune` makes of it.
pub(crate) struct View<'a> {
    pub(crate) who: Who,
    pub(crate) surveyed: &'a Surveyed,
    pub(crate) id: ResourceId,
    /// The instance, and what its tags say, while it lives.
    pub(crate) living: Option<(&'a Instance, Protection)>,
    /// What the ledger remembers of it.
    pub(crate) protected: Option<&'a Protected>,
    /// Our snapshots of it, by what identifies them.
    pub(crate) seen: BTreeMap<&'a str, &'a Seen>,
    pub(crate) records: &'a [Record],
    pub(crate) plan: Plan,
}

impl Reading {
    /// The deployment that is meant, and the time that counts as now.
    async fn deployment(
        &self,
        sdk: SdkConfig,
        [create_vars, vars]: [Variables; 2],
    ) -> Result<(Deployment, Timestamp), BoxError> {
        let (create, _) = read_settings(&create_vars, Function::Create).map_err(bad)?;
        let (mut settings, providers) = read_settings(&vars, Function::Prune).map_err(bad)?;
        take_schedules(&mut settings, &create);
        let filled = |key: &str| vars.get(key).filter(|text| !text.trim().is_empty()).cloned();
        let clock = Clock::from_vars(filled, providers.endpoint_elsewhere()).map_err(bad)?;
        let now = match self.now {
            Some(now) => now,
            None => clock.now().await?,
        };
        let function = Function::Prune;
        let id = &settings.deployment;
        let accounts = Accounts::by_roles(&sdk, &settings.roles, id, function).await;
        let access = Access::new(&sdk, accounts, &providers, &vars);
        let client = aws_sdk_dynamodb::Client::new(&sdk);
        let ledger = DynamoLedger::new(client, settings.table.clone());
        Ok((Deployment { sdk, settings, ledger, clock, access }, whole(now)))
    }

    /// Reads the world.
    pub(crate) async fn read(&self) -> Result<World, BoxError> {
        let sdk = operate::sdk().await?;
        let vars = self.variables(&sdk).await?;
        if is_own(&snapkeep_aws::environment::vars()) {
            return self.read_by(sdk, vars).await;
        }
        // A typo that stops a deployed function must not hide how everything stands.
        let lint::Checked { found, readable, .. } = lint::check(&vars[0], &vars[1]);
        let mut world = self.read_by(sdk, readable).await?;
        let stops = found.into_iter().filter(|one| one.severity == Severity::Error);
        world.bad_variables.extend(stops);
        Ok(world)
    }

    /// Reads the world of these variables; where services are, and the keys, are the caller's.
    pub(crate) async fn read_with(&self, vars: [Variables; 2]) -> Result<World, BoxError> {
        let sdk = operate::sdk().await?;
        self.read_by(sdk, vars.map(with_own)).await
    }

    async fn read_by(&self, sdk: SdkConfig, vars: [Variables; 2]) -> Result<World, BoxError> {
        let (deployment, now) = self.deployment(sdk, vars).await?;
        let Deployment { settings, ledger, access, .. } = &deployment;
        let deadline = Budget::until(SystemTime::now() + PATIENCE);
        let invocation = Invocation { now, lease: Lease::NONE, tick: None, deadline };
        let inventory = Patient::new(access.inventories());
        let read = survey::read(&inventory, ledger, settings, &invocation).await;
        let home = deployment.sdk.region().map_or("its Region", |region| region.as_ref());
        let mut survey = read.map_err(|error| no_access(&error, &settings.table, home))?;
        if let Some(region) = &self.region {
            only(region, &mut survey)?;
        }
        if survey.places.is_empty()
            && let Some(failure) = survey.report.failures.first()
        {
            let place = failure.region.as_ref().map(|place| format!(" in {place}"));
            return Err(format!(
                "no place of the deployment {} can be read: {}{} failed with {}: {}; {}",
                &*settings.deployment,
                failure.operation,
                place.unwrap_or_default(),
                failure.code,
                failure.message,
                advice(failure)
            )
            .into());
        }
        let (settings, bad_variables) = (settings.clone(), Vec::new());
        let region = self.region.clone();
        Ok(World { now, settings, survey, region, deployment, bad_variables })
    }

    /// The variables that count for schedules, and those that count for all else: the environment's
    /// if it names a table, or else those of the deployed functions.
    pub(crate) async fn variables(&self, sdk: &SdkConfig) -> Result<[Variables; 2], BoxError> {
        let own = snapkeep_aws::environment::vars();
        if is_own(&own) {
            let id = deployed::id(&own);
            return match &self.deployment {
                Some(wanted) if *wanted != id => Err(format!(
                    "--deployment {wanted}: {TABLE} is set, and then SNAPKEEP_DEPLOYMENT counts, which is {id}; set \
                     that, or unset {TABLE}"
                )
                .into()),
                _ => Ok([own.clone(), own]),
            };
        }
        let found = Deployed::find(sdk, self.deployment.as_deref()).await?;
        Ok([Function::Create, Function::Prune].map(|one| with_own(found.variables(one))))
    }
}

/// Whether the environment itself says which deployment is meant.
fn is_own(vars: &Variables) -> bool {
    vars.get(TABLE).is_some_and(|table| !table.trim().is_empty())
}

/// Adds where services and the clock are, and the keys, which are the caller's own.
fn with_own(mut vars: Variables) -> Variables {
    let own = snapkeep_aws::environment::vars().into_iter();
    let is_own = |key: &str| !key.starts_with("SNAPKEEP_") || key == "SNAPKEEP_CLOCK_URL";
    vars.extend(own.filter(|(key, _)| is_own(key)));
    vars
}

fn bad(BadSettings(bad): BadSettings) -> BoxError {
    let all: Vec<String> = bad.into_iter().map(|problem| problem.message).collect();
    all.join("; ").into()
}

/// Takes schedules and zones from the settings of `create`.
fn take_schedules(settings: &mut Settings, create: &Settings) {
    let (own, theirs) = (&mut settings.policies, &create.policies);
    let pairs = own.named.iter_mut().filter_map(|(name, own)| Some((own, theirs.named.get(name)?)));
    for (own, theirs) in pairs.chain([(&mut own.default, &theirs.default)]) {
        own.schedule = theirs.schedule;
        own.zone = theirs.zone.clone();
    }
}

/// The place of a failure.
fn place_of(failure: &Failure) -> Option<Place> {
    failure.region.as_deref()?.parse().ok()
}

/// Leaves out every other Region.
fn only(region: &str, survey: &mut Survey) -> Result<(), BoxError> {
    let of_runs = survey.memory.runs.iter().map(|run| &run.place);
    let places = survey.places.iter().map(|one| &one.place).chain(of_runs);
    let unread = survey.report.failures.iter().filter_map(place_of);
    let unread = unread.map(|place| place.region().to_owned());
    let known: BTreeSet<String> =
        places.map(|place| place.region().to_owned()).chain(unread).collect();
    if !known.contains(region) {
        let near = who::nearest(region, known.iter().map(String::as_str));
        return Err(
            format!("--region {region}: the deployment looks after no such Region{near}").into()
        );
    }
    survey.places.retain(|one| one.place.region() == region);
    survey.memory.protected.retain(|item| item.place.region() == region);
    survey.memory.runs.retain(|run| run.place.region() == region);
    let there = |place: &Place| place.region() == region;
    survey.report.failures.retain(|failure| place_of(failure).is_none_or(|place| there(&place)));
    survey.report.findings.retain(|finding| finding.place.as_ref().is_none_or(there));
    Ok(())
}

impl World {
    /// The time at which something is done. An earlier `--now` says only what is looked at.
    pub(crate) async fn acting_now(&self) -> Result<Timestamp, BoxError> {
        Ok(whole(self.deployment.clock.now().await?).max(self.now))
    }

    /// The places that cannot be read.
    pub(crate) fn unread(&self) -> BTreeSet<Place> {
        let report = &self.survey.report;
        let of_resources = self.survey.memory.protected.iter().map(|item| item.place.clone());
        let failed = report.failures.iter().filter(|failure| failure.resource.is_none());
        let all = failed.filter_map(place_of).chain(of_resources);
        all.filter(|place| self.surveyed(place).is_none()).collect()
    }

    /// Why a place cannot be read.
    pub(crate) fn why_unread(&self, place: &Place) -> String {
        let mut failures = self.survey.report.failures.iter();
        let own = failures.find(|failure| place_of(failure).as_ref() == Some(place));
        match own {
            Some(one) => format!(
                "{} failed with {}: {}; {}",
                one.operation,
                one.code,
                one.message,
                advice(one)
            ),
            None => "the deployment does not look after it any more".to_owned(),
        }
    }

    /// Says on stderr which places an answer leaves out; returns whether it leaves out any.
    pub(crate) fn leaves_out(&self) -> bool {
        let unread = self.unread();
        for place in &unread {
            complain(&format!("snapkeep: {place} is left out: {}", self.why_unread(place)));
        }
        !unread.is_empty()
    }

    /// What `prune` judges by in a place.
    pub(crate) fn cx(&self, surveyed: &Surveyed) -> Context<'_> {
        let (settings, capabilities) = (&self.settings, surveyed.capabilities);
        let elapsed = SignedDuration::ZERO;
        Context { settings, now: self.now, lease: Lease::NONE, elapsed, capabilities }
    }

    /// What an instance's tags say.
    pub(crate) fn protection(&self, tags: &Tags) -> Protection {
        Protection::read(tags, &self.settings.tag, &self.settings.policies)
    }

    /// Everything that there is or was, by place and name, with what `prune` plans for it now.
    pub(crate) fn views(&self) -> Vec<View<'_>> {
        let one = |surveyed| self.views_of(surveyed, |_| true);
        self.survey.places.iter().flat_map(one).collect()
    }

    /// One resource of a place, with what `prune` plans for it now; `None` if nothing is known of it,
    /// or the place cannot be read.
    pub(crate) fn view(&self, place: &Place, id: &ResourceId) -> Option<View<'_>> {
        let surveyed = self.surveyed(place)?;
        self.views_of(surveyed, |one| one == id).pop()
    }

    /// What was read of a place.
    pub(crate) fn surveyed(&self, place: &Place) -> Option<&Surveyed> {
        self.survey.places.iter().find(|one| one.place == *place)
    }

    /// The resources of a place that are asked for, by name.
    fn views_of<'a>(
        &'a self,
        surveyed: &'a Surveyed,
        wanted: impl Fn(&ResourceId) -> bool,
    ) -> Vec<View<'a>> {
        let cx = self.cx(surveyed);
        let facts = &surveyed.facts;
        let all = facts.resources().into_iter().filter(|id| wanted(id));
        let mut views: Vec<View<'_>> = all
            .map(|id| {
                let records = facts.records.get(&id).map_or(&[][..], Vec::as_slice);
                let instance = facts.instances.get(&id);
                View {
                    who: Who::of(facts, &id),
                    surveyed,
                    living: instance.map(|one| (one, self.protection(&one.tags))),
                    protected: facts.protected.get(&id),
                    seen: facts.listing.of(&id).map(|(_, seen)| seen).unwrap_or_default(),
                    records,
                    plan: facts.judge(&id, records, &cx),
                    id,
                }
            })
            .collect();
        views.sort_by(|a, b| (&a.who.name, &a.id).cmp(&(&b.who.name, &b.id)));
        views
    }
}

impl View<'_> {
    /// Whether the instance takes part.
    pub(crate) fn is_on(&self) -> bool {
        matches!(&self.living, Some((_, protection)) if protection.opt_in == OptIn::On)
    }

    /// The hold on all its snapshots.
    pub(crate) fn hold(&self) -> Option<Hold> {
        match &self.living {
            Some((_, protection)) => protection.hold.clone(),
            None => self.protected.and_then(Protected::hold),
        }
    }

    /// The record of a snapshot.
    pub(crate) fn record(&self, key: &str, seen: &Seen) -> Option<&Record> {
        let own = self.records.iter().find(|record| record.snapshot_key() == key);
        let same = |record: &&Record| (record.slot, record.attempt) == (seen.slot, seen.attempt);
        own.or_else(|| self.records.iter().filter(|r| r.identity.id.is_none()).find(same))
    }
}
