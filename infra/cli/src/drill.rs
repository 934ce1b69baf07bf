//! `snapkeep drill`: proof by restoring. It launches from the newest snapshot, waits, probes, and
//! removes what it launched.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::future::join;
use jiff::Timestamp;
use serde::Serialize;
use snapkeep_app::ports::{Note, Remember};
use snapkeep_aws::lightsail::operator::{Launch, Machine};
use snapkeep_domain::drill::DRILL;
use snapkeep_domain::ledger::protected::Proof;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::HOLD;
use snapkeep_domain::time::Slot;
use tokio::net::TcpStream;

use crate::access::of_ledger;
use crate::launch::{Use, cleaned};
use crate::operate::{Consent, Operator, stopped, trouble};
use crate::output::{self, complain, say};
use crate::source::{Fitting, Source, fitting, sources};
use crate::who::Who;
use crate::world::{Reading, World};
use crate::{BoxError, CommandResult};

/// For how long a probe is tried.
const PROBED_FOR: Duration = Duration::from_mins(2);
/// How long one attempt of a probe takes at most.
const PROBE: Duration = Duration::from_secs(5);
/// Hours a month, as prices count.
const MONTH_HOURS: f64 = 730.0;

/// Proves that snapshots can be restored: launches from the newest one, waits, probes, removes the
/// instance again, and writes the result to the ledger.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The instances, by name or id; without any, the one whose proof is the oldest.
    instances: Vec<String>,
    /// What must answer: tcp:22 tries the port of the public address for two minutes.
    #[arg(long, value_name = "tcp:PORT", value_parser = probe)]
    probe: Option<u16>,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

fn probe(text: &str) -> Result<u16, String> {
    let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.strip_prefix("tcp:").filter(digits).and_then(|port| port.parse().ok());
    port.filter(|port| *port > 0).ok_or_else(|| "expected tcp:PORT, such as tcp:22".to_owned())
}

#[derive(Serialize)]
struct Drills {
    ok: bool,
    drills: Vec<Drill>,
}

/// What one drill showed.
#[derive(Serialize)]
struct Drill {
    #[serde(flatten)]
    who: Who,
    snapshot: String,
    slot: Slot,
    instance: String,
    ok: bool,
    running_seconds: Option<u64>,
    probe: Option<String>,
    probe_ok: Option<bool>,
    recovery_seconds: Option<u64>,
    removed: bool,
    message: Option<String>,
}

