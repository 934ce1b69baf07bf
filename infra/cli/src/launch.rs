//! What `restore` and `drill` share: a snapshot is held while it is used, an instance is launched from
//! it and waited for, and every way out says what is left.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use snapkeep_app::ports::{ErrorKind, ProviderError};
use snapkeep_aws::lightsail::operator::{Launch, Machine};
use snapkeep_domain::drill::DRILL;
use snapkeep_domain::snapshot::HOLD;

use crate::INTERRUPTED;
use crate::operate::{Operator, stopped, tags_argument, trouble};
use crate::output::{self, complain};

/// How long an instance may take until it runs.
const RUNNING_WITHIN: Duration = Duration::from_mins(30);
/// For how long a launch is asked for again that the provider has no time for.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// For how long a launch whose answer was lost may still have its effect.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);
/// How often a log hears that somebody waits.
const TOLD_EVERY: Duration = Duration::from_secs(30);
/// How long a removal may take.
const GONE_WITHIN: Duration = Duration::from_mins(5);
/// How many days the hold is good for, in case that nobody removes it.
const HOLD_DAYS: i64 = 2;

/// The pause between two looks, which grows.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Pause(Duration::from_millis(250))
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(5));
    }
}

/// How far it got, for whoever cleans up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The hold that may have been set.
    pub(crate) hold: Option<String>,
    /// Whether the provider answered the request for the hold.
    hold_answered: bool,
    /// When the launch was asked for.
    pub(crate) asked: Option<Instant>,
    /// Whether the launch was refused, so that there is no instance.
    refused: bool,
    /// The instance, as soon as it was seen.
    pub(crate) seen: Option<Machine>,
}

impl Progress {
    /// Whether an instance exists or may appear.
    pub(crate) fn may_exist(&self) -> bool {
        self.asked.is_some() && !self.refused
    }
}

/// How long cleaning up may take after a signal: whoever sent it kills next.
const CLEANED_WITHIN: Duration = Duration::from_secs(8);

/// Cleans up; after a signal only for a while, and not after another one. What may be left then, these
/// commands remove. A signal that comes meanwhile is noted.
pub(crate) async fn cleaned(
    cleaning: impl Future<Output = Vec<String>>,
    interrupted: &mut Option<u8>,
    commands: &[String],
) -> Vec<String> {
    let left = |why: &str| {
        let commands = commands.join("; ");
        vec![format!(
            "cleaning up was not finished ({why}); what may be left is removed by: {commands}"
        )]
    };
    tokio::pin!(cleaning);
    if interrupted.is_none() {
        *interrupted = tokio::select! {
            messages = &mut cleaning => return messages,
            () = tokio::time::sleep(GONE_WITHIN) => return left("it took too long"),
            code = stopped() => Some(code.unwrap_or(INTERRUPTED)),
        };
    }
    complain(&format!("cleaning up; if this does not end: {}", commands.join("; ")));
    tokio::select! {
        messages = cleaning => messages,
        () = tokio::time::sleep(CLEANED_WITHIN) => left("it took too long"),
        _ = stopped() => left("it was interrupted again"),
    }
}

/// One use of a snapshot.
pub(crate) struct Use<'a> {
    pub(crate) operator: &'a Operator,
    pub(crate) launch: Launch,
    /// Whether it is held anyway.
    pub(crate) held: bool,
    pub(crate) now: Timestamp,
    progress: Mutex<Progress>,
}

impl<'a> Use<'a> {
    pub(crate) fn new(operator: &'a Operator, launch: Launch, held: bool, now: Timestamp) -> Self {
        Use { operator, launch, held, now, progress: Mutex::default() }
    }

