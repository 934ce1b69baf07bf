//! `snapkeep explain`: the ledger as a story.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use snapkeep_app::ports::Ledger;
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Standing;
use snapkeep_domain::ledger::record::{Change, Record, State};
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::tags::OptIn;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{ATTEMPTS_MAX, snapshot_name_at};
use snapkeep_domain::time::Slot;

use crate::findings::{self, Shown};
use crate::list::Entry;
use crate::output::{self, say};
use crate::when::whole;
use crate::who::{self, Bearer, Who};
use crate::world::{Reading, View, World};
use crate::{BoxError, CommandResult};

/// Tells the story of an instance or a snapshot: every change of state with time, function and
/// reason, why it stays or goes, and when.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// An instance's name or id, or a snapshot's name; also of what is gone.
    #[arg(value_name = "INSTANCE or SNAPSHOT")]
    what: String,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Story {
    #[serde(flatten)]
    who: Who,
    state: &'static str,
    findings: Vec<Value>,
    snapshots: Vec<Life>,
}

/// What became of a snapshot.
#[derive(Serialize)]
struct Life {
    #[serde(flatten)]
    entry: Entry,
    attempt: u32,
    history: Vec<Event>,
}

#[derive(Serialize)]
struct Event {
    at: Timestamp,
    function: Option<Function>,
    from: Option<&'static str>,
    to: &'static str,
    attempt: u32,
    reason: String,
}

/// What is asked about.
struct Subject {
    id: ResourceId,
    place: Place,
    who: Who,
    /// Only this snapshot.
    snapshot: Option<String>,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let subject = subject(&world, &arguments.what).await?;
    let story = story(&world, &subject).await?;
    if arguments.json {
        output::json(&story)?;
    } else {
        print(&story);
    }
    Ok(ExitCode::SUCCESS)
}

/// The instance or the snapshot of this name.
async fn subject(world: &World, text: &str) -> Result<Subject, BoxError> {
    if let Some(Bearer { id, place, who, .. }) = world.find_instance(text)? {
        return Ok(Subject { id, place, who, snapshot: None });
    }
    let owners = owners(world, text);
    match owners.as_slice() {
        [Bearer { id, place, who, .. }] => {
            let (id, place, who) = (id.clone(), place.clone(), who.clone());
            Ok(Subject { id, place, who, snapshot: Some(text.to_owned()) })
        }
        [] => Err(world.unknown(text).into()),
        several => Err(who::several_snapshots(text, several.iter().map(|one| &one.who))),
    }
}

/// The resources that a snapshot of this name is or was of. The name alone says so, because it has a
/// hash of the resource in it; so the snapshot may be long gone.
fn owners(world: &World, name: &str) -> Vec<Bearer> {
    let slot = slot_of(name);
    world
        .bearers()
        .into_iter()
        .filter(|one| {
            let by_name = slot.is_some_and(|slot| attempt_of(world, &one.id, slot, name).is_some());
            let mut records = world
                .surveyed(&one.place)
                .into_iter()
                .flat_map(|one| one.facts.records.values().flatten());
            by_name || records.any(|record| record.resource == one.id && record.name == name)
        })
        .collect()
}

/// Which attempt at a slot has this name. Its end tells, whatever the instance was called then.
fn attempt_of(world: &World, id: &ResourceId, slot: Slot, name: &str) -> Option<u32> {
    let end = |name: &str| name.get(name.len().checked_sub(SUFFIX)?..).map(str::to_owned);
    let (deployment, own) = (&world.settings.deployment, end(name)?);
    let of =
        |attempt| snapshot_name_at(&Capabilities::default(), deployment, (id, ""), slot, attempt);
    (1..=ATTEMPTS_MAX).find(|attempt| end(&of(*attempt)).as_ref() == Some(&own))
}

/// The end of a snapshot's name: `-20261120T030000Z-1a2b3c4d`.
const SUFFIX: usize = 26;

/// The slot that stands in a snapshot's name.
fn slot_of(name: &str) -> Option<Slot> {
    let (rest, _) = name.rsplit_once('-')?;
    Slot::from_compact(rest.rsplit_once('-')?.1)
}

async fn story(world: &World, subject: &Subject) -> Result<Story, BoxError> {
    let Subject { id, place, who, snapshot } = subject;
    let view = world.view(place, id);
    let view = view.as_ref();
    let entries: Vec<Entry> = view.map(View::entries).unwrap_or_default();
    let records = world.deployment.ledger.recent(id, Slot::at(Timestamp::MIN)).await?.records;
    let mut lives: Vec<Life> = records
        .iter()
        .filter(|record| snapshot.as_ref().is_none_or(|name| record.name == *name))
        .map(|record| {
            let entry = entries.iter().find(|one| one.key == record.snapshot_key());
            life(who, record, &records, entry)
        })
        .collect();
    let told = |one: &&Entry| {
        let wanted = snapshot.as_ref().is_none_or(|name| one.snapshot == *name);
        wanted && records.iter().all(|record| record.snapshot_key() != one.key)
    };
    lives.extend(entries.iter().filter(told).map(unrecorded));
    if let Some(name) = snapshot.as_ref().filter(|_| lives.is_empty()) {
        let slot = slot_of(name);
        let attempt = slot.and_then(|slot| Some((slot, attempt_of(world, id, slot, name)?)));
        lives.extend(attempt.and_then(|attempt| replaced(who, name, attempt, &records)));
    }
    lives.sort_by_key(|life| std::cmp::Reverse((life.entry.slot, life.attempt)));
    if let Some(name) = snapshot.as_ref().filter(|_| lives.is_empty()) {
        return Err(format!(
            "the ledger knows nothing of the snapshot `{name}` of {} any more, and it does not exist",
            who.name
        )
        .into());
    }
    let findings = match view {
        Some(view) => {
            let mut all = findings::of_view(view);
            all.extend(world.findings_of_due(view).await?);
            all
        }
        None => {
            let here = |one: &Shown| one.json["place"].as_str().is_none_or(|at| at == who.place);
            world.findings_of_places().into_iter().filter(here).collect()
        }
    };
    let findings = findings.into_iter().map(|one| one.json).collect();
    let state = match view {
        Some(view) if view.is_on() => "protected",
        Some(View { living: Some((_, protection)), .. }) => match protection.opt_in {
            OptIn::Off => "off",
            _ => "unprotected",
        },
        // Where nobody can look, the ledger's last word counts.
        None if world.surveyed(place).is_none() => {
            let mut items = world.survey.memory.protected.iter();
            match items.find(|item| item.resource == *id).map(|item| item.standing) {
                Some(Standing::On) => "protected",
                Some(Standing::Off) => "off",
                Some(Standing::Untagged) => "unprotected",
                Some(Standing::Gone) | None => "deleted",
            }
        }
        _ => "deleted",
    };
    Ok(Story { who: who.clone(), state, findings, snapshots: lives })
}

