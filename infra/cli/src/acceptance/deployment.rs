//! The deployment that is tried out: its functions, and what they are set to.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use jiff::SignedDuration;
use serde_json::Value;
use snapkeep_aws::providers::read_settings;
use snapkeep_aws::sdk;
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::{Regions, Settings};
use snapkeep_domain::time::format_duration;

use super::account::Account;
use crate::BoxError;
use crate::deployed::Deployed;

/// Lambda's own limit.
const LONGEST_INVOCATION: Duration = Duration::from_mins(15);

/// What a deletion and the look for it may take.
const AFTER_THE_GRACE: SignedDuration = SignedDuration::from_mins(10);

/// Three functions that share a deployment's id.
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) settings: Settings,
    names: BTreeMap<&'static str, String>,
    client: Client,
}

impl Deployment {
    /// Finds the functions in the account's Region by their variables.
    pub(super) async fn find(account: &Account, id: Option<&str>) -> Result<Self, BoxError> {
        // An invocation takes as long as the function may.
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(LONGEST_INVOCATION)
            .operation_timeout(LONGEST_INVOCATION)
            .build();
        let config = Builder::from(&account.sdk).timeout_config(timeouts).build();
        let client = Client::from_conf(config);
        let Deployed { id, mut functions } = Deployed::find(&account.sdk, id).await?;
        let mut names = BTreeMap::new();
        let mut settings = None;
        for function in Function::ALL {
            let (name, vars) = functions
                .remove(&function)
                .ok_or_else(|| format!("deployment {id} has no function `{function}`"))?;
            // What prune uses is what the others do, and more.
            settings = Some(read_settings(&vars, Function::Prune)?.0);
            names.insert(function.as_str(), name);
        }
        let settings = settings.ok_or("no settings")?;
        Ok(Deployment { id, settings, names, client })
    }

    /// Whether it can be tried out at all, before anything is spent.
    pub(super) fn check(&self, region: &Place, patience: Duration) -> Result<(), BoxError> {
        let refuse = |why: String| -> Result<(), BoxError> {
            let how = "deploy one beside it for this: sam deploy --config-env acceptance";
            Err(format!("deployment {} cannot be tried out: {why}; {how}", self.id).into())
        };
        if self.settings.dry_run {
            return refuse("SNAPKEEP_DRY_RUN is on".to_owned());
        }
        if self.settings.max_deletes == Some(0) {
            return refuse("SNAPKEEP_MAX_DELETES is 0".to_owned());
        }
        match self.settings.provider_of(region).map(|provider| &provider.regions) {
            Some(Regions::Only(names)) if !names.contains(region) => {
                return refuse(format!("SNAPKEEP_REGIONS does not contain {region}"));
            }
            _ => {}
        }
        let waits = self.settings.grace.saturating_add(AFTER_THE_GRACE);
        if waits > SignedDuration::try_from(patience)? {
            return refuse(format!(
                "its SNAPKEEP_GRACE and {} are longer than --patience ({} minutes)",
                format_duration(AFTER_THE_GRACE),
                patience.as_secs() / 60
            ));
        }
        Ok(())
    }

    /// Invokes a function by hand; its report, if nothing failed in it.
    pub(super) async fn invoke(&self, function: &str) -> Result<Value, BoxError> {
        let name = self.names.get(function).ok_or_else(|| format!("no function {function}"))?;
        let call = self.client.invoke().function_name(name).payload(Blob::new("{}"));
        let answer =
            call.send().await.map_err(|error| format!("{name}: {}", sdk::chain(&error)))?;
        let payload = answer.payload().map(AsRef::as_ref).unwrap_or_default();
        let text = String::from_utf8_lossy(payload);
        if let Some(error) = answer.function_error() {
            return Err(format!("{name} failed ({error}): {text}").into());
        }
        let report: Value = serde_json::from_str(&text)
            .map_err(|error| format!("{name} answered no report ({error}): {text}"))?;
        Ok(report)
    }
}
