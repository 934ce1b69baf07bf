//! `snapkeep plan`: what the next runs will take, mark and delete, by the functions' own planners.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use snapkeep_domain::finding::Code;
use snapkeep_domain::forecast::{Act, Action, Blocked, Outlook};
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::policy::Retention;
use snapkeep_domain::prune::Guard;
use snapkeep_domain::time::Slot;

use crate::findings::{self, Shown};
use crate::list::NO_RULE;
use crate::output::{self, say};
use crate::simulate::dollars;
use crate::when::{When, whole};
use crate::who::Who;
use crate::world::{Reading, World};
use crate::{BoxError, CommandResult};

/// How far it looks, unless it is told.
const AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Shows what the next runs take, mark and delete, when and why, and what that costs. Nothing is
/// changed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Until when: a time, a date, or a distance such as +7d; a day from now without it.
    #[arg(long, allow_hyphen_values = true, value_parser = When::read)]
    at: Option<When>,
    /// As if this instance (its name or its id) had this retention: web-1="daily=7 weekly=4".
    #[arg(long, value_name = "INSTANCE=RULES", value_parser = supposed)]
    keep: Vec<(String, String)>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Reads what is supposed of an instance.
fn supposed(text: &str) -> Result<(String, String), String> {
    let (instance, rules) = text
        .split_once('=')
        .ok_or("expected INSTANCE=RULES, such as web-1=\"daily=7 weekly=4\"")?;
    Retention::read(rules).map_err(|form| format!("`{rules}`: expected {form}"))?;
    Ok((instance.to_owned(), rules.to_owned()))
}

#[derive(Serialize)]
struct Plan {
    now: Timestamp,
    at: Timestamp,
    ok: bool,
    actions: Vec<Line>,
    blocked: Vec<Line>,
    totals: Totals,
    findings: Vec<Value>,
}

/// Something that happens to a snapshot, or does not.
#[derive(Clone, Serialize)]
pub(crate) struct Line {
    pub(crate) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) execute_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) who: Who,
    pub(crate) snapshot: String,
    slot: Slot,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
    pub(crate) size_gb: u32,
    cost_usd_month: f64,
}

#[derive(Default, Serialize)]
struct Totals {
    take: Total,
    mark: Total,
    delete: Total,
}

#[derive(Default, Serialize)]
struct Total {
    snapshots: usize,
    size_gb: u64,
    cost_usd_month: f64,
}

