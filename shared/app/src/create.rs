//! Runs `create`: takes the snapshots that are due. A lane lists the instances of its place and
//! serves each one that is due: it claims the slot, asks for the snapshot, and writes the outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_channel::mpsc::{UnboundedSender, unbounded};
use futures_util::future::join;
use jiff::Timestamp;
use snapkeep_domain::answer::{Lookup, ProviderError};
use snapkeep_domain::create::{self, Facts, Outcome, Settled, Settlement, Take, Verdict};
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::{Record, State};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::policy::settings::Settings;
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::quota::Need;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::Instance;
use snapkeep_domain::time::Slot;

use crate::lane::{Lane, Run};
use crate::pace::{Heard, Pace};
use crate::pages::{self, Turned};
use crate::ports::{
    Creator, Deadline, ErrorKind, Inventory, Invocation, Ledger, LedgerError, Note, Records, Relay,
    Remember, SnapshotRequest, Write,
};
use crate::report::{Counter, Failure, ItemReport, Report, TickError};
use crate::work::{Queue, Turn, bounded, drain, heard, pause};

/// How often one run repeats a request whose answer was lost; then it waits for the next tick.
const LOST_MAX: u32 = 3;

/// One tick of `create`.
///
/// # Errors
/// Only when a retry of the whole tick can help.
pub async fn run(
    inventory: &impl Inventory,
    creator: &impl Creator,
    ledger: &(impl Ledger + Remember),
    relay: &impl Relay,
    settings: &Settings,
    invocation: &Invocation<impl Deadline>,
) -> Result<Report, TickError> {
    let run = Run::begin(Function::Create, inventory, ledger, settings, invocation).await?;
    let work = async |lane: &Lane| Box::pin(Create { run: &run, creator, lane }.place()).await;
    Box::pin(run.everywhere(work)).await?;
    run.finish(relay).await
}

/// The order in which resources are served: see [`Protected::rank`].
type Rank = ((Option<Timestamp>, Option<Slot>), ResourceId);

/// A resource whose slot may be due.
struct Due {
    instance: Instance,
    protection: Protection,
    protected_since: Option<Timestamp>,
    /// The claimed intent, if its request must be made again.
    claimed: Option<Claimed>,
}

/// A claimed intent whose request is not settled yet.
struct Claimed {
    intent: Record,
    error: ProviderError,
    tries: u32,
    /// Whether an answer was lost: then the effect is unknown, whatever later answers say.
    lost: bool,
}

/// `create` in one place.
struct Create<'a, I, C, L, D> {
    run: &'a Run<'a, I, L, D>,
    creator: &'a C,
    lane: &'a Lane,
}

