//! One SDK client for each Region of each account.
//!
//! The core knows places, not accounts: a Region of another account is `eu-west-1@222233334444`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_sdk_lightsail::Client;
use aws_sdk_lightsail::config::{Builder, SharedCredentialsProvider};
use aws_smithy_types::retry::RetryConfig;
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::RoleArn;

/// The accounts besides our own, and the credentials for each.
#[derive(Clone, Debug, Default)]
pub struct Accounts(BTreeMap<String, SharedCredentialsProvider>);

impl Accounts {
    /// The accounts of these roles; nothing is called yet. `function` replaces the `*` of a role's
    /// name, and the deployment's id is the external id that the role's trust policy asks for.
    pub async fn by_roles(
        sdk: &SdkConfig,
        roles: &[RoleArn],
        deployment: &str,
        function: Function,
    ) -> Self {
        let mut accounts = BTreeMap::new();
        for role in roles {
            let provider = AssumeRoleProvider::builder(role.arn.replace('*', function.as_str()))
                .external_id(deployment)
                .session_name(format!("snapkeep-{function}"))
                .configure(sdk)
                .build()
                .await;
            accounts.insert(role.account.clone(), SharedCredentialsProvider::new(provider));
        }
        Accounts(accounts)
    }
}

/// The clients, each of which is created when it is first needed.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    sdk: SdkConfig,
    accounts: Accounts,
    made: Arc<Mutex<BTreeMap<Place, Client>>>,
}

impl Clients {
    pub(super) fn new(sdk: &SdkConfig, accounts: &Accounts) -> Self {
        Self { sdk: sdk.clone(), accounts: accounts.clone(), made: Arc::default() }
    }

    /// These Regions in every account, our own first.
    pub(super) fn places(&self, regions: Vec<Place>) -> Vec<Place> {
        let theirs = self.accounts.0.keys();
        let theirs = theirs.flat_map(|account| regions.iter().map(|one| one.of_account(account)));
        let theirs: Vec<Place> = theirs.collect();
        regions.into_iter().chain(theirs).collect()
    }

    /// The client of a place.
    pub(super) fn of(
        &self,
        operation: &'static str,
        place: &Place,
    ) -> Result<Client, ProviderError> {
        // A poisoned map is still a map of clients.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(place) {
            return Ok(client.clone());
        }
        // The SDK makes one attempt of a call, because the pace of its place must hear of each
        // answer.
        let mut builder = Builder::from(&self.sdk)
            .region(Region::new(place.region().to_owned()))
            .retry_config(RetryConfig::disabled());
        if let Some(account) = place.account() {
            let credentials = self.accounts.0.get(account).ok_or_else(|| ProviderError {
                kind: ErrorKind::Denied,
                operation,
                code: "NoRole".to_owned(),
                message: format!(
                    "no role of account {account} is in SNAPKEEP_ROLE_ARNS; add it again, or remove \
                     what snapkeep has there"
                ),
            })?;
            builder = builder.credentials_provider(credentials.clone());
        }
        let client = Client::from_conf(builder.build());
        made.insert(place.clone(), client.clone());
        Ok(client)
    }

    /// The client of the Region that the environment names.
    pub(super) fn home(&self, operation: &'static str) -> Result<Client, ProviderError> {
        let region = self.sdk.region().map_or("us-east-1", Region::as_ref);
        let place = region.parse().map_err(|message| ProviderError {
            kind: ErrorKind::Refused,
            operation,
            code: "BadRegion".to_owned(),
            message,
        })?;
        self.of(operation, &place)
    }

    /// Refuses a resource that belongs to another account than its place says: a role of our own
    /// account would show everything twice.
    pub(super) fn belongs(
        &self,
        operation: &'static str,
        place: &Place,
        arn: &str,
    ) -> Result<(), ProviderError> {
        let Some(owner) = arn.split(':').nth(4).filter(|owner| !owner.is_empty()) else {
            return Ok(());
        };
        let right = match place.account() {
            Some(account) => account == owner,
            None => !self.accounts.0.contains_key(owner),
        };
        if right {
            return Ok(());
        }
        Err(ProviderError {
            kind: ErrorKind::Refused,
            operation,
            code: "WrongAccount".to_owned(),
            message: format!(
                "{place} shows {arn}: SNAPKEEP_ROLE_ARNS may only name roles of other accounts"
            ),
        })
    }
}
