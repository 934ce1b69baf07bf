//! Carries out deletions.

use snapkeep_domain::answer::{Lookup, ProviderError};
use snapkeep_domain::finding::Topic;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::notice::Notice;
use snapkeep_domain::prune::{self, LastLook, Step};

use super::{Prune, Todo};
use crate::pace::Heard;
use crate::ports::{Deadline, Deleter, Inventory, Ledger, Remember};
use crate::report::{Counter, Failure, ItemReport};
use crate::work::{Turn, heard, pause};

/// How often one run tries a deletion, unless it is throttled.
const TRIES_MAX: u32 = 3;

impl<I: Inventory, X: Deleter, L: Ledger + Remember, D: Deadline> Prune<'_, I, X, L, D> {
    /// Deletes one snapshot: writes the intent, takes a last look, and deletes. `poll` confirms it.
    pub(super) async fn delete(&self, mut todo: Box<Todo>) -> Turn<Box<Todo>> {
        let (run, lane) = (self.run, self.lane);
        let Step::Delete { record, judged } = &todo.step else { return Turn::Done(None) };
        let mut part = ItemReport::default();
        let done = |part: ItemReport, heard| {
            lane.add(part);
            lane.done();
            Turn::Done(heard)
        };
        let intent = match todo.intent.take() {
            Some(intent) => intent,
            None => {
                let intent = record.deleting(run.now, run.cx(lane).lease);
                match self.write(&intent, None, None, &mut part).await {
                    Some(written) => written,
                    None => return done(part, None),
                }
            }
        };
        // The last look comes immediately before each try.
        let look = run.inventory.look_up(&record.snapshot()).await;
        let look = look.map(|found| run.found(lane, record, found));
        let found = match look {
            Ok(Lookup::Found(found)) => *found,
            Ok(_) => {
                // After a lost answer, our own request deleted it.
                if todo.lost {
                    pruned(&intent, &mut part);
                }
                lane.achieved();
                return done(part, Some(Heard::Through));
            }
            Err(error) => return self.again(todo, intent, error, part),
        };
        let look = Lookup::Found(Box::new(found.clone()));
        match prune::last_look(&intent, judged, &look, &run.cx(lane)) {
            LastLook::Delete => {}
            other => {
                lane.achieved();
                self.object(other, &mut part).await;
                return done(part, Some(Heard::Through));
            }
        }
        let answer = self.deleter.delete(&record.snapshot()).await;
        todo.lost |= answer.as_ref().is_err_and(|error| error.kind.effect_unknown());
        let settled = prune::settle(&intent, &found, &answer, &run.cx(lane));
        match (settled, answer) {
            (LastLook::Again | LastLook::Wait, Err(error)) => self.again(todo, intent, error, part),
            (LastLook::Delete, _) => {
                pruned(&intent, &mut part);
                lane.achieved();
                done(part, Some(Heard::Through))
            }
            (settled, answer) => {
                if let (LastLook::Object { .. }, Err(error)) = (&settled, &answer) {
                    let failure = Failure::from(error).in_place(&lane.place);
                    part.failures.push(failure.of(&intent.resource, &intent.name));
                }
                lane.achieved();
                self.object(settled, &mut part).await;
                done(part, Some(Heard::Through))
            }
        }
    }

    /// Keeps the intent. A call that was throttled, busy or lost is tried again in this run, with
    /// another last look.
    fn again(
        &self,
        mut todo: Box<Todo>,
        intent: Record,
        error: ProviderError,
        part: ItemReport,
    ) -> Turn<Box<Todo>> {
        self.lane.add(part);
        let (kind, heard, tries) = (error.kind, heard(&error), todo.tries);
        if kind.transient() && (heard == Heard::Throttled || tries + 1 < TRIES_MAX) {
            (todo.intent, todo.error, todo.tries) = (Some(intent), Some(error), tries + 1);
            return Turn::Again(todo, heard, pause(kind, tries));
        }
        self.unanswered(&todo.step, &error);
        self.lane.done();
        Turn::Done(Some(heard))
    }

    /// Applies an objection to a deletion.
    async fn object(&self, look: LastLook, part: &mut ItemReport) {
        let LastLook::Object { next, finding } = look else { return };
        match next {
            Some(next) => {
                self.write(&next, Some(Counter::Rescued), Some(*finding), part).await;
            }
            None => part.findings.push(*finding),
        }
    }

    pub(super) fn unanswered(&self, step: &Step, error: &ProviderError) {
        if let Step::Delete { record, .. } = step {
            self.lane.fail(Failure::from(error).of(&record.resource, &record.name));
        }
    }
}

fn pruned(intent: &Record, part: &mut ItemReport) {
    part.counts.push(Counter::Pruned);
    let message = format!("{} is deleted: {}", intent.name, intent.reason);
    part.notices.push(Notice::of_record(Topic::Pruned, intent, message));
}
