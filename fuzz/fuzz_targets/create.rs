//! `create`: whatever the ledger and the provider say, an intent is taken only for the due slot, once, and while
//! nothing is under way; an answer walks legal edges only.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use jiff::SignedDuration;
use libfuzzer_sys::fuzz_target;
use snapkeep_domain::answer::{ErrorKind, Lookup};
use snapkeep_domain::capabilities::Capabilities;
use snapkeep_domain::create::{self, Facts, Outcome, Settled, Settlement, Take, Verdict};
use snapkeep_domain::ledger::record::{EDGES, Recognition, Record, State};
use snapkeep_domain::policy::settings::Context;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::snapshot::{ATTEMPTS_MAX, SnapshotState, snapshot_name};
use snapkeep_fuzz::{
    NAMES, answers, chance, check_edge, instance, look, near, now, record, settings, slot, unique,
    word,
};
use snapkeep_tests::{DEPLOYMENT, alter, context};

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let (now, settings) = (now(u)?, settings(u)?);
    let unique_names = !chance(u, 4)?;
    let capabilities = Capabilities { unique_names, ..Capabilities::default() };
    let cx = Context { capabilities, ..context(&settings, now) };
    let name = word(u, &NAMES)?;
    let instance = instance(u, name, now)?;
    let protection = Protection::read(&instance.tags, &settings.tag, &settings.policies);
    let due = create::due_slot(&protection, now);
    assert!(due.timestamp() <= now);
    let mut records = Vec::new();
    for _ in 0..u8::arbitrary(u)? % 5 {
        let policy = &protection.policy;
        let slot = if chance(u, 8)? { due } else { slot(u, &policy.schedule, &policy.zone, now)? };
        records.push(record(u, name, slot, now)?);
    }
    unique(&mut records);
    let protected_since = if chance(u, 8)? { Some(near(u, now)?) } else { None };
    let looks = BTreeMap::new();
    let mut facts = Facts { instance, protection, protected_since, records, looks };
    for asked in create::questions(&facts, &cx) {
        let look = look(u, &asked, now)?;
        facts.looks.insert(asked.snapshot(), look);
    }
    let verdict = create::plan(&facts, &cx);
    assert_eq!(verdict, create::plan(&facts, &cx));
    match verdict {
        Verdict::Take(take) => {
            check_take(&facts, &take, &cx);
            check_answers(u, &take.intent, &cx)?;
        }
        Verdict::Wait(finding) => {
            assert!(facts.protection.opt_in == OptIn::On && finding.resource.is_some())
        }
        Verdict::Track { replaces, record } => {
            assert!(!cx.capabilities.unique_names && facts.protection.opt_in == OptIn::On);
            let own = |r: &&Record| r.slot == record.slot && !r.superseded;
            let old = facts.records.iter().find(own);
            assert_eq!(replaces, old.is_some());
            old.into_iter().for_each(|old| check_edge(old, &record));
        }
        Verdict::Served => {}
    }
    Ok(())
}