pub(crate) async fn run(arguments: Arguments) -> CommandResult {
    let mut world = arguments.reading.read().await?;
    let at = match arguments.at {
        Some(at) => at.from(world.now)?,
        None => world.now + AHEAD,
    };
    if at < world.now {
        return Err(format!("--at: {at} is before now, {}", world.now).into());
    }
    suppose(&mut world, &arguments.keep)?;
    let mut findings = world.findings_of_prune(&world.views());
    let (Outlook { actions, blocked, .. }, too_many) = outlook(&world, at);
    // What the runs of the coming time will report, too.
    let known = |one: &Shown| findings.iter().any(|known| known.json["code"] == one.json["code"]);
    let too_many: Vec<Shown> = too_many.into_iter().filter(|one| !known(one)).collect();
    findings.extend(too_many);
    let actions: Vec<Line> = actions.into_iter().map(Line::of_action).collect();
    let plan = Plan {
        now: world.now,
        at,
        ok: findings::is_well(&findings),
        totals: totals(&actions),
        actions,
        blocked: blocked.into_iter().map(Line::of_blocked).collect(),
        findings: findings.iter().map(|finding| finding.json.clone()).collect(),
    };
    if arguments.json {
        output::json(&plan)?;
    } else {
        print(&plan, &findings);
    }
    Ok(if plan.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What happens in all places from now on, by time.
pub(crate) fn outlook(world: &World, until: Timestamp) -> (Outlook, Vec<Shown>) {
    let (mut all, mut too_many) = (Outlook::default(), Vec::new());
    for surveyed in &world.survey.places {
        let span = (world.now, until);
        let facts = surveyed.facts.clone();
        let there = Outlook::of(facts, &world.settings, surveyed.capabilities, span);
        all.actions.extend(there.actions);
        all.blocked.extend(there.blocked);
        let place = Some(&surveyed.place);
        too_many.extend(there.too_many.map(|finding| findings::shown(&finding, place)));
    }
    all.actions.sort_by_key(|action| (action.at, action.act));
    all.blocked.sort_by(|a, b| (a.at, &a.record.name).cmp(&(b.at, &b.record.name)));
    (all, too_many)
}

/// Sets the retention of instances as their tags would.
fn suppose(world: &mut World, keep: &[(String, String)]) -> Result<(), BoxError> {
    for (text, rules) in keep {
        let found = world.instance(text)?;
        let key = format!("{}:keep", world.settings.tag);
        let mut places = world.survey.places.iter_mut();
        let instance = places.find_map(|one| one.facts.instances.get_mut(&found.id));
        let instance = instance.ok_or_else(|| {
            format!("--keep {text}: the instance is gone, so it has no tags; SNAPKEEP_ORPHAN_KEEP counts for it")
        })?;
        instance.tags.insert(key, rules.clone());
    }
    Ok(())
}

impl Line {
    pub(crate) fn of_action(action: Action) -> Self {
        let Action { at, act, record, size_gb } = action;
        let execute_at = record.mark.as_ref().filter(|_| act == Act::Mark);
        let execute_at = execute_at.map(|mark| whole(mark.execute_at));
        Line { at: Some(whole(at)), execute_at, ..Line::of(act, &record, size_gb) }
    }

    fn of_blocked(blocked: Blocked) -> Self {
        let Blocked { at, act, by, confirm, record, size_gb } = blocked;
        let (reasons, at) = (vec![by.as_str().to_owned()], Some(whole(at)));
        Line { by: Some(by), code: confirm, at, reasons, ..Line::of(act, &record, size_gb) }
    }

    fn of(act: Act, record: &Record, size_gb: u32) -> Self {
        Line {
            action: match act {
                Act::Take => "take",
                Act::Mark => "mark",
                Act::Rescue => "rescue",
                Act::Delete => "delete",
            },
            by: None,
            code: None,
            at: None,
            execute_at: None,
            who: Who::new(&record.resource, &record.resource_name, &record.place),
            snapshot: record.name.clone(),
            slot: record.slot,
            reasons: reasons(act, &record.reason),
            size_gb,
            cost_usd_month: dollars(size_gb.into()),
        }
    }
}

/// The words for why something happens, from the reason that the ledger gets.
pub(crate) fn reasons(act: Act, reason: &str) -> Vec<String> {
    let words = match act {
        Act::Take => "due",
        Act::Mark | Act::Delete if reason.starts_with("no rule") => NO_RULE,
        Act::Mark | Act::Delete if reason.starts_with("its resource is gone") => NO_RULE,
        Act::Mark | Act::Delete => reason,
        Act::Rescue => {
            let why = reason.strip_prefix("rescued: ").unwrap_or(reason);
            if let Some(rules) = why.strip_prefix("kept by ") {
                return rules.split(", ").map(str::to_owned).collect();
            }
            let guard = Guard::ALL.into_iter().find(|guard| guard.to_string() == why);
            guard.map_or(why, |guard| guard.word())
        }
    };
    vec![words.to_owned()]
}

fn totals(actions: &[Line]) -> Totals {
    let total = |action: &str| {
        let all = actions.iter().filter(|one| one.action == action);
        let size_gb = all.clone().map(|one| u64::from(one.size_gb)).sum();
        Total { snapshots: all.count(), size_gb, cost_usd_month: dollars(size_gb) }
    };
    Totals { take: total("take"), mark: total("mark"), delete: total("delete") }
}

fn print(plan: &Plan, findings: &[Shown]) {
    let Plan { now, at, actions, blocked, totals, .. } = plan;
    output::wrapped(&format!("From {now} to {at}, at the earliest:"), "  ");
    if actions.is_empty() {
        output::wrapped("Nothing is taken, marked or deleted.", "  ");
    }
    let all = || actions.iter().chain(blocked);
    let places: BTreeSet<&str> = all().map(|one| one.who.place.as_str()).collect();
    // Of a single place, nobody has to be told which.
    let place = |one: &Line| match places.len() {
        0 | 1 => String::new(),
        _ => format!(" ({})", one.who.place),
    };
    for one in actions {
        let after = match one.execute_at {
            Some(at) => format!(", deleted after {at}"),
            None => String::new(),
        };
        let at = one.at.map(|at| at.to_string()).unwrap_or_default();
        let Line { action, snapshot, .. } = one;
        let why = one.reasons.join(", ");
        let line = format!("{at}  {action:<6}  {snapshot}{}: {why}{after}", place(one));
        output::wrapped(&line, "      ");
    }
    if !blocked.is_empty() {
        say!("");
        output::wrapped("Something stands against this:", "  ");
    }
    for one in blocked {
        let Line { action, who, snapshot, .. } = one;
        let by = one.by.map(Code::as_str).unwrap_or_default();
        let code = match &one.code {
            Some(code) => format!("; to let it go: snapkeep confirm {} {code}", who.name),
            None => String::new(),
        };
        output::wrapped(&format!("  {action:<6}  {snapshot}{}: {by}{code}", place(one)), "      ");
    }
    say!("");
    let Totals { take, mark, delete } = totals;
    for (what, total) in [("take", take), ("mark", mark), ("delete", delete)] {
        let Total { snapshots, size_gb, cost_usd_month } = total;
        output::wrapped(
            &format!(
                "To {what}: {snapshots} of {size_gb} GB, at most {cost_usd_month:.2} dollars a month"
            ),
            "  ",
        );
    }
    findings::print(findings);
}
