//! What commands do at the provider with the rights of whoever calls them: patiently, and with errors
//! that name the right which is missing.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use aws_sdk_lightsail::config::ProvideCredentials;
use serde_json::{Value, json};
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_aws::lightsail::operator::{Image, LightsailOperator, Machine};
use snapkeep_domain::place::Place;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::{BoxError, INTERRUPTED, TERMINATED};

/// For how long a call is repeated.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause after the first call that did not succeed; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Acts in one place.
pub(crate) struct Operator {
    pub(crate) api: LightsailOperator,
    pub(crate) place: Place,
}

/// Why a call did not succeed, in the words of a person who could help.
pub(crate) fn trouble(error: &ProviderError) -> String {
    match error.kind {
        ErrorKind::Denied => {
            format!("{error}; it needs the right lightsail:{}", error.operation)
        }
        ErrorKind::Throttled => format!("{error}; try again in a minute"),
        ErrorKind::Indeterminate => {
            format!("{error}; look whether Lightsail can be reached, and try again")
        }
        _ => error.to_string(),
    }
}

impl Operator {
    pub(crate) fn new(sdk: &SdkConfig, place: &Place) -> Result<Self, BoxError> {
        if let Some(provider) = place.provider() {
            return Err(format!(
                "{place}: this works at Lightsail only; at {provider}, use the provider's console"
            )
            .into());
        }
        if let Some(account) = place.account() {
            return Err(format!(
                "{place} belongs to the account {account}: act there with that account's own credentials, for example \
                 in its console"
            )
            .into());
        }
        let api = LightsailOperator::new(sdk, place).map_err(|error| trouble(&error))?;
        Ok(Operator { api, place: place.clone() })
    }

    /// Makes a call that may be repeated, until it is answered.
    pub(crate) async fn patiently<T>(
        &self,
        call: impl AsyncFn() -> Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let (mut pause, began) = (PAUSE, Instant::now());
        loop {
            match call().await {
                Err(error) if error.kind.transient() && began.elapsed() + pause < PATIENCE => {
                    tokio::time::sleep(pause).await;
                }
                answer => return answer,
            }
            pause *= 2;
        }
    }

    /// What the tag of an instance or a snapshot says now.
    async fn tag_of(&self, name: &str, key: &str) -> Result<Option<String>, ProviderError> {
        let image = self.snapshot(name).await?.map(|image| image.tags);
        let tags = match image {
            Some(tags) => Some(tags),
            None => self.instance(name).await?.map(|machine| machine.tags),
        };
        Ok(tags.and_then(|tags| tags.get(key).cloned()))
    }

    pub(crate) async fn instance(&self, name: &str) -> Result<Option<Machine>, ProviderError> {
        self.patiently(async || self.api.instance(name).await).await
    }

    pub(crate) async fn snapshot(&self, name: &str) -> Result<Option<Image>, ProviderError> {
        self.patiently(async || self.api.snapshot(name).await).await
    }

    pub(crate) async fn tag(
        &self,
        name: &str,
        key: &str,
        value: &str,
    ) -> Result<(), ProviderError> {
        let tagged = self.patiently(async || self.api.tag(name, key, value).await).await;
        match tagged {
            // The answer was lost, and perhaps not the effect.
            Err(error) if error.kind.effect_unknown() => {
                let is_so =
                    self.tag_of(name, key).await.is_ok_and(|tag| tag.as_deref() == Some(value));
                if is_so { Ok(()) } else { Err(error) }
            }
            tagged => tagged,
        }
    }

    pub(crate) async fn untag(&self, name: &str, key: &str) -> Result<(), ProviderError> {
        let untagged = self.patiently(async || self.api.untag(name, key).await).await;
        match untagged {
            Err(error) if error.kind.effect_unknown() => {
                let is_so = self.tag_of(name, key).await.is_ok_and(|tag| tag.is_none());
                if is_so { Ok(()) } else { Err(error) }
            }
            untagged => untagged,
        }
    }

