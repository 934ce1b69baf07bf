//! Resolves the policy that a resource's snapshots are judged by: the instance's current one, or
//! the one recorded with its newest snapshot if the instance is gone; and what suspends pruning or
//! keeps everything.

use jiff::{SignedDuration, Timestamp};

use crate::finding::{Code, Finding};
use crate::ledger::protected::{Age, Protected};
use crate::ledger::record::Record;
use crate::place::Place;
use crate::policy::confirmation::ConfirmationCode;
use crate::policy::keep::{Keep, Rules};
use crate::policy::settings::{Context, Settings};
use crate::policy::tags::{OptIn, Protection};
use crate::policy::{Policy, Retention};
use crate::prune::candidate::Candidate;
use crate::prune::guard::{Guard, in_future, is_stale};
use crate::prune::{Facts, Plan, SourceStatus};
use crate::resource::ResourceId;
use crate::snapshot::{Hold, Instance};
use crate::time::{Slot, Zone, elapsed, format_duration};

/// The policy that a resource's snapshots are judged by.
pub(super) struct EffectivePolicy {
    /// What applies: nothing, while a guard keeps everything.
    pub(super) keep: Keep,
    /// What the policy says, whatever the guards say.
    pub(super) rules: Keep,
    pub(super) zone: Zone,
    pub(super) instance_hold: Option<Hold>,
    pub(super) confirmed: Vec<ConfirmationCode>,
    /// The guard that keeps everything, or suspends pruning.
    pub(super) guard: Option<Guard>,
    /// The resource is gone: no rule and no brake applies, so only the minimum stays, unless the
    /// guard keeps everything.
    pub(super) orphan: bool,
    /// The latest slot, whose failed attempt may be repeated.
    pub(super) latest: Option<Slot>,
}

impl EffectivePolicy {
    /// Whether what the policy says is also what applies.
    pub(super) fn rules_apply(&self) -> bool {
        match self.orphan {
            true => self.guard.is_none(),
            false => self.keep == self.rules,
        }
    }
}

/// The resource that is judged.
pub(super) struct Subject<'a> {
    pub(super) id: &'a ResourceId,
    /// Its name according to its snapshots; empty if there are none.
    pub(super) name: &'a str,
    /// Its snapshots, the newest first.
    pub(super) candidates: &'a [Candidate<'a>],
    pub(super) records: &'a [Record],
}

impl Subject<'_> {
    fn newest(&self) -> Option<&Candidate<'_>> {
        self.candidates.iter().find(|c| c.is_available())
    }

    /// The retention that is recorded with its newest snapshot.
    fn recorded(&self) -> (Keep, Zone) {
        let record = self.newest().and_then(|c| c.record);
        let recorded = record.map(|record| record.policy.retention());
        recorded.unwrap_or_else(|| (Keep::All, Zone::utc()))
    }
}

/// Resolves the policy to judge by, and reports what stands in the way.
pub(super) fn resolve(
    plan: &mut Plan,
    subject: &Subject<'_>,
    facts: &Facts,
    cx: &Context<'_>,
) -> EffectivePolicy {
    let (id, name) = (subject.id, subject.name);
    let known = facts.protected.get(id);
    let mut effective = match (facts.instances.get(id), facts.sources.get(id)) {
        (Some(instance), _) | (None, Some(SourceStatus::Alive(instance))) => {
            resolve_live(plan, instance, subject, known, cx)
        }
        (None, Some(SourceStatus::Gone { name_lives })) => {
            // Where the source was asked for by its id, only the list shows its name's next owner.
            let again = || facts.instances.values().any(|instance| instance.name == name);
            resolve_gone(plan, subject, &facts.place, known, *name_lives || again(), cx)
        }
        (None, Some(SourceStatus::Unknown) | None) => {
            let message = format!("whether {name} still exists could not be determined");
            plan.findings.push(
                Finding::new(Code::SourceUnknown, message)
                    .of(id, name)
                    .fix("look at the failures of this run; nothing of this resource is pruned until the provider answers"),
            );
            keep_everything(subject.recorded(), Guard::SourceUnknown)
        }
    };
    let newest = subject.newest().map(|c| c.seen.slot);
    let remembered = known.and_then(|known| known.newest);
    plan.newest = (newest != remembered).then_some(newest);
    // Guards that only suspend come last, so that they never hide one that rescues.
    if effective.guard.is_none_or(|guard| !guard.rescues()) {
        if facts.unreadable.contains(id) {
            effective.guard = Some(Guard::RecordDisagrees);
        }
        if let Some(what) = in_future(subject.candidates, subject.records, cx.now) {
            plan.findings.push(
                Finding::new(
                    Code::FutureTime,
                    format!("{what} lies in the future; nothing is pruned"),
                )
                .of(id, name)
                .fix("check the clock; pruning continues automatically after that time"),
            );
            effective.guard = Some(Guard::Future);
        }
    }
    effective
}

