//! What must hold at the demo's end, judged from the cloud's own books, not from the reports.

use std::collections::BTreeSet;

use jiff::Timestamp;
use snapkeep_cloud::embedded::Cloud;
use snapkeep_cloud::http::lock;
use snapkeep_cloud::lightsail::Snapshot;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::snapshot::{HOLD, SLOT};
use snapkeep_domain::time::{Slot, Zone};

use super::table::{Row, is_ours};
use super::{Story, script};
use crate::BoxError;

fn slot(snapshot: &Snapshot) -> Option<Slot> {
    snapshot.tags.get(SLOT)?.as_deref()?.parse().ok()
}

/// The broken ones, in words; none is what everybody wants.
pub(super) async fn check(
    cloud: &Cloud,
    story: &Story,
    rows: &[Row],
    start: Timestamp,
    end: Timestamp,
) -> Result<Vec<String>, BoxError> {
    let mut broken = story.broken.clone();
    let lightsail = lock(cloud.lightsail());
    for event in lightsail.events.iter().filter(|e| e.operation == "DeleteInstanceSnapshot") {
        let name = &event.snapshot.name;
        if !is_ours(&event.snapshot) {
            broken.push(format!("{name} was not ours, and was deleted"));
        }
        if event.snapshot.tags.contains_key(HOLD) {
            broken.push(format!("{name} was held, and was deleted"));
        }
    }
    let (region, by_hand) = script::BY_HAND;
    let made = lightsail.events.iter().any(|event| event.snapshot.name == by_hand);
    if made && !lightsail.snapshots(region).iter().any(|s| s.name == by_hand) {
        broken.push(format!("{by_hand} is gone"));
    }
    drop(lightsail);
    for row in rows {
        broken.extend(of_instance(row, story, start, end));
    }
    Ok(broken)
}

fn of_instance(row: &Row, story: &Story, start: Timestamp, end: Timestamp) -> Vec<String> {
    let mut broken = Vec::new();
    if !row.opted_in {
        if !row.taken.is_empty() {
            broken.push(format!("{} was not opted in, and was snapshotted", row.name));
        }
        return broken;
    }
    if row.kept.is_empty() {
        broken.push(format!("{} has no available snapshot", row.name));
    }
    // At most one good snapshot for a slot.
    let good = row.taken.iter().filter(|s| s.fate.is_none());
    let mut slots = BTreeSet::new();
    for snapshot in good {
        if slot(snapshot).is_none_or(|slot| !slots.insert(slot)) {
            broken.push(format!("{} is a second snapshot of its slot", snapshot.name));
        }
    }
    // Every slot was served, or reported. A deleted instance has no slots any more.
    let last = row.records.iter().max_by_key(|record| record.slot);
    let Some(policy) = last.map(|record| &record.policy) else { return broken };
    let (Some(schedule), Ok(zone)) = (
        policy.schedule.as_deref().and_then(|text| text.parse::<Schedule>().ok()),
        policy.timezone.parse::<Zone>(),
    ) else {
        return broken;
    };
    let until = if row.name == "old-blog" {
        last.map_or(end, |record| record.slot.timestamp())
    } else {
        end
    };
    let due = schedule.slots_back(&zone, until).take_while(|slot| slot.timestamp() > start);
    let unserved = due.filter(|slot| !slots.contains(slot)).count() as u64;
    let missed = story.missed.get(row.name).copied().unwrap_or(0);
    if unserved > missed {
        broken
            .push(format!("{}: {unserved} slots without a snapshot, {missed} reported", row.name));
    }
    // What is gone, is gone for a reason: it was marked first, and every deletion is of our making.
    let kept: BTreeSet<&str> = row.kept.iter().map(|s| s.name.as_str()).collect();
    let pruned: BTreeSet<&str> = row.pruned.iter().map(|s| s.name.as_str()).collect();
    for snapshot in row.taken.iter().filter(|s| s.fate.is_none() && s.settles_at <= end) {
        if !kept.contains(snapshot.name.as_str()) && !pruned.contains(snapshot.name.as_str()) {
            broken.push(format!("{} is gone without a deletion", snapshot.name));
        }
    }
    broken
}
