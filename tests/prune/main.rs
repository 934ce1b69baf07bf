//! The planner of `prune`, guard by guard: tables in, verdicts out.

use jiff::SignedDuration;
use snapkeep_domain::answer::Lookup;
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::finding::Code;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::prune::{Guard, Questions, SourceStatus, Step, Verdict};
use snapkeep_domain::snapshot::{HOLD, Hold, MANAGED_BY, SnapshotState, snapshot_name};
use snapkeep_tests::{DEPLOYMENT, Plan, World, alter, at, mark, place, settings, web};

mod by_id;
mod guards;

const NOW: &str = "2026-11-20T04:00:00Z";

/// Ten dailies, made under the policy that is still in force: three stay, seven go.
fn aged() -> World {
    let mut world = World::new("last=3", NOW);
    world.daily(10, Some("last=3"));
    world
}

fn marks(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| matches!(step, Step::Mark(_))).count()
}

fn deletes(plan: &Plan) -> usize {
    plan.steps.iter().filter(|step| matches!(step, Step::Delete { .. })).count()
}

fn has(plan: &Plan, code: Code) -> bool {
    plan.findings.iter().any(|finding| finding.code == code)
}

fn guarded(plan: &Plan, guard: Guard) -> usize {
    plan.verdicts.iter().filter(|j| j.verdict == Verdict::Guarded(guard)).count()
}

/// All of `aged` that the rules condemn was marked four days ago.
fn due() -> World {
    let mut world = aged();
    for at in 3..10 {
        let marked = world.now - SignedDuration::from_hours(96);
        mark(&mut world.facts.records[at], marked);
    }
    world
}

#[test]
fn what_aged_is_marked_with_reason_survivors_and_time() {
    let plan = aged().plan();
    assert_eq!((marks(&plan), deletes(&plan)), (7, 0));
    let Some(Step::Mark(record)) = plan.steps.first() else { panic!("{:?}", plan.steps) };
    let announced = record.mark.clone().unwrap();
    assert_eq!(announced.execute_at, at("2026-11-23T04:00:00Z"));
    assert_eq!(announced.survivors, 3);
    assert_eq!(announced.newest, Some("2026-11-20T03:00:00Z".parse().unwrap()));
    assert_eq!(announced.oldest, Some("2026-11-18T03:00:00Z".parse().unwrap()));
    assert_eq!(record.reason, "no rule of `last=3` in UTC keeps it");
    assert!(plan.findings.is_empty(), "{:?}", plan.findings);
}

#[test]
fn marked_ones_wait_for_the_later_of_both_graces() {
    let mut world = due();
    assert_eq!(deletes(&world.plan()), 7);
    world.settings.grace = SignedDuration::from_hours(97);
    assert_eq!(deletes(&world.plan()), 0);
    world.settings.grace = SignedDuration::ZERO;
    assert_eq!(deletes(&world.plan()), 7);
    for record in &mut world.facts.records {
        alter(record, |r| {
            if let Some(mark) = &mut r.mark {
                mark.execute_at = at("2026-11-20T04:00:01Z");
            }
        });
    }
    assert_eq!(deletes(&world.plan()), 0);
}

#[test]
fn a_deletion_that_another_run_is_at_is_left_alone_for_the_length_of_its_lease() {
    let mut world = due();
    let lease = at("2026-11-20T04:10:00Z");
    for record in &mut world.facts.records[3..] {
        alter(record, |r| {
            r.state = State::Deleting;
            r.lease = Lease::until(lease);
        });
    }
    assert!(world.plan().steps.is_empty());
    // Nor is it rescued: the other run has had its last look.
    world.facts.snapshots[4].tags.insert(HOLD.to_owned(), String::new());
    world.facts.snapshots[5].tags.remove(MANAGED_BY);
    assert!(world.plan().steps.is_empty());
    world.now = lease;
    let plan = world.plan();
    let rescues = plan.steps.iter().filter(|step| matches!(step, Step::Rescue(_))).count();
    assert_eq!((deletes(&plan), rescues), (5, 2));
}

