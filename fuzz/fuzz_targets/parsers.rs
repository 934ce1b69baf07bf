//! Every parser of the core: no text makes it panic, and what is accepted is written as it is read.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Result, Unstructured};
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use snapkeep_domain::function::Function;
use snapkeep_domain::policy::confirmation::ConfirmationCode;
use snapkeep_domain::policy::keep::{Keep, MinKeep};
use snapkeep_domain::policy::schedule::Schedule;
use snapkeep_domain::policy::settings::{Settings, VARIABLES};
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::policy::{Policies, Policy, PolicyText, Retention};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Hold, Tags, snapshot_name};
use snapkeep_domain::time::{Slot, Zone, format_duration, parse_duration};
use snapkeep_fuzz::{KEEPS, SCHEDULES, ZONES, any_time, chance, now, word};

/// Pieces of the grammars.
const PIECES: [&str; 56] = [
    "keep=",
    "daily=",
    "last=",
    "hourly=",
    "weekly=",
    "monthly=",
    "yearly=",
    "within=",
    "all",
    "y",
    "m",
    "w",
    "d",
    "h",
    "0",
    "1",
    "2",
    "9",
    "30",
    "24",
    "9999",
    "4294967295",
    " ",
    "\t",
    ";",
    "\n",
    ":",
    "=",
    "@",
    "-",
    "+",
    "daily@",
    "weekly@",
    "monthly@",
    "every-",
    "hourly",
    "sun-",
    "mon-",
    "03:00",
    "23:59",
    "02:30",
    "schedule=",
    "timezone=",
    "Europe/Berlin",
    "UTC",
    "gold",
    "bad",
    "on",
    "off",
    "until=",
    "2027-01-31",
    "2026-11-20T03:00:00Z",
    "arn:aws:iam::111122223333:role/x",
    "\u{664}",
    "é",
    "\u{a0}",
];

/// Text made of pieces of the grammars, or any text.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    if chance(u, 3)? {
        return <&str>::arbitrary(u).map(str::to_owned);
    }
    let mut text = String::new();
    for _ in 0..u8::arbitrary(u)? % 12 {
        text += word(u, &PIECES)?;
    }
    Ok(text)
}

fn small(u: &mut Unstructured<'_>, now: Timestamp) -> Result<()> {
    let text = text(u)?;
    if let Ok(keep) = text.parse::<Keep>() {
        assert_eq!(keep.to_string().parse(), Ok(keep.clone()));
        assert_eq!(Retention::read(&text), Ok(Retention::Keep(keep.clone())));
        judge(u, &keep, now)?;
    }
    if let Ok(floor) = text.parse::<MinKeep>() {
        match floor {
            MinKeep::Count(count) => assert_eq!(count.to_string().parse(), Ok(floor)),
            MinKeep::Rules(keep) => assert_eq!(text.parse(), Ok(keep)),
        }
    }
    if let Ok(schedule) = text.parse::<Schedule>() {
        assert_eq!(schedule.to_string().parse(), Ok(schedule));
        slots(u, &schedule, now)?;
    }
    if let Ok(slot) = text.parse::<Slot>() {
        assert_eq!(slot.to_string(), text);
    }
    if let Ok(zone) = text.parse::<Zone>() {
        assert_eq!(zone.name().parse(), Ok(zone.clone()), "{text}");
    }
    if let Ok(duration) = parse_duration(&text) {
        assert!(!duration.is_negative());
        let _ = format_duration(duration);
    }
    hold(u, &text, now)?;
    let slot = Slot::at(any_time(u, now)?);
    let name = |attempt| snapshot_name(&text, &ResourceId(text.clone()), &text, slot, attempt);
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    assert!(name(1).len() <= 255 && name(1).chars().all(legal), "{}", name(1));
    assert_ne!(name(1), name(2));
    Ok(())
}

/// The newest is kept by any rules, and each time has one verdict.
fn judge(u: &mut Unstructured<'_>, keep: &Keep, now: Timestamp) -> Result<()> {
    let zone = zone(u)?;
    let mut times = vec![any_time(u, now)?, now, any_time(u, now)?, any_time(u, now)?];
    times.sort_by(|a, b| b.cmp(a));
    let kept = keep.judge(&times, &zone);
    assert!(kept.len() == times.len() && !kept[0].is_empty(), "{keep}: {times:?}");
    let _ = ConfirmationCode::of_rules(keep, &zone);
    Ok(())
}

/// Slots go back strictly, none is after now, and each is due at its own instant.
fn slots(u: &mut Unstructured<'_>, schedule: &Schedule, now: Timestamp) -> Result<()> {
    let (zone, now) = (zone(u)?, any_time(u, now)?);
    if now == Timestamp::MIN || now == Timestamp::MAX {
        let _ = schedule.latest(&zone, now);
        let _ = schedule.period(&zone, now);
        return Ok(());
    }
    let slots: Vec<Slot> = schedule.slots_back(&zone, now).take(4).collect();
    assert!(slots[0].timestamp() <= now && slots.is_sorted_by(|a, b| a > b), "{slots:?}");
    for slot in &slots {
        assert_eq!(schedule.latest(&zone, slot.timestamp()), *slot);
    }
    assert!(schedule.period(&zone, now) > SignedDuration::ZERO);
    assert_eq!(schedule.slots_between(&zone, slots[3], slots[0]), 2);
    Ok(())
}

