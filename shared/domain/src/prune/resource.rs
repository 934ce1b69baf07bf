//! Judges the snapshots of one resource: rules first, then every guard.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::finding::{Code, Finding};
use crate::keep::KeptBy;
use crate::prune::guard::{Brake, Guard};
use crate::prune::terms::{Terms, name_of, terms};
use crate::prune::{Facts, Plan, Step};
use crate::record::{Mark, Record, State};
use crate::settings::Settings;
use crate::snapshot::{ATTEMPTS_MAX, Hold, ResourceId, Snapshot, SnapshotState};
use crate::time::{Slot, after};

/// What is decided about a snapshot, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Not ours: never counted, never touched.
    Foreign,
    /// Looks like ours, but is not: never touched, reported.
    LookAlike,
    /// Not available yet: `poll` follows it.
    NotAvailable,
    /// Ours without a record: taken into the ledger, markable from the next run.
    Adopt,
    /// Kept by these rules.
    Kept(Vec<KeptBy>),
    /// Kept by a guard.
    Guarded(Guard),
    /// Condemned: its deletion is announced now.
    Mark,
    /// Condemned and announced; the grace is not over.
    Waiting,
    /// Condemned, announced, and due.
    Delete,
}

/// A snapshot of ours.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) slot: Slot,
    pub(super) attempt: u32,
}

pub(super) fn judge(
    plan: &mut Plan,
    id: &ResourceId,
    mut candidates: Vec<Candidate<'_>>,
    records: &[&Record],
    facts: &Facts,
    settings: &Settings,
    now: Timestamp,
) {
    candidates.sort_by_key(|c| std::cmp::Reverse((c.slot, c.attempt, &c.snapshot.name)));
    let terms = terms(plan, id, &candidates, records, facts, settings, now);
    let record_of =
        |c: &Candidate<'_>| {
            records.iter().copied().find(|r| r.name == c.snapshot.name).filter(|r| {
                r.slot == c.slot && r.attempt == c.attempt && r.region == c.snapshot.region
            })
        };
    let held = |c: &Candidate<'_>| {
        let own = c.snapshot.hold();
        let mut holds = own.iter().chain(&terms.instance_hold);
        holds.any(|hold| hold.holds(now, &terms.zone))
    };

    let available: Vec<&Candidate<'_>> =
        candidates.iter().filter(|c| c.snapshot.state == SnapshotState::Available).collect();
    let times: Vec<Timestamp> = available.iter().map(|c| c.slot.timestamp()).collect();
    let mut kept = if terms.orphan {
        vec![Vec::new(); times.len()]
    } else {
        terms.keep.judge(&times, &terms.zone)
    };
    let stays = |at: usize| available.get(at).is_some_and(|c| held(c) || record_of(c).is_none());
    let going = |at: usize| {
        available.get(at).and_then(|c| record_of(c)).is_some_and(|r| r.being_deleted(now))
    };
    settings.min_keep.protect(&mut kept, &times, &terms.zone, stays, going);

    // The rules' word on each candidate, before guards and grace: `None` is condemned.
    let mut rulings: Vec<(&Candidate<'_>, Option<Verdict>)> = Vec::new();
    let mut kept = kept.into_iter();
    for c in &candidates {
        let ruling = match &c.snapshot.state {
            SnapshotState::Available => match kept.next().unwrap_or_default() {
                reasons if reasons == [KeptBy::Minimum] => Some(Verdict::Guarded(Guard::Floor)),
                reasons if reasons.is_empty() => None,
                reasons => Some(Verdict::Kept(reasons)),
            },
            SnapshotState::Error if times.is_empty() => Some(Verdict::Guarded(Guard::Floor)),
            SnapshotState::Error => match record_of(c) {
                Some(r) if may_retry(r, &terms) => Some(Verdict::Guarded(Guard::RetryPending)),
                _ => None,
            },
            SnapshotState::Pending | SnapshotState::Other(_) => Some(Verdict::NotAvailable),
        };
        let ruling = match (ruling, terms.guard) {
            (Some(Verdict::NotAvailable), _) => Some(Verdict::NotAvailable),
            (ruling, _) if held(c) => ruling
                .filter(|v| matches!(v, Verdict::Kept(_)))
                .or(Some(Verdict::Guarded(Guard::Held))),
            (None, Some(guard)) => Some(Verdict::Guarded(guard)),
            (Some(Verdict::Guarded(Guard::Floor)), Some(guard)) if guard.rescues() => {
                Some(Verdict::Guarded(guard))
            }
            (ruling, _) => ruling,
        };
        rulings.push((c, ruling));
    }

    let newly = |c: &Candidate<'_>| {
        record_of(c).is_some_and(|r| matches!(r.state, State::Available | State::Failed))
    };
    let to_mark: BTreeSet<&str> = rulings
        .iter()
        .filter(|(c, ruling)| ruling.is_none() && newly(c))
        .map(|(c, _)| c.snapshot.name.as_str())
        .collect();
    let brake = (!terms.orphan).then(|| {
        let marks: Vec<_> = available
            .iter()
            .enumerate()
            .filter(|(_, c)| to_mark.contains(c.snapshot.name.as_str()))
            .collect();
        let names: Vec<&str> = marks.iter().map(|(_, c)| c.snapshot.name.as_str()).collect();
        let marks = marks.iter().filter_map(|(at, c)| Some((*at, &record_of(c)?.policy))).collect();
        Brake { times: &times, marks }.holds(
            &names,
            &terms.keep,
            &terms.zone,
            &terms.confirmed,
            settings,
        )
    });
    let brake = brake.flatten().map(|finding| finding.of(id, name_of(&candidates)));
    let braked = brake.is_some();
    plan.findings.extend(brake);

    let survivors: Vec<String> = rulings
        .iter()
        .filter(|(c, ruling)| {
            c.snapshot.state == SnapshotState::Available
                && matches!(ruling, Some(Verdict::Kept(_) | Verdict::Guarded(_)))
        })
        .map(|(c, _)| c.snapshot.name.clone())
        .collect();
    for (c, ruling) in rulings {
        let record = record_of(c);
        let (verdict, step) = match (ruling, record) {
            (_, None) if records.iter().any(|r| r.name == c.snapshot.name) => {
                plan.findings.push(
                    Finding::new(
                        Code::RecordDisagrees,
                        format!(
                            "the record of {} says something else; it is kept",
                            c.snapshot.name
                        ),
                    )
                    .of(id, &c.snapshot.source_name),
                );
                (Verdict::Guarded(Guard::RecordDisagrees), None)
            }
            (_, None) => {
                let adopted = Record::adopted(c.snapshot, c.slot, c.attempt, now);
                (Verdict::Adopt, Some(Step::Adopt(adopted)))
            }
            (None, Some(record)) => condemned(c, record, braked, &survivors, &terms, settings, now),
            (Some(ruling), Some(record)) => {
                let step = spared(c, record, &ruling, now);
                (ruling, step)
            }
        };
        if let Some(Hold::Unreadable { key, value }) = c.snapshot.hold() {
            plan.findings.push(
                Finding::new(
                    Code::BadHold,
                    format!("{}: {key}=`{value}` cannot be read, so it holds", c.snapshot.name),
                )
                .of(id, &c.snapshot.name)
                .key(key)
                .value(value)
                .fix(format!("set it to {}", crate::snapshot::HOLD_FORM)),
            );
        }
        plan.judge(c.snapshot, Some(c.slot), verdict);
        plan.steps.extend(step);
    }
}