fn keep_everything((rules, zone): (Keep, Zone), guard: Guard) -> EffectivePolicy {
    EffectivePolicy {
        // No rule applies: a rule that keeps a snapshot would rescue it, though it only has to
        // wait.
        keep: Keep::Rules(Rules::default()),
        rules,
        zone,
        instance_hold: None,
        confirmed: Vec::new(),
        guard: Some(guard),
        orphan: false,
        latest: None,
    }
}

fn resolve_live(
    plan: &mut Plan,
    instance: &Instance,
    subject: &Subject<'_>,
    known: Option<&Protected>,
    cx: &Context<'_>,
) -> EffectivePolicy {
    let (settings, now) = (cx.settings, cx.now);
    let protection = Protection::read(&instance.tags, &settings.tag, &settings.policies);
    let has_records = Some(!subject.records.is_empty() || !subject.candidates.is_empty());
    plan.remember = Protected::seen(known, instance, &protection, has_records, now);
    let protected_since = plan.remember.as_ref().or(known).and_then(|item| item.since);
    plan.findings.extend(protection.problems(instance));
    let (guard, finding) = takes_no_part(instance, &protection, subject.candidates.len(), settings);
    plan.findings.extend(finding);
    let Protection { opt_in, policy, hold, confirmed, base } = protection;
    let newest = subject.newest().map(|c| c.seen.slot);
    let period = policy.schedule.period(&policy.zone, now);
    if opt_in == OptIn::On {
        let max_age = period.saturating_add(settings.pending_timeout);
        let age = Age::new(&instance.id, &instance.name, newest, protected_since, max_age, now);
        plan.findings.extend(overdue(&age));
        plan.age = Some(age);
    }
    let readable = policy.retention != Retention::Unreadable;
    let mut effective = EffectivePolicy {
        keep: policy.retention.keep(),
        // What nobody can read would keep everything; the policy's own rules tell more.
        rules: if readable { policy.retention.keep() } else { base.keep() },
        zone: policy.zone.clone(),
        instance_hold: hold,
        confirmed,
        guard,
        orphan: false,
        latest: Some(policy.schedule.latest(&policy.zone, now)),
    };
    if effective.guard.is_some() {
        // No rule applies to a resource that keeps everything: its marks are rescued.
        effective.keep = Keep::Rules(Rules::default());
        return effective;
    }
    if policy.retention == Retention::Unset {
        plan.findings.push(no_retention(instance, settings));
    }
    if let Some(newest) = newest
        && is_stale(newest.timestamp(), period, now)
    {
        plan.findings.push(stale(instance, newest, &policy, now));
        effective.guard = Some(Guard::Stale);
    }
    effective
}

/// Why the tags of an existing resource keep everything, and the finding that says so.
fn takes_no_part(
    instance: &Instance,
    protection: &Protection,
    count: usize,
    settings: &Settings,
) -> (Option<Guard>, Option<Finding>) {
    let Instance { id, name, .. } = instance;
    let tag = &settings.tag;
    match protection.opt_in {
        OptIn::On if protection.policy.problems.is_empty() => (None, None),
        OptIn::On => (Some(Guard::Unreadable), None),
        OptIn::Off => {
            let message = format!("{name} is off: its {count} snapshots are kept, none is pruned");
            let finding = Finding::new(Code::OptedOut, message).of(id, name);
            (Some(Guard::OptedOut), Some(finding))
        }
        OptIn::Untagged => {
            let message =
                format!("{name} carries no `{tag}` tag; {count} snapshots of it are kept");
            let finding = Finding::new(Code::NoLongerTagged, message)
                .of(id, name)
                .value(count.to_string())
                .fix(format!("tag it {tag}=off to confirm that, or {tag}=on to protect it again"));
            (Some(Guard::NoLongerTagged), (count > 0).then_some(finding))
        }
    }
}

fn no_retention(instance: &Instance, settings: &Settings) -> Finding {
    let message = format!("no retention is set for {}: all its snapshots are kept", instance.name);
    Finding::new(Code::KeepsEverything, message)
        .of(&instance.id, &instance.name)
        .key("SNAPKEEP_KEEP")
        .fix(format!(
            "set SNAPKEEP_KEEP or the tag {}:keep, for example to `daily=7 weekly=4`, or to `all`",
            settings.tag
        ))
}

fn stale(instance: &Instance, newest: Slot, policy: &Policy, now: Timestamp) -> Finding {
    let message = format!(
        "the newest available snapshot of {} is {} old, more than two periods of `{}` and a day; nothing of \
         it is pruned",
        instance.name,
        format_duration(elapsed(newest.timestamp(), now)),
        policy.schedule
    );
    Finding::new(Code::Stale, message)
        .of(&instance.id, &instance.name)
        .value(newest.to_string())
        .fix("look at the findings of create and poll; pruning continues automatically afterwards")
}

