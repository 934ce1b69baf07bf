//! Small scopes, enumerated: every call of every function at which it can die or be answered badly,
//! times whatever comes next.

use jiff::SignedDuration;
use snapkeep_app::ports::ErrorKind;
use snapkeep_domain::function::Function;
use snapkeep_domain::snapshot::HOLD;
use snapkeep_testkit::simulation::ports::Fault;
use snapkeep_testkit::simulation::{Profile, REGIONS, Simulation};

const VARS: &[(&str, &str)] = &[
    ("SNAPKEEP_SCHEDULE", "every-4h"),
    ("SNAPKEEP_KEEP", "last=2"),
    ("SNAPKEEP_GRACE", "1h"),
    ("SNAPKEEP_PENDING_TIMEOUT", "1h"),
];

/// What befalls one call.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The invocation dies before the call's effect.
    DiesBefore,
    /// The invocation dies after it, and never hears of it.
    DiesAfter,
    /// The call is refused.
    Refused(ErrorKind),
    /// The call is carried out, and its answer lost.
    Lost,
    /// Nothing; only the other one comes in between.
    Nothing,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The same function, at its next tick.
    Rerun,
    /// Another invocation of it, which ran from beginning to end just before the blow.
    Twin,
    /// The same event once more, at once, and once more.
    Duplicate,
}

const BLOWS: &[Blow] = &[
    Blow::DiesBefore,
    Blow::DiesAfter,
    Blow::Refused(ErrorKind::Throttled),
    Blow::Refused(ErrorKind::Denied),
    Blow::Refused(ErrorKind::Indeterminate),
    Blow::Lost,
    Blow::Nothing,
];
const THENS: &[Then] = &[Then::Rerun, Then::Twin, Then::Duplicate];

