//! Judges the snapshots of one resource: by the rules first, then by every guard.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::finding::{Code, Finding};
use crate::ledger::record::{Mark, Record, State};
use crate::place::Place;
use crate::policy::keep::KeptBy;
use crate::policy::settings::{Context, Settings};
use crate::prune::candidate::{Candidate, candidates};
use crate::prune::effective::{EffectivePolicy, Subject, resolve};
use crate::prune::guard::{Brake, Guard};
use crate::prune::{Facts, Judged, Plan, Step};
use crate::resource::ResourceId;
use crate::snapshot::{Hold, SnapshotState};
use crate::time::{Slot, after};

/// The decision about a snapshot, and its reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is not available yet: `poll` follows it.
    NotAvailable,
    /// It is ours and has no record: it is adopted, and can be marked from the next run on.
    Adopt,
    /// These rules keep it.
    Kept(Vec<KeptBy>),
    /// This guard keeps it.
    Guarded(Guard),
    /// It is condemned: its deletion is announced now.
    Mark,
    /// It is condemned and announced; the grace is not over.
    Waiting,
    /// It is condemned, announced, and due.
    Delete,
}

/// Judges all snapshots of a resource that exists or has snapshots.
pub(super) fn judge(
    plan: &mut Plan,
    id: &ResourceId,
    records: &[Record],
    facts: &Facts,
    cx: &Context<'_>,
) {
    let (settings, now) = (cx.settings, cx.now);
    let (name, seen) = facts.listing.of(id).unwrap_or(("", BTreeMap::new()));
    let candidates = candidates(seen, records, &facts.place, &cx.capabilities);
    let subject = Subject { id, name, candidates: &candidates, records };
    let effective = resolve(plan, &subject, facts, cx);
    let held = |c: &Candidate<'_>| {
        let mut holds = c.seen.hold.as_deref().into_iter().chain(&effective.instance_hold);
        holds.any(|hold| hold.holds(now, &effective.zone))
    };

    let available: Vec<&Candidate<'_>> = candidates.iter().filter(|c| c.is_available()).collect();
    let times: Vec<Timestamp> = available.iter().map(|c| c.seen.slot.timestamp()).collect();
    let by_rules = |times: &[Timestamp]| match effective.orphan {
        true => vec![Vec::new(); times.len()],
        false => effective.keep.judge(times, &effective.zone),
    };
    let kept = protected(by_rules(&times), &available, &times, &effective, held, cx);
    // A guard may set the rules aside; people want to know them all the same.
    let mut rules = match effective.rules_apply() {
        true => kept.clone(),
        false => {
            let rules = effective.rules.judge(&times, &effective.zone);
            protected(rules, &available, &times, &effective, held, cx)
        }
    }
    .into_iter();

    // The ruling on each candidate, before brake and grace; `None` means condemned.
    let mut kept = kept.into_iter();
    let rulings: Vec<Option<Verdict>> = candidates
        .iter()
        .map(|c| {
            if c.is_leaving {
                let reasons = would_keep(c, &candidates, by_rules, &effective, settings);
                return leaving(c, &reasons, held(c), &effective);
            }
            let reasons =
                if c.is_available() { kept.next().unwrap_or_default() } else { Vec::new() };
            ruling(c, reasons, held(c), times.is_empty(), &effective)
        })
        .collect();

    let condemned = |at: usize| rulings.get(at).is_some_and(Option::is_none);
    let brake =
        (!effective.orphan).then(|| brake(&candidates, &times, condemned, &effective, settings));
    let brake = brake.flatten().map(|finding| finding.of(id, name));
    let braked = brake.is_some();
    plan.findings.extend(brake);

    let mark = mark(&candidates, &rulings, cx);
    for (c, ruling) in candidates.iter().zip(rulings) {
        let subject = (id, name, &facts.place);
        let (verdict, step, finding) = decide(c, ruling, subject, (braked, &mark), &effective, cx);
        plan.findings.extend(finding.map(|finding| finding.of(id, name)));
        plan.findings.extend(bad_hold(c, id));
        let floor = (verdict == Verdict::Guarded(Guard::Floor)).then(|| floor_keeps(c));
        plan.findings.extend(floor.map(|finding| finding.of(id, name)));
        let kept_by = if c.is_available() { rules.next().unwrap_or_default() } else { Vec::new() };
        plan.verdicts.push(judged(c, verdict, kept_by, held(c), &effective, now));
        plan.steps.extend(step);
    }
}

