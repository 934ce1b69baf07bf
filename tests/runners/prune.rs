//! Runs of `prune`.

use crate::*;

#[test]
fn a_second_good_snapshot_of_a_slot_gets_an_item_of_its_own() {
    let mut world = world();
    slot(&mut world);
    // The slot's item is the second attempt's; the first one's snapshot is there too.
    let records = world.world.ledgers[0].all();
    let mut second = records.into_iter().find(|r| r.resource_name == "web").unwrap();
    let first = second.name.clone();
    alter(&mut second, |r| {
        r.attempt = 2;
        r.name = snapshot_name("snapkeep", &r.resource, &r.resource_name, r.slot, 2);
    });
    let mut twin = world.world.provider.find(&second.place, &first).unwrap();
    (twin.name, twin.id) = (second.name.clone(), "twin".to_owned());
    world.world.provider.insert(twin);
    world.world.ledgers[0].insert(second);
    let adopted = report(&mut world, Function::Prune);
    assert_eq!((counts(&adopted)["adopted"], codes(&adopted)), (1, vec![Code::Adopted]));
    let records = world.world.ledgers[0].all();
    let superseded = records.iter().find(|record| record.superseded).unwrap();
    assert_eq!((&superseded.name, superseded.attempt), (&first, 1));
    assert_eq!(counts(&report(&mut world, Function::Prune)).get("adopted"), None);
}