/// A failed attempt of the latest slot is left alone while another attempt may come.
fn may_retry(record: &Record, terms: &Terms) -> bool {
    record.state == State::Failed
        && !record.leftover
        && record.attempt < ATTEMPTS_MAX
        && terms.latest.is_some_and(|latest| latest <= record.slot)
}

/// What the rules condemn and no guard keeps: mark, wait, or delete.
fn condemned(
    c: &Candidate<'_>,
    record: &Record,
    braked: bool,
    survivors: &[String],
    terms: &Terms,
    settings: &Settings,
    now: Timestamp,
) -> (Verdict, Option<Step>) {
    match record.state {
        State::Available | State::Failed if braked => (Verdict::Guarded(Guard::Brake), None),
        State::Available | State::Failed => {
            let reason = match c.snapshot.state {
                SnapshotState::Error => "the provider reports an error for it".to_owned(),
                _ if terms.orphan => "its resource is gone, and only the minimum stays".to_owned(),
                _ => format!("no rule of `{}` in {} keeps it", terms.keep, terms.zone.name()),
            };
            let mut marked = record.moved(State::Expiring, now, reason);
            marked.mark = Some(Mark {
                at: now,
                execute_at: after(now, settings.grace),
                survivors: survivors.to_vec(),
            });
            (Verdict::Mark, Some(Step::Mark(marked)))
        }
        // Another run is at it.
        State::Deleting if record.being_deleted(now) => (Verdict::Waiting, None),
        State::Expiring | State::Deleting => match &record.mark {
            Some(mark) if now >= mark.execute_at.max(after(mark.at, settings.grace)) => {
                (Verdict::Delete, Some(Step::Delete(record.clone())))
            }
            Some(_) => (Verdict::Waiting, None),
            // Without a mark nobody was told: back to the beginning.
            None => {
                let next = record.observed(c.snapshot, now, "rescued: no mark");
                (Verdict::Guarded(Guard::RecordDisagrees), Some(Step::Rescue(next)))
            }
        },
        // `poll` has not seen it settle yet.
        State::Intended | State::Requested | State::Pending | State::Deleted => {
            (Verdict::NotAvailable, None)
        }
    }
}

/// What stays: a marked one is rescued, or its mark waits.
fn spared(c: &Candidate<'_>, record: &Record, ruling: &Verdict, now: Timestamp) -> Option<Step> {
    if !record.may_be_rescued(now) {
        return None;
    }
    let why = match ruling {
        Verdict::Kept(reasons) => {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            format!("rescued: kept by {}", reasons.join(", "))
        }
        Verdict::Guarded(guard) if guard.rescues() => format!("rescued: {guard}"),
        _ => return None,
    };
    Some(Step::Rescue(record.observed(c.snapshot, now, &why)))
}