/// A drill that can be made.
struct Planned {
    id: ResourceId,
    source: Source,
    operator: Operator,
    launch: Launch,
    price: Option<f64>,
    now: Timestamp,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let (world, planned) = tokio::select! {
        prepared = prepare(&arguments) => prepared?,
        code = stopped() => return Ok(ExitCode::from(code?)),
    };
    if planned.is_empty() {
        let drills = Drills { ok: true, drills: Vec::new() };
        if arguments.json {
            output::json(&drills)?;
        } else {
            say!("No protected instance has an available snapshot: there is nothing to prove.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.consent.print {
        return print_commands(&planned, arguments.json);
    }
    let mut drills = Vec::new();
    let mut ended = None;
    for one in &planned {
        let (drill, interrupted) = carry_out(&world, one, arguments.probe).await?;
        // Whoever closes standard output must read what is left, too.
        if let Some(message) = &drill.message {
            complain(&format!("snapkeep: {}: {message}", drill.who.name));
        }
        if !arguments.json {
            print(&drill);
        }
        drills.push(drill);
        ended = interrupted;
        if ended.is_some() {
            break;
        }
    }
    let well = |drill: &Drill| drill.ok && drill.removed && drill.message.is_none();
    let ok = ended.is_none() && drills.iter().all(well);
    if arguments.json {
        output::json(&Drills { ok, drills })?;
    }
    Ok(match ended {
        Some(status) => ExitCode::from(status),
        None if ok => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

/// Says what would be done, and has it agreed to.
async fn prepare(arguments: &Arguments) -> Result<(World, Vec<Planned>), BoxError> {
    let world = arguments.reading.read().await?;
    let mut planned = Vec::new();
    for (id, source) in chosen(&world, &arguments.instances)? {
        planned.push(plan(&world, id, source).await?);
    }
    announce(&planned, arguments.probe);
    if !planned.is_empty() && !arguments.consent.print {
        arguments.consent.ask().await?;
    }
    Ok((world, planned))
}

/// Prints what a drill would do, and does nothing.
fn print_commands(planned: &[Planned], json: bool) -> CommandResult {
    let commands = planned.iter().flat_map(|one| {
        let launch = one.launch.clone();
        Use::new(&one.operator, launch, one.source.held, one.now).commands(true)
    });
    let commands: Vec<String> = commands.collect();
    if json {
        output::json(&serde_json::json!({"ok": true, "drills": [], "commands": commands}))?;
    } else {
        commands.iter().for_each(|command| say!("{command}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest snapshot of each instance that is asked for, or of the one whose proof is the oldest.
fn chosen(world: &World, names: &[String]) -> Result<Vec<(ResourceId, Source)>, BoxError> {
    let views = world.views();
    let newest = |id: &ResourceId| {
        let view = views.iter().find(|view| view.id == *id)?;
        sources(view).into_iter().max_by_key(|source| (source.created_at, source.slot))
    };
    if names.is_empty() {
        let protected =
            views.iter().filter(|view| view.is_on() && view.surveyed.place.provider().is_none());
        let can = protected.filter_map(|view| {
            let proven = view.protected.and_then(|item| item.proven).map(|proof| proof.at);
            Some((
                (proven, view.who.place.clone(), view.who.name.clone()),
                (view.id.clone(), newest(&view.id)?),
            ))
        });
        let first = can.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, found)| found);
        return Ok(first.into_iter().collect());
    }
    let mut all: Vec<(ResourceId, Source)> = Vec::new();
    for text in names {
        let bearer = world.instance(text)?;
        let source = newest(&bearer.id)
            .ok_or_else(|| format!("there is no available snapshot of {text} to drill with"))?;
        if all.iter().all(|(id, _)| *id != bearer.id) {
            all.push((bearer.id, source));
        }
    }
    Ok(all)
}

async fn plan(world: &World, id: ResourceId, source: Source) -> Result<Planned, BoxError> {
    let operator = Operator::new(&world.deployment.sdk, &source.place)?;
    let Fitting { bundle, zone, .. } = fitting(&operator, &source).await?;
    let price = operator.patiently(async || operator.api.price(&bundle).await).await;
    let price = price.map_err(|error| trouble(&error))?;
    let now = world.acting_now().await?;
    let suffix = format!("-drill-{}", Slot::at(now).compact());
    let stem: String = source.who.name.chars().take(255 - suffix.len()).collect();
    let deployment = world.settings.deployment.to_string();
    let launch = Launch {
        snapshot: source.snapshot.clone(),
        name: stem + &suffix,
        zone,
        bundle,
        key_pair: None,
        tags: [(DRILL.to_owned(), deployment)].into(),
    };
    Ok(Planned { id, source, operator, launch, price, now })
}

/// Says on stderr what will be done, and what it costs.
fn announce(planned: &[Planned], probe: Option<u16>) {
    for Planned { source, launch, price, .. } in planned {
        let cost = match price {
            Some(price) => format!("about {:.3} dollars for each hour", price / MONTH_HOURS),
            None => "an amount that the provider does not say".to_owned(),
        };
        complain(&format!(
            "From {} of {} in {}: an instance {} with the bundle {} in {}, which is removed again. It costs \
             {cost} that it exists.",
            source.snapshot,
            source.who.name,
            source.who.place,
            launch.name,
            launch.bundle,
            launch.zone
        ));
    }
    if let Some(port) = probe {
        complain(&format!("The port {port} of its public address must answer within two minutes."));
    }
}

impl Drill {
    fn begun(Planned { source, launch, .. }: &Planned, probe: Option<u16>) -> Self {
        Drill {
            who: source.who.clone(),
            snapshot: source.snapshot.clone(),
            slot: source.slot,
            instance: launch.name.clone(),
            ok: false,
            running_seconds: None,
            probe: probe.map(|port| format!("tcp:{port}")),
            probe_ok: None,
            recovery_seconds: None,
            removed: true,
            message: None,
        }
    }
}

/// Launches, waits, probes and removes; returns the exit status, too, if a signal ended it.
async fn carry_out(
    world: &World,
    planned: &Planned,
    probe: Option<u16>,
) -> Result<(Drill, Option<u8>), BoxError> {
    let Planned { id, source, operator, launch, .. } = planned;
    let usage = Use::new(operator, launch.clone(), source.held, planned.now);
    let mut drill = Drill::begun(planned, probe);
    let mut interrupted = None;
    let began = Instant::now();
    let proved = tokio::select! {
        proved = prove(&usage, probe, &mut drill) => proved,
        code = stopped() => {
            interrupted = Some(code?);
            Err("it was interrupted".to_owned())
        }
    };
    let mut messages: Vec<String> = proved.err().into_iter().collect();
    drill.ok = messages.is_empty();
    let launched = usage.progress().may_exist();
    drill.removed = !launched;
    let removed = Cell::new(false);
    let remove = async {
        if !launched {
            return None;
        }
        let gone = usage.remove(&world.settings.deployment).await;
        removed.set(gone.is_ok());
        gone.err()
    };
    let cleaning = async {
        // What hangs for the one must not keep the other.
        let (left, held) = join(remove, usage.release()).await;
        left.into_iter().chain(held).collect()
    };
    let mut commands = Vec::new();
    if launched {
        commands.push(operator.delete_command(&launch.name));
    }
    if usage.progress().hold.is_some() {
        commands.push(operator.untag_command(&launch.snapshot, HOLD));
    }
    if !commands.is_empty() {
        messages.extend(cleaned(cleaning, &mut interrupted, &commands).await);
    }
    drill.removed |= removed.get();
    let disks = usage.progress().seen.map(|machine| machine.disks).unwrap_or_default();
    messages.extend(disks.iter().map(|disk| {
        let command = operator.command("delete-disk", &["--disk-name", disk]);
        format!("the disk {disk} came with the instance and may be left; remove it by: {command}")
    }));
    let failed = || launched.then(|| began.elapsed().as_secs());
    let seconds = if drill.ok { drill.recovery_seconds } else { failed() };
    let proof = Proof { at: planned.now, ok: drill.ok, seconds };
    if let Err(why) = note(world, id, proof).await {
        messages.push(why);
    }
    drill.message = (!messages.is_empty()).then(|| messages.join("; "));
    Ok((drill, interrupted))
}

/// Restores from the snapshot, and lets the instance prove that it lives.
async fn prove(usage: &Use<'_>, probe: Option<u16>, drill: &mut Drill) -> Result<(), String> {
    usage.hold().await?;
    let (machine, took) = usage.run().await?;
    drill.running_seconds = Some(took.as_secs());
    let Some(port) = probe else {
        drill.recovery_seconds = Some(took.as_secs());
        return Ok(());
    };
    let answers = answers(&machine, port).await;
    drill.probe_ok = Some(answers.is_ok());
    let asked = usage.progress().asked.map(|asked| asked.elapsed());
    drill.recovery_seconds = answers.is_ok().then(|| asked.unwrap_or(took).as_secs());
    answers
}

/// Tries the port until it takes a connection.
async fn answers(machine: &Machine, port: u16) -> Result<(), String> {
    let address =
        machine.address.as_deref().ok_or("the instance has no public address to probe")?;
    let began = Instant::now();
    let bar = output::progress(format!("probing tcp:{port}"));
    let mut last = "no answer".to_owned();
    while began.elapsed() < PROBED_FOR {
        let left = PROBED_FOR.saturating_sub(began.elapsed()).min(PROBE);
        match tokio::time::timeout(left, TcpStream::connect((address, port))).await {
            Ok(Ok(_)) => {
                bar.finish_and_clear();
                return Ok(());
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bar.finish_and_clear();
    Err(format!("tcp:{port} of {address} did not answer within two minutes ({last})"))
}

/// Writes the result to the ledger.
async fn note(world: &World, id: &ResourceId, proof: Proof) -> Result<(), String> {
    let written = world.deployment.ledger.note(id, Note::Proven(proof)).await;
    written.map_err(|error| {
        let fix = of_ledger(&error, "the right dynamodb:UpdateItem");
        format!("the result may not be in the ledger ({error}); {fix}")
    })
}

fn print(drill: &Drill) {
    let Drill { who, snapshot, ok, running_seconds, recovery_seconds, removed, .. } = drill;
    let proved = if *ok { "is proven" } else { "is not proven" };
    let mut text = format!("{} {proved} by {snapshot}", who.name);
    if let Some(seconds) = running_seconds {
        text += &format!("; the instance ran after {seconds} s");
        match (&drill.probe, drill.probe_ok) {
            (Some(probe), Some(true)) => text += &format!(", and {probe} answered"),
            (Some(probe), _) => text += &format!(", and {probe} did not answer"),
            (None, _) => {}
        }
        text += if *removed { ", and is removed" } else { ", and may be left" };
    }
    if let Some(seconds) = recovery_seconds {
        text += &format!("; recovery took {seconds} s");
    }
    output::wrapped(&(text + "."), "  ");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_a_port_of_tcp() {
        assert_eq!(probe("tcp:22"), Ok(22));
        for bad in ["22", "udp:53", "tcp:0", "tcp:", "tcp:70000", "tcp:+22"] {
            assert!(probe(bad).is_err(), "{bad}");
        }
    }
}
