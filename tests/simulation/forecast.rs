//! What a forecast announces is what then happens, snapshot by snapshot, in a world in which nothing
//! goes wrong. The histories of the records tell when.

use std::collections::BTreeMap;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::forecast::{Act, Outlook};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::prune::Facts;
use snapkeep_domain::snapshot::HOLD;
use snapkeep_testkit::simulation::operators::{KEEPS, SCHEDULES};
use snapkeep_testkit::simulation::{Profile, REGIONS, Simulation};

/// How many worlds are tried.
const WORLDS: u64 = 20;
/// How far a forecast looks.
const AHEAD: SignedDuration = SignedDuration::from_hours(40);
/// The most by which what is announced comes late: two rounds of `create`, `poll` and `prune`, at the
/// cadence of the simulator, and the minutes that a snapshot takes.
const LATE: SignedDuration = SignedDuration::from_hours(4);

/// What happens to which snapshot, and when.
type Told = BTreeMap<(String, Act), Timestamp>;

/// Everything that the place shows, and the ledger knows.
fn facts(world: &Simulation, capabilities: &Capabilities) -> Facts {
    let (provider, ledger) = (&world.world.provider, &world.world.ledgers[0]);
    let mut facts = Facts::of(snapkeep_tests::place(REGIONS[0]));
    let instances = provider.all_instances().into_iter();
    facts.instances = instances.map(|one| (one.id.clone(), one)).collect();
    for snapshot in provider.all_snapshots() {
        facts.listing.add(&snapshot, "snapkeep", capabilities);
    }
    for record in ledger.all().into_iter().filter(|record| record.live().is_some()) {
        facts.records.entry(record.resource.clone()).or_default().push(record);
    }
    let protected = ledger.protected().into_iter();
    facts.protected = protected.map(|item| (item.resource.clone(), item)).collect();
    facts
}

/// What the forecast of the place announces.
fn announced(world: &Simulation, settings: &Settings) -> Told {
    let now = world.world.now();
    let can = world.world.provider.can();
    let facts = facts(world, &can);
    let mut told = Told::new();
    for action in Outlook::of(facts, settings, can, (now, now + AHEAD)).actions {
        told.entry((action.record.name.clone(), action.act)).or_insert(action.at);
    }
    told
}

/// What happened since then, as the records tell it.
fn happened(world: &Simulation, since: Timestamp) -> Told {
    let mut told = Told::new();
    let all: Vec<Record> = world.world.ledgers[0].all();
    for record in &all {
        for change in record.history.past.iter().filter(|change| change.at > since) {
            let act = match (change.from, change.to) {
                (None, State::Intended) => Act::Take,
                (_, State::Expiring) => Act::Mark,
                (_, State::Deleted) => Act::Delete,
                (Some(State::Expiring), State::Available) => Act::Rescue,
                _ => continue,
            };
            told.entry((record.name.clone(), act)).or_insert(change.at);
        }
    }
    told
}

/// A world that has run for some days under a random policy, and quietly so at the moment.
fn world(by: Profile, rng: &mut Rng) -> (Simulation, Vec<(&'static str, &'static str)>) {
    let mut one = |all: &[&'static str]| all[rng.usize(0..all.len())];
    let vars = vec![
        ("SNAPKEEP_SCHEDULE", one(SCHEDULES)),
        ("SNAPKEEP_KEEP", one(KEEPS)),
        ("SNAPKEEP_GRACE", one(&["1h", "5h", "1d"])),
        ("SNAPKEEP_TIMEZONE", one(&["UTC", "Europe/Berlin", "Australia/Lord_Howe"])),
        ("SNAPKEEP_MIN_KEEP", one(&["1", "3", "daily=2"])),
    ];
    let mut world = Simulation::scripted(by, &vars, &["web", "db"]);
    world.schedule();
    world.advance(SignedDuration::from_hours(rng.i64(1..96)));
    // Everything under way comes to its end; then nothing runs while the forecast is made.
    world.unschedule();
    world.advance(SignedDuration::from_mins(20));
    for function in [Function::Poll, Function::Prune, Function::Poll] {
        world.run_alone(function);
    }
    if rng.bool() {
        let all = world.world.provider.all_snapshots();
        let held = &all[rng.usize(0..all.len())];
        let until = ["", "until=2026-01-04"][rng.usize(0..2)];
        let key = held.key(&world.world.provider.can());
        world.world.provider.tag_snapshot(&held.place, key, HOLD, until);
    }
    (world, vars)
}

#[test]
fn what_a_forecast_announces_is_what_happens() {
    let mut count = BTreeMap::<Act, usize>::new();
    let worlds = (0..WORLDS).flat_map(|seed| Profile::ALL.map(|by| (seed, by)));
    for (seed, by) in worlds {
        let (mut world, vars) = world(by, &mut Rng::with_seed(seed));
        let all = vars.iter().chain(&[("SNAPKEEP_LEDGER_TABLE", "ledger")]);
        let all = all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let settings = Settings::read(&all, Function::Prune).unwrap();
        let begin = world.world.now();
        let announced = announced(&world, &settings);
        world.schedule();
        world.advance(AHEAD + LATE);
        let happened = happened(&world, begin);
        let context = format!("seed {seed}, {by:?}, {vars:?}, from {begin}");
        for ((name, act), at) in &announced {
            // What is announced for the last hours may be rescued or overtaken by later slots.
            let real = happened.get(&(name.clone(), *act));
            let late = real.map(|real| real.duration_since(*at));
            let in_time = late.is_some_and(|late| !late.is_negative() && late <= LATE);
            assert!(in_time, "{context}: {act:?} of {name} at {at}, but it was {real:?}");
            *count.entry(*act).or_default() += 1;
        }
        for ((name, act), at) in &happened {
            let known = announced.contains_key(&(name.clone(), *act)) || *at > begin + AHEAD;
            assert!(known, "{context}: nobody announced {act:?} of {name} at {at}");
        }
        assert_eq!(world.violation(), None, "{context}");
    }
    let each = [Act::Take, Act::Mark, Act::Delete];
    assert!(each.iter().all(|act| count.get(act).is_some_and(|n| *n > 60)), "{count:?}");
}
