//! `snapkeep restore`: an instance from a snapshot, with what the old one had.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use snapkeep_aws::lightsail::operator::{Launch, Machine};
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::snapshot::{HOLD, Tags};
use snapkeep_domain::time::Slot;

use crate::launch::{Use, cleaned};
use crate::operate::{Consent, Operator, stopped, trouble};
use crate::output::{self, complain, say};
use crate::source::{Fitting, Source, fitting, source};
use crate::when::When;
use crate::who::Who;
use crate::world::{Reading, World};
use crate::{BoxError, CommandResult};

/// The Region's key pair that everybody has.
const DEFAULT_KEY_PAIR: &str = "LightsailDefaultKeyPair";

/// Launches an instance from a snapshot, with the zone, bundle, tags and key pair of the old one.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// An instance's name or id, also of one that is gone, or a snapshot's name.
    #[arg(value_name = "INSTANCE or SNAPSHOT")]
    what: String,
    /// The newest snapshot that was made by then: a time, a date, or a distance such as -36h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = When::read)]
    as_of: Option<When>,
    /// The name of the new instance; the old name if it is free, or else NAME-restored.
    #[arg(long, value_name = "NAME", value_parser = name)]
    to: Option<String>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Reads a name that Lightsail takes.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    if (2..=255).contains(&text.len()) && text.chars().all(legal) && ends {
        Ok(text.to_owned())
    } else {
        Err("expected 2 to 255 letters, digits, dots, hyphens and underscores, with a letter or digit at both ends"
            .to_owned())
    }
}

/// What is restored, from what, and what became of it.
#[derive(Serialize)]
struct Restore {
    snapshot: String,
    #[serde(flatten)]
    who: Who,
    slot: Slot,
    created_at: Timestamp,
    to: String,
    bundle: String,
    zone: String,
    key_pair: String,
    tags: Vec<Tag>,
    size_gb: u32,
    cost_usd_month: Option<f64>,
    commands: Vec<String>,
    state: &'static str,
    instance: Option<String>,
    seconds: Option<u64>,
    held: bool,
    left: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
}

#[derive(Serialize)]
struct Tag {
    key: String,
    value: String,
}

