//! Judges the snapshots of one resource: rules first, then every guard.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::finding::{Code, Finding};
use crate::keep::{Keep, KeptBy, Rules};
use crate::policy::Retention;
use crate::prune::guard::{Brake, Guard, in_future, is_stale};
use crate::prune::{Age, Facts, Plan, Source, Step};
use crate::record::{Mark, Record, State};
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::snapshot::{ATTEMPTS_MAX, Hold, Instance, ResourceId, Snapshot, SnapshotState};
use crate::tags::{OptIn, Protection};
use crate::time::{Slot, Zone, after, humane, since};

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

/// By what a resource's snapshots are judged.
struct Terms {
    keep: Keep,
    zone: Zone,
    instance_hold: Option<Hold>,
    confirmed: Vec<String>,
    /// Keeps everything, or suspends everything.
    guard: Option<Guard>,
    /// The resource is gone and past its time: only the minimum stays, and no brake applies.
    orphan: bool,
    /// The latest slot, whose failed attempt may be tried again.
    latest: Option<Slot>,
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
        let record = available.get(at).and_then(|c| record_of(c));
        record.is_some_and(|r| r.state == State::Deleting && !r.intent_is_free(now))
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

fn name_of<'a>(candidates: &[Candidate<'a>]) -> &'a str {
    candidates.first().map_or("", |c| c.snapshot.source_name.as_str())
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
        State::Deleting if !record.intent_is_free(now) => (Verdict::Waiting, None),
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

