//! Many at once: who comes first, what is left, and what troubles cost.

use crate::*;

/// A fleet of forty in a world of its own.
fn fleet() -> Simulation {
    let world = world();
    for number in 2..40 {
        let on = [("snapkeep".to_owned(), String::new())].into();
        world.world.provider.launch(REGIONS[0], &format!("web-{number:02}"), on);
    }
    world
}

/// A slot in which the provider lets only so many requests through.
fn scarce_slot(world: &mut Simulation, lets_through: usize) -> Report {
    drop(world.answers());
    let me = world.start(Function::Create, 0).unwrap();
    let mut through = 0;
    while let Some((operation, _)) = world.upcoming(me) {
        if through == lets_through {
            world.refuse("create", ErrorKind::Throttled, minutes(10));
            break;
        }
        through += usize::from(operation == "create");
        world.next(me, None);
    }
    let report = finished(world, me);
    world.advance(minutes(20));
    world.run_alone(Function::Poll);
    world.advance(minutes(220));
    report
}

#[test]
fn nobody_starves_where_not_all_can_be_served() {
    let (n, c) = (40, 12_usize);
    let mut world = fleet();
    let mut waits: BTreeMap<String, usize> = BTreeMap::new();
    for slot in 0..24 {
        let before = world.world.provider.all_snapshots().len();
        let report = scarce_slot(&mut world, c);
        assert_eq!(counts(&report)["requested"], c as u64, "slot {slot}");
        assert!(report.left > 0 && report.fell_short());
        let all = world.world.provider.all_snapshots();
        assert_eq!(all.len(), before + c);
        for instance in world.world.provider.all_instances() {
            let newest = all.iter().filter(|s| s.source == instance.id).map(|s| s.created_at).max();
            let since = world.world.now() - hours(4);
            let wait = waits.entry(instance.name).or_default();
            *wait = if newest.is_some_and(|at| at >= since) { 0 } else { *wait + 1 };
            assert!(*wait < n / c + 1 + 1 + usize::from(n % c > 0), "slot {slot}: {waits:?}");
        }
    }
}

#[test]
fn a_place_that_hangs_costs_its_neighbours_nothing() {
    let mut world = fleet();
    for number in 0..10 {
        let on = [("snapkeep".to_owned(), String::new())].into();
        world.world.provider.launch(REGIONS[1], &format!("far-{number}"), on);
    }
    world.refuse_in(REGIONS[1], ErrorKind::Indeterminate, hours(1));
    let report = report(&mut world, Function::Create);
    assert_eq!(counts(&report)["requested"], 40);
    assert!(report.failures.iter().all(|f| f.region.as_deref() == Some(REGIONS[1])));
    assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
}

#[test]
fn a_busy_instance_makes_no_run_follow_another() {
    for (kind, goes_on) in [(ErrorKind::Busy, false), (ErrorKind::Throttled, true)] {
        let mut world = world();
        let me = begun(&mut world, Function::Create, "create");
        // One got through, so that something was achieved; the other does not.
        if kind == ErrorKind::Throttled {
            world.next(me, None);
        }
        world.refuse("create", kind, minutes(10));
        let report = finished(&mut world, me);
        assert!(report.left > 0, "{report:?}");
        assert_eq!(!world.world.undelivered().is_empty(), goes_on, "{kind:?}");
    }
}

#[test]
fn a_lost_answer_stays_lost_whatever_the_next_one_says() {
    let mut world = world();
    let me = begun(&mut world, Function::Create, "create");
    world.next(me, Some(Fault::Before(ErrorKind::Indeterminate)));
    world.refuse("create", ErrorKind::Throttled, minutes(10));
    finished(&mut world, me);
    let records = world.world.ledgers[0].all();
    let doubtful = records.iter().filter(|record| record.effect_unknown()).count();
    assert_eq!((records.len(), doubtful), (2, 1), "{records:?}");
}

#[test]
fn a_run_that_served_somebody_is_no_error_whatever_a_later_page_says() {
    let mut world = fleet();
    let me = begun(&mut world, Function::Create, "remember");
    world.refuse("instances", ErrorKind::Throttled, hours(1));
    let report = finished(&mut world, me);
    assert_eq!((counts(&report)["requested"], report.failures.len()), (20, 1));
}