/// The finding about a resource whose newest available snapshot is older than promised.
pub(super) fn overdue(age: &Age) -> Option<Finding> {
    if age.overdue_by() <= SignedDuration::ZERO {
        return None;
    }
    let name = &age.name;
    let what = match age.newest {
        Some(_) => {
            format!("the newest available snapshot of {name} is {} old", format_duration(age.age))
        }
        None => format!("{name} has no available snapshot after {}", format_duration(age.age)),
    };
    let max_age = format_duration(age.max_age);
    let finding = Finding::new(
        Code::Overdue,
        format!("{what}; its schedule promises one of at most {max_age}"),
    )
    .of(&age.resource, name)
    .value(age.newest.map_or_else(|| "none".to_owned(), |slot| slot.to_string()))
    .fix("look at the findings of create and poll");
    Some(finding)
}

/// Resolves the policy for the snapshots of a resource that is gone.
fn resolve_gone(
    plan: &mut Plan,
    subject: &Subject<'_>,
    place: &Place,
    known: Option<&Protected>,
    name_lives: bool,
    cx: &Context<'_>,
) -> EffectivePolicy {
    let (id, name) = (subject.id, subject.name);
    let newest = subject.newest();
    let (keep, zone) = subject.recorded();
    let rebuilt = || {
        let seen = subject.candidates.first()?.seen;
        let disk = seen.disk.as_deref().map(str::to_owned);
        let policy = seen.policy.clone();
        Some(Protected { disk, ..Protected::rebuilt(id, name, place, policy) })
    };
    plan.remember = match known {
        Some(known) => known.gone(true, cx.now),
        None => rebuilt(),
    };
    let hold = plan.remember.as_ref().or(known).and_then(Protected::hold);
    let released = cx.settings.confirmed.contains(&ConfirmationCode::of_release(id));
    let hold = hold.filter(|hold| !released && hold.holds(cx.now, &zone));
    if hold.is_some() {
        plan.findings.push(held(subject));
    }
    let age = newest.map(|c| elapsed(c.seen.slot.timestamp(), cx.now));
    let stays = orphan(plan, subject, keep == Keep::All, name_lives, age, cx);
    EffectivePolicy {
        rules: keep.clone(),
        keep,
        zone,
        instance_hold: hold,
        confirmed: Vec::new(),
        guard: stays.then_some(Guard::OrphanKept),
        orphan: true,
        latest: None,
    }
}

/// The finding about the hold of a resource that is gone: only a person ends it.
fn held(subject: &Subject<'_>) -> Finding {
    let (id, name, code) = (subject.id, subject.name, ConfirmationCode::of_release(subject.id));
    let message = format!(
        "{name} is gone and was held when it was last seen: its {} snapshots stay held",
        subject.candidates.len()
    );
    let fix = format!("add {code} to SNAPKEEP_CONFIRM to release them");
    Finding::new(Code::OrphanHeld, message).of(id, name).value(code.to_string()).fix(fix)
}

/// Reports what becomes of the snapshots of a resource that is gone; returns whether all of them
/// stay.
fn orphan(
    plan: &mut Plan,
    subject: &Subject<'_>,
    keeps_all: bool,
    name_lives: bool,
    age: Option<SignedDuration>,
    cx: &Context<'_>,
) -> bool {
    let (count, name) = (subject.candidates.len(), subject.name);
    let gb: u32 = subject.candidates.iter().fold(0, |sum, c| sum.saturating_add(c.seen.size_gb));
    let by_hand = "delete by hand what is not needed";
    let (stays, what, fix) = match (cx.settings.orphan_keep, age) {
        _ if keeps_all => {
            (true, "all stay, for its retention keeps everything".to_owned(), by_hand)
        }
        (None, _) => (
            true,
            "all stay".to_owned(),
            "set SNAPKEEP_ORPHAN_KEEP, or delete by hand what is not needed",
        ),
        (Some(_), None) => (true, "none is available, so all stay".to_owned(), by_hand),
        (Some(keep), Some(age)) if age < keep => {
            let what = format!("all stay for {} more", format_duration(keep - age));
            (true, what, "hold what must stay; the others go by themselves after that time")
        }
        (Some(_), Some(_)) => {
            let fix = "hold the snapshots that must stay; marked ones are deleted after their grace period";
            (false, "only the minimum stays".to_owned(), fix)
        }
    };
    let again = if name_lives { "; another instance has its name now" } else { "" };
    let message =
        format!("{name} is gone; it left {count} snapshots of {gb} GB together: {what}{again}");
    let finding = Finding::new(Code::Orphan, message).of(subject.id, name);
    plan.findings.push(finding.value(gb.to_string()).fix(fix));
    stays
}
