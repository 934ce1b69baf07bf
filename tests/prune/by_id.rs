//! Where names do not identify snapshots, tags may not show, and deletions take time.

use snapkeep_domain::capabilities::{Capabilities, TagSupport};
use snapkeep_domain::finding::Code;
use snapkeep_domain::ledger::record::State;
use snapkeep_domain::prune::{Guard, Step, Verdict};
use snapkeep_domain::snapshot::{Snapshot, SnapshotState, Tags};
use snapkeep_tests::{Plan, World, alter, at};

/// A daily snapshot for eight days, each with its record, of which `keep` keeps some.
fn world(keep: &str) -> World {
    let mut world = World::new(keep, "2026-11-20T04:00:00Z");
    world.capabilities = Capabilities {
        unique_names: false,
        tags: TagSupport::Unproven,
        slow_deletes: true,
        ..Capabilities::default()
    };
    world.facts.instances[0].disk = Some("disk-1".to_owned());
    world.daily(8, Some(keep));
    for (number, snapshot) in world.facts.snapshots.iter_mut().enumerate() {
        snapshot.id = format!("snap-{number}");
        // The provider states the disk alone.
        snapshot.source.0.clear();
        snapshot.source_name.clear();
        snapshot.disk = Some("disk-1".to_owned());
    }
    for (number, record) in world.facts.records.iter_mut().enumerate() {
        alter(record, |r| r.identity.id = Some(format!("snap-{number}").into()));
    }
    world
}

fn verdicts(plan: &Plan, of: impl Fn(&Verdict) -> bool) -> usize {
    plan.verdicts.iter().filter(|judged| of(&judged.verdict)).count()
}

#[test]
fn a_disk_is_an_origin() {
    let mut world = world("last=3");
    assert_eq!(verdicts(&world.plan(), |v| *v == Verdict::Mark), 5);
    // Of a disk that nobody knows, nothing is known.
    for snapshot in &mut world.facts.snapshots {
        snapshot.disk = Some("disk-2".to_owned());
    }
    let plan = world.plan();
    assert!(plan.verdicts.is_empty() && plan.steps.is_empty(), "{plan:?}");
    // A record knows its own.
    for record in &mut world.facts.records {
        alter(record, |r| r.identity.disk = Some("disk-2".into()));
    }
    assert_eq!(verdicts(&world.plan(), |v| *v == Verdict::Mark), 5);
}

#[test]
fn a_record_agrees_with_its_own_snapshot_only() {
    let mut world = world("last=3");
    let newest = world.facts.snapshots[0].clone();
    world.facts.snapshots.push(Snapshot { id: "twin".to_owned(), ..newest });
    let plan = world.plan();
    assert_eq!(verdicts(&plan, |v| *v == Verdict::Guarded(Guard::Twin)), 1);
    assert!(
        plan.findings.iter().any(|f| f.code == Code::Twin && f.value.as_deref() == Some("twin"))
    );
    // It counts in no rule: three others are kept.
    assert_eq!(verdicts(&plan, |v| matches!(v, Verdict::Kept(_))), 3);
}

#[test]
fn without_a_record_the_older_one_is_the_slots() {
    let mut world = world("last=3");
    world.facts.records.remove(0);
    let newest = world.facts.snapshots[0].clone();
    let created_at = newest.created_at + jiff::SignedDuration::from_secs(1);
    world.facts.snapshots.push(Snapshot { id: "a-twin".to_owned(), created_at, ..newest });
    let plan = world.plan();
    let adopted: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Adopt(record) => record.identity.id.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(adopted, ["snap-0".into()]);
}

