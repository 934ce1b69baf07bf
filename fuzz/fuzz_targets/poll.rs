//! `poll`: whatever a record and a look say, it walks legal edges only, and comes to rest.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use snapkeep_domain::answer::Lookup;
use snapkeep_domain::ledger::record::{GONE_AFTER, State};
use snapkeep_domain::poll;
use snapkeep_domain::time::{Slot, elapsed};
use snapkeep_fuzz::{
    NAMES, SCHEDULES, ZONES, check_edge, look, near, now, record, settings, slot, word,
};
use snapkeep_tests::context;

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let (now, settings) = (now(u)?, settings(u)?);
    let cx = context(&settings, now);
    let (schedule, zone) = (word(u, &SCHEDULES)?.parse(), word(u, &ZONES)?.parse());
    let slot = match (schedule, zone) {
        (Ok(schedule), Ok(zone)) => slot(u, &schedule, &zone, now)?,
        _ => Slot::at(near(u, now)?),
    };
    let name = word(u, &NAMES)?;
    let mut old = record(u, name, slot, now)?;
    let look = look(u, &old, now)?;
    let _ = poll::wants_look(&old, now);
    for _ in 0..4 {
        let step = poll::settle(&old, &look, &cx);
        assert_eq!(step, poll::settle(&old, &look, &cx));
        let Some(next) = step.next else { return Ok(()) };
        assert_ne!(next, old, "a write that changes nothing");
        check_edge(&old, &next);
        assert!(poll::FOLLOWED.contains(&old.state) && look != Lookup::Unknown);
        if let (State::Pending | State::Available, Lookup::Found(found)) = (next.state, &look) {
            assert!(next.state == old.state || found.source == old.resource, "of another resource");
        }
        assert!(next.state != State::Available || matches!(look, Lookup::Found(_)));
        // Two looks some time apart, unless the provider says it outright or the slot passed.
        if next.state == State::Failed && old.state != State::Intended && look == Lookup::Missing {
            assert!(old.missing_since.is_some_and(|first| elapsed(first, now) >= GONE_AFTER));
        }
        assert!(next.state != State::Failed || step.finding.is_some(), "a silent failure");
        old = next;
    }
    panic!("no rest: {old:?}");
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
