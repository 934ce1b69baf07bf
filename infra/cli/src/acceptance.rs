//! `snapkeep acceptance`: a deployment tried out on a real account, from a new instance to a pruned
//! snapshot, and everything that it made removed again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::snapshot::{HOLD, Ownership, Snapshot, SnapshotState};
use snapkeep_domain::time::{Slot, after, format_duration};

mod account;
mod deployment;

use self::account::Account;
use self::deployment::Deployment;
use crate::operate::{confirmed, stopped};
use crate::output::{self, say};
use crate::{BoxError, CommandResult};

/// How the names of everything that this makes begin.
const PREFIX: &str = "snapkeep-acceptance-";
/// How many snapshots it takes: one to be held, one to be pruned, one to stay.
const SNAPSHOTS: usize = 3;

/// The command's options; what it does stands at the command.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The deployment's id (an output of the stack); not needed where there is one only.
    #[arg(long)]
    deployment: Option<String>,
    /// The availability zone of the instance; without it the Region's `a`.
    #[arg(long)]
    zone: Option<String>,
    /// Spend the money without asking.
    #[arg(long)]
    yes: bool,
    /// How many minutes to wait for any one thing, the grace included.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=1440))]
    patience: u32,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 15.0, value_parser = seconds)]
    every: f64,
    /// Write what was printed to this file, as Markdown that can be published: without the account's number.
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
    /// Only remove what an interrupted run left; it said this name.
    #[arg(long, value_name = "NAME")]
    clean: Option<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let accepted = "a number of seconds from 0.05 to 600";
    let seconds: f64 = text.parse().map_err(|_| accepted.to_owned())?;
    if (0.05..=600.0).contains(&seconds) { Ok(seconds) } else { Err(accepted.to_owned()) }
}

/// How long to wait, and how often to look.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    limit: Duration,
    every: Duration,
}

impl Patience {
    /// Looks again and again until there is what is waited for.
    async fn wait<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<Option<T>, BoxError>,
    ) -> Result<T, BoxError> {
        let minutes = self.limit.as_secs() / 60;
        let bar = ProgressBar::new_spinner();
        let waiting = async {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            say!("    waiting for {what}, up to {minutes} minutes");
            let style = ProgressStyle::with_template("    {spinner} {elapsed} {msg}")?;
            bar.set_style(style);
            bar.set_message(format!("waiting for {what}"));
            bar.enable_steady_tick(Duration::from_secs(1));
            loop {
                tokio::time::sleep(self.every).await;
                if let Some(found) = look().await? {
                    return Ok(found);
                }
            }
        };
        let late = |_| format!("waited {minutes} minutes for {what}");
        let ended = tokio::time::timeout(self.limit, waiting).await;
        bar.finish_and_clear();
        ended.map_err(late)?
    }
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let patience = Patience {
        limit: Duration::from_secs(60 * u64::from(arguments.patience)),
        every: Duration::from_secs_f64(arguments.every),
    };
    let account = Account::of_environment(arguments.zone.as_deref()).await?;
    if let Some(name) = &arguments.clean {
        if !name.starts_with(PREFIX) || name == PREFIX {
            return Err(format!("--clean takes a name that begins with {PREFIX}").into());
        }
        remove(&account, name, patience).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let deployment = Deployment::find(&account, arguments.deployment.as_deref()).await?;
    deployment.check(&account.region, patience.limit)?;
    let (plan, cost) = account.cheapest().await?;
    output::keep();
    announce(&deployment, &account, &plan, &cost);
    if !arguments.yes && !confirmed()? {
        return Err("nothing was made; say --yes to go on without being asked".into());
    }
    let before = account.names().await?;
    let name = format!("{PREFIX}{:x}", account.clock.now().await?.as_millisecond());
    let trial = Trial { account: &account, deployment: &deployment, name: &name, patience };
    // Once something may exist, every way out leads through its removal.
    let outcome = tokio::select! {
        outcome = trial.run(&plan) => outcome.map(|()| ExitCode::SUCCESS),
        interrupted = stopped() => {
            let status = interrupted?;
            say!("interrupted");
            Ok(ExitCode::from(status))
        }
    };
    if let Err(trouble) = &outcome {
        say!("FAILED  {trouble}");
    }
    say!(
        "Removing everything that was made. (Ctrl-C again leaves the rest, which goes on costing.)"
    );
    tokio::select! {
        removed = remove(&account, &name, patience) => removed?,
        _ = stopped() => {
            return Err(format!("left; go on with: snapkeep acceptance --clean {name}").into());
        }
    }
    tell_of_changes(&before, &account.names().await?);
    let code = outcome.unwrap_or(ExitCode::FAILURE);
    if code == ExitCode::SUCCESS {
        say!(
            "\nThe deployment does what it should.\nExpect a notice that snapshots of {name} have \
             vanished; it is from this run."
        );
    }
    write_transcript(arguments.transcript.as_deref(), account.clock.now().await?)?;
    Ok(code)
}