#[test]
fn two_deletions_that_came_to_nothing_do_not_wait_for_each_other() {
    let mut world = World::new("last=1", NOW);
    world.settings = settings(&[("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_MIN_KEEP", "3")]);
    world.daily(4, Some("last=1"));
    let now = world.now;
    for record in &mut world.facts.records[2..] {
        mark(record, now - SignedDuration::from_hours(96));
        alter(record, |r| {
            r.state = State::Deleting;
            r.lease = Lease::until(now);
        });
    }
    assert_eq!(deletes(&world.plan()), 1);
    // While one of them may be under way, what remains without it is too little to delete the other.
    alter(&mut world.facts.records[2], |r| {
        r.lease = Lease::until(now + SignedDuration::from_mins(1))
    });
    assert_eq!(deletes(&world.plan()), 0);
}

#[test]
fn an_instance_without_the_tag_and_without_snapshots_is_nobodys_business() {
    let mut world = World::new("last=1", NOW);
    world.facts.instances[0].tags.clear();
    assert!(world.plan().findings.is_empty());
}

#[test]
fn failed_ones_count_in_no_rule_and_are_condemned_but_never_the_last_hope() {
    let mut world = aged();
    world.facts.snapshots[1].state = SnapshotState::Error;
    alter(&mut world.facts.records[1], |r| {
        r.state = State::Failed;
        r.has_residue = true;
    });
    assert_eq!(marks(&world.plan()), 7, "six that aged, and the failed one");
    for (snapshot, record) in world.facts.snapshots.iter_mut().zip(&mut world.facts.records) {
        snapshot.state = SnapshotState::Error;
        alter(record, |r| {
            r.state = State::Failed;
            r.has_residue = true;
        });
    }
    assert!(world.plan().steps.is_empty());
}

#[test]
fn what_a_failed_attempt_left_behind_stays_while_its_slot_is_the_latest() {
    let mut world = aged();
    world.facts.snapshots[0].state = SnapshotState::Error;
    alter(&mut world.facts.records[0], |r| {
        r.state = State::Failed;
        r.has_residue = true;
    });
    assert_eq!(guarded(&world.plan(), Guard::FailedAttempt), 1);
    // Also when the next attempt has taken its place, and when it was the last one.
    alter(&mut world.facts.records[0], |r| r.superseded = true);
    assert_eq!(guarded(&world.plan(), Guard::FailedAttempt), 1);
    alter(&mut world.facts.records[0], |r| (r.attempt, r.superseded) = (5, false));
    let name = snapshot_name(DEPLOYMENT, &web(), "web", world.facts.records[0].slot, 5);
    alter(&mut world.facts.records[0], |r| r.name.clone_from(&name));
    world.facts.snapshots[0].name = name;
    assert_eq!(guarded(&world.plan(), Guard::FailedAttempt), 1);
    // A later slot frees it.
    let mut world = aged();
    world.facts.snapshots[1].state = SnapshotState::Error;
    alter(&mut world.facts.records[1], |r| {
        r.state = State::Failed;
        r.has_residue = true;
    });
    let plan = world.plan();
    assert_eq!(guarded(&plan, Guard::FailedAttempt), 0);
    let name = &world.facts.records[1].name;
    let marks = |step: &Step| matches!(step, Step::Mark(record) if record.name == *name);
    assert!(plan.steps.iter().any(marks), "{plan:#?}");
}

#[test]
fn foreign_ones_and_look_alikes_are_never_touched_or_counted() {
    let mut world = due();
    let mut foreign = world.facts.snapshots[0].clone();
    foreign.name = "by-hand".into();
    foreign.tags.clear();
    let mut copied = world.facts.snapshots[0].clone();
    copied.name = "copy".into();
    let mut other = world.facts.snapshots[0].clone();
    other.name = "of-another-deployment".into();
    other.tags.insert(MANAGED_BY.into(), "test-2".into());
    world.facts.snapshots.extend([foreign, copied, other]);
    let plan = world.plan();
    assert_eq!(deletes(&plan), 7);
    assert_eq!(plan.verdicts.len(), 10, "of ours");
    assert_eq!(plan.findings.iter().filter(|f| f.code == Code::LookAlike).count(), 1);
}

