//! What the pictures of `status`, `report` and `demo` show, from one reading of the world.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::audit::{Stored, storage};
use snapkeep_domain::forecast::{Act, Outlook};
use snapkeep_domain::time::format_duration;

use crate::findings::Shown;
use crate::list::Entry;
use crate::picture::{self, Action, Finding, Instance, Picture, Point, Snapshot};
use crate::plan::{Line, outlook};
use crate::report::Past;
use crate::simulate::dollars;
use crate::status::{Row, row};
use crate::world::{View, World};
use crate::{BoxError, files};

/// How far a picture looks ahead, and how far with many instances.
const AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);
const AHEAD_OF_MANY: SignedDuration = SignedDuration::from_hours(24);
const MANY: usize = 50;
/// How much time a picture shows at least.
const BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The time that a picture shows.
#[derive(Clone, Copy)]
pub(crate) enum Span {
    /// Everything that is known, and what comes.
    ToCome,
    /// What existed from here to there.
    Between(Timestamp, Timestamp),
}

/// Writes the picture into a file, the whole file at once.
pub(crate) fn write(
    file: &Path,
    title: &str,
    world: &World,
    views: &[View<'_>],
    findings: &[Shown],
    pasts: &[Past],
    span: Span,
) -> Result<(), BoxError> {
    let picture = picture(title, world, views, findings, pasts, span);
    let written = files::replace(file, &picture::html(&picture));
    written.map_err(|error| format!("--html {}: {error}", file.display()).into())
}

fn picture(
    title: &str,
    world: &World,
    views: &[View<'_>],
    findings: &[Shown],
    pasts: &[Past],
    span: Span,
) -> Picture {
    let ahead = if views.len() > MANY { AHEAD_OF_MANY } else { AHEAD };
    let coming = match span {
        Span::ToCome => outlook(world, world.now + ahead).0,
        Span::Between(..) => Outlook::default(),
    };
    let mut instances: Vec<Instance> = views
        .iter()
        .filter_map(|view| Some(instance(&row(world, view)?, &view.entries())))
        .collect();
    for past in pasts {
        add_past(&mut instances, past);
    }
    let all = instances.iter().flat_map(|one| &one.snapshots);
    let oldest = all.map(|snapshot| snapshot.slot).min().unwrap_or(world.now);
    let (from, to) = match span {
        Span::ToCome => (oldest.min(world.now - BACK), world.now + ahead),
        Span::Between(from, to) => (from, to),
    };
    if let Span::Between(from, to) = span {
        for one in &mut instances {
            let there = |snapshot: &Snapshot| {
                snapshot.slot < to && snapshot.gone_at.is_none_or(|at| at > from)
            };
            one.snapshots.retain(there);
        }
    }
    Picture {
        title: title.to_owned(),
        deployment: world.settings.deployment.to_string(),
        now: world.now,
        from,
        to,
        findings: findings.iter().map(finding).collect(),
        storage: points(world.now, views, pasts, &coming, (from, to)),
        actions: coming.actions.into_iter().map(Line::of_action).map(action).collect(),
        instances,
    }
}

fn finding(shown: &Shown) -> Finding {
    let text = |member: &str| shown.json[member].as_str().unwrap_or_default().to_owned();
    Finding {
        severity: text("severity"),
        code: text("code"),
        name: text("name"),
        place: text("place"),
        message: shown.message.clone(),
        fix: shown.fix.clone(),
    }
}

fn action(line: Line) -> Action {
    Action {
        at: line.at.unwrap_or_default(),
        action: line.action.to_owned(),
        name: line.who.name,
        place: line.who.place,
        snapshot: line.snapshot,
        reasons: line.reasons,
        execute_at: line.execute_at,
        size_gb: line.size_gb,
    }
}

fn instance(row: &Row, entries: &[Entry]) -> Instance {
    let proven = row.proven.map(|proof| {
        let day = proof.at.strftime("%Y-%m-%d");
        match (proof.ok, proof.seconds) {
            (true, Some(seconds)) => format!("{day}, in {seconds} s"),
            (true, None) => day.to_string(),
            (false, _) => format!("{day}: the drill failed"),
        }
    });
    Instance {
        resource: row.who.resource.clone(),
        name: row.who.name.clone(),
        place: row.who.place.clone(),
        state: row.state.to_owned(),
        policy: row.policy.clone(),
        schedule: row.schedule.clone(),
        keep: row.keep.clone(),
        newest: row.newest_available,
        age_seconds: row.age_seconds,
        promise_seconds: row.promise_seconds,
        overdue: row.overdue == Some(true),
        next_slot: row.next_slot,
        size_gb: row.size_gb,
        cost_usd_month: row.cost_usd_month,
        proven,
        note: None,
        snapshots: entries.iter().map(snapshot).collect(),
    }
}

fn snapshot(entry: &Entry) -> Snapshot {
    Snapshot {
        name: entry.snapshot.clone(),
        slot: entry.slot.timestamp(),
        state: entry.state.to_owned(),
        reasons: entry.reasons.clone(),
        marked_at: entry.marked_at,
        execute_at: entry.execute_at,
        held: entry.held,
        held_until: entry.held_until.clone(),
        size_gb: entry.size_gb.unwrap_or_default(),
        gone_at: None,
    }
}

/// Adds what existed and is gone, and what was promised.
fn add_past(instances: &mut Vec<Instance>, past: &Past) {
    let known = instances.iter().position(|one| one.resource == past.who.resource);
    let gone = past.lives.iter().filter(|life| life.gone_at.is_some());
    let at = match known {
        Some(at) => at,
        None if gone.clone().next().is_none() && past.promised() == 0 => return,
        None => {
            instances.push(deleted(past));
            instances.len() - 1
        }
    };
    let Some(one) = instances.get_mut(at) else { return };
    if past.promised() > 0 {
        let (served, promised) = (past.served(), past.promised());
        let worst = past.worst_age().map_or(String::new(), |age| {
            format!("; the newest was {} old at worst", format_duration(age))
        });
        one.note = Some(format!("{served} of {promised} slots served{worst}"));
    }
    one.snapshots.extend(gone.map(|life| Snapshot {
        name: life.name.clone(),
        slot: life.slot.timestamp(),
        state: "deleted".to_owned(),
        reasons: life.reasons.clone(),
        marked_at: None,
        execute_at: None,
        held: false,
        held_until: None,
        size_gb: life.stored.size_gb,
        gone_at: life.gone_at,
    }));
    one.snapshots.sort_by(|a, b| (b.slot, &b.name).cmp(&(a.slot, &a.name)));
}

/// An instance of which nothing exists any more.
fn deleted(past: &Past) -> Instance {
    Instance {
        resource: past.who.resource.clone(),
        name: past.who.name.clone(),
        place: past.who.place.clone(),
        state: "deleted".to_owned(),
        policy: None,
        schedule: None,
        keep: None,
        newest: None,
        age_seconds: None,
        promise_seconds: None,
        overdue: false,
        next_slot: None,
        size_gb: 0,
        cost_usd_month: 0.0,
        proven: None,
        note: None,
        snapshots: Vec::new(),
    }
}

/// What was stored, is stored, and will be, where that changes.
fn points(
    now: Timestamp,
    views: &[View<'_>],
    pasts: &[Past],
    coming: &Outlook,
    (from, to): (Timestamp, Timestamp),
) -> Vec<Point> {
    let mut all: BTreeMap<(String, String), Stored> = BTreeMap::new();
    for view in views {
        for (key, seen) in &view.seen {
            let stored = Stored {
                from: seen.created_at.min(now),
                to: Timestamp::MAX,
                size_gb: seen.size_gb,
            };
            all.insert((view.id.0.clone(), (*key).to_owned()), stored);
        }
    }
    for past in pasts {
        let gone = past.lives.iter().filter(|life| life.gone_at.is_some());
        all.extend(gone.map(|life| ((past.who.resource.clone(), life.key.clone()), life.stored)));
    }
    for action in &coming.actions {
        let key = (action.record.resource.0.clone(), action.record.snapshot_key().to_owned());
        match action.act {
            Act::Take => {
                let size_gb = action.size_gb;
                all.insert(key, Stored { from: action.at, to: Timestamp::MAX, size_gb });
            }
            Act::Delete => {
                if let Some(stored) = all.get_mut(&key) {
                    stored.to = action.at;
                }
            }
            Act::Mark | Act::Rescue => {}
        }
    }
    let all: Vec<Stored> = all.into_values().collect();
    let changes = storage(&all);
    let level = |at: Timestamp| {
        let before = changes.partition_point(|(change, _)| *change <= at);
        before.checked_sub(1).and_then(|last| changes.get(last)).map_or(0, |(_, gb)| *gb)
    };
    let within = changes.iter().map(|(at, _)| *at).filter(|at| (from..=to).contains(at));
    let mut times: Vec<Timestamp> = within.chain([from, now.clamp(from, to), to]).collect();
    times.sort_unstable();
    times.dedup();
    times
        .into_iter()
        .map(|at| Point { at, size_gb: level(at), cost_usd_month: dollars(level(at)) })
        .collect()
}
