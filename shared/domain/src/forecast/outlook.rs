//! The future of a whole place: `SNAPKEEP_MAX_DELETES` counts the marks of all its resources, and a
//! dry run makes none.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Act, Action, Forecast, Marks};
use crate::capabilities::Capabilities;
use crate::finding::{Code, Finding};
use crate::ledger::record::{Record, State};
use crate::policy::settings::Settings;
use crate::prune::{Facts, Plan, Step, cap_marks};
use crate::resource::ResourceId;
use crate::snapshot::Instance;

/// A mark or a deletion that something stands against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Since when, at the earliest.
    pub at: Timestamp,
    /// What does not happen.
    pub act: Act,
    /// The code of the finding that says why.
    pub by: Code,
    /// The code that confirms it, if the brake or the hold of a resource that is gone stands against it.
    pub confirm: Option<String>,
    /// The snapshot's record.
    pub record: Record,
    /// The size of the snapshot.
    pub size_gb: u32,
}

/// Everything that happens in a time, and what does not.
#[derive(Clone, Debug, Default)]
pub struct Outlook {
    /// What happens, in order.
    pub actions: Vec<Action>,
    /// What would happen if nothing stood against it.
    pub blocked: Vec<Blocked>,
    /// That the marks of a place are too many, if they ever are.
    pub too_many: Option<Finding>,
}

/// What the resources of a place want at one time.
type Blocks = BTreeMap<(ResourceId, String), Blocked>;

impl Outlook {
    /// What happens in a place at `from` and later, up to and including `to`.
    #[must_use]
    pub fn of(
        facts: Facts,
        settings: &Settings,
        capabilities: Capabilities,
        (from, to): (Timestamp, Timestamp),
    ) -> Self {
        let one = |(id, facts): (ResourceId, Facts)| {
            let size_gb = size_of_next(&id, &facts);
            Forecast::of(id, facts, size_gb, settings, capabilities)
        };
        let place = facts.place.clone();
        let mut all: Vec<Forecast<'_>> = facts.split().into_iter().map(one).collect();
        let (mut actions, mut too_many) = (Vec::new(), None);
        let mut blocked = Blocks::new();
        all.iter_mut().for_each(|one| one.begin(from, &mut actions));
        // How many marks each resource wants, and what happens next to it.
        let mut wanted = vec![0; all.len()];
        let mut due: Vec<Option<Timestamp>> = vec![Some(from); all.len()];
        while let Some(now) = due.iter().flatten().min().copied().filter(|at| *at <= to) {
            let limit =
                settings.max_deletes.map_or(usize::MAX, |n| n.try_into().unwrap_or(usize::MAX));
            let marks = if limit == usize::MAX { Marks::Made } else { Marks::Counted };
            for ((one, wanted), due) in all.iter_mut().zip(&mut wanted).zip(&mut due) {
                if *due == Some(now) {
                    let plan = one.happen(now, marks, &mut actions);
                    *wanted =
                        plan.steps.iter().filter(|step| matches!(step, Step::Mark(_))).count();
                    one.block(&plan, now, &mut blocked);
                }
            }
            let capped = wanted.iter().sum::<usize>() > limit;
            let mut stopped = Vec::new();
            for ((one, wanted), due) in all.iter_mut().zip(&mut wanted).zip(&mut due) {
                if capped && *wanted > 0 {
                    let steps = one.plan(now).steps;
                    let marks = steps.into_iter().filter(|step| matches!(step, Step::Mark(_)));
                    marks.clone().for_each(|step| one.block_step(step, now, &mut blocked));
                    stopped.extend(marks);
                } else if *wanted > 0 && marks == Marks::Counted {
                    let plan = one.happen(now, Marks::Made, &mut actions);
                    one.block(&plan, now, &mut blocked);
                    *wanted = 0;
                    *due = Some(now);
                }
                if *due == Some(now) {
                    *due = one.next(now);
                }
            }
            too_many = too_many.or_else(|| cap_marks(&place, &mut stopped, settings));
        }
        actions.sort_by_key(|action| (action.at, action.act));
        Outlook { actions, blocked: Vec::new(), too_many }.blocked_by(
            blocked,
            from,
            settings.dry_run,
        )
    }

    /// Leaves out what is blocked for a while in between only, and happens after all. A dry run does nothing but
    /// take.
    fn blocked_by(mut self, mut blocked: Blocks, from: Timestamp, dry_run: bool) -> Self {
        for action in &self.actions {
            let of = key(&action.record);
            if blocked.get(&of).is_some_and(|one| one.at > from) {
                blocked.remove(&of);
            }
        }
        self.blocked.extend(blocked.into_values());
        if dry_run {
            let (takes, others): (Vec<_>, Vec<_>) =
                self.actions.into_iter().partition(|action| action.act == Act::Take);
            self.actions = takes;
            let goes = others.into_iter().filter(|action| action.act != Act::Rescue);
            self.blocked.extend(goes.map(|Action { at, act, record, size_gb }| Blocked {
                at,
                act,
                by: Code::DryRun,
                confirm: None,
                record,
                size_gb,
            }));
        }
        self
    }
}

fn key(record: &Record) -> (ResourceId, String) {
    (record.resource.clone(), record.snapshot_key().to_owned())
}

/// The size of a resource's next snapshot: that of its newest one, or of its disk.
fn size_of_next(id: &ResourceId, facts: &Facts) -> u32 {
    let seen = facts.listing.of(id).map(|(_, seen)| seen).unwrap_or_default();
    let newest = seen.values().max_by_key(|seen| seen.slot).map(|seen| seen.size_gb);
    let disk = |instance: &Instance| instance.size_gb;
    newest.or(facts.instances.get(id).and_then(disk)).unwrap_or_default()
}

impl Forecast<'_> {
    /// Notes what stands against marks and deletions.
    fn block(&self, plan: &Plan, at: Timestamp, blocked: &mut Blocks) {
        let confirmed_by = |by| {
            let coded = [Code::Brake, Code::OrphanHeld].contains(&by);
            let finding = plan.findings.iter().find(|finding| coded && finding.code == by)?;
            finding.value.clone()
        };
        let seen = self.snapshots();
        for judged in &plan.verdicts {
            let Some((by, record)) = judged.blocked_by().zip(self.record(&judged.key)) else {
                continue;
            };
            let marked = matches!(record.state, State::Expiring | State::Deleting);
            let confirm = confirmed_by(by);
            blocked.entry(key(record)).or_insert_with(|| Blocked {
                at,
                act: if marked { Act::Delete } else { Act::Mark },
                by,
                confirm,
                record: record.clone(),
                size_gb: seen.get(&*judged.key).map_or(self.size_gb, |seen| seen.size_gb),
            });
        }
    }

    fn block_step(&self, step: Step, at: Timestamp, blocked: &mut Blocks) {
        let Step::Mark(record) = step else { return };
        let size_gb = self.size_of(&record);
        let (act, by, confirm) = (Act::Mark, Code::TooManyMarks, None);
        let one = Blocked { at, act, by, confirm, record: *record, size_gb };
        blocked.entry(key(&one.record)).or_insert(one);
    }
}
