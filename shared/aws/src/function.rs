//! The three functions on lambda_runtime: wiring, one handler each, and no decisions.

use std::collections::BTreeMap;

use futures_util::future::LocalBoxFuture;
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde_json::Value;
use snapkeep_app::ports::{Deadline, Invocation};
use snapkeep_app::report::{Report, TickError};
use snapkeep_app::{create, notify, poll, prune};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::record::INVOCATION_LIFE;
use snapkeep_domain::policy::settings::{BadSettings, Settings};
use snapkeep_domain::time::after;

use crate::clock::{Budget, Clock};
use crate::dynamodb::DynamoLedger;
use crate::event::{self, BadEvent};
use crate::lightsail::Accounts;
use crate::notifications::Notifications;
use crate::providers::{Access, Inventories, read_settings};
use crate::{sdk, telemetry};

/// Why an invocation failed; `kind` is a stable word for alarms.
#[derive(Debug)]
struct Failed {
    kind: &'static str,
    message: String,
}

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Self {
        tracing::error!(error_type = failed.kind, "{}", failed.message);
        Diagnostic { error_type: failed.kind.to_owned(), error_message: failed.message }
    }
}

impl From<TickError> for Failed {
    fn from(error: TickError) -> Self {
        Failed { kind: error.kind(), message: error.to_string() }
    }
}

impl From<BadEvent> for Failed {
    fn from(error: BadEvent) -> Self {
        Failed { kind: "BadEvent", message: error.to_string() }
    }
}

/// What every function starts with: checked settings, a clock, and the clients.
struct Wiring {
    settings: Settings,
    clock: Clock,
    access: Access,
    inventory: Inventories,
    ledger: DynamoLedger,
    notifications: Notifications,
}

impl Wiring {
    async fn from_env(function: Function) -> Result<Self, BadSettings> {
        let vars: BTreeMap<String, String> = crate::environment::vars();
        let (settings, providers) = read_settings(&vars, function)?;
        let filled = |key: &str| vars.get(key).filter(|text| !text.trim().is_empty()).cloned();
        let clock = Clock::from_vars(filled, providers.endpoint_elsewhere())?;
        let sdk = sdk::sdk_config().await;
        let accounts =
            Accounts::by_roles(&sdk, &settings.roles, &settings.deployment, function).await;
        let access = Access::new(&sdk, accounts, &providers, &vars);
        Ok(Wiring {
            inventory: access.inventories(),
            ledger: DynamoLedger::new(aws_sdk_dynamodb::Client::new(&sdk), settings.table.clone())
                .of(function),
            notifications: Notifications::new(&sdk, &settings),
            settings,
            clock,
            access,
        })
    }
}

/// Runs `create` as a Lambda function until the runtime ends it.
///
/// # Errors
/// When a variable is invalid, or the runtime ends.
pub async fn create() -> Result<(), Error> {
    const FUNCTION: Function = Function::Create;
    let wiring = start(FUNCTION).await?;
    let creator = wiring.access.creators();
    let serving: LocalBoxFuture<'_, _> = Box::pin(serve(&wiring, FUNCTION, async |invocation| {
        let Wiring { inventory, ledger, notifications, settings, .. } = &wiring;
        create::run(inventory, &creator, ledger, notifications, settings, invocation).await
    }));
    serving.await
}

/// Runs `poll` as a Lambda function until the runtime ends it.
///
/// # Errors
/// When a variable is invalid, or the runtime ends.
pub async fn poll() -> Result<(), Error> {
    const FUNCTION: Function = Function::Poll;
    let wiring = start(FUNCTION).await?;
    let serving: LocalBoxFuture<'_, _> = Box::pin(serve(&wiring, FUNCTION, async |invocation| {
        let Wiring { inventory, ledger, notifications, settings, .. } = &wiring;
        poll::run(inventory, ledger, notifications, settings, invocation).await
    }));
    serving.await
}

/// Runs `prune` as a Lambda function until the runtime ends it.
///
/// # Errors
/// When a variable is invalid, or the runtime ends.
pub async fn prune() -> Result<(), Error> {
    const FUNCTION: Function = Function::Prune;
    let wiring = start(FUNCTION).await?;
    let deleter = wiring.access.deleters();
    let serving: LocalBoxFuture<'_, _> = Box::pin(serve(&wiring, FUNCTION, async |invocation| {
        let Wiring { inventory, ledger, notifications, settings, .. } = &wiring;
        prune::run(inventory, &deleter, ledger, notifications, settings, invocation).await
    }));
    serving.await
}

/// Sets up a function, so that a bad setup fails the start, and not half an invocation.
async fn start(function: Function) -> Result<Wiring, Error> {
    telemetry::init();
    Wiring::from_env(function).await.map_err(|error| {
        tracing::error!(error_type = "BadConfiguration", "{error}");
        Error::from(error.to_string())
    })
}

async fn serve(
    wiring: &Wiring,
    function: Function,
    tick: impl AsyncFn(&Invocation<Budget>) -> Result<Report, TickError>,
) -> Result<(), Error> {
    let tick = &tick;
    run(service_fn(async |event: LambdaEvent<Value>| {
        let trigger = event::read(&event.payload)?;
        let now = wiring.clock.now().await;
        let now = now.map_err(|e| Failed { kind: "ClockUnavailable", message: e.to_string() })?;
        let deadline = Budget::until(event.context.deadline());
        let only = match trigger.tick.clone() {
            None => Ok(None),
            Some(ticked) => ticked
                .and_then(|ticked| ticked.for_whom(&wiring.settings.deployment, function))
                .map(Some),
        };
        // The invocation's claims are its own as long as it lives.
        let life = SignedDuration::try_from(deadline.whole()).unwrap_or(INVOCATION_LIFE);
        let lease = Lease::until(after(now, life.min(INVOCATION_LIFE)));
        let mut report = match only {
            Ok(only) => {
                let invocation = Invocation { now, lease, tick: only, deadline };
                // Boxed: as one nested future, the whole tick is too deep a type for the compiler.
                let ticking: LocalBoxFuture<'_, _> = Box::pin(tick(&invocation));
                let mut report = ticking.await?;
                tell(wiring, &mut report, &invocation).await;
                report
            }
            Err(why) => bad_tick(function, now, &why),
        };
        telemetry::report(&report, &trigger);
        telemetry::metrics(&report, &wiring.settings, deadline.elapsed());
        let invocation = Invocation { now, lease, tick: None, deadline };
        notify::acknowledge(&wiring.ledger, &mut report, &invocation).await;
        serde_json::to_value(&report)
            .map_err(|e| Failed { kind: "BadReport", message: e.to_string() })
    }))
    .await
}

/// Notifies people while there is time: the report is returned in any case.
async fn tell(wiring: &Wiring, report: &mut Report, invocation: &Invocation<Budget>) {
    let deadline = &invocation.deadline;
    let time = deadline.last().saturating_sub(deadline.elapsed());
    let telling = notify::run(&wiring.notifications, &wiring.ledger, report, invocation);
    if tokio::time::timeout(time, telling).await.is_err() {
        report.left += 1;
    }
}

/// Reports a Tick that does not fit; an error would be retried.
fn bad_tick(function: Function, now: Timestamp, why: &str) -> Report {
    let mut report = Report::new(function, now);
    let message = format!("a Tick event does not fit, and nothing was done: {why}");
    let fix = "do nothing unless it happens again; then find out who sends the event";
    report.findings.push(Finding::new(Code::BadTick, message).fix(fix));
    report
}
