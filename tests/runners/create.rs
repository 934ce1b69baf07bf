//! Runs of `create` and `poll`, and what all runs have in common.

use crate::*;

#[test]
fn create_counts_what_it_saw_and_did() {
    let mut world = world();
    let provider = &world.world.provider;
    provider.launch(REGIONS[1], "off", [("snapkeep".to_owned(), "off".to_owned())].into());
    provider.launch(REGIONS[1], "nobody", BTreeMap::new());
    let first = report(&mut world, Function::Create);
    let seen = [("regions", 2), ("instances", 4), ("protected", 2), ("unprotected", 1)];
    let with = |more: &[(&'static str, u64)]| seen.iter().chain(more).copied().collect();
    assert_eq!(counts(&first), with(&[("requested", 2)]));
    assert_eq!(codes(&first), [Code::OptedOut, Code::Unprotected]);
    assert!(first.failures.is_empty() && !first.fell_short());
    assert_eq!(first.function, Function::Create);

    assert_eq!(counts(&report(&mut world, Function::Create)), with(&[("served", 2)]));

    // The next slot waits for what is being made.
    world.advance(hours(4));
    let waiting = report(&mut world, Function::Create);
    assert_eq!(counts(&waiting), with(&[("waiting", 2)]));
    let waits = Code::WaitingForPending;
    assert_eq!(codes(&waiting), [Code::OptedOut, Code::Unprotected, waits, waits]);

    world.run_alone(Function::Poll);
    world.advance(hours(8));
    let late = report(&mut world, Function::Create);
    assert_eq!(counts(&late), with(&[("requested", 2), ("missed", 4)]));

    world.world.ledgers[0].clear();
    assert_eq!(counts(&report(&mut world, Function::Create)), with(&[("tracked", 2)]));
}

#[test]
fn what_cannot_be_listed_or_recalled_is_a_failure_and_stops_nothing_else() {
    // Both instances are in the first Region; a list that fails in the second costs nothing.
    for (operation, requested) in [("regions", 0), ("instances", 2), ("recent", 1), ("claim", 1)] {
        let mut world = world();
        if operation == "regions" {
            // Where the ledger knows nothing yet, nothing can be done without the Regions' names.
            world.refuse(operation, ErrorKind::Denied, hours(1));
            assert!(answer(&mut world, Function::Create).is_err());
            continue;
        }
        let fault = if operation == "instances" { None } else { DENIED };
        if operation == "instances" {
            world.refuse_in(REGIONS[1], ErrorKind::Denied, hours(1));
        }
        let report = struck(&mut world, Function::Create, operation, fault);
        assert!(report.fell_short());
        assert_eq!(report.failures.len(), 1, "{operation}: {:?}", report.failures);
        assert_eq!(report.failures[0].code, "Denied");
        assert_eq!(counts(&report)["requested"], requested, "{operation}");
    }
}

#[test]
fn a_place_that_does_not_answer_stops_no_other() {
    for function in [Function::Create, Function::Prune] {
        for kind in [ErrorKind::Throttled, ErrorKind::Indeterminate, ErrorKind::Denied] {
            let mut world = world();
            world.refuse_in(REGIONS[1], kind, hours(1));
            let report = report(&mut world, function);
            assert_eq!((report.failures.len(), counts(&report)["regions"]), (1, 1), "{function:?}");
            assert_eq!(report.failures[0].region.as_deref(), Some(REGIONS[1]));
        }
    }
}

#[test]
fn what_was_listed_is_served_even_if_a_later_page_fails() {
    let mut world = world();
    for number in 0..30 {
        let tags = [("snapkeep".to_owned(), String::new())].into();
        world.world.provider.launch(REGIONS[0], &format!("web-{number:02}"), tags);
    }
    // What is new on the first page is remembered before the second is asked for.
    let me = begun(&mut world, Function::Create, "remember");
    world.refuse("instances", ErrorKind::Denied, hours(1));
    let report = finished(&mut world, me);
    assert_eq!((counts(&report)["requested"], report.failures.len()), (20, 1));
}

#[test]
fn without_the_regions_names_those_that_the_ledger_knows_are_looked_after() {
    let mut world = world();
    slot(&mut world);
    world.refuse("regions", ErrorKind::Denied, hours(1));
    let blind = report(&mut world, Function::Create);
    assert_eq!((counts(&blind)["requested"], blind.failures.len()), (2, 1));
    // A Region that the provider names no more is looked after, and reported.
    let mut world = self::world();
    slot(&mut world);
    world.world.unname(REGIONS[0]);
    let unnamed = report(&mut world, Function::Create);
    assert_eq!((counts(&unnamed)["requested"], codes(&unnamed)), (2, vec![Code::RegionUnnamed]));
}

#[test]
fn a_place_that_the_configuration_leaves_out_is_followed_and_reported() {
    let mut world = world();
    world.run_alone(Function::Create);
    let vars = &mut world.deployments[0].vars;
    vars.insert("SNAPKEEP_REGIONS".to_owned(), REGIONS[1].to_owned());
    world.advance(hours(4));
    assert_eq!(counts(&report(&mut world, Function::Poll))["available"], 2);
    assert_eq!(counts(&report(&mut world, Function::Create)).get("requested"), None);
    let left_out = report(&mut world, Function::Prune);
    assert_eq!(codes(&left_out), [Code::PlaceLeftOut]);
    assert_eq!(counts(&left_out).get("marked"), None);
}

#[test]
fn one_that_is_still_being_made_is_waited_for_however_old_its_slot_is() {
    let mut world = world();
    slot(&mut world);
    slot(&mut world);
    let records = world.world.ledgers[0].all();
    let mut oldest = records.into_iter().min_by_key(|r| (r.slot, r.name.clone())).unwrap();
    alter(&mut oldest, |r| {
        r.state = State::Pending;
        r.times.insert(State::Pending, world.world.now());
        r.times.remove(State::Requested);
    });
    world.world.ledgers[0].insert(oldest);
    let report = report(&mut world, Function::Create);
    assert_eq!((counts(&report)["waiting"], counts(&report)["requested"]), (1, 1));
}

#[test]
fn a_ledger_or_provider_that_does_not_answer_is_an_error_of_the_tick() {
    for function in [Function::Create, Function::Poll, Function::Prune] {
        let mut world = world();
        world.run_alone(Function::Create);
        for operation in ["memory", "open"] {
            world.refuse(operation, ErrorKind::Throttled, minutes(1));
            if operation == "memory" || function == Function::Poll {
                let error = answer(&mut world, function).unwrap_err();
                assert_eq!(error.kind(), "LedgerUnavailable");
                assert!(error.to_string().contains("Throttled"), "{error}");
            }
            world.advance(minutes(1));
        }
    }
    for function in [Function::Create, Function::Prune] {
        for operation in ["regions", "instances"] {
            let mut world = self::world();
            world.refuse(operation, ErrorKind::Throttled, hours(1));
            let error = answer(&mut world, function).unwrap_err();
            assert_eq!(error.kind(), "ProviderUnavailable", "{operation}");
            // What trying again does not help is told, not tried again.
            let mut world = self::world();
            world.refuse("instances", ErrorKind::Denied, hours(1));
            let report = answer(&mut world, function).unwrap();
            assert_eq!((report.failures.len(), counts(&report).len()), (2, 0));
        }
    }
}

#[test]
fn the_loser_of_a_race_says_so() {
    let mut world = world();
    // Without leases, claims alone keep two runs apart.
    world.refuse("put_run", ErrorKind::Denied, hours(1));
    let me = begun(&mut world, Function::Create, "claim");
    let winner = report(&mut world, Function::Create);
    assert_eq!(counts(&winner)["requested"], 2);
    let loser = finished(&mut world, me);
    assert_eq!(counts(&loser)["conflicts"], 2);
    assert_eq!(codes(&loser), [Code::ClaimedElsewhere, Code::ClaimedElsewhere]);
}

#[test]
fn a_place_in_which_another_run_is_at_work_is_left_to_it() {
    let mut world = world();
    slot(&mut world);
    world.run_alone(Function::Create);
    for function in [Function::Create, Function::Poll, Function::Prune] {
        let me = world.start(function, 0).unwrap();
        while world.upcoming(me).is_some_and(|(next, _)| next != "instances" && next != "snapshot")
        {
            world.next(me, None);
        }
        let second = report(&mut world, function);
        assert_eq!(codes(&second), [Code::LaneHeld], "{function:?}");
        assert!(!second.fell_short());
        // One that died holds it no longer than an invocation may live.
        world.crash(me);
        world.advance(minutes(15));
        assert!(!codes(&report(&mut world, function)).contains(&Code::LaneHeld), "{function:?}");
    }
}

#[test]
fn what_there_is_no_time_for_is_left_and_counted() {
    let mut world = world();
    for _ in 0..3 {
        slot(&mut world);
    }
    for (function, left) in [(Function::Create, 2), (Function::Poll, 2), (Function::Prune, 4)] {
        drop(world.answers());
        let me = world.start(function, 0).unwrap();
        // The deadline is a minute before the invocation is ended.
        world.world.provider.set_now(world.world.now() + minutes(14));
        world.finish(me);
        let report = world.answers().pop().unwrap().unwrap();
        assert_eq!(report.left, left, "{function:?}");
        assert!(report.fell_short());
        assert!(report.failures.is_empty());
        world.run_alone(Function::Create);
    }
}

#[test]
fn create_keeps_an_intent_that_was_refused_and_says_what_to_do() {
    let mut world = world();
    for (kind, fix) in [
        (ErrorKind::Denied, "check the permissions of the create function"),
        (ErrorKind::Quota, "delete snapshots that are not needed, or have the quota raised"),
        (ErrorKind::Busy, "do nothing unless it lasts"),
        (ErrorKind::Throttled, "do nothing unless it lasts"),
    ] {
        world.refuse("create", kind, minutes(10));
        let report = report(&mut world, Function::Create);
        assert_eq!(codes(&report), [Code::CreateDeferred, Code::CreateDeferred]);
        assert_eq!(report.failures.len(), 2);
        assert!(report.findings[0].fix.as_ref().unwrap().starts_with(fix));
        assert_eq!(counts(&report).get("requested"), None);
        world.advance(minutes(15));
    }
    // What may have had an effect is left to the next run after this one must be over.
    let mut world = self::world();
    let lost = struck(&mut world, Function::Create, "create", Some(Fault::After));
    assert_eq!((lost.failures.len(), counts(&lost)["tracked"]), (0, 1), "asked again: {lost:?}");
}

#[test]
fn a_name_that_is_taken_is_ours_or_a_failed_attempt() {
    let mut world = world();
    let mut other = self::world();
    other.run_alone(Function::Create);
    for mut snapshot in other.world.provider.all_snapshots() {
        snapshot.tags.clear();
        snapshot.id = format!("foreign/{}", snapshot.name);
        world.world.provider.insert(snapshot);
    }
    let first = report(&mut world, Function::Create);
    assert_eq!(codes(&first), [Code::CreateDeferred, Code::CreateDeferred], "{first:?}");
    // Tags may come late: the second look decides.
    world.advance(minutes(15));
    let report = report(&mut world, Function::Create);
    assert_eq!(counts(&report)["attempts_failed"], 2);
    assert_eq!(codes(&report), [Code::AttemptFailed, Code::AttemptFailed]);
    let records = world.world.ledgers[0].all();
    assert!(records.iter().all(|record| record.state == State::Failed && !record.has_residue));
}

#[test]
fn poll_counts_what_became_of_what_it_follows() {
    let mut world = world();
    assert!(counts(&report(&mut world, Function::Poll)).is_empty());
    world.run_alone(Function::Create);
    let pending = report(&mut world, Function::Poll);
    assert_eq!(counts(&pending), BTreeMap::from([("followed", 2)]));
    let all = world.world.provider.all_snapshots();
    world.world.provider.fail(&all[0].place, &all[0].name);
    world.advance(minutes(20));
    let settled = report(&mut world, Function::Poll);
    let expected = [("followed", 2), ("available", 1), ("attempts_failed", 1)];
    assert_eq!(counts(&settled), expected.into());
    assert_eq!(codes(&settled), [Code::AttemptFailed]);

    let denied = {
        world.advance(hours(4));
        world.run_alone(Function::Create);
        world.refuse("snapshot", ErrorKind::Denied, minutes(1));
        report(&mut world, Function::Poll)
    };
    assert_eq!((denied.failures.len(), counts(&denied)["followed"]), (2, 2));
    assert!(denied.failures[0].resource.is_some() && denied.failures[0].region.is_some());
}

#[test]
fn poll_counts_a_slot_that_passed_without_a_snapshot_as_missed() {
    let mut world = world();
    world.refuse("create", ErrorKind::Denied, hours(5));
    world.run_alone(Function::Create);
    world.advance(hours(5));
    let report = report(&mut world, Function::Poll);
    assert_eq!(counts(&report), BTreeMap::from([("followed", 2), ("missed", 2)]));
    assert_eq!(codes(&report), [Code::MissedSlots, Code::MissedSlots]);
}

#[test]
fn a_region_that_is_not_enabled_is_information_unless_something_of_ours_is_there() {
    let mut world = world();
    world.world.provider.enable_region(REGIONS[1], false);
    let quiet = report(&mut world, Function::Create);
    assert_eq!(codes(&quiet), [Code::RegionNotEnabled]);
    assert!(!quiet.fell_short());
    world.world.provider.enable_region(REGIONS[1], true);
    world.world.provider.enable_region(REGIONS[0], false);
    let loud = report(&mut world, Function::Create);
    assert_eq!(codes(&loud), [Code::RegionUnreachable]);
    assert_eq!((loud.failures.len(), loud.fell_short()), (1, true));
}

#[test]
fn create_asks_no_more_than_it_needs() {
    let mut world = world();
    world.world.provider.launch(REGIONS[1], "far", [("snapkeep".to_owned(), String::new())].into());
    slot(&mut world);
    world.run_alone(Function::Create);
    world.advance(minutes(20));
    world.run_alone(Function::Poll);
    world.advance(minutes(220));
    let calls = |world: &mut Simulation| {
        let me = world.start(Function::Create, 0).unwrap();
        let mut calls = BTreeMap::new();
        while let Some((operation, _)) = world.upcoming(me) {
            *calls.entry(operation).or_insert(0) += 1;
            world.next(me, None);
        }
        calls
    };
    // A page for each Region, one request for each due slot, and nothing for what exists.
    let due = [
        ("memory", 1),
        ("regions", 1),
        ("open", 2),
        ("instances", 2),
        ("put_run", 4),
        // What people were told.
        ("known", 1),
    ];
    let each = [("recent", 3), ("claim", 3), ("create", 3), ("note", 3), ("advance", 3)];
    assert_eq!(calls(&mut world), due.into_iter().chain(each).collect());
    world.advance(minutes(20));
    world.run_alone(Function::Poll);
    // Nothing is due: the ledger says so at once.
    assert_eq!(calls(&mut world), due.into());
}

#[test]
fn one_that_is_being_made_keeps_no_other_resource_waiting() {
    let mut world = world();
    world.run_alone(Function::Create);
    world.world.provider.launch(REGIONS[0], "new", [("snapkeep".to_owned(), String::new())].into());
    let report = report(&mut world, Function::Create);
    assert_eq!((counts(&report)["served"], counts(&report)["requested"]), (2, 1));
}

#[test]
fn with_a_lost_ledger_the_ask_is_the_look() {
    let mut world = world();
    slot(&mut world);
    world.advance(minutes(-230));
    let before = world.world.provider.all_snapshots().len();
    for lost in 0..3 {
        world.world.ledgers[0].clear();
        let report = report(&mut world, Function::Create);
        // The first time the slot is a new one.
        let word = if lost == 0 { "requested" } else { "tracked" };
        assert_eq!((counts(&report)[word], report.failures.len()), (2, 0), "{lost}");
    }
    assert_eq!(world.world.provider.all_snapshots().len(), before + 2);
}

#[test]
fn a_refused_intent_is_free_at_once_and_a_lost_answer_only_after_its_lease() {
    for (kind, free) in [(ErrorKind::Denied, true), (ErrorKind::Indeterminate, false)] {
        let mut world = world();
        slot(&mut world);
        world.advance(hours(8));
        world.refuse("create", kind, minutes(1));
        let first = report(&mut world, Function::Create);
        assert_eq!(counts(&first)["missed"], 4, "{kind:?}");
        let records = world.world.ledgers[0].all();
        let intents: Vec<_> = records.iter().filter(|r| r.state == State::Intended).collect();
        assert_eq!(intents.len(), 2);
        for intent in intents {
            assert_eq!(intent.lease.is_none(), free, "{kind:?}");
            assert!(intent.reason.contains(&format!("{kind:?}")), "{}", intent.reason);
        }
        world.advance(minutes(5));
        let again = report(&mut world, Function::Create);
        assert_eq!(counts(&again).contains_key("requested"), free, "{kind:?}");
        // What was missed is told once.
        assert_eq!(counts(&again).get("missed"), None);
        world.advance(minutes(15));
        let last = report(&mut world, Function::Create);
        assert_eq!(counts(&last).contains_key("requested"), !free, "{kind:?}");
    }
}

#[test]
fn a_name_that_no_snapshot_shows_is_given_up_after_the_lease() {
    let mut other = world();
    other.run_alone(Function::Create);
    let mut world = world();
    // Something else has the names: an instance.
    for snapshot in other.world.provider.all_snapshots() {
        world.world.provider.launch(&snapshot.place, &snapshot.name, BTreeMap::new());
    }
    let first = report(&mut world, Function::Create);
    assert_eq!((first.failures.len(), counts(&first).get("attempts_failed")), (2, None));
    world.advance(minutes(15));
    let later = report(&mut world, Function::Create);
    assert_eq!((later.failures.len(), counts(&later)["attempts_failed"]), (0, 2));
}

#[test]
fn an_answer_that_was_lost_is_found_by_its_name() {
    let mut world = world();
    let me = begun(&mut world, Function::Create, "create");
    // Both snapshots are made, nobody hears of it, and the function dies.
    for _ in 0..2 {
        while world.upcoming(me).is_some_and(|(next, _)| next != "create") {
            world.next(me, None);
        }
        assert!(world.next(me, Some(Fault::After)));
    }
    world.crash(me);
    assert_eq!(world.world.provider.all_snapshots().len(), 2);
    world.advance(minutes(15));
    let second = report(&mut world, Function::Create);
    assert_eq!((counts(&second)["tracked"], counts(&second).get("requested")), (2, None));
    assert!(world.world.ledgers[0].all().iter().all(|r| r.state == State::Requested));
}

#[test]
fn what_is_throttled_goes_back_into_the_queue_until_nothing_gets_through() {
    let mut world = world();
    // For four seconds nothing gets through: nobody needs to hear of it.
    world.refuse("create", ErrorKind::Throttled, SignedDuration::from_secs(4));
    let patient = report(&mut world, Function::Create);
    assert_eq!((counts(&patient)["requested"], patient.failures.len(), patient.left), (2, 0, 0));
    // For a minute: the place is left to the next tick, and the intents are free for it.
    world.advance(hours(4));
    world.run_alone(Function::Poll);
    world.refuse("create", ErrorKind::Throttled, minutes(1));
    let throttled = report(&mut world, Function::Create);
    assert_eq!((throttled.failures.len(), throttled.left), (2, 2));
    assert_eq!(codes(&throttled), [Code::CreateDeferred; 2]);
    world.advance(minutes(1));
    assert_eq!(counts(&report(&mut world, Function::Create))["requested"], 2);
}