#[test]
fn prune_counts_every_snapshot_once_and_every_change() {
    let mut world = world();
    for _ in 0..4 {
        slot(&mut world);
    }
    let provider = &world.world.provider;
    let mut foreign = provider.all_snapshots()[0].clone();
    (foreign.name, foreign.id) = ("by-hand".to_owned(), "by-hand".to_owned());
    foreign.tags.clear();
    provider.insert(foreign);
    let seen = [("regions", 2), ("instances", 2), ("snapshots", 9), ("foreign", 1)];
    let with = |more: &[(&'static str, u64)]| seen.iter().chain(more).copied().collect();
    let marked = report(&mut world, Function::Prune);
    assert_eq!(counts(&marked), with(&[("kept", 4), ("marked", 4)]));
    assert!(marked.findings.is_empty() && !marked.fell_short());
    let waiting = report(&mut world, Function::Prune);
    assert_eq!(counts(&waiting), with(&[("kept", 4), ("expiring", 4)]));

    let oldest = world.world.provider.all_snapshots();
    let oldest = oldest.iter().find(|snapshot| snapshot.name.starts_with("db")).unwrap();
    world.world.provider.tag_snapshot(&oldest.place, &oldest.name, HOLD, "");
    world.advance(hours(1));
    let pruned = report(&mut world, Function::Prune);
    let expected = [("kept", 4), ("held_back", 1), ("rescued", 1), ("pruned", 3)];
    assert_eq!(counts(&pruned), with(&expected));
    assert_eq!(codes(&pruned), [Code::Rescued]);

    let confirmed = report(&mut world, Function::Poll);
    assert_eq!(counts(&confirmed), BTreeMap::from([("followed", 3), ("deleted", 3)]));

    world.world.ledgers[0].clear();
    let seen = [("regions", 2), ("instances", 2), ("snapshots", 6), ("foreign", 1)];
    let adopted = report(&mut world, Function::Prune);
    let expected: BTreeMap<_, _> = seen.into_iter().chain([("kept", 5), ("adopted", 5)]).collect();
    assert_eq!(counts(&adopted), expected);
    assert_eq!(codes(&adopted), [Code::Adopted; 5]);

    world.run_alone(Function::Create);
    let fresh = report(&mut world, Function::Prune);
    assert_eq!(counts(&fresh)["not_available"], 2);
}

#[test]
fn a_deletion_that_is_refused_is_taken_back_and_told() {
    for (kind, back) in [
        (ErrorKind::Denied, true),
        (ErrorKind::Refused, true),
        (ErrorKind::Throttled, false),
        (ErrorKind::Indeterminate, false),
        (ErrorKind::NotFound, false),
    ] {
        let mut world = world();
        for _ in 0..3 {
            slot(&mut world);
        }
        world.run_alone(Function::Prune);
        world.advance(hours(1));
        world.refuse("delete", kind, minutes(10));
        let report = report(&mut world, Function::Prune);
        let gone = kind == ErrorKind::NotFound;
        assert_eq!(report.failures.len(), if gone { 0 } else { 2 }, "{kind:?}");
        assert_eq!(codes(&report).contains(&Code::DeleteRefused), back, "{kind:?}");
        assert_eq!(counts(&report).contains_key("rescued"), back, "{kind:?}");
        assert_eq!(counts(&report).get("pruned"), None);
        let state = if back { State::Available } else { State::Deleting };
        let records = world.world.ledgers[0].all();
        assert_eq!(
            records.iter().filter(|record| record.state == state).count(),
            if back { 6 } else { 2 }
        );
    }
}

/// A run whose plan condemns marked snapshots, before it writes its first intent.
fn about_to_delete() -> (Simulation, InvocationId) {
    let mut world = world();
    for _ in 0..3 {
        slot(&mut world);
    }
    world.run_alone(Function::Prune);
    world.advance(hours(1));
    let me = begun(&mut world, Function::Prune, "advance");
    (world, me)
}

#[test]
fn the_last_look_saves_what_was_held_after_the_list() {
    let (mut world, me) = about_to_delete();
    for snapshot in world.world.provider.all_snapshots() {
        world.world.provider.tag_snapshot(&snapshot.place, &snapshot.name, HOLD, "");
    }
    let report = finished(&mut world, me);
    assert_eq!(codes(&report), [Code::DeleteRefused, Code::DeleteRefused]);
    assert!(report.findings[0].message.contains("held"), "{report:?}");
    assert_eq!(counts(&report)["rescued"], 2);
    assert_eq!(world.world.provider.all_snapshots().len(), 6);
}

#[test]
fn a_dry_run_changes_nothing_and_names_what_it_would() {
    let mut world = world();
    for _ in 0..3 {
        slot(&mut world);
    }
    let vars = &mut world.deployments[0].vars;
    vars.insert("SNAPKEEP_DRY_RUN".to_owned(), "on".to_owned());
    let before = world.world.ledgers[0].all();
    let dry = report(&mut world, Function::Prune);
    assert_eq!(codes(&dry), [Code::DryRun]);
    assert!(dry.findings[0].message.contains("2 changes"), "{:?}", dry.findings);
    let would = dry.findings[0].value.as_ref().unwrap();
    assert_eq!(would.matches("mark ").count(), 2, "{would}");
    assert_eq!(counts(&dry).get("marked"), None);
    assert_eq!(world.world.ledgers[0].all(), before);
}

#[test]
fn what_prune_cannot_find_out_is_a_failure_and_deletes_nothing() {
    for operation in ["snapshots", "instance", "snapshot"] {
        let mut world = world();
        for _ in 0..3 {
            slot(&mut world);
        }
        let vars = &mut world.deployments[0].vars;
        vars.insert("SNAPKEEP_ORPHAN_KEEP".to_owned(), "1h".to_owned());
        world.world.provider.terminate(REGIONS[0], "web");
        let gone = world.world.provider.all_snapshots()[0].clone();
        world.world.provider.vanish(&gone.place, &gone.name);
        world.refuse(operation, ErrorKind::Denied, minutes(10));
        let report = report(&mut world, Function::Prune);
        assert!(!report.failures.is_empty() && report.fell_short(), "{operation}");
        assert_eq!(counts(&report).get("pruned"), None);
        if operation == "instance" {
            assert!(codes(&report).contains(&Code::SourceUnknown), "{report:?}");
            assert_eq!(report.failures[0].name.as_deref(), Some("web"));
        }
        if operation == "snapshot" {
            assert_eq!(report.failures[0].name.as_ref(), Some(&gone.name));
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_stops_pruning_its_resource_only() {
    let mut world = world();
    for _ in 0..3 {
        slot(&mut world);
    }
    // The newest, so that the oldest would be marked if its record were not missed.
    let record = world.world.ledgers[0].all().into_iter().max_by_key(|r| r.slot).unwrap();
    let live = record.live().map(|state| (&*record.place, state));
    world.world.ledgers[0].spoil(&record.resource, &record.sort_key(), live, "spoiled");
    let report = report(&mut world, Function::Prune);
    assert!(codes(&report).contains(&Code::UnreadableRecord), "{report:?}");
    assert!(report.findings[0].message.contains("spoiled"), "{report:?}");
    assert_eq!(counts(&report)["marked"], 1);
    assert!(report.fell_short());
}

#[test]
fn an_instance_that_the_list_forgot_is_asked_for_by_name() {
    let mut world = world();
    for _ in 0..3 {
        slot(&mut world);
    }
    let alive = struck(&mut world, Function::Prune, "instances", Some(Fault::Empty));
    assert_eq!(counts(&alive)["marked"], 2, "{alive:?}");
    assert!(codes(&alive).is_empty(), "{alive:?}");
}

#[test]
fn another_instance_of_the_same_name_is_not_the_source() {
    let mut world = world();
    for _ in 0..3 {
        slot(&mut world);
    }
    let vars = &mut world.deployments[0].vars;
    vars.insert("SNAPKEEP_ORPHAN_KEEP".to_owned(), "1h".to_owned());
    for name in ["web", "db"] {
        world.world.provider.terminate(REGIONS[0], name);
    }
    world.world.provider.launch(REGIONS[0], "web", BTreeMap::new());
    let report = report(&mut world, Function::Prune);
    let orphans: Vec<_> = report.findings.iter().filter(|f| f.code == Code::Orphan).collect();
    assert_eq!(orphans.len(), 2, "{report:?}");
    let of = |name: &str| {
        orphans.iter().find(|f| f.name.as_deref() == Some(name)).unwrap().message.clone()
    };
    assert!(of("web").contains("another instance has its name now"), "{}", of("web"));
    for name in ["web", "db"] {
        assert!(of(name).contains("only the minimum stays"), "{}", of(name));
    }
    assert_eq!(counts(&report)["marked"], 4, "a namesake changes nothing");
}

#[test]
fn what_is_overdue_is_counted_and_by_how_much() {
    let mut world = world();
    slot(&mut world);
    // A period of four hours, and six that a snapshot may take; protection began ten minutes after the slot.
    world.advance(minutes(360));
    let late = report(&mut world, Function::Prune);
    assert_eq!((counts(&late).get("overdue"), codes(&late).len()), (None, 0));
    world.advance(hours(1));
    let late = report(&mut world, Function::Prune);
    assert_eq!((counts(&late)["overdue"], counts(&late)["overdue_seconds"]), (2, 3600));
    assert_eq!(codes(&late), [Code::Overdue, Code::Overdue]);
}

/// One snapshot of `web` is deleted by somebody else; what it was.
fn vanished(world: &mut Simulation) -> snapkeep_domain::snapshot::Snapshot {
    slot(world);
    let all = world.world.provider.all_snapshots();
    let gone = all.iter().find(|snapshot| snapshot.name.starts_with("web")).unwrap();
    let gone = world.world.provider.vanish(&gone.place, &gone.name);
    assert_eq!(counts(&report(world, Function::Prune)).get("deleted"), None);
    world.advance(minutes(15));
    let told = report(world, Function::Prune);
    assert_eq!((counts(&told)["deleted"], codes(&told)), (1, vec![Code::Vanished]));
    gone
}

#[test]
fn what_vanished_and_is_there_again_is_ours_again() {
    let mut world = world();
    let gone = vanished(&mut world);
    world.world.provider.insert(gone.clone());
    let again = report(&mut world, Function::Prune);
    assert_eq!((counts(&again)["adopted"], codes(&again)), (1, vec![Code::SeenAgain]));
    let records = world.world.ledgers[0].all();
    assert!(records.iter().all(|record| record.state == State::Available));
    // Once.
    assert_eq!(counts(&report(&mut world, Function::Prune)).get("adopted"), None);
}

#[test]
fn a_tombstone_stands_until_its_snapshot_is_seen_available_and_ours() {
    let mut world = world();
    let gone = vanished(&mut world);
    let deleted = |world: &Simulation| {
        let records = world.world.ledgers[0].all();
        records.iter().filter(|record| record.state == State::Deleted).count()
    };
    world.world.provider.insert(gone.clone());
    world.world.provider.set_state(&gone.place, &gone.name, SnapshotState::Pending);
    let pending = report(&mut world, Function::Prune);
    assert_eq!((deleted(&world), pending.failures.len()), (1, 0));
    world.world.provider.set_state(&gone.place, &gone.name, SnapshotState::Available);
    // Its tags go between the list and the look.
    let me = begun(&mut world, Function::Prune, "claim");
    world.world.provider.untag_snapshot(&gone.place, &gone.name, "snapkeep:managed-by");
    let stripped = finished(&mut world, me);
    assert_eq!((deleted(&world), counts(&stripped).get("adopted")), (1, None));
    // It goes again between the list and the look.
    world.world.provider.tag_snapshot(&gone.place, &gone.name, "snapkeep:managed-by", "snapkeep");
    let me = begun(&mut world, Function::Prune, "claim");
    world.world.provider.vanish(&gone.place, &gone.name);
    let lagging = finished(&mut world, me);
    assert_eq!((deleted(&world), codes(&lagging)), (1, vec![]));
}

#[test]
fn the_last_look_saves_what_is_no_longer_ours() {
    let (mut world, me) = about_to_delete();
    for snapshot in world.world.provider.all_snapshots() {
        world.world.provider.untag_snapshot(&snapshot.place, &snapshot.name, "snapkeep:managed-by");
    }
    let report = finished(&mut world, me);
    assert_eq!(codes(&report), [Code::DeleteRefused, Code::DeleteRefused]);
    assert!(report.findings[0].message.contains("no longer ours"), "{report:?}");
    assert_eq!(world.world.provider.all_snapshots().len(), 6);
}
