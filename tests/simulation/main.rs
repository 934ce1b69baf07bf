//! Histories in which everything goes wrong. A failing seed is replayed by the line that it prints.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use snapkeep_testkit::simulation::properties::Property;
use snapkeep_testkit::simulation::sabotage::Sabotage;
use snapkeep_testkit::simulation::{Options, Outcome, Profile, run};

mod exhaustive;
mod forecast;

/// How many histories `cargo test` runs. CI asks for more, see [`asked_for`].
const SEEDS: u64 = 200;
/// Every sabotage is caught within so many.
const SABOTAGE_SEEDS: u64 = 2000;

/// What breaks nothing, or something else, where names do not identify snapshots: the provider itself
/// makes one snapshot of an instance at a time, and what has no tags is recognised by its name.
const HARMLESS_BY_ID: &[Sabotage] = &[Sabotage::OverlooksWhatIsUnderWay, Sabotage::ForgetsItsTags];

/// Seeds that found something, with a word on what it was. Histories change with the runners: what holds
/// each fault is a test of its own, beside the code.
const PINNED: &[(u64, Profile, &str)] = &[
    (
        386,
        Profile::ByName,
        "what prune had not been able to ask for when its time was over counted as one item",
    ),
    (
        685,
        Profile::ByName,
        "who was refused by a full quota came last again in the next slot, and starved",
    ),
    (
        6525,
        Profile::ByName,
        "of two runs at once, one told that a condition is resolved after the other had found it again",
    ),
    (140, Profile::ById, "a copy of a snapshot that was deleted counted toward the minimum"),
    (599, Profile::ById, "a record had the name that its instance got later"),
    (393, Profile::ById, "the second snapshot of a slot had the name that its instance got later"),
    (1208, Profile::ById, "the second snapshot of a slot stayed after its instance was gone"),
    (
        1273,
        Profile::ByName,
        "after a refusal for quota the first page was served before who had waited was known",
    ),
];

/// The number of histories in `SNAPKEEP_SEEDS`, which CI sets. With it, the scopes of [`exhaustive`] are
/// enumerated for two resources too.
fn asked_for() -> Option<u64> {
    std::env::var("SNAPKEEP_SEEDS").ok()?.parse().ok()
}

/// Both profiles without sabotage.
fn profiles() -> [Options; 2] {
    Profile::ALL.map(|profile| Options { profile, ..Options::default() })
}

/// Runs seeds on all cores until `stop` says so; the outcomes for which it did.
fn search(seeds: u64, options: Options, stop: impl Fn(&Outcome) -> bool + Sync) -> Option<Outcome> {
    let next = AtomicU64::new(0);
    let found = OnceLock::new();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while found.get().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let outcome = run(seed, options);
                    if stop(&outcome) {
                        found.get_or_init(|| outcome);
                    }
                }
            });
        }
    });
    found.into_inner()
}

/// The simulator is worth nothing if a seed is not one history: this comes first.
#[test]
fn a_seed_gives_one_history() {
    for (seed, options) in (0..10).flat_map(|seed| profiles().map(|options| (seed, options))) {
        let once = run(seed, options);
        let again = run(seed, Options { trace: true, ..options });
        assert_eq!((once.hash, once.calls), (again.hash, again.calls), "seed {seed}");
        assert!(!again.lines.is_empty());
    }
    assert_ne!(run(1, Options::default()).hash, run(2, Options::default()).hash);
}

#[test]
fn histories_keep_every_promise() {
    let seeds = asked_for().unwrap_or(SEEDS);
    for options in profiles() {
        let broken = search(seeds, options, |outcome| outcome.violation.is_some());
        if let Some(Outcome { seed, violation, .. }) = broken {
            panic!("{violation:?}\nreplay it with: {}", replay(seed, options));
        }
    }
}

#[test]
fn seeds_that_found_something_stay_good() {
    for (seed, profile, what) in PINNED {
        let options = Options { profile: *profile, ..Options::default() };
        let outcome = run(*seed, options);
        assert_eq!(outcome.violation, None, "{what}: {}", replay(*seed, options));
    }
}

/// The command that replays a history.
fn replay(seed: u64, options: Options) -> String {
    let by_id = if options.profile == Profile::ById { " --by-id" } else { "" };
    format!("cargo simulate --seed {seed}{by_id}")
}

#[test]
fn every_broken_variant_is_caught() {
    for (sabotage, property) in Sabotage::ALL {
        for options in profiles() {
            if options.profile == Profile::ById && HARMLESS_BY_ID.contains(sabotage) {
                continue;
            }
            let options = Options { sabotage: Some(*sabotage), ..options };
            let of = |outcome: &Outcome| {
                outcome.violation.as_ref().is_some_and(|violation| violation.property == *property)
            };
            let caught = search(SABOTAGE_SEEDS, options, of);
            let who = (sabotage, options.profile);
            let seed = caught.unwrap_or_else(|| panic!("nobody caught {who:?}")).seed;
            println!("{who:?} breaks {property:?}: seed {seed}");
        }
    }
}

#[test]
fn every_property_has_a_broken_variant() {
    for property in Property::ALL {
        assert!(Sabotage::ALL.iter().any(|(_, by)| by == property), "{property:?}");
    }
}
