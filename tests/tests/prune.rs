//! The planner of `prune`, guard by guard: tables in, verdicts out.

use jiff::SignedDuration;
use snapkeep_domain::finding::Code;
use snapkeep_domain::poll::Look;
use snapkeep_domain::prune::{Guard, Plan, Questions, Source, Step, Verdict, questions};
use snapkeep_domain::record::State;
use snapkeep_domain::settings::Settings;
use snapkeep_domain::snapshot::{HOLD, Hold, MANAGED_BY, SnapshotState, snapshot_name};
use snapkeep_tests::{DEPLOYMENT, REGION, World, at, mark, settings, web};

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
    plan.steps.iter().filter(|step| matches!(step, Step::Delete(_))).count()
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
    assert_eq!(announced.survivors.len(), 3);
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
        if let Some(mark) = &mut record.mark {
            mark.execute_at = at("2026-11-20T04:00:01Z");
        }
    }
    assert_eq!(deletes(&world.plan()), 0);
}

#[test]
fn a_deletion_that_another_run_is_at_is_left_alone_for_the_length_of_its_lease() {
    let mut world = due();
    let lease = at("2026-11-20T04:10:00Z");
    for record in &mut world.facts.records[3..] {
        record.state = State::Deleting;
        record.leased_until = Some(lease);
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
        record.state = State::Deleting;
        record.leased_until = Some(now);
    }
    assert_eq!(deletes(&world.plan()), 1);
    // While one of them may be under way, what remains without it is too little to delete the other.
    world.facts.records[2].leased_until = Some(now + SignedDuration::from_mins(1));
    assert_eq!(deletes(&world.plan()), 0);
}

#[test]
fn a_hold_on_the_snapshot_or_the_instance_rescues() {
    let mut world = due();
    world.facts.snapshots[9].tags.insert(HOLD.into(), "until=2026-11-20".into());
    let plan = world.plan();
    assert_eq!((deletes(&plan), guarded(&plan, Guard::Held)), (6, 1));
    assert!(plan.steps.iter().any(|s| matches!(s, Step::Rescue(r) if r.state == State::Available)));
    world.facts.snapshots[9].tags.insert(HOLD.into(), "until=2026-11-19".into());
    assert_eq!(deletes(&world.plan()), 7);
    world.facts.snapshots[9].tags.insert(HOLD.into(), "for ever".into());
    assert!(has(&world.plan(), Code::BadHold) && deletes(&world.plan()) == 6);
    world.tag("snapkeep:hold", "");
    assert_eq!((deletes(&world.plan()), guarded(&world.plan(), Guard::Held)), (0, 7));
}

#[test]
fn opted_out_untagged_or_unreadable_keeps_everything_and_rescues() {
    type Case = (fn(&mut World), Guard, Code);
    let cases: [Case; 5] = [
        (|w| w.tag("snapkeep", "off"), Guard::OptedOut, Code::OptedOut),
        (|w| w.facts.instances[0].tags.clear(), Guard::NoLongerTagged, Code::NoLongerTagged),
        (|w| w.tag("snapkeep:keep", "daily=no"), Guard::Unreadable, Code::BadTag),
        (|w| w.tag("snapkeep:kep", "daily=1"), Guard::Unreadable, Code::BadTag),
        (|w| w.tag("snapkeep", "platinum"), Guard::Unreadable, Code::BadTag),
    ];
    for (change, guard, code) in cases {
        let mut world = due();
        change(&mut world);
        let plan = world.plan();
        assert_eq!((marks(&plan), deletes(&plan)), (0, 0), "{guard}");
        assert!(has(&plan, code) && guarded(&plan, guard) > 0, "{guard}");
        assert_eq!(
            plan.steps.iter().filter(|s| matches!(s, Step::Rescue(_))).count(),
            7,
            "{guard}"
        );
    }
}

/// The reasons of all rescues.
fn rescues(plan: &Plan) -> Vec<&str> {
    let rescued = plan.steps.iter().filter_map(|step| match step {
        Step::Rescue(record) => Some(record.reason.as_str()),
        _ => None,
    });
    rescued.collect()
}

#[test]
fn a_rescue_says_why() {
    let mut world = due();
    world.tag("snapkeep:keep", "last=4");
    assert_eq!(rescues(&world.plan()), ["rescued: kept by last"]);
    world.tag("snapkeep:hold", "");
    let plan = world.plan();
    assert_eq!(rescues(&plan).len(), 7);
    assert!(rescues(&plan).contains(&"rescued: held"), "{:?}", rescues(&plan));
    // What suspends does not hide what rescues.
    let mut world = due();
    world.tag("snapkeep", "off");
    world.now = at("2026-11-20T02:54:00Z");
    assert_eq!(rescues(&world.plan()), ["rescued: opted out"; 7]);
    let mut world = due();
    world.facts.records[5].mark = None;
    assert_eq!(rescues(&world.plan()), ["rescued: no mark"]);
}

