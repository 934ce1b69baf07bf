//! `snapkeep list`: our snapshots, with why each stays or goes.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::keep::KeptBy;
use snapkeep_domain::prune::{Judged, Seen, Verdict};
use snapkeep_domain::snapshot::{Hold, SnapshotState};
use snapkeep_domain::time::{Slot, Zone};

use crate::CommandResult;
use crate::output::{self, say};
use crate::simulate::dollars;
use crate::when::whole;
use crate::who::Who;
use crate::world::{Reading, View};

/// What is said of a snapshot that no rule keeps.
pub(crate) const NO_RULE: &str = "no rule keeps it";

/// Shows our snapshots: slot, state, size, why each stays or goes, and until when.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this instance: its name or its id.
    instance: Option<String>,
    #[command(flatten)]
    reading: Reading,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A snapshot of ours that exists or is intended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) snapshot: String,
    pub(crate) slot: Slot,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) state: &'static str,
    pub(crate) policy: String,
    pub(crate) size_gb: Option<u32>,
    pub(crate) cost_usd_month: Option<f64>,
    pub(crate) keep: Option<bool>,
    pub(crate) reasons: Vec<String>,
    pub(crate) marked_at: Option<Timestamp>,
    pub(crate) execute_at: Option<Timestamp>,
    pub(crate) held: bool,
    pub(crate) held_until: Option<String>,
    #[serde(skip)]
    pub(crate) key: String,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let world = arguments.reading.read().await?;
    let views = match &arguments.instance {
        None => world.views(),
        Some(text) => {
            let wanted = world.instance(text)?;
            world.view(&wanted.place, &wanted.id).into_iter().collect()
        }
    };
    let entries: Vec<Entry> = views.iter().flat_map(View::entries).collect();
    if arguments.json {
        output::json(&entries)?;
    } else {
        print(&entries);
    }
    // Of one instance, nothing is left out.
    let short = arguments.instance.is_none() && world.leaves_out();
    Ok(if short { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl View<'_> {
    /// Our snapshots of it, the newest first.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let hold = self.hold();
        let judged = self.plan.verdicts.iter();
        let mut all: Vec<Entry> =
            judged.filter_map(|judged| self.entry(judged, hold.as_ref())).collect();
        let listed = |record: &Record| {
            let mut seen = self.seen.iter();
            seen.any(|(key, seen)| self.record(key, seen).is_some_and(|own| own == record))
        };
        let coming = [State::Intended, State::Requested, State::Pending];
        let coming = self.records.iter().filter(|record| coming.contains(&record.state));
        let coming = coming.filter(|record| !listed(record));
        all.extend(coming.map(|record| Entry::recorded(&self.who, record)));
        all.sort_by(|a, b| (b.slot, &b.snapshot).cmp(&(a.slot, &a.snapshot)));
        all
    }

    fn entry(&self, judged: &Judged, instance_hold: Option<&Hold>) -> Option<Entry> {
        let seen = *self.seen.get(&*judged.key)?;
        let record = self.record(&judged.key, seen);
        let zone = match &self.living {
            Some((_, protection)) => protection.policy.zone.clone(),
            None => record.map_or_else(Zone::utc, |record| record.policy.retention().1),
        };
        let state = match (&seen.state, record) {
            (SnapshotState::Error, _) => "error",
            (_, Some(record)) => record.state.as_str(),
            (SnapshotState::Available, None) => "available",
            (SnapshotState::Pending | SnapshotState::Other(_), None) => "pending",
        };
        let mark = record.and_then(|record| record.mark.as_deref());
        let holds = seen.hold.as_deref().into_iter().chain(instance_hold);
        let policy = record.map_or(&seen.policy, |record| &record.policy);
        Some(Entry {
            who: self.who.clone(),
            snapshot: judged.name.clone(),
            slot: judged.slot,
            created_at: Some(whole(seen.created_at)),
            state,
            policy: policy.name.clone(),
            size_gb: Some(seen.size_gb),
            cost_usd_month: Some(dollars(seen.size_gb.into())),
            keep: keep(judged, seen),
            reasons: reasons(judged, seen),
            marked_at: mark.map(|mark| whole(mark.at)),
            execute_at: mark.map(|mark| whole(mark.execute_at)),
            held: judged.held,
            held_until: if judged.held { held_until(holds, &zone) } else { None },
            key: judged.key.clone(),
        })
    }
}