    /// The commands of the AWS CLI that do the same; those of a drill remove the instance, too.
    pub(crate) fn commands(&self, removes: bool) -> Vec<String> {
        let Use { operator, launch, held, .. } = self;
        let mut all = Vec::new();
        if !held {
            all.push(operator.tag_command(&launch.snapshot, HOLD, &self.hold_value()));
        }
        let tags = launch.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let tags = tags_argument(tags);
        let mut arguments = vec![
            "--instance-snapshot-name",
            &launch.snapshot,
            "--instance-names",
            &launch.name,
            "--availability-zone",
            &launch.zone,
            "--bundle-id",
            &launch.bundle,
        ];
        if let Some(key_pair) = &launch.key_pair {
            arguments.extend(["--key-pair-name", key_pair]);
        }
        if !launch.tags.is_empty() {
            arguments.extend(["--tags", &tags]);
        }
        all.push(operator.command("create-instances-from-snapshot", &arguments));
        all.push(operator.command("get-instance-state", &["--instance-name", &launch.name]));
        if removes {
            all.push(operator.delete_command(&launch.name));
        }
        if !held {
            all.push(operator.untag_command(&launch.snapshot, HOLD));
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it got.
    pub(crate) fn progress(&self) -> Progress {
        self.lock().clone()
    }

    /// The value of the hold that it sets.
    pub(crate) fn hold_value(&self) -> String {
        let today: Date = self.now.to_zoned(jiff::tz::TimeZone::UTC).date();
        let last = today.saturating_add(jiff::Span::new().days(HOLD_DAYS));
        format!("until={last}")
    }

    /// Holds the snapshot, unless it is held: nothing may prune what is being used.
    pub(crate) async fn hold(&self) -> Result<(), String> {
        let name = &self.launch.snapshot;
        if !self.held {
            let value = self.hold_value();
            self.lock().hold = Some(value.clone());
            let held = self.operator.tag(name, HOLD, &value).await;
            let unknown = |error: &ProviderError| error.kind.effect_unknown();
            self.lock().hold_answered = !held.as_ref().is_err_and(unknown);
            held.map_err(|error| format!("{name} could not be held: {}", trouble(&error)))?;
        }
        let found = self.operator.snapshot(name).await.map_err(|error| trouble(&error))?;
        match found {
            Some(image) if image.available => Ok(()),
            Some(_) => Err(format!("{name} is no longer available")),
            None => Err(format!("{name} does not exist any more")),
        }
    }

    /// Removes the hold that it set; what could not be removed is said, with the command.
    pub(crate) async fn release(&self) -> Option<String> {
        let value = self.lock().hold.clone()?;
        let name = &self.launch.snapshot;
        let left = |why: String| {
            let command = self.operator.untag_command(name, HOLD);
            Some(format!(
                "{name} may still be held by the tag {HOLD}={value} ({why}); remove it by: {command}"
            ))
        };
        match self.operator.snapshot(name).await {
            Ok(None) => return left("the provider does not show it".to_owned()),
            // The request may still have its effect.
            Ok(Some(image)) if !image.tags.contains_key(HOLD) && !self.progress().hold_answered => {
                return left("the request for it had no answer".to_owned());
            }
            // Somebody else's hold, or none.
            Ok(Some(image)) if image.tags.get(HOLD) != Some(&value) => return None,
            Ok(Some(_)) => {}
            Err(error) => return left(trouble(&error)),
        }
        match self.operator.untag(name, HOLD).await {
            Ok(()) => {
                self.lock().hold = None;
                None
            }
            Err(error) => left(trouble(&error)),
        }
    }

    /// Launches the instance and waits until it runs; returns it with the time that it took.
    pub(crate) async fn run(&self) -> Result<(Machine, Duration), String> {
        let began = Instant::now();
        self.lock().asked = Some(began);
        self.ask().await?;
        let bar = output::progress(format!("waiting for {} to run", self.launch.name));
        let running = self.running(began).await;
        bar.finish_and_clear();
        running.map(|machine| (machine, began.elapsed()))
    }

    /// Asks for the instance. An answer that is lost may have had its effect.
    async fn ask(&self) -> Result<(), String> {
        let mut pause = Pause::new();
        let began = Instant::now();
        loop {
            let error = match self.operator.api.launch(&self.launch).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let waits = matches!(error.kind, ErrorKind::Throttled | ErrorKind::Busy);
            if waits && began.elapsed() < TAKEN_WITHIN {
                pause.wait().await;
                continue;
            }
            if error.kind.effect_unknown() {
                return self.appears(&error).await;
            }
            self.lock().refused = true;
            return Err(format!("{} was not launched: {}", self.launch.name, trouble(&error)));
        }
    }

    /// Waits for an instance whose launch had no answer.
    async fn appears(&self, error: &ProviderError) -> Result<(), String> {
        let name = &self.launch.name;
        let mut pause = Pause::new();
        let began = Instant::now();
        while began.elapsed() < APPEARS_WITHIN {
            if let Ok(Some(found)) = self.operator.api.instance(name).await {
                self.lock().seen = Some(found);
                return Ok(());
            }
            pause.wait().await;
        }
        Err(format!(
            "the request for {name} had no answer ({error}), and it did not appear; it still may"
        ))
    }

    async fn running(&self, began: Instant) -> Result<Machine, String> {
        let name = &self.launch.name;
        let mut pause = Pause::new();
        let mut state = "not there".to_owned();
        let mut told = Instant::now();
        while began.elapsed() < RUNNING_WITHIN {
            match self.operator.api.instance(name).await {
                Ok(Some(found)) => {
                    state.clone_from(&found.state);
                    self.lock().seen = Some(found.clone());
                    match found.state.as_str() {
                        "running" => return Ok(found),
                        "pending" | "starting" | "" => {}
                        other => return Err(format!("{name} is {other} instead of running")),
                    }
                }
                Ok(None) => state = "not there".to_owned(),
                Err(error) if error.kind.transient() => {}
                Err(error) => {
                    return Err(format!("whether {name} runs cannot be read: {}", trouble(&error)));
                }
            }
            // Without a terminal, there is no spinner.
            if told.elapsed() > TOLD_EVERY && !std::io::stderr().is_terminal() {
                complain(&format!("waiting for {name} to run: it is {state}"));
                told = Instant::now();
            }
            pause.wait().await;
        }
        let minutes = RUNNING_WITHIN.as_secs() / 60;
        Err(format!("{name} does not run after {minutes} minutes: it is {state}"))
    }

    /// Removes the instance of a drill, by its name and the drill's tag; what could not be removed is
    /// said, with the command.
    pub(crate) async fn remove(&self, deployment: &str) -> Result<(), String> {
        let name = &self.launch.name;
        let left = |why: String| {
            let command = self.operator.delete_command(name);
            Err(format!("{name} may be left and cost money ({why}); remove it by: {command}"))
        };
        // What had no answer may appear after all.
        let unseen = self.progress().seen.is_none();
        let asked = self.progress().asked.unwrap_or_else(Instant::now);
        let began = Instant::now();
        let mut pause = Pause::new();
        let mut deleted = false;
        let mut last = "it did not go".to_owned();
        while began.elapsed() < GONE_WITHIN {
            match self.operator.api.instance(name).await {
                Ok(None) if unseen && !deleted && asked.elapsed() < APPEARS_WITHIN => {}
                Ok(None) if unseen && !deleted => {
                    return left("it was asked for and did not appear; it still may".to_owned());
                }
                Ok(None) => return Ok(()),
                Ok(Some(found))
                    if found.tags.get(DRILL).map(String::as_str) != Some(deployment) =>
                {
                    return left(format!(
                        "it has no tag {DRILL}={deployment}, so it is not removed"
                    ));
                }
                Ok(Some(_)) => match self.operator.api.delete_instance(name).await {
                    Ok(()) => deleted = true,
                    Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                    // One that is starting cannot be deleted yet.
                    Err(error) if error.kind == ErrorKind::Denied => return left(trouble(&error)),
                    Err(error) => last = trouble(&error),
                },
                Err(error) if error.kind.transient() => last = trouble(&error),
                Err(error) => return left(trouble(&error)),
            }
            pause.wait().await;
        }
        left(last)
    }
}