#[test]
fn every_guard_has_words_of_its_own() {
    let guards = [
        Guard::Held,
        Guard::OptedOut,
        Guard::NoLongerTagged,
        Guard::Unreadable,
        Guard::OrphanKept,
        Guard::RecordDisagrees,
        Guard::RetryPending,
        Guard::Floor,
        Guard::Stale,
        Guard::Future,
        Guard::Incomplete,
        Guard::SourceUnknown,
        Guard::Brake,
        Guard::TooMany,
    ];
    let mut words: Vec<String> = guards.iter().map(ToString::to_string).collect();
    words.sort();
    words.dedup();
    assert!(words.len() == guards.len() && words.iter().all(|word| word.len() > 3));
}

#[test]
fn a_mark_says_why() {
    let mut world = World::new("last=3", NOW);
    world.daily(3, Some("last=3"));
    world.facts.snapshots[2].state = SnapshotState::Error;
    let reasons = |world: &World| -> Vec<String> {
        let reason = |step: Step| match step {
            Step::Mark(record) => Some(record.reason),
            _ => None,
        };
        world.plan().steps.into_iter().filter_map(reason).collect()
    };
    assert_eq!(reasons(&world), ["the provider reports an error for it"]);
    world.facts.instances.clear();
    world.facts.sources.insert(web(), Source::Gone { name_lives: false });
    world.settings.orphan_keep = Some(SignedDuration::ZERO);
    let expected = [
        "its resource is gone, and only the minimum stays",
        "the provider reports an error for it",
    ];
    assert_eq!(reasons(&world), expected);
}

#[test]
fn the_future_begins_after_five_minutes() {
    let with = |change: fn(&mut World, jiff::Timestamp), seconds: i64| {
        let mut world = due();
        let then = world.now + SignedDuration::from_secs(seconds);
        change(&mut world, then);
        has(&world.plan(), Code::FutureTime)
    };
    let cases: [fn(&mut World, jiff::Timestamp); 4] = [
        |w, then| {
            let now = w.now;
            w.add(then, Some("last=3")).created_at = now;
        },
        |w, then| w.facts.snapshots[2].created_at = then,
        |w, then| w.facts.records[5].mark.as_mut().unwrap().at = then,
        |w, then| {
            w.add(then, Some("last=3"));
            w.facts.snapshots.pop();
        },
    ];
    for (at, case) in cases.into_iter().enumerate() {
        assert!(!with(case, 300), "{at}");
        assert!(with(case, 301), "{at}");
    }
}

#[test]
fn a_record_that_says_another_slot_attempt_or_region_disagrees() {
    let cases: [fn(&mut World); 3] = [
        |w| w.facts.records[5].attempt = 2,
        |w| w.facts.records[5].region = "us-east-1".to_owned(),
        |w| w.facts.records[5].slot = w.facts.records[4].slot,
    ];
    for (at, case) in cases.into_iter().enumerate() {
        let mut world = due();
        case(&mut world);
        let plan = world.plan();
        assert_eq!((deletes(&plan), guarded(&plan, Guard::RecordDisagrees)), (6, 1), "{at}");
        let finding = plan.findings.iter().find(|f| f.code == Code::RecordDisagrees).unwrap();
        assert_eq!(finding.name.as_deref(), Some("web"));
        assert!(!plan.steps.iter().any(|step| matches!(step, Step::Adopt(_))), "{at}");
    }
}

#[test]
fn what_the_floor_keeps_stays_the_floors_while_the_rest_is_suspended() {
    let mut world = World::new("last=1", "2026-11-24T04:00:00Z");
    world.settings = settings(&[("SNAPKEEP_KEEP", "last=1"), ("SNAPKEEP_MIN_KEEP", "3")]);
    world.daily(5, Some("last=1"));
    world.now = at("2026-11-28T04:00:00Z");
    let plan = world.plan();
    assert_eq!((guarded(&plan, Guard::Floor), guarded(&plan, Guard::Stale)), (2, 2));
}

#[test]
fn an_instance_without_the_tag_and_without_snapshots_is_nobodys_business() {
    let mut world = World::new("last=1", NOW);
    world.facts.instances[0].tags.clear();
    assert!(world.plan().findings.is_empty());
}