impl Entry {
    /// A snapshot that the ledger alone knows: it is not there yet, or not any more.
    pub(crate) fn recorded(who: &Who, record: &Record) -> Self {
        let mark = record.mark.as_deref();
        Entry {
            who: who.clone(),
            snapshot: record.name.clone(),
            slot: record.slot,
            created_at: None,
            state: record.state.as_str(),
            policy: record.policy.name.clone(),
            size_gb: mark.and_then(|mark| mark.size_gb),
            cost_usd_month: None,
            keep: None,
            reasons: Vec::new(),
            marked_at: mark.map(|mark| whole(mark.at)),
            execute_at: mark.map(|mark| whole(mark.execute_at)),
            held: false,
            held_until: None,
            key: record.snapshot_key().to_owned(),
        }
    }
}

/// Whether it stays; unknown of what does not count in the rules.
fn keep(judged: &Judged, seen: &Seen) -> Option<bool> {
    match (&seen.state, &judged.verdict) {
        (SnapshotState::Available, Verdict::Kept(_) | Verdict::Guarded(_)) => Some(true),
        (SnapshotState::Available, Verdict::Mark | Verdict::Waiting | Verdict::Delete) => {
            Some(false)
        }
        (SnapshotState::Available, Verdict::Adopt) => {
            Some(judged.held || !judged.kept_by.is_empty())
        }
        _ => None,
    }
}

/// The rules that keep it, or that none does; then what else does.
fn reasons(judged: &Judged, seen: &Seen) -> Vec<String> {
    let mut reasons: Vec<String> = judged.kept_by.iter().map(ToString::to_string).collect();
    if reasons.is_empty() && keep(judged, seen).is_some() {
        reasons.push(NO_RULE.to_owned());
    }
    if judged.held {
        reasons.push("held".to_owned());
    }
    let guard = judged.guard.map(|guard| guard.word().to_owned());
    let minimum = KeptBy::Minimum.to_string();
    reasons.extend(guard.filter(|word| *word != minimum || !reasons.contains(word)));
    reasons
}

/// The last day of the longest hold; `None` if one has no end.
fn held_until<'a>(holds: impl Iterator<Item = &'a Hold>, zone: &Zone) -> Option<String> {
    let mut last = None;
    for hold in holds {
        last = last.max(Some(hold.ends(zone)?));
    }
    let last = last?.checked_sub(jiff::SignedDuration::from_secs(1)).ok()?;
    Some(last.to_zoned(zone.rules().clone()).date().to_string())
}

impl Entry {
    /// Why it stays or goes, and until when.
    fn why(&self) -> Option<String> {
        let reasons = self.reasons.join(", ");
        let why = match self.keep {
            Some(false) => format!("goes: {reasons}"),
            Some(true) => format!("stays: {reasons}"),
            None => reasons,
        };
        let until = match (self.keep, self.execute_at, &self.held_until) {
            (Some(false), Some(at), _) => format!("deleted after {at}"),
            (_, _, Some(day)) => format!("held until {day}"),
            _ => String::new(),
        };
        let parts: Vec<String> = [why, until].into_iter().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

fn print(entries: &[Entry]) {
    if entries.is_empty() {
        say!("There are no snapshots.");
        return;
    }
    let mut last = None;
    for one in entries {
        let Entry { who, snapshot, slot, state, .. } = one;
        if last.replace(&who.resource) != Some(&who.resource) {
            output::wrapped(&format!("{} in {}:", who.name, who.place), "  ");
        }
        let size = one.size_gb.map_or("–".to_owned(), |gb| gb.to_string());
        output::wrapped(&format!("  {slot}  {state:<9}  {size} GB  {snapshot}"), "      ");
        if let Some(why) = one.why() {
            output::wrapped(&format!("    {why}"), "      ");
        }
    }
    let gb: u64 = entries.iter().filter_map(|one| one.size_gb).map(u64::from).sum();
    output::wrapped(
        &format!(
            "{} snapshots of {gb} GB, at most {:.2} dollars a month",
            entries.len(),
            dollars(gb)
        ),
        "",
    );
}
