//! What must hold at the demo's end, judged from the cloud's own books, not from the reports.

use std::collections::BTreeSet;

use jiff::Timestamp;
use snapkeep_domain::snapshot::{HOLD, SLOT};
use snapkeep_domain::time::Slot;

use super::books::{Books, Shot};
use super::table::Row;
use super::{Story, script};

fn slot(snapshot: &Shot) -> Option<Slot> {
    snapshot.tags.get(SLOT)?.parse().ok()
}

/// What must hold, each with its violations.
pub(super) type Checked = Vec<(&'static str, Vec<String>)>;

/// Checks every promise.
pub(super) fn check(
    books: &Books,
    story: &Story,
    rows: &[Row],
    (start, end): (Timestamp, Timestamp),
) -> Checked {
    let (mut foreign, mut held) = (Vec::new(), Vec::new());
    for snapshot in &books.deleted {
        let name = &snapshot.name;
        if !snapshot.is_ours() {
            foreign.push(format!("{name} was not ours, and was deleted"));
        }
        if snapshot.tags.contains_key(HOLD) {
            held.push(format!("{name} was held, and was deleted"));
        }
    }
    let by_hand = |snapshot: &&Shot| snapshot.name == script::BY_HAND;
    for made in books.made.iter().filter(by_hand) {
        if !books.there.iter().any(|snapshot| snapshot.id == made.id) {
            foreign.push(format!("{} of {} is gone", made.name, made.instance));
        }
    }
    let on = || rows.iter().filter(|row| row.opted_in);
    let none = rows.iter().filter(|row| !row.opted_in && !row.taken.is_empty());
    let none = none.map(|row| format!("{} was not opted in, and was snapshotted", row.name));
    let without = on().filter(|row| row.kept.is_empty());
    let without = without.map(|row| format!("{} has no available snapshot", row.name));
    vec![
        ("Every invocation gave an answer.", story.broken.clone()),
        ("Only instances that are opted in were snapshotted.", none.collect()),
        ("Every slot has at most one good snapshot.", on().flat_map(second_of_a_slot).collect()),
        (
            "Every slot was served, or reported as missed.",
            on().filter_map(|row| unreported(row, story, start, end)).collect(),
        ),
        ("Every protected instance has an available snapshot.", without.collect()),
        ("Only snapshots of ours were deleted.", foreign),
        ("No held snapshot was deleted.", held),
        (
            "No snapshot is gone without a deletion by snapkeep.",
            on().flat_map(|row| gone(row, end)).collect(),
        ),
    ]
}

/// The slots that have a good snapshot, and the snapshots that are the second of theirs.
fn served(row: &Row) -> (BTreeSet<Slot>, Vec<String>) {
    let (mut slots, mut second) = (BTreeSet::new(), Vec::new());
    for snapshot in row.taken.iter().filter(|snapshot| snapshot.is_good) {
        if slot(snapshot).is_none_or(|slot| !slots.insert(slot)) {
            second.push(format!("{} is a second snapshot of its slot", snapshot.name));
        }
    }
    (slots, second)
}

fn second_of_a_slot(row: &Row) -> Vec<String> {
    served(row).1
}

/// Slots without a snapshot that nobody reported. A deleted instance has no slots any more.
fn unreported(row: &Row, story: &Story, start: Timestamp, end: Timestamp) -> Option<String> {
    let last = row.records.iter().max_by_key(|record| record.slot)?;
    let (schedule, zone) = last.policy.schedule()?;
    let until = if row.ends { last.slot.timestamp() } else { end };
    let due = schedule.slots_back(&zone, until).take_while(|slot| slot.timestamp() > start);
    let (slots, _) = served(row);
    let unserved = due.filter(|slot| !slots.contains(slot)).count() as u64;
    let missed = story.missed.get(row.name).copied().unwrap_or(0);
    (unserved > missed)
        .then(|| format!("{}: {unserved} slots without a snapshot, {missed} reported", row.name))
}

fn gone(row: &Row, end: Timestamp) -> Vec<String> {
    let ids = |all: &[Shot]| -> BTreeSet<String> {
        all.iter().map(|snapshot| snapshot.id.clone()).collect()
    };
    let (kept, pruned) = (ids(&row.kept), ids(&row.pruned));
    let settled = row.taken.iter().filter(|s| s.is_good && s.settles_at <= end);
    let gone = settled.filter(|s| !kept.contains(&s.id) && !pruned.contains(&s.id));
    gone.map(|snapshot| format!("{} is gone without a deletion", snapshot.name)).collect()
}