#[test]
fn a_stale_schedule_a_future_time_and_an_incomplete_listing_only_suspend() {
    let mut stale = due();
    stale.now = at("2026-11-23T03:00:01Z");
    let mut ahead = due();
    ahead.now = at("2026-11-20T02:54:00Z");
    let mut incomplete = due();
    incomplete.facts.complete.clear();
    incomplete.facts.instances.clear();
    let mut unknown = due();
    unknown.facts.instances.clear();
    unknown.facts.sources.insert(web(), Source::Unknown);
    for (world, guard) in [
        (stale, Guard::Stale),
        (ahead, Guard::Future),
        (incomplete, Guard::Incomplete),
        (unknown, Guard::SourceUnknown),
    ] {
        let plan = world.plan();
        assert!(plan.steps.is_empty(), "{guard}: {:?}", plan.steps);
        assert!(guarded(&plan, guard) > 0, "{guard}");
    }
    let mut fresh = due();
    fresh.now = at("2026-11-23T03:00:00Z");
    assert_eq!(deletes(&fresh.plan()), 7);
    let mut marked_ahead = due();
    mark(&mut marked_ahead.facts.records[9], at("2026-11-20T04:05:01Z"));
    assert_eq!(deletes(&marked_ahead.plan()), 0);
}

#[test]
fn the_brake_holds_when_a_changed_policy_takes_too_much() {
    let mut world = World::new("last=3", NOW);
    world.daily(10, Some("last=9"));
    let plan = world.plan();
    assert_eq!((marks(&plan), guarded(&plan, Guard::Brake)), (0, 7));
    let finding = plan.findings.iter().find(|f| f.code == Code::Brake).unwrap();
    let code = finding.value.clone().unwrap();
    assert!(finding.fix.as_ref().unwrap().contains(&code));

    let mut by_tag = world.clone();
    by_tag.tag("snapkeep:confirm", &format!("00000000 {code}"));
    assert_eq!(marks(&by_tag.plan()), 7);
    let mut by_variable = world.clone();
    by_variable.settings.confirmed = vec![code];
    assert_eq!(marks(&by_variable.plan()), 7);
    let mut other_zone = by_tag.clone();
    other_zone.tag("snapkeep:timezone", "Asia/Tokyo");
    assert_eq!(marks(&other_zone.plan()), 0);
    // 6 of the 7 are a surprise: 60 %.
    world.settings.max_delete_percent = 60;
    assert_eq!(marks(&world.plan()), 7);
    world.settings.max_delete_percent = 59;
    assert_eq!(marks(&world.plan()), 0);
}

#[test]
fn without_a_retention_of_its_own_a_snapshot_would_keep_everything() {
    let mut world = World::new("last=3", NOW);
    world.daily(10, None);
    assert_eq!(guarded(&world.plan(), Guard::Brake), 7);
}

#[test]
fn the_floor_suspends_and_counts_only_available_ones() {
    let mut world = due();
    world.settings =
        Settings { min_keep: "5".parse().unwrap(), ..settings(&[("SNAPKEEP_KEEP", "last=3")]) };
    let plan = world.plan();
    assert_eq!((deletes(&plan), guarded(&plan, Guard::Floor)), (5, 2));
    // The two keep their marks.
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Rescue(_))));
    for snapshot in &mut world.facts.snapshots[..9] {
        snapshot.state = SnapshotState::Pending;
    }
    assert_eq!(deletes(&world.plan()), 0);
}

#[test]
fn failed_ones_count_in_no_rule_and_are_condemned_but_never_the_last_hope() {
    let mut world = aged();
    world.facts.snapshots[1].state = SnapshotState::Error;
    world.facts.records[1].state = State::Failed;
    world.facts.records[1].remains = true;
    assert_eq!(marks(&world.plan()), 7, "six that aged, and the failed one");
    for (snapshot, record) in world.facts.snapshots.iter_mut().zip(&mut world.facts.records) {
        snapshot.state = SnapshotState::Error;
        record.state = State::Failed;
        record.remains = true;
    }
    assert!(world.plan().steps.is_empty());
}