fn write_transcript(file: Option<&Path>, ended: Timestamp) -> Result<(), String> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, transcript(&output::kept(), ended))
        .map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// What was printed, as Markdown, without numbers of accounts.
fn transcript(lines: &[String], ended: Timestamp) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let digits = |word: &str| word.len() == 12 && word.bytes().all(|b| b.is_ascii_digit());
    let mut text =
        format!("# snapkeep {version}: an acceptance run that ended at {ended:.0}\n\n```text\n");
    for line in lines {
        let mut rest = line.as_str();
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, number) = rest.split_at(start);
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            text += before;
            text += if digits(&number[..end]) { "<account>" } else { &number[..end] };
            rest = &number[end..];
        }
        text = text + rest + "\n";
    }
    text + "```\n"
}

/// Says what will be made, what it costs and how long it takes.
fn announce(deployment: &Deployment, account: &Account, plan: &account::Plan, cost: &str) {
    say!("Deployment {} in {}.", deployment.id, account.region);
    say!(
        "This makes one instance ({} in {}) and {SNAPSHOTS} snapshots of it, and removes them when it \
         is done.\nIt costs {cost}; it takes the grace, which is {}, and about half an hour more.",
        plan.bundle,
        account.zone,
        format_duration(deployment.settings.grace)
    );
}

/// What changed in the account and is not ours: other people work there too.
fn tell_of_changes(before: &BTreeSet<String>, after: &BTreeSet<String>) {
    for (what, names) in [("appeared", after - before), ("went", before - after)] {
        if !names.is_empty() {
            let names: Vec<String> = names.into_iter().collect();
            say!("note: meanwhile {what}, not by this run: {}", names.join(", "));
        }
    }
    if before == after {
        say!("ok  the account has what it had before");
    }
}

/// One go, on one instance.
struct Trial<'a> {
    account: &'a Account,
    deployment: &'a Deployment,
    name: &'a str,
    patience: Patience,
}