fn life(who: &Who, record: &Record, all: &[Record], entry: Option<&Entry>) -> Life {
    let mut history = match record.superseded {
        true => before_the_next(all, record.slot, record.attempt),
        false => Vec::new(),
    };
    history.extend(record.history.past.iter().map(Event::of));
    history.sort_by_key(|event| event.at);
    history.dedup_by_key(|event| (event.at, event.to));
    if history.is_empty() {
        history = before_histories(record);
    }
    let recorded = Entry::recorded(who, record);
    let entry = match entry {
        // Where the provider says more than the ledger, the story is the ledger's.
        Some(known) => {
            let Entry { state, marked_at, execute_at, .. } = recorded;
            Entry { state, marked_at, execute_at, ..known.clone() }
        }
        None => recorded,
    };
    Life { entry, attempt: record.attempt, history }
}

/// What happened to a failed attempt until the next one took its place in the slot's record, which
/// keeps the beginning of the story.
fn before_the_next(all: &[Record], slot: Slot, attempt: u32) -> Vec<Event> {
    let next =
        |record: &&Record| record.slot == slot && record.attempt > attempt && !record.superseded;
    let past = all.iter().filter(next).flat_map(|record| &record.history.past);
    past.filter(|change| change.attempt == attempt).map(Event::of).collect()
}

/// A failed attempt that left nothing behind.
fn replaced(who: &Who, name: &str, (slot, attempt): (Slot, u32), all: &[Record]) -> Option<Life> {
    let history = before_the_next(all, slot, attempt);
    let state = history.last()?.to;
    let record = all.iter().find(|record| record.slot == slot)?;
    let known = Entry::recorded(who, record);
    let snapshot = name.to_owned();
    let entry = Entry { snapshot, state, marked_at: None, execute_at: None, ..known };
    Some(Life { entry, attempt, history })
}

/// A snapshot of ours that the ledger does not know yet.
fn unrecorded(entry: &Entry) -> Life {
    Life { entry: entry.clone(), attempt: 1, history: Vec::new() }
}

/// What a record tells that was written before histories were: when it entered each state.
fn before_histories(record: &Record) -> Vec<Event> {
    let mut times: Vec<(Timestamp, State)> = State::ALL
        .into_iter()
        .filter_map(|state| Some((record.times.get(state)?, state)))
        .collect();
    times.sort_unstable();
    let mut from = None;
    times
        .into_iter()
        .map(|(at, state)| Event {
            at: whole(at),
            function: None,
            from: from.replace(state.as_str()),
            to: state.as_str(),
            attempt: record.attempt,
            reason: match state == record.state {
                true => record.reason.clone(),
                false => "written before the ledger kept reasons".to_owned(),
            },
        })
        .collect()
}

impl Event {
    fn of(change: &Change) -> Self {
        Event {
            at: whole(change.at),
            function: change.function,
            from: change.from.map(State::as_str),
            to: change.to.as_str(),
            attempt: change.attempt,
            reason: change.reason.clone(),
        }
    }
}

fn print(story: &Story) {
    let Story { who, state, .. } = story;
    output::wrapped(&format!("{} in {}: {state} ({})", who.name, who.place, who.resource), "  ");
    for one in &story.findings {
        let text = |member: &str| one[member].as_str().unwrap_or_default();
        output::wrapped(
            &format!("  {} {}: {}", text("severity"), text("code"), text("message")),
            "    ",
        );
    }
    if story.snapshots.is_empty() {
        say!("There are no snapshots of it, and there were none.");
    }
    for one in &story.snapshots {
        say!("");
        let Entry { snapshot, state, keep, reasons, execute_at, .. } = &one.entry;
        let reasons = reasons.join(", ");
        let stays = match (keep, execute_at) {
            (Some(true), _) => format!(", and stays: {reasons}"),
            (Some(false), Some(at)) => format!(", and goes after {at}: {reasons}"),
            (Some(false), None) => format!(", and goes: {reasons}"),
            (None, _) => String::new(),
        };
        output::wrapped(&format!("{snapshot} is {state}{stays}"), "  ");
        for Event { at, function, from, to, attempt, reason } in &one.history {
            let by = function.map_or("–", Function::as_str);
            let from = from.map_or(String::new(), |from| format!("{from} → "));
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            output::wrapped(&format!("  {at}  {by:<6}  {from}{to}{again}: {reason}"), "      ");
        }
    }
}