impl<I: Inventory, C: Creator, L: Ledger + Remember, D: Deadline> Create<'_, I, C, L, D> {
    async fn place(&self) {
        let (run, lane) = (self.run, self.lane);
        let known: BTreeMap<&ResourceId, &Protected> =
            run.protected(&lane.place).map(|item| (&item.resource, item)).collect();
        if !known.is_empty() && !run.enter(lane).await {
            return;
        }
        // Nothing is in flight in a place where the ledger knows no resource.
        let open = match known.is_empty() {
            true => Ok(Records::default()),
            false => run.ledger.open(&lane.place).await,
        };
        let in_flight = match open {
            Ok(open) => {
                lane.report().unreadable(&open.unreadable);
                open.records
            }
            // The run can go on: `plan` reads the records of each due resource again.
            Err(error) => {
                lane.fail(Failure::from(&error));
                Vec::new()
            }
        };
        let (send, pages) = unbounded();
        let due = drain(
            run.deadline,
            Pace::default(),
            Queue::new([]),
            pages,
            self.opens(),
            |due: Box<Due>| self.serve(due, &in_flight),
        );
        let (result, left) = join(self.list(&known, send), due).await;
        lane.listed(result);
        bounded(left.into_iter().map(|due| self.defer(due))).await;
        // Last: nothing of the lane's own work waits for it.
        run.check_quota(lane, None).await;
    }

    /// When serving begins. If the last run left items or had failures (a full quota, for example),
    /// all instances are listed first, so that the resource that has waited longest is served
    /// first; but only for a part of the time.
    fn opens(&self) -> Duration {
        let fell_short = |last: &LastRun| last.left > 0 || last.failures > 0;
        if self.run.last_run(&self.lane.place).is_some_and(fell_short) {
            self.run.deadline.stop() / 3
        } else {
            Duration::ZERO
        }
    }

    /// Lists the instances, and passes on those that are due as soon as their page arrives.
    async fn list(
        &self,
        known: &BTreeMap<&ResourceId, &Protected>,
        send: UnboundedSender<Vec<(Rank, Box<Due>)>>,
    ) -> Result<(), ProviderError> {
        let (run, lane) = (self.run, self.lane);
        let _listing = run.listing.acquire().await;
        let mut seen: BTreeSet<ResourceId> = BTreeSet::new();
        let fetch = |token| run.inventory.instances(&lane.place, token);
        let id = |instance: &Instance| instance.id.clone();
        pages::turn(run.deadline, "list of instances", fetch, id, async |turned| {
            let Turned::Page(instances) = turned else { return };
            lane.answered();
            let fresh = instances.into_iter().filter(|instance| seen.insert(instance.id.clone()));
            let mut due = Vec::new();
            let mut changed = Vec::new();
            for instance in fresh {
                let known = known.get(&instance.id).copied();
                due.extend(self.read(instance, known, &mut changed));
            }
            // A resource is remembered before its first claim.
            bounded(changed.iter().map(|item| self.remember(item))).await;
            if !due.is_empty() && run.enter(lane).await {
                lane.open(due.len());
                // When the time is over, nobody receives these resources; they are counted as left.
                let _ = send.unbounded_send(due);
            }
        })
        .await
    }

    async fn remember(&self, item: &Protected) {
        if let Err(error) = self.run.ledger.remember(item).await {
            self.lane.fail(Failure::from(&error).of(&item.resource, &item.name));
        }
    }

    /// Reads an instance's tags, reports what is wrong with them, and returns the resource if its
    /// slot may be due.
    fn read(
        &self,
        instance: Instance,
        known: Option<&Protected>,
        changed: &mut Vec<Protected>,
    ) -> Option<(Rank, Box<Due>)> {
        let run = self.run;
        if instance.is_of_a_drill(run.now) {
            return None;
        }
        let mut report = self.lane.report();
        report.count(Counter::Instances, 1);
        let cx = run.cx(self.lane);
        let Settings { tag, policies, .. } = run.settings;
        let protection = Protection::read(&instance.tags, tag, policies);
        report.findings.extend(protection.problems(&instance));
        let seen = Protected::seen(known, &instance, &protection, None, run.now);
        let protected_since = seen.as_ref().or(known).and_then(|item| item.since);
        changed.extend(seen);
        match protection.opt_in {
            OptIn::On => {}
            OptIn::Off => {
                let message = format!("{} is off: no snapshots", instance.name);
                let finding = Finding::new(Code::OptedOut, message);
                report.findings.push(finding.of(&instance.id, &instance.name));
                return None;
            }
            OptIn::Untagged => {
                report.unprotected.push(instance.name);
                return None;
            }
        }
        report.count(Counter::Protected, 1);
        if cx.capabilities.tells_quota {
            self.lane.needs(Need::of(&instance, &protection.policy, &cx));
        }
        let due = create::due_slot(&protection, run.now);
        if known.is_some_and(|known| known.newest == Some(due)) {
            report.count(Counter::Served, 1);
            return None;
        }
        let rank = (Protected::rank(known), instance.id.clone());
        Some((rank, Box::new(Due { instance, protection, protected_since, claimed: None })))
    }

    /// Serves one resource: reads its records, plans, claims the slot, and asks for the snapshot.
    async fn serve(&self, mut due: Box<Due>, in_flight: &[Record]) -> Turn<Box<Due>> {
        if let Some(Claimed { intent, tries, lost, .. }) = due.claimed.take() {
            return self.ask(due, intent, tries, lost).await;
        }
        let mut part = ItemReport::default();
        let intent = match self.plan(&due, in_flight, &mut part).await {
            Some(take) => self.claim(&due, *take, &mut part).await,
            None => None,
        };
        self.lane.add(part);
        match intent {
            Some(intent) => self.ask(due, intent, 0, false).await,
            None => {
                self.lane.done();
                Turn::Done(None)
            }
        }
    }

    /// Gathers the facts of one resource and plans for it.
    async fn plan(
        &self,
        due: &Due,
        in_flight: &[Record],
        part: &mut ItemReport,
    ) -> Option<Box<Take>> {
        let (run, Due { instance, protection, .. }) = (self.run, due);
        let slot = create::due_slot(protection, run.now);
        let recent = match run.ledger.recent(&instance.id, slot).await {
            Ok(recent) => recent,
            Err(error) => {
                part.failures.push(self.failed(&error, due));
                return None;
            }
        };
        self.lane.report().unreadable(&recent.unreadable);
        let mut records = recent.records;
        for record in in_flight.iter().filter(|r| r.resource == instance.id) {
            let key = record.sort_key();
            if records.iter().all(|r| r.sort_key() != key) {
                records.push(record.clone());
            }
        }
        // The run that moved these records on ended before it reported their missed slots.
        for record in records.iter().filter(|r| r.state == State::Failed && r.missed > 0) {
            part.missed(record);
        }
        let mut facts = Facts {
            instance: instance.clone(),
            protection: protection.clone(),
            protected_since: due.protected_since,
            records,
            looks: BTreeMap::new(),
        };
        let cx = run.cx(self.lane);
        for record in create::questions(&facts, &cx) {
            let look = self.look(due, &record, part).await;
            facts.looks.insert(record.snapshot(), look);
        }
        match create::plan(&facts, &run.cx(self.lane)) {
            Verdict::Take(take) => Some(take),
            Verdict::Track { replaces, record } => {
                self.track(due, replaces, &record, part).await;
                None
            }
            Verdict::Served => {
                part.counts.push(Counter::Served);
                None
            }
            Verdict::Wait(finding) => {
                part.counts.push(Counter::Waiting);
                part.findings.push(finding);
                None
            }
        }
    }

    /// Writes the record of a snapshot that a look showed before it was asked for again.
    async fn track(&self, due: &Due, replaces: bool, record: &Record, part: &mut ItemReport) {
        let ledger = self.run.ledger;
        let written = match replaces {
            false => ledger.claim(record).await,
            true => ledger.advance(record).await,
        };
        match written {
            Ok(Write::Done(written)) => {
                part.counts.push(Counter::Tracked);
                part.missed(&written);
            }
            Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
            Err(error) => part.failures.push(self.failed(&error, due)),
        }
    }

    /// Claims the intent before the snapshot is requested. The residue of a failed attempt gets an
    /// item of its own first, so that it is never forgotten.
    async fn claim(&self, due: &Due, take: Take, part: &mut ItemReport) -> Option<Record> {
        let ledger = self.run.ledger;
        if let Some(superseded) = &take.superseded
            && let Err(error) = ledger.claim(superseded).await
        {
            part.failures.push(self.failed(&error, due));
            return None;
        }
        let claimed = match take.replaces {
            false => ledger.claim(&take.intent).await,
            true => ledger.advance(&take.intent).await,
        };
        match claimed {
            Ok(Write::Done(intent)) => Some(*intent),
            Ok(Write::Conflict(_)) => {
                part.counts.push(Counter::Conflicts);
                let message =
                    format!("slot {} is being taken by another invocation", take.intent.slot);
                let finding = Finding::new(Code::ClaimedElsewhere, message);
                part.findings.push(finding.of(&due.instance.id, &due.instance.name));
                None
            }
            Err(error) => {
                part.failures.push(self.failed(&error, due));
                None
            }
        }
    }

    /// Asks for the snapshot without a look beforehand, because the answer shows whether it exists.
    /// A request that was throttled, busy or lost is repeated.
    async fn ask(
        &self,
        mut due: Box<Due>,
        intent: Record,
        tries: u32,
        lost: bool,
    ) -> Turn<Box<Due>> {
        let (run, lane) = (self.run, self.lane);
        let order = SnapshotRequest {
            place: lane.place.clone(),
            resource: due.instance.id.clone(),
            instance: due.instance.name.clone(),
            name: intent.name.clone(),
            tags: create::tags(&intent, &run.settings.deployment),
        };
        let answer = self.creator.create(&order).await;
        let error = answer.as_ref().err();
        let heard = error.map_or(Heard::Through, heard);
        let mut part = ItemReport::default();
        let lost = lost || error.is_some_and(|error| error.kind.effect_unknown());
        if heard == Heard::Through {
            lane.achieved();
        }
        if error.is_none_or(|error| error.kind.answered()) {
            let note = Note::Answered(run.now);
            if let Err(error) = run.ledger.note(&due.instance.id, note).await {
                part.failures.push(self.failed(&error, &due));
            }
        }
        let mut settled = create::settle(&intent, &answer, None, lost, &run.cx(lane));
        if settled == Settled::Look {
            let look = self.look(&due, &intent, &mut part).await;
            settled = create::settle(&intent, &answer, Some(&look), lost, &run.cx(lane));
        }
        match (settled, answer) {
            (Settled::Write(settlement), answer) => {
                self.write(&due, *settlement, answer.err().as_ref(), &mut part).await;
            }
            (_, Err(error)) if error.kind != ErrorKind::Indeterminate || tries < LOST_MAX => {
                lane.add(part);
                let pause = pause(error.kind, tries);
                due.claimed = Some(Claimed { intent, error, tries: tries + 1, lost });
                return Turn::Again(due, heard, pause);
            }
            (_, Err(error)) => {
                self.put_off(&due, &intent, &error, lost, &mut part).await;
            }
            (_, Ok(_)) => {}
        }
        lane.add(part);
        lane.done();
        Turn::Done(Some(heard))
    }

    /// Writes the outcome of an intent, and reports it.
    async fn write(
        &self,
        due: &Due,
        settlement: Settlement,
        error: Option<&ProviderError>,
        part: &mut ItemReport,
    ) {
        let Settlement { next, outcome, finding } = settlement;
        if outcome == Outcome::Deferred
            && let Some(error) = error
        {
            let failure = Failure::from(error).in_place(&self.lane.place);
            part.failures.push(failure.of(&due.instance.id, &due.instance.name));
        }
        part.findings.extend(finding);
        part.counts.extend(match outcome {
            Outcome::Requested => Some(Counter::Requested),
            Outcome::Tracked => Some(Counter::Tracked),
            Outcome::Failed => Some(Counter::AttemptsFailed),
            Outcome::Deferred => None,
        });
        match self.run.ledger.advance(&next).await {
            Ok(Write::Done(written)) => part.missed(&written),
            Ok(Write::Conflict(_)) => part.counts.push(Counter::Conflicts),
            // The intent stays in the ledger: the next run finds the snapshot by its name.
            Err(error) => part.failures.push(self.failed(&error, due)),
        }
    }

    /// Defers a resource that there was no time for, and frees its intent unless the effect is
    /// unknown.
    async fn defer(&self, mut due: Box<Due>) {
        let Some(Claimed { intent, error, lost, .. }) = due.claimed.take() else { return };
        let mut part = ItemReport::default();
        self.put_off(&due, &intent, &error, lost, &mut part).await;
        self.lane.add(part);
    }

    /// Keeps an intent for the next tick.
    async fn put_off(
        &self,
        due: &Due,
        intent: &Record,
        error: &ProviderError,
        lost: bool,
        part: &mut ItemReport,
    ) {
        let deferred = create::defer(intent, error, lost, &self.run.cx(self.lane));
        self.write(due, deferred, Some(error), part).await;
    }

    async fn look(&self, due: &Due, record: &Record, part: &mut ItemReport) -> Lookup {
        match self.run.inventory.look_up(&record.snapshot()).await {
            Ok(found) => self.run.found(self.lane, record, found),
            Err(error) => {
                let failure = Failure::from(&error).in_place(&self.lane.place);
                part.failures.push(failure.of(&due.instance.id, &record.name));
                Lookup::Unknown
            }
        }
    }

    fn failed(&self, error: &LedgerError, due: &Due) -> Failure {
        Failure::from(error).of(&due.instance.id, &due.instance.name)
    }
}
