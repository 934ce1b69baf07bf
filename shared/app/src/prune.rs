//! Runs `prune`: judges every snapshot, announces deletions, and carries out those that are due. A
//! lane lists its place, plans for each resource, and carries out protecting steps before
//! deletions.

use std::time::Duration;

use futures_util::stream;
use snapkeep_domain::answer::ProviderError;
use snapkeep_domain::finding::{Code, Finding, Topic};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Age;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::notice::Notice;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::{self, Facts, Plan, Step, Verdict};
use snapkeep_domain::quota::Need;
use snapkeep_domain::snapshot::HOLD;

use crate::gather::Gather;
use crate::lane::{Lane, Run};
use crate::pace::Pace;
use crate::ports::{
    Deadline, Deleter, Inventory, Invocation, Ledger, LedgerError, Note, Relay, Remember, Write,
};
use crate::report::{Counter, Failure, ItemReport, Report, TickError};
use crate::work::{Queue, Turn, bounded, drain};

mod adopt;
mod delete;

/// One tick of `prune`.
///
/// # Errors
/// Only when a retry of the whole tick can help.
pub async fn run(
    inventory: &impl Inventory,
    deleter: &impl Deleter,
    ledger: &(impl Ledger + Remember),
    relay: &impl Relay,
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Report, TickError> {
    let run = Run::begin(Function::Prune, inventory, ledger, settings, invocation).await?;
    let work = async |lane: &Lane| Box::pin(Prune { run: &run, deleter, lane }.place()).await;
    Box::pin(run.everywhere(work)).await?;
    run.finish(relay).await
}

/// `prune` in one place.
struct Prune<'a, I, X, L, D> {
    run: &'a Run<'a, I, L, D>,
    deleter: &'a X,
    lane: &'a Lane,
}

/// A step to carry out.
struct Todo {
    step: Step,
    /// The deletion's intent, once it is written.
    intent: Option<Record>,
    error: Option<ProviderError>,
    tries: u32,
    /// Whether the deletion was requested and its answer lost.
    lost: bool,
}

