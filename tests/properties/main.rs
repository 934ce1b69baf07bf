//! Properties of retention and of the planner of `prune`.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use snapkeep_app::ports::Invocation;
use snapkeep_app::{create, poll, prune};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::ledger::lease::Lease;
use snapkeep_domain::ledger::record::{INVOCATION_LIFE, State};
use snapkeep_domain::policy::keep::Keep;
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::prune::{Step, Verdict};
use snapkeep_domain::snapshot::{ATTEMPTS_MAX, HOLD, MANAGED_BY, Ownership, SnapshotState};
use snapkeep_domain::time::{Slot, Zone};
use snapkeep_testkit::ledger::MemoryLedger;
use snapkeep_testkit::memory::MemoryProvider;
use snapkeep_testkit::reference::keeps;
use snapkeep_testkit::still::{Endless, NoBus};
use snapkeep_tests::{DEPLOYMENT, Plan, REGION, World, at, mark, settings};

const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

/// A set of rules: (name, count); a span has its unit after the name.
fn rules() -> impl Strategy<Value = Vec<(&'static str, u32)>> {
    let names = ["last", "hourly", "daily", "weekly", "monthly", "yearly"];
    let spans = ["within h", "within d", "within w", "within m", "within y"];
    (proptest::sample::subsequence(names.to_vec(), 1..=4), proptest::option::of(0..spans.len()))
        .prop_flat_map(move |(mut names, span)| {
            names.extend(span.map(|at| spans[at]));
            let count = names.len();
            (Just(names), proptest::collection::vec(1u32..12, count))
        })
        .prop_map(|(names, counts)| names.into_iter().zip(counts).collect())
}