/// Decides about a candidate on which the rules and the guards have ruled.
fn decide(
    c: &Candidate<'_>,
    ruling: Option<Verdict>,
    subject: (&ResourceId, &str, &Place),
    (braked, mark): (bool, &Mark),
    effective: &EffectivePolicy,
    cx: &Context<'_>,
) -> Decision {
    match (ruling, c.record) {
        (_, None) => unrecorded(c, subject, cx.now),
        (None, Some(_)) if !c.seen.deletable => {
            (Verdict::Guarded(Guard::NotDeletable), None, Some(uses_quota(c)))
        }
        (None, Some(record)) => condemn(c, record, braked, mark, effective, cx),
        (Some(ruling), Some(_)) if c.is_leaving => (ruling, None, None),
        (Some(ruling), Some(record)) => spared(c, record, ruling, cx.now),
    }
}

/// What rules keep, and the minimum that nothing undercuts.
fn protected(
    mut kept: Vec<Vec<KeptBy>>,
    available: &[&Candidate<'_>],
    times: &[Timestamp],
    effective: &EffectivePolicy,
    held: impl Fn(&Candidate<'_>) -> bool,
    cx: &Context<'_>,
) -> Vec<Vec<KeptBy>> {
    let stays = |at: usize| available.get(at).is_some_and(|c| held(c) || c.record.is_none());
    let named = |at: usize| available.get(at).and_then(|c| c.record.or(c.disagrees));
    let going = |at: usize| named(at).is_some_and(|record| record.being_deleted(cx.now));
    cx.settings.min_keep.protect(&mut kept, times, &effective.zone, stays, going);
    kept
}

/// The verdict on a candidate, with what led to it.
fn judged(
    c: &Candidate<'_>,
    verdict: Verdict,
    kept_by: Vec<KeptBy>,
    held: bool,
    effective: &EffectivePolicy,
    now: Timestamp,
) -> Judged {
    let own = c.seen.hold.as_deref().is_some_and(|hold| hold.holds(now, &effective.zone));
    let orphan_held = effective.orphan && held && !own;
    let guard = match verdict {
        Verdict::Guarded(Guard::Held) => effective.guard,
        Verdict::Guarded(guard) => Some(guard),
        _ => None,
    };
    let (key, name, slot) = (c.key.to_owned(), c.name.to_owned(), c.seen.slot);
    Judged { key, name, slot, verdict, kept_by, held, orphan_held, guard }
}

/// The decision about a snapshot, with the step and the finding that follow from it.
type Decision = (Verdict, Option<Step>, Option<Finding>);

/// Decides about a snapshot without a record of its own.
fn unrecorded(
    c: &Candidate<'_>,
    (id, name, place): (&ResourceId, &str, &Place),
    now: Timestamp,
) -> Decision {
    if c.disagrees.is_some() {
        let message = format!("the record of {} says something else; it is kept", c.name);
        let finding = Finding::new(Code::RecordDisagrees, message);
        return (Verdict::Guarded(Guard::RecordDisagrees), None, Some(finding));
    }
    if c.is_twin {
        return (Verdict::Guarded(Guard::Twin), None, Some(twin(c)));
    }
    let adopted = c.seen.adopted(c.key, (id, name, place), now);
    (Verdict::Adopt, Some(Step::Adopt(Box::new(adopted))), None)
}

fn twin(c: &Candidate<'_>) -> Finding {
    let message = format!(
        "{} ({}) is a second snapshot of slot {}; it is kept, and counts in no rule",
        c.name, c.key, c.seen.slot
    );
    let fix = "delete it by hand if it is not needed";
    Finding::new(Code::Twin, message).value(c.key).fix(fix)
}

fn uses_quota(c: &Candidate<'_>) -> Finding {
    let message = format!(
        "{} ({}) failed, and the provider does not delete it in its state; it uses up quota",
        c.name, c.key
    );
    let fix = "ask the provider to remove it; it is deleted as soon as the provider allows it";
    Finding::new(Code::UsesQuota, message).value(c.key).fix(fix)
}

fn floor_keeps(c: &Candidate<'_>) -> Finding {
    let message = format!("{} is kept: without it less than the minimum would remain", c.name);
    Finding::new(Code::FloorKeeps, message).value(c.name)
}

fn bad_hold(c: &Candidate<'_>, id: &ResourceId) -> Option<Finding> {
    let Some(Hold::Unreadable { key, value }) = c.seen.hold.as_deref() else { return None };
    let message = format!("{}: {key}=`{value}` cannot be read, so it holds", c.name);
    let fix = format!("set it to {}", crate::snapshot::HOLD_FORM);
    Some(Finding::new(Code::BadHold, message).of(id, c.name).key(key).value(value).fix(fix))
}

/// Rules on a candidate: by the rules first, then by the guards; `None` means condemned.
fn ruling(
    c: &Candidate<'_>,
    reasons: Vec<KeptBy>,
    held: bool,
    none_available: bool,
    effective: &EffectivePolicy,
) -> Option<Verdict> {
    let ruling = match &c.seen.state {
        SnapshotState::Available if reasons == [KeptBy::Minimum] => {
            Some(Verdict::Guarded(Guard::Floor))
        }
        SnapshotState::Available if reasons.is_empty() => None,
        SnapshotState::Available => Some(Verdict::Kept(reasons)),
        SnapshotState::Error if none_available => Some(Verdict::Guarded(Guard::Floor)),
        SnapshotState::Error => match c.record {
            Some(r) if stands_for_attempt(r, effective) => {
                Some(Verdict::Guarded(Guard::FailedAttempt))
            }
            _ => None,
        },
        SnapshotState::Pending | SnapshotState::Other(_) => return Some(Verdict::NotAvailable),
    };
    match (ruling, effective.guard) {
        (ruling, _) if held => {
            ruling.filter(|v| matches!(v, Verdict::Kept(_))).or(Some(Verdict::Guarded(Guard::Held)))
        }
        (None, Some(guard)) => Some(Verdict::Guarded(guard)),
        (Some(Verdict::Guarded(Guard::Floor)), Some(guard)) if guard.rescues() => {
            Some(Verdict::Guarded(guard))
        }
        (ruling, _) => ruling,
    }
}

/// Why a snapshot whose deletion was begun would be kept today, by the policy or by the minimum.
fn would_keep(
    c: &Candidate<'_>,
    candidates: &[Candidate<'_>],
    by_rules: impl Fn(&[Timestamp]) -> Vec<Vec<KeptBy>>,
    effective: &EffectivePolicy,
    settings: &Settings,
) -> Vec<KeptBy> {
    let with = |one: &&Candidate<'_>| one.is_available() || one.key == c.key;
    let all: Vec<_> = candidates.iter().filter(with).collect();
    let times: Vec<_> = all.iter().map(|one| one.seen.slot.timestamp()).collect();
    let mut kept = by_rules(&times);
    settings.min_keep.protect(&mut kept, &times, &effective.zone, |_| false, |_| false);
    let own = all.iter().position(|one| one.key == c.key);
    own.and_then(|own| kept.into_iter().nth(own)).unwrap_or_default()
}

/// Rules on a snapshot whose deletion was begun: it is asked for again only if everything still
/// condemns it.
fn leaving(
    c: &Candidate<'_>,
    reasons: &[KeptBy],
    held: bool,
    effective: &EffectivePolicy,
) -> Option<Verdict> {
    match effective.guard {
        _ if matches!(c.seen.state, SnapshotState::Pending | SnapshotState::Other(_)) => {
            Some(Verdict::NotAvailable)
        }
        _ if held => Some(Verdict::Guarded(Guard::Held)),
        Some(guard) => Some(Verdict::Guarded(guard)),
        None if c.seen.state == SnapshotState::Error || reasons.is_empty() => None,
        None if reasons == [KeptBy::Minimum] => Some(Verdict::Guarded(Guard::Floor)),
        None => Some(Verdict::Waiting),
    }
}

/// The brake's finding, if it stops the new marks.
fn brake(
    candidates: &[Candidate<'_>],
    times: &[Timestamp],
    condemned: impl Fn(usize) -> bool,
    effective: &EffectivePolicy,
    settings: &Settings,
) -> Option<Finding> {
    let mut names = Vec::new();
    let (mut marks, mut untagged) = (Vec::new(), false);
    let available = candidates.iter().enumerate().filter(|(_, c)| c.is_available());
    for (at, (index, c)) in available.enumerate() {
        let newly = |r: &&Record| matches!(r.state, State::Available | State::Failed);
        if let Some(record) = c.record.filter(newly).filter(|_| condemned(index)) {
            names.push(c.name);
            untagged |= record.adopted_untagged;
            marks.push((at, &*record.policy));
        }
    }
    let EffectivePolicy { keep, zone, confirmed, .. } = effective;
    Brake { times, marks, untagged }.holds(&names, keep, zone, confirmed, settings)
}

/// A mark that is made now: it says how many snapshots outlive it, and the newest and oldest of
/// them.
fn mark(candidates: &[Candidate<'_>], rulings: &[Option<Verdict>], cx: &Context<'_>) -> Mark {
    let outlives = |(c, ruling): &(&Candidate<'_>, &Option<Verdict>)| {
        c.is_available() && matches!(ruling, Some(Verdict::Kept(_) | Verdict::Guarded(_)))
    };
    let survivors = candidates.iter().zip(rulings).filter(outlives).map(|(c, _)| c.seen.slot);
    let survivors: Vec<Slot> = survivors.collect();
    Mark {
        at: cx.now,
        execute_at: after(cx.now, cx.settings.grace),
        survivors: u32::try_from(survivors.len()).unwrap_or(u32::MAX),
        newest: survivors.first().copied(),
        oldest: survivors.last().copied(),
        size_gb: None,
    }
}

/// Whether what a failed attempt left behind stays because its slot is the latest: its name speaks for the
/// attempt, also after the ledger is lost.
fn stands_for_attempt(record: &Record, effective: &EffectivePolicy) -> bool {
    record.state == State::Failed && effective.latest.is_some_and(|latest| latest <= record.slot)
}

/// Decides about a snapshot that the rules condemn and no guard keeps: mark, wait, or delete.
fn condemn(
    c: &Candidate<'_>,
    record: &Record,
    braked: bool,
    mark: &Mark,
    effective: &EffectivePolicy,
    cx: &Context<'_>,
) -> Decision {
    let now = cx.now;
    match record.state {
        State::Available | State::Failed if braked => (Verdict::Guarded(Guard::Brake), None, None),
        State::Available | State::Failed => {
            let reason = match c.seen.state {
                SnapshotState::Error => "the provider reports an error for it".to_owned(),
                _ if effective.orphan => {
                    "its resource is gone, and only the minimum stays".to_owned()
                }
                _ => {
                    format!("no rule of `{}` in {} keeps it", effective.keep, effective.zone.name())
                }
            };
            let mark = Mark { size_gb: Some(c.seen.size_gb), ..mark.clone() };
            let marked = record.marked(mark, reason);
            (Verdict::Mark, Some(Step::Mark(Box::new(marked))), None)
        }
        // Another run is deleting it.
        State::Deleting if record.being_deleted(now) => (Verdict::Waiting, None, None),
        State::Expiring | State::Deleting => match &record.mark {
            Some(mark) if now >= mark.execute_at.max(after(mark.at, cx.settings.grace)) => {
                let (record, judged) = (Box::new(record.clone()), c.seen.state.clone());
                (Verdict::Delete, Some(Step::Delete { record, judged }), None)
            }
            Some(_) => (Verdict::Waiting, None, None),
            // Without a mark, nobody was notified: the deletion must begin anew.
            None => {
                let next = record.observed(&c.seen.state, now, "rescued: no mark");
                (Verdict::Guarded(Guard::RecordDisagrees), Some(Step::Rescue(Box::new(next))), None)
            }
        },
        // `poll` has not settled the record yet.
        State::Intended | State::Requested | State::Pending | State::Deleted => {
            (Verdict::NotAvailable, None, None)
        }
    }
}

/// Decides about a snapshot that stays: it is rescued, or its mark waits.
fn spared(c: &Candidate<'_>, record: &Record, ruling: Verdict, now: Timestamp) -> Decision {
    let why = match &ruling {
        _ if !record.may_be_rescued(now) => return (ruling, None, None),
        Verdict::Kept(reasons) => {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            format!("rescued: kept by {}", reasons.join(", "))
        }
        Verdict::Guarded(guard) if guard.rescues() => format!("rescued: {guard}"),
        _ => return (ruling, None, None),
    };
    let next = record.observed(&c.seen.state, now, &why);
    (ruling, Some(Step::Rescue(Box::new(next))), None)
}