#[test]
fn a_failed_attempt_that_may_be_tried_again_is_left_alone() {
    let mut world = aged();
    world.facts.snapshots[0].state = SnapshotState::Error;
    world.facts.records[0].state = State::Failed;
    world.facts.records[0].remains = true;
    assert_eq!(guarded(&world.plan(), Guard::RetryPending), 1);
    world.facts.records[0].attempt = 5;
    let name = snapshot_name(DEPLOYMENT, &web(), "web", world.facts.records[0].slot, 5);
    world.facts.records[0].name.clone_from(&name);
    world.facts.snapshots[0].name = name;
    assert_eq!(guarded(&world.plan(), Guard::RetryPending), 0);
    assert_eq!(marks(&world.plan()), 7);
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
    other.tags.insert(MANAGED_BY.into(), "test-2".into());
    world.facts.snapshots.extend([foreign, copied, other]);
    let plan = world.plan();
    assert_eq!(deletes(&plan), 7);
    assert_eq!(plan.verdicts.len(), 13);
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
    let asked: Vec<_> = questions(&world.facts, DEPLOYMENT).snapshots.into_iter().collect();
    assert_eq!(asked, [(REGION.to_owned(), lost.name.clone())]);
    world.facts.looks.insert((REGION.into(), lost.name.clone()), Look::Missing);
    let plan = world.plan();
    assert!(!has(&plan, Code::Vanished));
    world.facts.records.retain(|r| r.state == State::Available);
    for step in &plan.steps {
        if let Step::Write(record) = step {
            world.facts.records[0] = record.clone();
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
    assert_eq!(questions(&world.facts, DEPLOYMENT), Questions::default());
    let name = world.facts.snapshots.remove(0).name;
    let place = (REGION.to_owned(), name);
    assert_eq!(questions(&world.facts, DEPLOYMENT).snapshots, [place].into());
    // What is under way is asked for by `poll`.
    for state in [State::Intended, State::Requested, State::Pending, State::Deleting] {
        world.facts.records[0].state = state;
        assert_eq!(questions(&world.facts, DEPLOYMENT), Questions::default(), "{state:?}");
    }
    // A list that is not complete raises no question.
    world.facts.records[0].state = State::Available;
    world.facts.instances.clear();
    world.facts.complete.clear();
    assert_eq!(questions(&world.facts, DEPLOYMENT), Questions::default());
}

#[test]
fn what_is_found_again_is_no_longer_missed_and_what_is_gone_no_longer_remains() {
    let mut world = World::new("last=3", NOW);
    world.daily(1, Some("last=3"));
    world.facts.records[0].missing_since = Some(at("2026-11-20T03:00:00Z"));
    let found = world.facts.snapshots[0].clone();
    let place = (REGION.to_owned(), found.name.clone());
    world.facts.looks.insert(place.clone(), Look::Found(Box::new(found)));
    let plan = world.plan();
    let [Step::Write(written)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    assert_eq!((written.missing_since, written.state), (None, State::Available));

    world.facts.records[0].state = State::Failed;
    world.facts.records[0].remains = true;
    world.facts.snapshots.clear();
    world.facts.looks.insert(place, Look::Missing);
    let plan = world.plan();
    let [Step::Write(written)] = &plan.steps[..] else { panic!("{:?}", plan.steps) };
    assert_eq!(
        (written.remains, written.missing_since, written.state),
        (false, None, State::Failed)
    );
    assert!(!has(&plan, Code::Vanished));
}

#[test]
fn the_snapshots_of_a_deleted_instance_stay_until_told_otherwise() {
    let mut world = aged();
    world.facts.instances.clear();
    assert_eq!(questions(&world.facts, DEPLOYMENT).sources.len(), 1);
    world.facts.sources.insert(web(), Source::Gone { name_lives: false });
    let plan = world.plan();
    assert_eq!((marks(&plan), guarded(&plan, Guard::OrphanKept)), (0, 10));
    let finding = plan.findings.iter().find(|f| f.code == Code::Orphan).unwrap();
    assert_eq!(finding.value.as_deref(), Some("200"));

    world.settings.orphan_keep = Some(SignedDuration::from_hours(24 * 30));
    assert_eq!(marks(&world.plan()), 0, "they stay in full, even what the rules would let go");
    world.now = at("2026-12-20T03:00:00Z");
    assert_eq!(marks(&world.plan()), 9, "no freshness, no brake, but the minimum");

    let mut lives = world.clone();
    lives.facts.sources.insert(web(), Source::Gone { name_lives: true });
    assert_eq!(marks(&lives.plan()), 0);
    let mut all = world.clone();
    all.facts.records[0].policy.keep = Some("all".into());
    assert_eq!(marks(&all.plan()), 0);
    let mut held = world.clone();
    held.facts.snapshots[9].tags.insert(HOLD.into(), String::new());
    assert_eq!(Hold::find(&held.facts.snapshots[9].tags, HOLD), Some(Hold::Forever));
    assert_eq!(marks(&held.plan()), 9, "a held one remains, so the minimum is there");
}

#[test]
fn more_marks_than_allowed_mark_none() {
    let mut world = aged();
    world.settings.max_deletes = Some(7);
    assert_eq!(marks(&world.plan()), 7);
    world.settings.max_deletes = Some(6);
    let plan = world.plan();
    assert_eq!((marks(&plan), guarded(&plan, Guard::TooMany)), (0, 7));
    assert!(has(&plan, Code::TooManyMarks));
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