fn text(rules: &[(&str, u32)]) -> String {
    let word = |(name, count): &(&str, u32)| match name.split_once(' ') {
        Some((name, unit)) => format!("{name}={count}{unit}"),
        None => format!("{name}={count}"),
    };
    rules.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Times around a night in which Berlin's clocks go back, sometimes close, sometimes far apart.
fn times() -> impl Strategy<Value = Vec<Timestamp>> {
    let gap = prop_oneof![0i64..7200, 0i64..200_000, 0i64..6_000_000];
    proptest::collection::vec(gap, 0..40).prop_map(|gaps| {
        let mut time = at("2026-10-25T03:00:00Z");
        let mut times = Vec::new();
        for gap in gaps {
            times.push(time);
            time -= SignedDuration::from_secs(gap);
        }
        times
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn retention_equals_the_naive_reference(rules in rules(), times in times(), zone in 0usize..4) {
        let zone: Zone = ZONES[zone].parse().unwrap();
        let keep: Keep = text(&rules).parse().unwrap();
        let stays: Vec<bool> =
            keep.judge(&times, &zone).iter().map(|reasons| !reasons.is_empty()).collect();
        prop_assert_eq!(stays, keeps(&text(&rules), &times, zone.rules()));
    }

    #[test]
    fn a_larger_count_keeps_at_least_as_much(rules in rules(), times in times(), more in 0usize..4) {
        let mut larger = rules.clone();
        let at = more % larger.len();
        larger[at].1 += 1;
        let judge = |rules: &[(&str, u32)]| {
            text(rules).parse::<Keep>().unwrap().judge(&times, &Zone::utc())
        };
        for (small, large) in judge(&rules).iter().zip(judge(&larger)) {
            prop_assert!(small.is_empty() || !large.is_empty());
        }
    }

    #[test]
    fn the_newest_always_stays(rules in rules(), times in times()) {
        let kept = text(&rules).parse::<Keep>().unwrap().judge(&times, &Zone::utc());
        prop_assert!(kept.first().is_none_or(|reasons| !reasons.is_empty()));
    }

    #[test]
    fn keep_texts_round_trip(rules in rules()) {
        let keep: Keep = text(&rules).parse().unwrap();
        prop_assert_eq!(keep.to_string().parse::<Keep>().unwrap(), keep);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,40}") {
        let _ = text.parse::<Keep>();
        let _ = text.parse::<snapkeep_domain::policy::schedule::Schedule>();
        let _ = text.parse::<Slot>();
        let _ = text.parse::<Zone>();
        let _ = snapkeep_domain::time::parse_duration(&text);
        let policies = snapkeep_domain::policy::Policies::read(Default::default(), &text);
        let tags = [(format!("snapkeep:{text}"), text.clone()), ("snapkeep".to_owned(), text)];
        let _ = snapkeep_domain::policy::tags::Protection::read(&tags.into(), "snapkeep", &policies);
    }

    #[test]
    fn prune_conserves_and_guards(world in world()) {
        check(world)?;
    }
}

/// What befalls one snapshot of the random world.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Good,
    Pending,
    Error,
    Held,
    Foreign,
    Copied,
    NoRecord,
    MarkedLongAgo,
    MarkedNow,
}

fn world() -> impl Strategy<Value = World> {
    use Fate::*;
    let fate = prop_oneof![
        6 => Just(Good), 1 => Just(Pending), 1 => Just(Error), 1 => Just(Held), 1 => Just(Foreign),
        1 => Just(Copied), 1 => Just(NoRecord), 4 => Just(MarkedLongAgo), 1 => Just(MarkedNow)
    ];
    let one = (fate, 1i64..60, any::<bool>());
    (rules(), proptest::collection::vec(one, 0..25), 0u32..4, 0i64..80).prop_map(
        |(rules, list, floor, age)| {
            let keep = text(&rules);
            let mut world = World::new(&keep, "2026-11-20T04:00:00Z");
            let floor = (floor + 1).to_string();
            world.settings = settings(&[("SNAPKEEP_KEEP", &keep), ("SNAPKEEP_MIN_KEEP", &floor)]);
            let mut slot = world.now - SignedDuration::from_hours(age);
            for (fate, gap, own) in list {
                let now = world.now;
                let snapshot = world.add(slot, own.then_some(keep.as_str()));
                match fate {
                    Good | MarkedLongAgo | MarkedNow => {}
                    Pending => snapshot.state = SnapshotState::Pending,
                    Error => snapshot.state = SnapshotState::Error,
                    Held => drop(snapshot.tags.insert(HOLD.into(), String::new())),
                    Foreign => drop(snapshot.tags.remove(MANAGED_BY)),
                    Copied => snapshot.name.push('x'),
                    NoRecord => drop(world.facts.records.pop()),
                }
                if let (Some(record), true) =
                    (world.facts.records.last_mut(), matches!(fate, MarkedLongAgo | MarkedNow))
                {
                    let hours = if matches!(fate, MarkedNow) { 1 } else { 100 };
                    mark(record, now - SignedDuration::from_hours(hours));
                }
                slot -= SignedDuration::from_hours(gap);
            }
            world
        },
    )
}

fn check(mut world: World) -> Result<(), TestCaseError> {
    let plan = world.plan();
    let ours = |s: &&snapkeep_domain::snapshot::Snapshot| {
        matches!(s.ownership(DEPLOYMENT, &Capabilities::default()), Ownership::Ours { .. })
    };
    let ours = world.facts.snapshots.iter().filter(ours).count();
    prop_assert_eq!(plan.verdicts.len(), ours, "one verdict for each of ours");

    // The order of the input is irrelevant.
    let mut reversed = world.clone();
    reversed.facts.snapshots.reverse();
    reversed.facts.records.reverse();
    let sorted = |plan: &Plan| {
        let mut all: Vec<_> =
            plan.verdicts.iter().map(|j| (j.name.clone(), j.verdict.clone())).collect();
        all.sort();
        all
    };
    prop_assert_eq!(sorted(&plan), sorted(&reversed.plan()));

    let going = touched(&world, &plan)?;
    leaves_the_floor(&world, &plan, &going)?;

    // A clock that steps back deletes nothing that is not past its grace by that clock either.
    let mut back = world.clone();
    back.now = world.now - SignedDuration::from_hours(200);
    let acts = |s: &Step| matches!(s, Step::Delete { .. } | Step::Mark(_));
    prop_assert!(
        !back.plan().steps.iter().any(acts)
            || world.facts.snapshots.iter().all(|s| s.created_at <= back.now)
    );

    // Applied, the plan has nothing new to delete at the same instant.
    let names: BTreeSet<String> = world.apply(&plan).into_iter().collect();
    prop_assert!(names.is_subset(&going));
    let again = world.plan();
    let deletes = |s: &Step| matches!(s, Step::Delete { .. });
    prop_assert!(!again.steps.iter().any(deletes), "{:?}", again.steps);
    Ok(())
}

/// What goes: it is ours, recorded, not held, available or failed, and was announced.
fn touched(world: &World, plan: &Plan) -> Result<BTreeSet<String>, TestCaseError> {
    let mut going = BTreeSet::new();
    for step in &plan.steps {
        let (record, deleted) = match step {
            Step::Delete { record, .. } => (record, true),
            Step::Mark(record) => (record, false),
            Step::Adopt(_) | Step::Write(_) | Step::Rescue(_) => continue,
        };
        let snapshot = world.facts.snapshots.iter().find(|s| s.name == record.name);
        let snapshot = snapshot.ok_or_else(|| TestCaseError::fail("a step for nothing"))?;
        prop_assert!(snapshot.tags.contains_key(MANAGED_BY) && !snapshot.tags.contains_key(HOLD));
        prop_assert!(!matches!(snapshot.state, SnapshotState::Pending | SnapshotState::Other(_)));
        prop_assert!(record.mark.is_some() && record.attempt <= ATTEMPTS_MAX);
        if deleted {
            let mark = record.mark.clone().ok_or_else(|| TestCaseError::fail("no mark"))?;
            prop_assert!(mark.at + world.settings.grace <= world.now);
            prop_assert!(matches!(record.state, State::Expiring | State::Deleting));
        }
        going.insert(record.name.clone());
    }
    Ok(going)
}

/// What is not going, over all available ones of ours.
fn leaves_the_floor(
    world: &World,
    plan: &Plan,
    going: &BTreeSet<String>,
) -> Result<(), TestCaseError> {
    let ours = |j: &&snapkeep_domain::prune::Judged| j.verdict != Verdict::NotAvailable;
    let available: Vec<_> = plan
        .verdicts
        .iter()
        .filter(ours)
        .filter(|j| {
            let of = |s: &&_| name_of(s) == &j.name;
            world
                .facts
                .snapshots
                .iter()
                .find(of)
                .is_some_and(|s| s.state == SnapshotState::Available)
        })
        .collect();
    let remain = available.iter().filter(|j| !going.contains(&j.name)).count();
    let floor = match &world.settings.min_keep {
        snapkeep_domain::policy::keep::MinKeep::Count(count) => *count as usize,
        snapkeep_domain::policy::keep::MinKeep::Rules(_) => 1,
    };
    prop_assert!(remain >= floor.min(available.len()), "{} of {}", remain, available.len());
    Ok(())
}

fn name_of(snapshot: &snapkeep_domain::snapshot::Snapshot) -> &String {
    &snapshot.name
}

/// A year of hourly ticks of all three functions, through both DST nights of each zone: every slot is
/// taken once, and what is not on its way out is at any time exactly what the rules say.
#[tokio::test]
async fn a_year_of_hourly_ticks_keeps_the_exact_set() {
    let rules = [("hourly", 24), ("daily", 7), ("weekly", 4), ("monthly", 12)];
    for zone in &ZONES[1..] {
        let settings = settings(&[
            ("SNAPKEEP_SCHEDULE", "hourly"),
            ("SNAPKEEP_KEEP", &text(&rules)),
            ("SNAPKEEP_TIMEZONE", zone),
            ("SNAPKEEP_GRACE", "2h"),
        ]);
        let zone: Zone = zone.parse().unwrap();
        let start = at("2026-01-01T00:30:00Z");
        let provider = MemoryProvider::new(&[REGION], start);
        let ledger = MemoryLedger::new();
        provider.launch(REGION, "web", [("snapkeep".to_owned(), String::new())].into());
        for hour in 0..8760 {
            let now = start + SignedDuration::from_hours(hour);
            provider.set_now(now);
            let lease = Lease::until(now + INVOCATION_LIFE);
            let mut invocation = Invocation { now, lease, tick: None, deadline: Endless };
            let create =
                create::run(&provider, &provider, &ledger, &NoBus, &settings, &invocation).await;
            provider.set_now(now + SignedDuration::from_mins(10));
            invocation.now = provider.now();
            let poll = poll::run(&provider, &ledger, &NoBus, &settings, &invocation).await;
            let prune =
                prune::run(&provider, &provider, &ledger, &NoBus, &settings, &invocation).await;
            for report in [create.unwrap(), poll.unwrap(), prune.unwrap()] {
                assert_eq!(
                    (&report.failures[..], &report.findings[..]),
                    (&[][..], &[][..]),
                    "{now}"
                );
            }
            if hour % 97 == 0 {
                let mut records = ledger.all();
                records.retain(|r| matches!(r.state, State::Available | State::Expiring));
                records.sort_by_key(|record| Reverse(record.slot));
                let times: Vec<Timestamp> = records.iter().map(|r| r.slot.timestamp()).collect();
                let stays: Vec<bool> =
                    records.iter().map(|r| r.state == State::Available).collect();
                assert_eq!(
                    stays,
                    keeps(&text(&rules), &times, zone.rules()),
                    "{} {now}",
                    zone.name()
                );
            }
        }
        let hourly: Schedule = "hourly".parse().unwrap();
        let first = hourly.latest(&zone, start);
        let slots = hourly.slots_back(&zone, provider.now()).take_while(|slot| *slot >= first);
        let taken: BTreeSet<Slot> = ledger.all().iter().map(|record| record.slot).collect();
        assert_eq!(slots.collect::<BTreeSet<_>>(), taken, "{}", zone.name());
    }
}