#[test]
fn tags_taken_away_from_a_marked_snapshot_rescue_it() {
    let mut world = due();
    world.facts.snapshots[9].tags.clear();
    let plan = world.plan();
    assert_eq!(deletes(&plan), 6);
    assert_eq!(plan.steps.iter().filter(|s| matches!(s, Step::Rescue(_))).count(), 1);
}

#[test]
fn a_lost_ledger_is_rebuilt_and_deletes_nothing_on_the_way() {
    let mut world = due();
    world.facts.records.clear();
    let plan = world.plan();
    assert_eq!(plan.steps.iter().filter(|s| matches!(s, Step::Adopt(_))).count(), 10);
    assert_eq!((marks(&plan), deletes(&plan)), (0, 0));
    world.apply(&plan);
    // The retention of its tags is the one in force, so nothing is a surprise.
    assert_eq!(marks(&world.plan()), 7);
}

#[test]
fn a_vanished_snapshot_needs_two_answers_a_quarter_of_an_hour_apart() {
    let mut world = aged();
    let lost = world.facts.snapshots.remove(0);
    let asked: Vec<_> = world.questions().snapshots.into_iter().collect();
    assert_eq!(asked, [lost.reference(&Capabilities::default())]);
    world.facts.looks.insert(lost.reference(&Capabilities::default()), Lookup::Missing);
    let plan = world.plan();
    assert!(!has(&plan, Code::Vanished));
    world.facts.records.retain(|r| r.state == State::Available);
    for step in &plan.steps {
        if let Step::Write(record) = step {
            world.facts.records[0] = Record::clone(record);
        }
    }
    world.now = at("2026-11-20T04:14:59Z");
    assert!(!has(&world.plan(), Code::Vanished));
    world.now = at("2026-11-20T04:15:00Z");
    let plan = world.plan();
    assert!(has(&plan, Code::Vanished));
    assert!(plan.steps.iter().any(|s| matches!(s, Step::Write(r) if r.state == State::Deleted)));
}

#[test]
fn by_name_is_asked_only_what_the_complete_lists_should_have_shown() {
    let mut world = aged();
    assert_eq!(world.questions(), Questions::default());
    let lost = world.facts.snapshots.remove(0);
    assert_eq!(world.questions().snapshots, [lost.reference(&Capabilities::default())].into());
    // What is under way is asked for by `poll`.
    for state in [State::Intended, State::Requested, State::Pending, State::Deleting] {
        alter(&mut world.facts.records[0], |r| r.state = state);
        assert_eq!(world.questions(), Questions::default(), "{state:?}");
    }
}

