//! Takes a snapshot of ours that has no record into the ledger.

use snapkeep_domain::finding::{Code, Finding};
use snapkeep_domain::ledger::record::{Recognition, Record, State};
use snapkeep_domain::snapshot::SnapshotState;

use super::Prune;
use crate::ports::{Deadline, Deleter, Inventory, Ledger, Remember, Write};
use crate::report::{Counter, Failure, ItemReport};

impl<I: Inventory, X: Deleter, L: Ledger + Remember, D: Deadline> Prune<'_, I, X, L, D> {
    /// Takes a snapshot of ours into the ledger. Its place may be taken by a tombstone: then it is seen
    /// again; or by another attempt: then it becomes an item of its own. Only a look at what stands there now can
    /// tell: an intent comes before its snapshot, so whoever sees the snapshot sees its intent here.
    pub(super) async fn adopt(&self, record: &Record, part: &mut ItemReport) {
        let ledger = self.run.ledger;
        let claimed = match ledger.claim(record).await {
            Ok(Write::Conflict(Some(standing)))
                if standing.name != record.name && !record.superseded =>
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
        // A list may lag behind a deletion: only asking by name tells that it is really there.
        if standing.live().is_some() {
            return;
        }
        let look = self.run.inventory.snapshot(&self.lane.place, &record.name).await;
        let deployment = &self.run.cx.settings.deployment;
        match look {
            Ok(Some(found)) if standing.recognises(&found, deployment) == Recognition::Ours => {
                // A tombstone gives way only to what is available.
                if standing.state == State::Deleted && found.state != SnapshotState::Available {
                    return;
                }
                let next = standing.observed(&found.state, self.run.cx.now, "seen again");
                let finding = about(Code::SeenAgain, format!("{} is there again", record.name));
                self.write(&next, Some(Counter::Adopted), Some(finding), part).await;
            }
            Ok(_) => {}
            Err(error) => {
                let failure = Failure::from(&error).in_place(&self.lane.place);
                part.failures.push(failure.of(&record.resource, &record.name));
            }
        }
    }
}