    /// The command of the AWS CLI that sets a tag.
    pub(crate) fn tag_command(&self, name: &str, key: &str, value: &str) -> String {
        let tags = tags_argument([(key, value)].into_iter());
        self.command("tag-resource", &["--resource-name", name, "--tags", &tags])
    }

    /// The command of the AWS CLI that removes a tag.
    pub(crate) fn untag_command(&self, name: &str, key: &str) -> String {
        self.command("untag-resource", &["--resource-name", name, "--tag-keys", key])
    }

    /// The command of the AWS CLI that deletes an instance.
    pub(crate) fn delete_command(&self, name: &str) -> String {
        self.command("delete-instance", &["--instance-name", name])
    }

    /// A command of the AWS CLI, ready for a shell.
    pub(crate) fn command(&self, what: &str, arguments: &[&str]) -> String {
        let region = ["--region", self.place.region()];
        let all = ["aws", "lightsail", what].into_iter();
        shell_words::join(all.chain(arguments.iter().copied()).chain(region))
    }
}

/// Tags as the AWS CLI takes them; its shorter form has no way to write some values.
pub(crate) fn tags_argument<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let tag = |(key, value): (&str, &str)| match value {
        "" => json!({"key": key}),
        value => json!({"key": key, "value": value}),
    };
    tags.map(tag).collect::<Value>().to_string()
}

/// The SDK's configuration, with a Region and credentials: without them, every later error would only
/// say that a call failed.
pub(crate) async fn sdk() -> Result<SdkConfig, BoxError> {
    let sdk = snapkeep_aws::sdk::sdk_config().await;
    if sdk.region().is_none_or(|region| region.as_ref().trim().is_empty()) {
        return Err("no Region: set AWS_REGION to the Region of the deployment".into());
    }
    let provider = sdk.credentials_provider().ok_or("no credentials: log in to AWS first")?;
    if provider.provide_credentials().await.is_err() {
        let profile = std::env::var("AWS_PROFILE").map(|name| format!(" of the profile {name}"));
        return Err(format!(
            "no credentials{}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile \
             with keys; for a login by SSO run: eval \"$(aws configure export-credentials --format env)\"",
            profile.unwrap_or_default()
        )
        .into());
    }
    Ok(sdk)
}

/// How whoever runs a command agrees to what it launches.
#[derive(clap::Args)]
pub(crate) struct Consent {
    /// Launch without asking.
    #[arg(long)]
    yes: bool,
    /// Only print the commands of the AWS CLI that do it.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) print: bool,
}

impl Consent {
    /// Goes on if the caller said so or says so now.
    pub(crate) async fn ask(&self) -> Result<(), BoxError> {
        if self.yes || tokio::task::spawn_blocking(confirmed).await?? {
            return Ok(());
        }
        Err("nothing was launched; say --yes to launch without being asked, or --print for the commands".into())
    }
}

/// Asks on a terminal whether to go on; elsewhere nobody can answer.
pub(crate) fn confirmed() -> Result<bool, BoxError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    eprint!("Go on? [y/N] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// The signals that nobody has waited for yet, and the exit status of the last one.
static SIGNALS: Semaphore = Semaphore::const_new(0);
static STATUS: AtomicU8 = AtomicU8::new(INTERRUPTED);
static LISTENING: AtomicBool = AtomicBool::new(false);

/// Waits for Ctrl-C or another signal that ends a command; returns the exit status. From the first call
/// on, no signal is lost: one that nobody waits for is kept for the next call.
pub(crate) async fn stopped() -> std::io::Result<u8> {
    if !LISTENING.swap(true, Ordering::Relaxed) {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            loop {
                let status = tokio::select! {
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
                    _ = hangup.recv() => TERMINATED,
                };
                STATUS.store(status, Ordering::Relaxed);
                SIGNALS.add_permits(1);
            }
        });
    }
    SIGNALS.acquire().await.map_err(std::io::Error::other)?.forget();
    Ok(STATUS.load(Ordering::Relaxed))
}