fn check_take(facts: &Facts, take: &Take, cx: &Context<'_>) {
    let (intent, now) = (&take.intent, cx.now);
    assert_eq!(facts.protection.opt_in, OptIn::On);
    assert_eq!((intent.state, intent.lease), (State::Intended, cx.lease));
    assert_eq!((intent.slot, intent.superseded), (create::due_slot(&facts.protection, now), false));
    assert!(
        (1..=ATTEMPTS_MAX).contains(&intent.attempt)
            && intent.mark.is_none()
            && !intent.has_residue
    );
    let id = &facts.instance.id;
    let own = snapshot_name(DEPLOYMENT, id, &facts.instance.name, intent.slot, intent.attempt);
    assert_eq!((&intent.name, &intent.resource), (&own, id));
    for r in &facts.records {
        assert!(!r.in_flight(now, cx.settings.pending_timeout), "{} is being made", r.name);
        let good = matches!(r.state, State::Requested | State::Pending | State::Available);
        assert!(r.slot != intent.slot || !good, "{} is good", r.name);
        // What may have come about unseen was asked for, and is not being made.
        let asked_long_ago = now.duration_since(r.asked_at()) > cx.settings.pending_timeout;
        if r.effect_unknown() && !asked_long_ago && (r.slot != intent.slot || r.superseded) {
            assert!(r.intent_is_free(now), "another invocation is asking for {}", r.name);
            let settled = |state: &SnapshotState| {
                matches!(state, SnapshotState::Available | SnapshotState::Error)
            };
            match facts.looks.get(&r.snapshot()) {
                Some(Lookup::Missing) => {}
                Some(Lookup::Found(found)) => assert!(settled(&found.state)),
                Some(Lookup::Unknown) | None => panic!("{} may be being made", r.name),
            }
        }
    }
    let old = facts.records.iter().find(|r| r.slot == intent.slot && !r.superseded);
    assert_eq!(take.replaces, old.is_some());
    let Some(old) = old else { return assert!(take.superseded.is_none() && intent.attempt == 1) };
    assert!(EDGES.contains(&(old.state, State::Intended)), "{:?}", old.state);
    assert_eq!((intent.version, intent.missed), (old.version, old.missed));
    if old.state == State::Intended {
        assert!(old.intent_is_free(now) && intent.attempt == old.attempt);
        return assert!(take.superseded.is_none());
    }
    assert_eq!(intent.attempt, old.attempt + 1);
    let pause = SignedDuration::from_hours(1 << (old.attempt - 1));
    assert!(now.duration_since(old.entered()) >= pause, "too early");
    // Whether the failed attempt came about after all was asked.
    if let Some(Lookup::Found(found)) = facts.looks.get(&old.snapshot()) {
        let ours = old.recognises(found, DEPLOYMENT, &Capabilities::default()) == Recognition::Ours;
        assert!(!ours || found.state == SnapshotState::Error, "it came about");
    } else {
        assert!(facts.looks.contains_key(&old.snapshot()), "nobody asked for {}", old.name);
    }
    assert_eq!(take.superseded.is_some(), old.has_residue);
    if let Some(superseded) = &take.superseded {
        assert!(
            superseded.superseded && superseded.state == State::Failed && superseded.has_residue
        );
        assert_eq!((&superseded.name, superseded.attempt), (&old.name, old.attempt));
        assert_ne!(superseded.sort_key(), intent.sort_key());
    }
}

/// Every answer, without a look and with one.
fn check_answers(u: &mut Unstructured<'_>, intent: &Record, cx: &Context<'_>) -> Result<()> {
    // As it may stand after an earlier foreign look.
    let mut intent = intent.clone();
    if chance(u, 4)? {
        let since = near(u, cx.now)?;
        alter(&mut intent, |r| r.foreign_since = Some(since));
    }
    let look = look(u, &intent, cx.now)?;
    let lost = chance(u, 2)?;
    for answer in answers() {
        let kind = answer.as_ref().err().map(|error| error.kind);
        for look in [None, Some(&look)] {
            match create::settle(&intent, &answer.clone().map(|()| None), look, lost, cx) {
                Settled::Look => assert!(kind == Some(ErrorKind::NameTaken) && look.is_none()),
                Settled::Again => {
                    let kind = kind.unwrap();
                    let repeats = cx.capabilities.unique_names || !kind.effect_unknown();
                    assert!(kind.transient() && repeats, "{kind:?}");
                }
                Settled::Write(settlement) => check_settlement(&intent, &settlement, kind),
            }
        }
        if let Err(error) = &answer {
            let deferred = create::defer(&intent, error, lost, &cx);
            check_settlement(&intent, &deferred, None);
            let leased = lost || error.kind.effect_unknown();
            assert_eq!(!deferred.next.lease.is_none(), leased);
        }
    }
    Ok(())
}

fn check_settlement(intent: &Record, settlement: &Settlement, kind: Option<ErrorKind>) {
    let Settlement { next, outcome, finding } = settlement;
    check_edge(intent, next);
    let state = match outcome {
        Outcome::Requested | Outcome::Tracked => State::Requested,
        Outcome::Deferred => State::Intended,
        Outcome::Failed => State::Failed,
    };
    assert_eq!(next.state, state);
    assert_eq!(finding.is_some(), matches!(outcome, Outcome::Deferred | Outcome::Failed));
    // An attempt fails only when its name is taken.
    assert!(*outcome != Outcome::Failed || kind == Some(ErrorKind::NameTaken));
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