/// Finds out by what to judge, and reports what stands in the way.
fn terms(
    plan: &mut Plan,
    id: &ResourceId,
    candidates: &[Candidate<'_>],
    records: &[&Record],
    facts: &Facts,
    settings: &Settings,
    now: Timestamp,
) -> Terms {
    let alive = facts.instances.iter().find(|instance| instance.id == *id);
    let mut terms = match (alive, facts.sources.get(id)) {
        (Some(instance), _) | (None, Some(Source::Alive(instance))) => {
            living(plan, instance, candidates, records, settings, now)
        }
        (None, Some(Source::Gone { name_lives })) => {
            orphan(plan, id, candidates, records, *name_lives, settings, now)
        }
        (None, Some(Source::Unknown)) => {
            let name = name_of(candidates);
            let message = format!("whether {name} still exists could not be found out");
            plan.findings.push(Finding::new(Code::SourceUnknown, message).of(id, name));
            keep_everything(Guard::SourceUnknown)
        }
        (None, None) => keep_everything(Guard::Incomplete),
    };
    // What only suspends comes last, so that a reason to rescue is never hidden by it.
    if terms.guard.is_none_or(|guard| !guard.rescues()) {
        if candidates.iter().any(|c| !facts.complete.contains(&c.snapshot.region)) {
            terms.guard = Some(Guard::Incomplete);
        }
        if facts.unreadable.contains(id) {
            terms.guard = Some(Guard::RecordDisagrees);
        }
        if let Some(what) = in_future(candidates, records, now) {
            let name = name_of(candidates);
            plan.findings.push(
                Finding::new(
                    Code::FutureTime,
                    format!("{what} lies in the future; nothing is pruned"),
                )
                .of(id, name)
                .fix("check the clock; once that time has come, pruning goes on by itself"),
            );
            terms.guard = Some(Guard::Future);
        }
    }
    terms
}

fn keep_everything(guard: Guard) -> Terms {
    Terms {
        // No rule is asked: one that keeps would rescue what only has to wait.
        keep: Keep::Rules(Rules::default()),
        zone: Zone::utc(),
        instance_hold: None,
        confirmed: Vec::new(),
        guard: Some(guard),
        orphan: false,
        latest: None,
    }
}

fn living(
    plan: &mut Plan,
    instance: &Instance,
    candidates: &[Candidate<'_>],
    records: &[&Record],
    settings: &Settings,
    now: Timestamp,
) -> Terms {
    let Protection { opt_in, policy, hold, confirmed } =
        Protection::read(&instance.tags, &settings.tag, &settings.policies);
    let about =
        |code, message: String| Finding::new(code, message).of(&instance.id, &instance.name);
    for problem in &policy.problems {
        let finding = problem.finding().of(&instance.id, &instance.name);
        plan.findings.push(finding);
    }
    let mut terms = Terms {
        keep: policy.retention.keep(),
        zone: policy.zone.clone(),
        instance_hold: hold,
        confirmed,
        guard: None,
        orphan: false,
        latest: Some(policy.schedule.latest(&policy.zone, now)),
    };
    let newest = candidates.iter().find(|c| c.snapshot.state == SnapshotState::Available);
    let newest = newest.map(|c| c.slot);
    let period = policy.schedule.period(&policy.zone, now);
    if opt_in == OptIn::On {
        let first = records.iter().flat_map(|r| r.times.values()).min();
        let since_when = newest.map(Slot::timestamp).or(first.copied()).unwrap_or(now);
        let promised = period.saturating_add(settings.pending_timeout);
        let age = Age {
            resource: instance.id.clone(),
            name: instance.name.clone(),
            newest,
            age: since(since_when, now),
            promised,
        };
        if age.over() > SignedDuration::ZERO {
            plan.findings.push(overdue(&age, &policy.schedule));
        }
        plan.ages.push(age);
    }
    let count = candidates.len();
    match opt_in {
        OptIn::On if policy.problems.is_empty() => {}
        OptIn::On => terms.guard = Some(Guard::Unreadable),
        OptIn::Off => {
            plan.findings.push(about(
                Code::OptedOut,
                format!("{} is off: its {count} snapshots are kept, none is pruned", instance.name),
            ));
            terms.guard = Some(Guard::OptedOut);
        }
        OptIn::Untagged => {
            if count > 0 {
                plan.findings.push(
                    about(
                        Code::NoLongerTagged,
                        format!(
                            "{} carries no `{}` tag; {count} snapshots of it are kept",
                            instance.name, settings.tag
                        ),
                    )
                    .value(count.to_string())
                    .fix(format!("tag it {}=off to say so, or =on to go on", settings.tag)),
                );
            }
            terms.guard = Some(Guard::NoLongerTagged);
        }
    }
    if terms.guard.is_some() {
        // The rules of a resource that keeps everything are not asked: its marks are rescued.
        terms.keep = Keep::Rules(Rules::default());
        return terms;
    }
    if policy.retention == Retention::Unset {
        plan.findings.push(
            about(
                Code::KeepsEverything,
                format!("no retention is set for {}: all its snapshots are kept", instance.name),
            )
            .key("SNAPKEEP_KEEP")
            .fix(format!(
                "set SNAPKEEP_KEEP or the tag {}:keep, for example to `daily=7 weekly=4`, or to `all`",
                settings.tag
            )),
        );
    }
    if let Some(newest) = newest
        && is_stale(newest.timestamp(), period, now)
    {
        plan.findings.push(
            about(
                Code::Stale,
                format!(
                    "the newest available snapshot of {} is {} old, more than two periods of `{}` and a \
                     day; nothing of it is pruned",
                    instance.name,
                    humane(since(newest.timestamp(), now)),
                    policy.schedule
                ),
            )
            .value(newest.to_string())
            .fix("look at the findings of create and poll; pruning goes on by itself"),
        );
        terms.guard = Some(Guard::Stale);
    }
    terms
}

fn overdue(age: &Age, schedule: &Schedule) -> Finding {
    let name = &age.name;
    let what = match age.newest {
        Some(_) => format!("the newest available snapshot of {name} is {} old", humane(age.age)),
        None => format!("{name} has no available snapshot after {}", humane(age.age)),
    };
    let promised = humane(age.promised);
    Finding::new(Code::Overdue, format!("{what}; `{schedule}` promises one of at most {promised}"))
        .of(&age.resource, name)
        .value(age.newest.map_or_else(|| "none".to_owned(), |slot| slot.to_string()))
        .fix("look at the findings of create and poll")
}

fn orphan(
    plan: &mut Plan,
    id: &ResourceId,
    candidates: &[Candidate<'_>],
    records: &[&Record],
    name_lives: bool,
    settings: &Settings,
    now: Timestamp,
) -> Terms {
    let newest = candidates.iter().find(|c| c.snapshot.state == SnapshotState::Available);
    let record = newest.and_then(|c| records.iter().find(|r| r.name == c.snapshot.name));
    let own: Option<Keep> =
        record.and_then(|r| r.policy.keep.as_deref()).and_then(|text| text.parse().ok());
    let zone: Option<Zone> = record.and_then(|r| r.policy.timezone.parse().ok());
    let keeps_all = own.as_ref().is_none_or(|keep| *keep == Keep::All);
    let gb: u32 = candidates.iter().fold(0, |sum, c| sum.saturating_add(c.snapshot.size_gb));
    let name = name_of(candidates);
    let age = newest.map(|c| since(c.slot.timestamp(), now));
    let (stays, what) = match (settings.orphan_keep, age) {
        _ if keeps_all => (true, "all stay, for its retention keeps everything".to_owned()),
        _ if name_lives => (true, "all stay, for another instance has its name now".to_owned()),
        (None, _) => (true, "all stay".to_owned()),
        (Some(_), None) => (true, "none is available, so all stay".to_owned()),
        (Some(keep), Some(age)) if age < keep => {
            (true, format!("all stay for {} more", humane(keep - age)))
        }
        (Some(_), Some(_)) => (false, "only the minimum stays".to_owned()),
    };
    plan.findings.push(
        Finding::new(
            Code::Orphan,
            format!(
                "{name} is gone; it left {} snapshots of {gb} GB together: {what}",
                candidates.len()
            ),
        )
        .of(id, name)
        .value(gb.to_string())
        .fix("set SNAPKEEP_ORPHAN_KEEP, or delete by hand what is not needed"),
    );
    Terms {
        keep: own.unwrap_or(Keep::All),
        zone: zone.unwrap_or_else(Zone::utc),
        instance_hold: None,
        confirmed: Vec::new(),
        guard: stays.then_some(Guard::OrphanKept),
        orphan: true,
        latest: None,
    }
}