impl<I: Inventory, X: Deleter, L: Ledger + Remember, D: Deadline> Prune<'_, I, X, L, D> {
    async fn place(&self) {
        let (run, lane) = (self.run, self.lane);
        if run.protected(&lane.place).next().is_some() && !run.enter(lane).await {
            return;
        }
        let deletions = {
            // The permit bounds the memory: lists are held until they are planned for, and plans
            // until they are written, which takes as much after a lost ledger.
            let _listing = run.listing.acquire().await;
            let gather = Gather { run, lane };
            let Some(mut facts) = gather.lists().await else {
                self.ages_remembered();
                return;
            };
            if !facts.listing.is_empty() && !run.enter(lane).await {
                return;
            }
            gather.ask(&mut facts).await;
            let steps = self.plan(facts).await;
            let (deletions, writes): (Vec<_>, Vec<_>) =
                steps.into_iter().partition(|step| matches!(step, Step::Delete { .. }));
            self.carry_out(writes).await;
            deletions
        };
        self.carry_out(deletions).await;
    }

    /// Checks whether the place's quota suffices.
    async fn quota(&self, facts: &Facts) {
        let (run, lane) = (self.run, self.lane);
        let cx = run.cx(lane);
        if !cx.capabilities.tells_quota {
            return;
        }
        for instance in facts.instances.values() {
            let Settings { tag, policies, .. } = run.settings;
            let protection = Protection::read(&instance.tags, tag, policies);
            if protection.opt_in == OptIn::On {
                lane.needs(Need::of(instance, &protection.policy, &cx));
            }
        }
        let foreign = u64::try_from(facts.listing.foreign()).ok();
        run.check_quota(lane, foreign).await;
    }

    /// Plans for each resource, reports the verdicts, and returns the steps.
    async fn plan(&self, mut facts: Facts) -> Vec<Step> {
        let (run, lane) = (self.run, self.lane);
        let mut steps = Vec::new();
        let mut to_remember = Vec::new();
        {
            let mut report = lane.report();
            report.count(Counter::Snapshots, facts.listing.len());
            report.count(Counter::Foreign, facts.listing.foreign());
            report.findings.extend(facts.listing.findings());
            let (place, snapshots) = (&lane.place, facts.listing.len());
            report.findings.extend(prune::memory_short(place, snapshots, run.settings));
        }
        self.quota(&facts).await;
        for id in facts.resources() {
            let mut plan = facts.plan(&id, &run.cx(lane));
            steps.append(&mut plan.steps);
            if plan.remember.is_some() || plan.newest.is_some() {
                to_remember.push((id, plan.remember.take(), plan.newest.take()));
            }
            self.tell(plan);
        }
        drop(facts);
        if run.settings.dry_run {
            self.dry_run(&steps);
            return Vec::new();
        }
        let capped = prune::cap_marks(&lane.place, &mut steps, run.settings);
        if let Some(finding) = capped {
            let mut report = lane.report();
            report.count(Counter::Braked, 1);
            report.findings.push(finding);
        }
        bounded(to_remember.into_iter().map(|(id, item, newest)| async move {
            let remembered = match item {
                Some(item) => run.ledger.remember(&item).await.map(drop),
                None => Ok(()),
            };
            let noted = match newest {
                Some(newest) => run.ledger.note(&id, Note::Newest(newest)).await,
                None => Ok(()),
            };
            if let Err(error) = remembered.and(noted) {
                let mut failure = Failure::from(&error);
                failure.resource = Some(id.0.clone());
                lane.fail(failure);
            }
        }))
        .await;
        steps
    }

    /// Adds a plan to the report; its findings name what is held back.
    fn tell(&self, plan: Plan) {
        let mut part = ItemReport::default();
        plan.unreported.iter().for_each(|record| part.missed(record));
        let mut report = self.lane.report();
        report.add(part);
        let braked = |finding: &&Finding| finding.code == Code::Brake;
        report.count(Counter::Braked, plan.findings.iter().filter(braked).count());
        report.findings.extend(plan.findings);
        for judged in plan.verdicts {
            let verdict = &judged.verdict;
            tracing::debug!(snapshot = judged.name, slot = %judged.slot, ?verdict, "judged");
            let counter = match verdict {
                Verdict::NotAvailable => Counter::NotAvailable,
                Verdict::Kept(_) | Verdict::Adopt => Counter::Kept,
                Verdict::Guarded(_) => Counter::HeldBack,
                // Counted when it is carried out.
                Verdict::Mark | Verdict::Delete => continue,
                Verdict::Waiting => Counter::Expiring,
            };
            report.count(counter, 1);
        }
        plan.age.into_iter().for_each(|age| aged(&mut report, age));
    }

    /// Reports the ages of the newest snapshots from the ledger, when there are no lists.
    fn ages_remembered(&self) {
        let (settings, now) = (self.run.settings, self.run.now);
        let mut report = self.lane.report();
        for item in self.run.protected(&self.lane.place) {
            let Some(age) = item.age(settings.pending_timeout, now) else { continue };
            report.findings.extend(prune::overdue(&age));
            aged(&mut report, age);
        }
    }

    fn dry_run(&self, steps: &[Step]) {
        let place = &self.lane.place;
        let knows = self.run.protected(place).next().is_some();
        self.lane.report().findings.extend(prune::dry_run(place, steps, knows));
    }

    /// Carries out the steps. Protecting steps go before deletions, in case the time does not
    /// suffice.
    async fn carry_out(&self, steps: Vec<Step>) {
        let (run, lane) = (self.run, self.lane);
        lane.open(steps.len());
        let todo = steps.into_iter().enumerate().map(|(number, step)| {
            let rank = (step.order(), number);
            (rank, Box::new(Todo { step, intent: None, error: None, tries: 0, lost: false }))
        });
        let left = drain(
            run.deadline,
            Pace::default(),
            Queue::new(todo),
            stream::empty(),
            Duration::ZERO,
            |todo: Box<Todo>| self.step(todo),
        )
        .await;
        // A written intent stays: the next run looks again, and deletes.
        for todo in left {
            if let Some(error) = &todo.error {
                self.unanswered(&todo.step, error);
            }
        }
    }

    async fn step(&self, todo: Box<Todo>) -> Turn<Box<Todo>> {
        let mut part = ItemReport::default();
        match &todo.step {
            Step::Adopt(record) => self.adopt(record, &mut part).await,
            Step::Write(record) => {
                let counter = (record.state == State::Deleted).then_some(Counter::Deleted);
                self.write(record, counter, None, &mut part).await;
            }
            Step::Mark(record) => self.mark(record, &mut part).await,
            Step::Rescue(record) => {
                let message = format!("{}: {}", record.name, record.reason);
                let finding = Finding::new(Code::Rescued, message);
                let finding = finding.of(&record.resource, &record.resource_name);
                self.write(record, Some(Counter::Rescued), Some(finding), &mut part).await;
            }
            Step::Delete { .. } => return self.delete(todo).await,
        }
        self.lane.add(part);
        self.lane.done();
        Turn::Done(None)
    }

    async fn mark(&self, record: &Record, part: &mut ItemReport) {
        let marked = self.write(record, Some(Counter::Marked), None, part).await;
        let notice = marked.and_then(|record| {
            let at = record.mark.as_ref()?.execute_at;
            let message = format!("{} is deleted after {at}: {}", record.name, record.reason);
            let fix = format!("tag it {HOLD} before then to keep it");
            Some(Notice { fix: Some(fix), ..Notice::of_record(Topic::Marked, &record, message) })
        });
        part.notices.extend(notice);
    }

    /// Writes a record; counts and reports only what was actually written.
    async fn write(
        &self,
        record: &Record,
        counter: Option<Counter>,
        finding: Option<Finding>,
        part: &mut ItemReport,
    ) -> Option<Record> {
        match self.run.ledger.advance(record).await {
            Ok(Write::Done(written)) => {
                self.lane.achieved();
                part.counts.extend(counter);
                part.findings.extend(finding);
                return Some(*written);
            }
            Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
            Err(error) => part.failures.push(self.failed(&error, record)),
        }
        None
    }

    fn failed(&self, error: &LedgerError, record: &Record) -> Failure {
        Failure::from(error).in_place(&self.lane.place).of(&record.resource, &record.name)
    }
}

fn aged(report: &mut Report, age: Age) {
    let over = usize::try_from(age.overdue_by().as_secs()).unwrap_or_default();
    report.count(Counter::Overdue, usize::from(over > 0));
    let worst = usize::try_from(report.counted(Counter::OverdueSeconds)).unwrap_or_default();
    report.count(Counter::OverdueSeconds, over.saturating_sub(worst));
    report.ages.push(age);
}
