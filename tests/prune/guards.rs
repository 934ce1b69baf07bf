//! What stands against a deletion, guard by guard.

use crate::*;

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
    alter(&mut world.facts.records[5], |r| r.mark = None);
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
        Guard::FailedAttempt,
        Guard::Floor,
        Guard::Stale,
        Guard::Future,
        Guard::SourceUnknown,
        Guard::Brake,
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
            Step::Mark(record) => Some(record.reason.clone()),
            _ => None,
        };
        world.plan().steps.into_iter().filter_map(reason).collect()
    };
    assert_eq!(reasons(&world), ["the provider reports an error for it"]);
    world.gone(false);
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
        |w, then| {
            alter(&mut w.facts.records[5], |r| r.mark.as_mut().unwrap().at = then);
        },
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
        |w| alter(&mut w.facts.records[5], |r| r.attempt = 2),
        |w| alter(&mut w.facts.records[5], |r| r.place = place("us-east-1")),
        |w| {
            let slot = w.facts.records[4].slot;
            alter(&mut w.facts.records[5], |r| r.slot = slot);
        },
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
fn a_stale_schedule_a_future_time_and_an_unknown_source_only_suspend() {
    let mut stale = due();
    stale.now = at("2026-11-23T03:00:01Z");
    let mut ahead = due();
    ahead.now = at("2026-11-20T02:54:00Z");
    let mut unknown = due();
    unknown.facts.instances.clear();
    unknown.facts.sources.insert(web(), SourceStatus::Unknown);
    for (world, guard) in
        [(stale, Guard::Stale), (ahead, Guard::Future), (unknown, Guard::SourceUnknown)]
    {
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
    by_variable.settings.confirmed = vec![code.parse().unwrap()];
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
fn more_marks_than_allowed_mark_none() {
    let mut world = aged();
    world.settings.max_deletes = Some(7);
    assert_eq!(marks(&world.plan()), 7);
    world.settings.max_deletes = Some(6);
    let plan = world.plan();
    assert_eq!(marks(&plan), 0);
    assert!(has(&plan, Code::TooManyMarks));
}