/// A world in which this function has this to do.
type Scene = (&'static str, Function, fn(Profile, &[&str]) -> Simulation);

const SCENES: &[Scene] = &[
    ("create: protection begins", Function::Create, |by, names| {
        Simulation::scripted(by, VARS, names)
    }),
    ("create: the next slot, after a gap", Function::Create, |by, names| {
        let mut world = running(by, names, 1);
        world.advance(hours(9));
        world
    }),
    ("create: an attempt failed and left something", Function::Create, |by, names| {
        let mut world = Simulation::scripted(by, VARS, names);
        world.run_alone(Function::Create);
        for snapshot in world.world.provider.all_snapshots() {
            world.world.provider.fail(&snapshot.place, &snapshot.name);
        }
        world.run_alone(Function::Poll);
        world.advance(minutes(61));
        world
    }),
    ("create: an intent that nobody works on", Function::Create, |by, names| {
        dead_create(by, names, 1)
    }),
    ("create: the same, and it was asked for", Function::Create, |by, names| {
        dead_create(by, names, 2)
    }),
    ("create: a lost ledger", Function::Create, |by, names| {
        let world = running(by, names, 9);
        world.lose_ledger();
        world
    }),
    ("create: the name is taken", Function::Create, |by, names| {
        let world = Simulation::scripted(by, VARS, names);
        let mut other = Simulation::scripted(by, VARS, names);
        other.run_alone(Function::Create);
        for mut snapshot in other.world.provider.all_snapshots() {
            snapshot.tags.clear();
            snapshot.id = format!("foreign/{}", snapshot.name);
            world.world.provider.insert(snapshot);
        }
        world
    }),
    ("poll: it is pending", Function::Poll, |by, names| {
        let mut world = Simulation::scripted(by, VARS, names);
        world.run_alone(Function::Create);
        world
    }),
    ("poll: it is available", Function::Poll, |by, names| {
        let mut world = Simulation::scripted(by, VARS, names);
        world.run_alone(Function::Create);
        world.advance(minutes(20));
        world
    }),
    ("poll: it is gone", Function::Poll, |by, names| {
        let mut world = Simulation::scripted(by, VARS, names);
        world.run_alone(Function::Create);
        for snapshot in world.world.provider.all_snapshots() {
            world.world.provider.vanish(&snapshot.place, &snapshot.name);
        }
        world.run_alone(Function::Poll);
        world.advance(minutes(16));
        world
    }),
    ("poll: an intent whose slot has passed", Function::Poll, |by, names| {
        let mut world = dead_create(by, names, 1);
        world.advance(hours(5));
        world
    }),
    ("poll: an intent that was asked for", Function::Poll, |by, names| dead_create(by, names, 2)),
    ("poll: it was deleted", Function::Poll, |by, names| {
        let mut world = due(by, names);
        world.run_alone(Function::Prune);
        world
    }),
    ("prune: marks", Function::Prune, |by, names| {
        let mut world = Simulation::scripted(by, VARS, names);
        for _ in 0..4 {
            world.run_alone(Function::Create);
            world.advance(minutes(20));
            world.run_alone(Function::Poll);
            world.advance(hours(4));
        }
        world
    }),
    ("prune: deletes", Function::Prune, due),
    ("prune: rescues what is held", Function::Prune, |by, names| {
        let world = due(by, names);
        for snapshot in world.world.provider.all_snapshots() {
            world.world.provider.tag_snapshot(&snapshot.place, &snapshot.name, HOLD, "");
        }
        world
    }),
    ("prune: a lost ledger", Function::Prune, |by, names| {
        let world = running(by, names, 14);
        world.lose_ledger();
        world
    }),
    ("prune: somebody deleted one", Function::Prune, |by, names| {
        let mut world = running(by, names, 9);
        let all = world.world.provider.all_snapshots();
        world.world.provider.vanish(&all[0].place, &all[0].name);
        world.run_alone(Function::Prune);
        world.advance(minutes(16));
        world
    }),
    ("prune: the instance is gone", Function::Prune, |by, names| {
        let mut world = running(by, names, 14);
        world.deployments[0].vars.insert("SNAPKEEP_ORPHAN_KEEP".to_owned(), "1h".to_owned());
        for name in names {
            world.world.provider.terminate(REGIONS[0], name);
        }
        world.run_alone(Function::Prune);
        world.advance(hours(7));
        world
    }),
];

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// A world that ran for so long.
fn running(by: Profile, names: &[&str], for_hours: i64) -> Simulation {
    let mut world = Simulation::scripted(by, VARS, names);
    world.schedule();
    world.advance(hours(for_hours));
    world.unschedule();
    world.advance(minutes(20));
    world
}

/// A world in which something is marked and its grace is over.
fn due(by: Profile, names: &[&str]) -> Simulation {
    let mut world = running(by, names, 9);
    world.advance(minutes(90));
    world
}

/// A world in which `create` died after so many writes, long enough ago.
fn dead_create(by: Profile, names: &[&str], writes: usize) -> Simulation {
    let mut world = Simulation::scripted(by, VARS, names);
    if let Some(me) = world.start(Function::Create, 0) {
        while world.upcoming(me).is_some_and(|(operation, _)| operation != "claim") {
            world.next(me, None);
        }
        for _ in 0..writes * names.len() {
            world.next(me, None);
        }
        world.crash(me);
    }
    world.advance(minutes(16));
    world
}

/// Plays one case; `false` when the function makes no such call.
fn play(scene: &Scene, (by, names): (Profile, &[&str]), at: usize, blow: Blow, then: Then) -> bool {
    let (what, function, set) = scene;
    let mut world = set(by, names);
    let Some(me) = world.start(*function, 0) else { return false };
    for _ in 0..at {
        if !world.next(me, None) {
            return false;
        }
    }
    if world.world.turns.waiting().is_empty() {
        return false;
    }
    if matches!(then, Then::Twin) {
        world.run_alone(*function);
    }
    match blow {
        Blow::DiesBefore => {}
        Blow::DiesAfter => drop(world.next(me, None)),
        Blow::Refused(kind) => drop(world.next(me, Some(Fault::Before(kind)))),
        Blow::Lost => drop(world.next(me, Some(Fault::After))),
        Blow::Nothing => drop(world.next(me, None)),
    }
    match blow {
        Blow::DiesBefore | Blow::DiesAfter => world.crash(me),
        _ => drop(world.finish(me)),
    }
    match then {
        Then::Rerun => {
            world.advance(minutes(15));
            world.run_alone(*function);
        }
        Then::Twin => {}
        Then::Duplicate => {
            world.run_alone(*function);
            world.run_alone(*function);
        }
    }
    world.schedule();
    world.recover(hours(15));
    if let Some(violation) = world.violation() {
        for line in world.lines() {
            println!("{line}");
        }
        panic!("{what}, {by:?}, {names:?}, call {at}, {blow:?}, {then:?}: {violation:?}");
    }
    true
}

/// Plays a scene with every blow at every call; the number of cases.
fn enumerate(scene: &Scene, by: Profile, names: &[&str]) -> usize {
    let (mut cases, mut calls, mut more) = (0, 0, true);
    while more {
        more = false;
        for blow in BLOWS {
            for then in THENS {
                let played = play(scene, (by, names), calls, *blow, *then);
                cases += usize::from(played);
                more |= played;
            }
        }
        calls += usize::from(more);
    }
    println!("{}, {by:?}, {} resources: {calls} calls", scene.0, names.len());
    assert!(calls > 0, "{} has nothing to do", scene.0);
    cases
}

fn every_crash_point(by: Profile) {
    let resources: &[&[&str]] = match crate::asked_for() {
        Some(_) => &[&["web"], &["web", "db"]],
        None => &[&["web"]],
    };
    let all = SCENES.iter().flat_map(|scene| resources.iter().map(move |names| (scene, *names)));
    let cases: usize = all.map(|(scene, names)| enumerate(scene, by, names)).sum();
    println!("{cases} cases, none skipped");
    assert!(cases > 1000, "{cases}");
}

#[test]
fn every_crash_point_of_small_scopes() {
    every_crash_point(Profile::ByName);
}

#[test]
fn every_crash_point_of_small_scopes_without_unique_names() {
    every_crash_point(Profile::ById);
}
