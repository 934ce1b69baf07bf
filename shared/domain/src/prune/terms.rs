//! Finds out by what a resource's snapshots are judged: its own policy while it lives, that of its newest
//! snapshot when it is gone; and what suspends or keeps everything.

use jiff::{SignedDuration, Timestamp};

use crate::finding::{Code, Finding};
use crate::keep::{Keep, Rules};
use crate::policy::Retention;
use crate::prune::guard::{Guard, in_future, is_stale};
use crate::prune::resource::Candidate;
use crate::prune::{Age, Facts, Plan, Source};
use crate::record::Record;
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::snapshot::{Hold, Instance, ResourceId, SnapshotState};
use crate::tags::{OptIn, Protection};
use crate::time::{Slot, Zone, humane, since};

/// By what a resource's snapshots are judged.
pub(super) struct Terms {
    pub(super) keep: Keep,
    pub(super) zone: Zone,
    pub(super) instance_hold: Option<Hold>,
    pub(super) confirmed: Vec<String>,
    /// Keeps everything, or suspends everything.
    pub(super) guard: Option<Guard>,
    /// The resource is gone and past its time: only the minimum stays, and no brake applies.
    pub(super) orphan: bool,
    /// The latest slot, whose failed attempt may be tried again.
    pub(super) latest: Option<Slot>,
}

/// What the resource is called.
pub(super) fn name_of<'a>(candidates: &[Candidate<'a>]) -> &'a str {
    candidates.first().map_or("", |c| c.snapshot.source_name.as_str())
}

/// Finds out by what to judge, and reports what stands in the way.
pub(super) fn terms(
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
