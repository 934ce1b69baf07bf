//! Takes a snapshot of ours that has no record into the ledger.

use snapkeep_domain::answer::Lookup;
use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::ledger::record::{Recognition, Record, State};
use snapkeep_domain::snapshot::SnapshotState;

use super::Prune;
use crate::ports::{Deadline, Deleter, Inventory, Ledger, Remember, Write};
use crate::report::{Counter, Failure, ItemReport};

impl<I: Inventory, X: Deleter, L: Ledger + Remember, D: Deadline> Prune<'_, I, X, L, D> {
    /// Takes a snapshot of ours into the ledger. If a tombstone has its key, the snapshot was seen
    /// again; if another attempt has it, the snapshot gets an item of its own. Only the item that
    /// is there now can tell which: an intent is written before its snapshot is requested, so
    /// whoever sees the snapshot sees its intent here.
    pub(super) async fn adopt(&self, record: &Record, part: &mut ItemReport) {
        let ledger = self.run.ledger;
        let claimed = match ledger.claim(record).await {
            Ok(Write::Conflict(Some(standing)))
                if standing.attempt != record.attempt && !record.superseded =>
            {
                ledger.claim(&record.superseded()).await
            }
            claimed => claimed,
        };
        let about =
            |code, message| Finding::new(code, message).of(&record.resource, &record.resource_name);
        let standing = match claimed {
            Ok(Write::Done(_)) => {
                part.counts.push(Counter::Adopted);
                let message = format!("{} had no record and got one", record.name);
                part.findings.push(about(Code::Adopted, message));
                return;
            }
            Ok(Write::Conflict(Some(standing))) => standing,
            Ok(Write::Conflict(None)) => return part.counts.push(Counter::Conflicts),
            Err(error) => return part.failures.push(self.failed(&error, record)),
        };
        // A list may lag behind a deletion: only a lookup by name shows whether the snapshot
        // exists.
        if standing.live().is_some() {
            return;
        }
        let (run, lane) = (self.run, self.lane);
        let cx = run.cx(lane);
        let deployment = &cx.settings.deployment;
        match run.inventory.look_up(&record.snapshot()).await {
            Ok(found) => {
                let Lookup::Found(found) = run.found(lane, record, found) else { return };
                // The tombstone's own snapshot was another one.
                if standing.identity.id.as_deref().is_some_and(|id| *id != *found.id) {
                    let message = format!(
                        "{} ({}) is a second snapshot of slot {}; it is kept, and counts in no rule",
                        record.name, found.id, record.slot
                    );
                    let finding = about(Code::Twin, message).value(found.id.clone());
                    part.findings.push(finding.fix("delete it by hand if it is not needed"));
                    return;
                }
                if standing.recognises(&found, deployment, &cx.capabilities) != Recognition::Ours {
                    return;
                }
                // Only an available snapshot replaces a tombstone.
                if standing.state == State::Deleted && found.state != SnapshotState::Available {
                    return;
                }
                let known = standing.identified(&found, &cx.capabilities);
                let next = known.observed(&found.state, run.now, "seen again");
                let finding = about(Code::SeenAgain, format!("{} is there again", record.name));
                self.write(&next, Some(Counter::Adopted), Some(finding), part).await;
            }
            Err(error) => {
                let failure = Failure::from(&error).in_place(&self.lane.place);
                part.failures.push(failure.of(&record.resource, &record.name));
            }
        }
    }
}