#[test]
fn what_is_found_again_is_no_longer_missed_and_what_is_gone_no_longer_remains() {
    let mut world = World::new("last=3", NOW);
    world.daily(1, Some("last=3"));
    alter(&mut world.facts.records[0], |r| r.missing_since = Some(at("2026-11-20T03:00:00Z")));
    let found = world.facts.snapshots[0].clone();
    let asked = found.reference(&Capabilities::default());
    world.facts.looks.insert(asked.clone(), Lookup::Found(Box::new(found)));
    let plan = world.plan();
    let [Step::Write(written)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    assert_eq!((written.missing_since, written.state), (None, State::Available));

    alter(&mut world.facts.records[0], |r| {
        r.state = State::Failed;
        r.has_residue = true;
    });
    world.facts.snapshots.clear();
    world.facts.looks.insert(asked, Lookup::Missing);
    let plan = world.plan();
    let [Step::Write(written)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    assert_eq!(
        (written.has_residue, written.missing_since, written.state),
        (false, None, State::Failed)
    );
    assert!(!has(&plan, Code::Vanished));
}

#[test]
fn the_snapshots_of_a_deleted_instance_stay_until_told_otherwise() {
    let mut world = aged();
    world.facts.instances.clear();
    assert_eq!(world.questions().sources.len(), 1);
    world.gone(false);
    let plan = world.plan();
    assert_eq!((marks(&plan), guarded(&plan, Guard::OrphanKept)), (0, 10));
    let orphan =
        |plan: &Plan| plan.findings.iter().find(|f| f.code == Code::Orphan).cloned().unwrap();
    assert_eq!(orphan(&plan).value.as_deref(), Some("200"));
    assert!(orphan(&plan).fix.unwrap().contains("set SNAPKEEP_ORPHAN_KEEP"));

    world.settings.orphan_keep = Some(SignedDuration::from_hours(24 * 30));
    assert_eq!(marks(&world.plan()), 0, "they stay in full, even what the rules would let go");
    world.now = at("2026-12-20T03:00:00Z");
    assert_eq!(marks(&world.plan()), 9, "no freshness, no brake, but the minimum");

    assert!(!orphan(&world.plan()).fix.unwrap().contains("ORPHAN_KEEP"), "it is set already");

    // Rebuilding under the old name is the usual way to restore: it changes nothing, and is named.
    let mut lives = world.clone();
    lives.gone(true);
    assert_eq!(marks(&lives.plan()), 9);
    assert!(orphan(&lives.plan()).message.contains("another instance has its name now"));
    let mut all = world.clone();
    alter(&mut all.facts.records[0], |r| {
        std::sync::Arc::make_mut(&mut r.policy).keep = Some("all".into());
    });
    assert_eq!(marks(&all.plan()), 0);
    let mut held = world.clone();
    held.facts.snapshots[9].tags.insert(HOLD.into(), String::new());
    assert_eq!(Hold::find(&held.facts.snapshots[9].tags, HOLD), Some(Hold::Forever));
    assert_eq!(marks(&held.plan()), 9, "a held one remains, so the minimum is there");
}

#[test]
fn a_hold_on_an_instance_outlives_it_until_it_is_released() {
    let mut world = aged();
    world.settings.orphan_keep = Some(SignedDuration::ZERO);
    world.gone(false);
    assert_eq!(marks(&world.plan()), 9);
    for hold in
        [Some(""), Some("until=2026-11-20"), Some("gibberish"), Some("until=2026-11-19"), None]
    {
        let mut held = world.clone();
        held.facts.protected[0].hold = hold.map(str::to_owned);
        let holds = !matches!(hold, None | Some("until=2026-11-19"));
        let plan = held.plan();
        assert_eq!(marks(&plan), if holds { 0 } else { 9 }, "{hold:?}");
        assert_eq!(guarded(&plan, Guard::Held), if holds { 10 } else { 0 });
        let finding = plan.findings.iter().find(|f| f.code == Code::OrphanHeld);
        assert_eq!(finding.is_some(), holds);
        if let Some(finding) = finding {
            let code = finding.value.clone().unwrap();
            assert!(finding.fix.as_ref().unwrap().contains(&code));
            held.settings.confirmed = vec![code.parse().unwrap()];
            assert_eq!(marks(&held.plan()), 9, "released");
        }
    }
    // Who never saw the instance does not know whether it was held.
    world.facts.protected.clear();
    let plan = world.plan();
    assert_eq!((marks(&plan), has(&plan, Code::OrphanHeld)), (0, true));
    assert_eq!(plan.remember.len(), 1);
}

#[test]
fn what_was_never_protected_is_overdue_all_the_same() {
    let mut world = World::new("last=3", NOW);
    let plan = world.plan();
    assert!(!has(&plan, Code::Overdue), "its protection begins now");
    world.facts.protected = plan.remember;
    world.now += SignedDuration::from_hours(30);
    assert!(!has(&world.plan(), Code::Overdue));
    world.now += SignedDuration::from_secs(1);
    assert!(has(&world.plan(), Code::Overdue), "a day and the pending timeout have passed");
}

#[test]
fn no_retention_keeps_everything_and_says_so() {
    for keep in ["", "all"] {
        let mut world = World::new(keep, NOW);
        world.daily(400, Some("daily=1"));
        let plan = world.plan();
        assert!(plan.steps.is_empty());
        assert_eq!(has(&plan, Code::KeepsEverything), keep.is_empty());
    }
}