impl Trial<'_> {
    async fn run(&self, plan: &account::Plan) -> Result<(), BoxError> {
        let deployment = self.deployment;
        say!("    making {}", self.name);
        // Off, until it says when: the deployment's own rules tick, too.
        let tags = [("", "off"), (":timezone", "UTC"), (":keep", "last=1")];
        let tags: Vec<(String, &str)> = tags
            .iter()
            .map(|(key, value)| (format!("{}{key}", deployment.settings.tag), *value))
            .collect();
        self.account.launch(self.name, plan, &tags).await?;
        self.patience
            .wait("the instance to run", async || {
                Ok(self.account.runs(self.name).await?.then_some(()))
            })
            .await?;
        say!("ok  instance {} runs", self.name);

        let mut taken: Vec<Snapshot> = Vec::new();
        while taken.len() < SNAPSHOTS {
            let slot = self.next_slot(taken.last()).await?;
            let snapshot = self.take(slot, taken.len() + 1).await?;
            if taken.is_empty() {
                self.account.tag(&snapshot.name, &[(HOLD.to_owned(), "")]).await?;
                say!("ok  {} is held", snapshot.name);
            }
            taken.push(snapshot);
        }
        let [held, condemned, newest] = &taken[..] else { return Err("snapshots went".into()) };

        let marked = deployment.invoke("prune").await?;
        let announced_at = self.account.clock.now().await?;
        let announced = |count: &str| marked["counts"][count].as_u64().unwrap_or_default();
        if announced("marked") + announced("expiring") == 0 {
            return Err(format!("prune announced nothing: {marked}").into());
        }
        say!(
            "ok  keep=last=1: prune announced a deletion, {} ahead",
            format_duration(deployment.settings.grace)
        );
        if deployment.settings.grace > SignedDuration::ZERO {
            deployment.invoke("prune").await?;
            if self.account.find(&condemned.name).await?.is_none() {
                return Err(format!("{} went within the grace", condemned.name).into());
            }
            say!("ok  within the grace {} stays", condemned.name);
            self.outlast_the_grace(announced_at).await?;
        }
        self.patience
            .wait("the deletion", async || {
                deployment.invoke("prune").await?;
                Ok(self.account.find(&condemned.name).await?.is_none().then_some(()))
            })
            .await?;
        say!("ok  after the grace {} is deleted", condemned.name);
        deployment.invoke("prune").await?;
        deployment.invoke("poll").await?;
        for (snapshot, why) in [(held, "held"), (newest, "the newest")] {
            if self.account.find(&snapshot.name).await?.is_none() {
                return Err(format!("{} was deleted, though it is {why}", snapshot.name).into());
            }
            say!("ok  {} stays: it is {why}", snapshot.name);
        }
        Ok(())
    }

    /// Waits until what was announced may be deleted. Only the clock is looked at: what is not due yet needs no call
    /// to the provider.
    async fn outlast_the_grace(&self, announced_at: Timestamp) -> Result<(), BoxError> {
        let grace = self.deployment.settings.grace;
        let due = after(announced_at, grace);
        self.patience
            .wait(&format!("the grace of {} to end", format_duration(grace)), async || {
                Ok((self.account.clock.now().await? >= due).then_some(()))
            })
            .await
    }

    /// The next minute that is later than the last snapshot's, and not in the future: a slot can be
    /// moved there by a daily schedule, so that there is no need to wait for a day.
    async fn next_slot(&self, last: Option<&Snapshot>) -> Result<Slot, BoxError> {
        let minute = SignedDuration::from_mins(1);
        let last = last.and_then(|snapshot| self.slot_of(snapshot));
        self.patience
            .wait("the next minute", async || {
                let now = self.account.clock.now().await?;
                let slot = Timestamp::from_second(now.as_second().div_euclid(60) * 60)?;
                let free = last.is_none_or(|last| after(last.timestamp(), minute) <= slot);
                Ok(free.then(|| Slot::at(slot)))
            })
            .await
    }

    fn slot_of(&self, snapshot: &Snapshot) -> Option<Slot> {
        match snapshot.ownership(&self.deployment.id, &Capabilities::default()) {
            Ownership::Ours { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// One snapshot, from its slot to its being available; the same tick again takes no other.
    async fn take(&self, slot: Slot, number: usize) -> Result<Snapshot, BoxError> {
        let at = slot.timestamp().to_zoned(TimeZone::UTC);
        let schedule = format!("daily@{:02}:{:02}", at.hour(), at.minute());
        let tag = &self.deployment.settings.tag;
        let due = [(tag.clone(), "on"), (format!("{tag}:schedule"), schedule.as_str())];
        self.account.tag(self.name, &due).await?;
        let found = self
            .patience
            .wait(&format!("a snapshot of slot {slot}"), async || {
                let report = self.deployment.invoke("create").await?;
                let found = self.of_slot(slot).await?.pop();
                if found.is_none() {
                    self.say_why(&report);
                }
                Ok(found)
            })
            .await?;
        say!("ok  {} is asked for, slot {slot}", found.name);
        tokio::try_join!(self.deployment.invoke("create"), self.deployment.invoke("create"),)?;
        let all = self.of_slot(slot).await?.len();
        if all != 1 || self.account.snapshots_of(self.name).await?.len() != number {
            return Err(format!("the same tick again: slot {slot} has {all} snapshots").into());
        }
        say!("ok  the same tick twice more takes no other");
        self.patience
            .wait(&format!("{} to be available", found.name), async || {
                self.deployment.invoke("poll").await?;
                let seen = self.account.find(&found.name).await?;
                match seen.map(|snapshot| snapshot.state) {
                    Some(SnapshotState::Available) => Ok(Some(())),
                    Some(SnapshotState::Pending) => Ok(None),
                    other => Err(format!("{} is {other:?}", found.name).into()),
                }
            })
            .await?;
        // It may have become so just after poll looked.
        self.deployment.invoke("poll").await?;
        say!("ok  {} is available, and the ledger knows", found.name);
        Ok(found)
    }

    /// What a report says about our instance.
    fn say_why(&self, report: &Value) {
        let all = ["failures", "findings"].into_iter().filter_map(|list| report[list].as_array());
        let ours = all.flatten().filter(|item| item["name"] == self.name);
        for message in ours.filter_map(|item| item["message"].as_str()) {
            say!("    not yet: {message}");
        }
    }

    /// The snapshots of our instance for this slot.
    async fn of_slot(&self, slot: Slot) -> Result<Vec<Snapshot>, BoxError> {
        let mut all = self.account.snapshots_of(self.name).await?;
        all.retain(|snapshot| self.slot_of(snapshot) == Some(slot));
        Ok(all)
    }
}

/// Removes the instance and its snapshots, until two looks in a row find nothing: a call that was under
/// way when the run ended may still have its effect.
async fn remove(account: &Account, name: &str, patience: Patience) -> Result<(), BoxError> {
    let (mut trouble, mut clean_looks) = (None, 0);
    let removed = patience
        .wait("everything to be gone", async || {
            // What is refused now (a snapshot that is pending, say) may go later.
            match account.remove(name).await {
                Ok(0) => clean_looks += 1,
                Ok(_) => clean_looks = 0,
                Err(error) => (clean_looks, trouble) = (0, Some(error.to_string())),
            }
            Ok((clean_looks == 2).then_some(()))
        })
        .await;
    removed.map_err(|late| {
        let why = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        format!("{late}{why}; go on with: snapkeep acceptance --clean {name}")
    })?;
    say!("ok  nothing of {name} is left");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_names_no_account() {
        let lines = [
            "Deployment snapkeep-eu-west-1-111122223333 in eu-west-1.",
            "ok  web-20260101T030000Z-1234567890123",
        ];
        let text = transcript(&lines.map(str::to_owned), "2026-01-01T04:00:00.5Z".parse().unwrap());
        assert!(text.contains("Deployment snapkeep-eu-west-1-<account> in eu-west-1.\n"), "{text}");
        assert!(text.contains("ok  web-20260101T030000Z-1234567890123\n"), "{text}");
        assert!(
            text.contains("ended at 2026-01-01T04:00:00Z") && text.ends_with("```\n"),
            "{text}"
        );
    }
}