/// What is restored, and how.
struct Prepared {
    now: Timestamp,
    source: Source,
    operator: Operator,
    restore: Restore,
    launch: Launch,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let prepared = tokio::select! {
        prepared = prepare(&arguments) => prepared?,
        code = stopped() => return Ok(ExitCode::from(code?)),
    };
    let Prepared { now, source, operator, mut restore, launch } = prepared;
    let usage = Use::new(&operator, launch, source.held, now);
    if arguments.consent.print {
        if arguments.json {
            output::json(&restore)?;
        } else {
            restore.commands.iter().for_each(|command| say!("{command}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let status = carry_out(&usage, &mut restore).await?;
    // Whoever closes standard output must read what is left, too.
    restore.messages.iter().for_each(|message| complain(&format!("snapkeep: {message}")));
    if arguments.json {
        output::json(&restore)?;
    } else {
        print(&restore);
    }
    Ok(status)
}

/// Says what would be done, and has it agreed to.
async fn prepare(arguments: &Arguments) -> Result<Prepared, BoxError> {
    let world = arguments.reading.read().await?;
    let source = source(&world, &arguments.what, arguments.as_of)?;
    let operator = Operator::new(&world.deployment.sdk, &source.place)?;
    let (mut restore, launch) = plan(&world, &operator, &source, arguments.to.as_deref()).await?;
    let now = world.acting_now().await?;
    restore.commands = Use::new(&operator, launch.clone(), source.held, now).commands(false);
    announce(&restore, &source);
    if !arguments.consent.print {
        arguments.consent.ask().await?;
    }
    Ok(Prepared { now, source, operator, restore, launch })
}

async fn plan(
    world: &World,
    operator: &Operator,
    source: &Source,
    to: Option<&str>,
) -> Result<(Restore, Launch), BoxError> {
    let Fitting { bundle, zone, old, disks } = fitting(operator, source).await?;
    let to = free_name(operator, &source.who.name, to).await?;
    let price = operator.patiently(async || operator.api.price(&bundle).await).await;
    let price = price.map_err(|error| trouble(&error))?;
    let tags = match &old {
        Some(old) => old.tags.clone(),
        None => last_known(source.remembered.as_ref(), &world.settings),
    };
    let tags: Tags = tags.into_iter().filter(|(key, _)| !key.starts_with("aws:")).collect();
    let key_pair = old.as_ref().and_then(|old| old.key_pair.clone());
    let key_pair = key_pair.unwrap_or_else(|| DEFAULT_KEY_PAIR.to_owned());
    let launch = Launch {
        snapshot: source.snapshot.clone(),
        name: to.clone(),
        zone: zone.clone(),
        bundle: bundle.clone(),
        key_pair: Some(key_pair.clone()).filter(|name| name != DEFAULT_KEY_PAIR),
        tags: tags.clone(),
    };
    let restore = Restore {
        snapshot: source.snapshot.clone(),
        who: source.who.clone(),
        slot: source.slot,
        created_at: source.created_at,
        to,
        bundle,
        zone,
        key_pair,
        tags: tags.into_iter().map(|(key, value)| Tag { key, value }).collect(),
        size_gb: source.size_gb,
        cost_usd_month: price,
        commands: Vec::new(),
        state: "planned",
        instance: None,
        seconds: None,
        held: source.held,
        left: left_to_do(old.as_ref(), &disks),
        messages: Vec::new(),
    };
    Ok((restore, launch))
}

/// A name that no instance has.
async fn free_name(operator: &Operator, name: &str, to: Option<&str>) -> Result<String, BoxError> {
    let taken = async |name: &str| -> Result<bool, BoxError> {
        // Names are of instances and snapshots alike.
        let found = operator.instance(name).await.map_err(|error| trouble(&error))?;
        let image = operator.snapshot(name).await.map_err(|error| trouble(&error))?;
        Ok(found.is_some() || image.is_some())
    };
    match to {
        Some(to) if taken(to).await? => {
            Err(format!("--to {to}: something in {} has that name", operator.place).into())
        }
        Some(to) => Ok(to.to_owned()),
        None if !taken(name).await? => Ok(name.to_owned()),
        None => {
            let other = format!("{name}-restored");
            if taken(&other).await? {
                return Err(format!(
                    "{name} and {other} exist in {}: choose a name by --to",
                    operator.place
                )
                .into());
            }
            Ok(other)
        }
    }
}

/// The opt-in and the overrides of an instance that is gone, as far as the ledger remembers them.
fn last_known(known: Option<&Protected>, settings: &Settings) -> Tags {
    let tag = &settings.tag;
    let Some(known) = known else { return [(tag.clone(), "on".to_owned())].into() };
    let text = &known.policy;
    let named = settings.policies.get(&text.name);
    let policy = named.unwrap_or(&settings.policies.default);
    let opt_in = match named {
        Some(policy) if policy.name != settings.policies.default.name => policy.name.clone(),
        _ => "on".to_owned(),
    };
    let mut tags: Tags = [(tag.clone(), opt_in)].into();
    let own = policy.text();
    if let Some(schedule) = text.schedule.as_ref().filter(|one| Some(*one) != own.schedule.as_ref())
    {
        tags.insert(format!("{tag}:schedule"), schedule.clone());
    }
    if let Some(keep) = text.keep.as_ref().filter(|one| Some(*one) != own.keep.as_ref()) {
        tags.insert(format!("{tag}:keep"), keep.clone());
    }
    if text.timezone != own.timezone {
        tags.insert(format!("{tag}:timezone"), text.timezone.clone());
    }
    tags
}

/// What nobody but a person can do afterwards.
fn left_to_do(old: Option<&Machine>, disks: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    match old {
        Some(old) if old.has_static_ip => {
            left.push(
                "static IP: detach it from the old instance and attach it to the new one"
                    .to_owned(),
            );
        }
        Some(_) => {}
        None => {
            left.push("static IP: attach it to the new instance, if the old one had one".to_owned())
        }
    }
    left.push(
        "firewall: open the ports that the old instance had; the new one has the default ones"
            .to_owned(),
    );
    left.push("DNS: point the records to the new instance's address".to_owned());
    if !disks.is_empty() {
        left.push(format!(
            "attached disks: check that {} came with it, and mount them",
            disks.join(", ")
        ));
    }
    left
}

/// Says on stderr what will be done, and what it costs.
fn announce(restore: &Restore, source: &Source) {
    let Restore { snapshot, who, slot, created_at, to, bundle, zone, key_pair, .. } = restore;
    let cost = match restore.cost_usd_month {
        Some(price) => format!("{price:.2} dollars a month"),
        None => "an amount that the provider does not say".to_owned(),
    };
    let tags: Vec<String> =
        restore.tags.iter().map(|tag| format!("`{}={}`", tag.key, tag.value)).collect();
    let tags =
        if tags.is_empty() { "no tags".to_owned() } else { format!("the tags {}", tags.join(" ")) };
    complain(&format!(
        "From {snapshot} (slot {slot}, made at {created_at}, {} GB) of {} in {}: an instance {to} with the \
         bundle {bundle} in {zone}, the key pair {key_pair} and {tags}. It costs {cost} for as long as it exists.",
        restore.size_gb, who.name, who.place
    ));
    if !source.lives {
        complain(
            "The old instance is gone: the zone is the Region's first, the tags are those that the ledger \
             remembers, the key pair is the Region's default one.",
        );
    }
}

/// Holds, launches, waits, and lets go again, whatever happens.
async fn carry_out(usage: &Use<'_>, restore: &mut Restore) -> CommandResult {
    let work = async {
        usage.hold().await?;
        usage.run().await
    };
    let (outcome, mut interrupted) = tokio::select! {
        outcome = work => (outcome, None),
        code = stopped() => (Err("it was interrupted".to_owned()), Some(code?)),
    };
    let mut kept = Vec::new();
    if usage.progress().hold.is_some() {
        let command = usage.operator.untag_command(&usage.launch.snapshot, HOLD);
        let cleaning = async { usage.release().await.into_iter().collect() };
        kept = cleaned(cleaning, &mut interrupted, &[command]).await;
    }
    let status = interrupted.map_or(ExitCode::FAILURE, ExitCode::from);
    restore.held = usage.held || !kept.is_empty();
    restore.messages.extend(kept);
    let progress = usage.progress();
    restore.instance = progress.seen.as_ref().map(|_| usage.launch.name.clone());
    match outcome {
        Ok((_, took)) => {
            restore.state = "running";
            restore.seconds = Some(took.as_secs());
            let well = restore.messages.is_empty() && interrupted.is_none();
            Ok(if well { ExitCode::SUCCESS } else { status })
        }
        Err(why) => {
            restore.state = "failed";
            restore.left.clear();
            restore.messages.push(why);
            if progress.may_exist() {
                let name = &usage.launch.name;
                let command = usage.operator.delete_command(name);
                restore.messages.push(format!(
                    "the instance {name} may exist and cost money; it is not removed, because nothing here deletes what \
                     was restored; remove it by: {command}"
                ));
            }
            Ok(status)
        }
    }
}

fn print(restore: &Restore) {
    let Restore { to, state, seconds, left, .. } = restore;
    if *state == "running" {
        let took = seconds.unwrap_or_default();
        output::wrapped(&format!("{to} runs; it took {took} s."), "  ");
        say!("Left to do:");
        left.iter().for_each(|what| output::wrapped(&format!("  {what}"), "    "));
    } else {
        output::wrapped(&format!("{to} was not restored."), "  ");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use snapkeep_domain::function::Function;
    use snapkeep_domain::policy::PolicyText;
    use snapkeep_domain::resource::ResourceId;

    use super::*;

    #[test]
    fn the_tags_of_a_gone_instance_are_its_policy_and_its_overrides() {
        let vars = [
            ("SNAPKEEP_LEDGER_TABLE", "ledger"),
            ("SNAPKEEP_POLICIES", "gold: schedule=hourly keep=daily=7"),
        ];
        let vars: BTreeMap<String, String> =
            vars.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let settings = Settings::read(&vars, Function::Prune).unwrap();
        let known = |name: &str, schedule: &str, keep: Option<&str>, zone: &str| {
            let text = PolicyText {
                name: name.to_owned(),
                schedule: Some(schedule.to_owned()),
                keep: keep.map(str::to_owned),
                timezone: zone.to_owned(),
            };
            let place = "eu-west-1".parse().unwrap();
            let item =
                Protected::rebuilt(&ResourceId("arn:web".to_owned()), "web", &place, text.into());
            let tags = last_known(Some(&item), &settings);
            tags.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(known("default", "daily@03:00", None, "UTC"), ["snapkeep=on"]);
        assert_eq!(known("gold", "hourly", Some("daily=7"), "UTC"), ["snapkeep=gold"]);
        assert_eq!(
            known("gold", "daily@04:00", Some("last=2"), "Europe/Berlin"),
            [
                "snapkeep=gold",
                "snapkeep:keep=last=2",
                "snapkeep:schedule=daily@04:00",
                "snapkeep:timezone=Europe/Berlin"
            ]
        );
    }

    #[test]
    fn names_that_lightsail_refuses_are_refused_before() {
        for good in ["web-1", "a1", "web.example.com"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["a", "-web", "web-", "web 1", "wéb", ""] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