#[test]
fn a_snapshot_that_is_being_deleted_counts_in_no_rule_until_it_is_gone() {
    let mut world = world("last=3");
    let mark = {
        let plan = world.plan();
        let marked = plan.steps.iter().find_map(|step| match step {
            Step::Mark(record) => record.mark.clone(),
            _ => None,
        });
        marked.unwrap()
    };
    // It was the second newest, by a policy of before, and nobody works on it any more.
    alter(&mut world.facts.records[1], |r| {
        r.state = State::Deleting;
        r.mark = Some(mark);
    });
    let plan = world.plan();
    let of_second = &plan.verdicts[1];
    assert_eq!(of_second.verdict, Verdict::Waiting, "today's policy would keep it");
    // Three others are kept without it.
    assert_eq!(verdicts(&plan, |v| matches!(v, Verdict::Kept(_))), 3);
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Rescue(_))), "{:?}", plan.steps);
    world.now = at("2026-11-24T03:30:00Z");
    world.tag("snapkeep:keep", "last=1");
    let plan = world.plan();
    let deletes = plan.steps.iter().filter(|step| matches!(step, Step::Delete { .. })).count();
    assert_eq!(deletes, 0, "the newest is stale by then");
}

#[test]
fn without_tags_any_surprise_needs_a_confirmation() {
    let mut world = world("last=3");
    for snapshot in &mut world.facts.snapshots {
        snapshot.tags = Tags::new();
    }
    assert_eq!(verdicts(&world.plan(), |v| *v == Verdict::Mark), 5, "the records know");
    world.facts.records.clear();
    let plan = world.plan();
    assert_eq!(verdicts(&plan, |v| *v == Verdict::Adopt), 8);
    world.apply(&plan);
    assert!(world.facts.records.iter().all(|record| record.adopted_untagged));
    world.settings.max_delete_percent = 100;
    let plan = world.plan();
    assert_eq!(verdicts(&plan, |v| *v == Verdict::Guarded(Guard::Brake)), 5);
    let brake = plan.findings.iter().find(|finding| finding.code == Code::Brake).unwrap();
    world.tag("snapkeep:confirm", brake.value.as_deref().unwrap());
    assert_eq!(verdicts(&world.plan(), |v| *v == Verdict::Mark), 5);
}

#[test]
fn once_a_place_shows_tags_a_snapshot_without_them_is_not_ours() {
    let mut world = world("last=3");
    for snapshot in &mut world.facts.snapshots[4..] {
        snapshot.tags = Tags::new();
    }
    let plan = world.plan();
    assert_eq!(plan.verdicts.len(), 4);
    assert_eq!(verdicts(&plan, |v| *v == Verdict::Mark), 1);
}

#[test]
fn what_the_provider_does_not_delete_yet_uses_up_quota_and_waits() {
    let mut world = world("last=3");
    let failed = &mut world.facts.snapshots[7];
    (failed.state, failed.deletable) = (SnapshotState::Error, false);
    alter(&mut world.facts.records[7], |r| {
        r.state = State::Failed;
        r.has_residue = true;
    });
    let plan = world.plan();
    assert_eq!(verdicts(&plan, |v| *v == Verdict::Guarded(Guard::NotDeletable)), 1);
    assert!(plan.findings.iter().any(|finding| finding.code == Code::UsesQuota));
    world.facts.snapshots[7].deletable = true;
    assert_eq!(verdicts(&world.plan(), |v| *v == Verdict::Mark), 5);
}

/// Found by the simulator: a tombstone, which no list shows, may make it a twin.
#[test]
fn what_has_no_record_yet_counts_in_no_rule() {
    let mut world = world("last=3");
    let plan = world.plan();
    assert_eq!(verdicts(&plan, |v| matches!(v, Verdict::Kept(_))), 3);
    // A copy of a snapshot that is long gone shows up, newer than all others.
    let mut copy = world.facts.snapshots[0].clone();
    copy.id = "copy".to_owned();
    world.facts.snapshots[0] = copy;
    world.facts.records.remove(0);
    let plan = world.plan();
    assert_eq!(verdicts(&plan, |v| *v == Verdict::Adopt), 1);
    let kept = verdicts(&plan, |v| matches!(v, Verdict::Kept(_)));
    assert_eq!(kept, 3, "three others are kept besides: {plan:?}");
}