fn zone(u: &mut Unstructured<'_>) -> Result<Zone> {
    Ok(word(u, &ZONES)?.parse().unwrap_or_else(|error| panic!("{error}")))
}

/// A hold that is stored and read again holds as before.
fn hold(u: &mut Unstructured<'_>, text: &str, now: Timestamp) -> Result<()> {
    let (hold, zone, now) = (Hold::read(text), zone(u)?, any_time(u, now)?);
    let again = Hold::read(&hold.text());
    assert_eq!(hold.holds(now, &zone), again.holds(now, &zone), "{text}");
    match hold {
        Hold::Unreadable { .. } => assert!(matches!(again, Hold::Unreadable { .. })),
        _ => assert_eq!(again, hold),
    }
    Ok(())
}

/// What a policy says is read again as it is written into records.
fn check_policy(policy: &Policy) {
    let PolicyText { schedule, keep, timezone, .. } = policy.text();
    assert_eq!(schedule.map(|text| text.parse()), Some(Ok(policy.schedule)));
    assert_eq!(timezone.parse(), Ok(policy.zone.clone()));
    match keep {
        Some(text) => assert_eq!(text.parse(), Ok(policy.retention.keep())),
        None => assert_eq!(policy.retention, Retention::Unreadable),
    }
}

fn check_policies(policies: &Policies) {
    for (name, policy) in &policies.named {
        assert_eq!(*name, policy.name);
        check_policy(policy);
        assert!(policy.retention != Retention::Unreadable || !policy.problems.is_empty());
        for problem in &policy.problems {
            assert!(
                problem.fix.is_some() && problem.message.contains(problem.key.as_deref().unwrap())
            );
        }
    }
}

fn tags(u: &mut Unstructured<'_>) -> Result<()> {
    let policies = Policies::read(Policy::default(), &text(u)?);
    check_policies(&policies);
    let prefix = if chance(u, 4)? { text(u)? } else { "snapkeep".to_owned() };
    let mut tags = Tags::new();
    for _ in 0..u8::arbitrary(u)? % 6 {
        let key =
            word(u, &["", ":keep", ":schedule", ":timezone", ":hold", ":confirm", ":Keep", ":"])?;
        let key = match u8::arbitrary(u)? % 16 {
            0..=12 => format!("{prefix}{key}"),
            13 => format!("{}{key}", prefix.to_ascii_uppercase()),
            14 => format!("{prefix}{}", text(u)?),
            _ => text(u)?,
        };
        let value = match key.rsplit_once(':') {
            Some((_, "keep")) if chance(u, 6)? => word(u, &KEEPS)?.to_owned(),
            Some((_, "schedule")) if chance(u, 6)? => word(u, &SCHEDULES)?.to_owned(),
            _ => text(u)?,
        };
        tags.insert(key, value);
    }
    let protection = Protection::read(&tags, &prefix, &policies);
    assert_eq!(protection.opt_in == OptIn::Untagged, !tags.contains_key(&prefix));
    let policy = &protection.policy;
    check_policy(policy);
    assert!(policy.retention != Retention::Unreadable || !policy.problems.is_empty());
    for finding in &policy.problems {
        assert!(finding.key.is_some() && finding.value.is_some() && finding.fix.is_some());
    }
    // A key that says hold, in whatever case, holds or is until a day.
    let key = format!("{prefix}:hold");
    assert_eq!(protection.hold.is_some(), tags.keys().any(|k| k.eq_ignore_ascii_case(&key)));
    Ok(())
}

fn variables(u: &mut Unstructured<'_>) -> Result<()> {
    let mut vars = BTreeMap::from([("SNAPKEEP_LEDGER_TABLE".to_owned(), "ledger".to_owned())]);
    for _ in 0..u8::arbitrary(u)? % 6 {
        let key = word(u, &VARIABLES)?.to_owned();
        let key = if chance(u, 1)? { key + &text(u)? } else { key };
        vars.insert(key, text(u)?);
    }
    for function in [Function::Create, Function::Poll, Function::Prune] {
        match Settings::read(&vars, function) {
            Ok(settings) => {
                check_policy(&settings.policies.default);
                check_policies(&settings.policies);
                assert!(!settings.tag.is_empty() && !settings.deployment.is_empty());
                assert!(!settings.grace.is_negative() && settings.max_delete_percent <= 100);
                assert!(settings.min_keep != MinKeep::Count(0));
            }
            Err(error) => {
                let message = error.to_string();
                for problem in &error.0 {
                    let key = problem.key.as_ref().unwrap();
                    let value = vars[key].trim();
                    assert!(message.contains(key) && message.contains(value), "{message}");
                }
            }
        }
    }
    Ok(())
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let now = now(u)?;
    match u8::arbitrary(u)? % 4 {
        0 | 1 => small(u, now),
        2 => tags(u),
        _ => variables(u),
    }
}

fuzz_target!(|data: &[u8]| {
    let _ = run(&mut Unstructured::new(data));
});
