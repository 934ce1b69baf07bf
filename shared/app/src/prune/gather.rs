//! Gathers what a lane of `prune` judges by: both lists of the place, and the ledger's live records.

use std::collections::BTreeMap;

use snapkeep_domain::answer::ProviderError;
use snapkeep_domain::capabilities::TagSupport;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::policy::settings::Context;
use snapkeep_domain::prune::{Facts, Listing};
use snapkeep_domain::snapshot::{Instance, Snapshot};

use super::Prune;
use crate::pages::{self, Turned};
use crate::ports::{Deadline, Deleter, Inventory, Ledger, Remember};
use crate::report::{Counter, Failure};

impl<I: Inventory, X: Deleter, L: Ledger + Remember, D: Deadline> Prune<'_, I, X, L, D> {
    /// Reads the ledger's live records and both lists; `None` if any of them is incomplete.
    pub(super) async fn gather(&self) -> Option<Facts> {
        let (run, lane) = (self.run, self.lane);
        let mut facts = Facts::of(lane.place.clone());
        let protected = run.protected(&lane.place);
        facts.protected = protected.map(|item| (item.resource.clone(), item.clone())).collect();
        // Where the ledger knows no resource, its records are read only if a snapshot of ours is
        // listed.
        let known = !facts.protected.is_empty();
        if known && !self.recall(&mut facts).await {
            return None;
        }
        // Instances come first: where the provider states only a snapshot's disk, they say whose it
        // is. A snapshot of an instance that is made in between is nobody's in this run.
        let instances = |token| run.inventory.instances(&lane.place, token);
        let id = |instance: &Instance| instance.id.clone();
        let listed =
            pages::turn(run.deadline, "list of instances", instances, id, async |turned| {
                let one = |instance: Instance| (instance.id.clone(), instance);
                match turned {
                    Turned::Page(page) => facts.instances.extend(page.into_iter().map(one)),
                    Turned::Anew => facts.instances.clear(),
                }
            })
            .await;
        let listed = match listed {
            Err(error) => Err(error),
            Ok(()) => self.list_snapshots(&mut facts).await,
        };
        let ours = facts.listing.sources().next().is_some();
        if !known && ours && listed.is_ok() && !self.recall(&mut facts).await {
            return None;
        }
        let whole = listed.is_ok();
        lane.listed(listed);
        lane.report().count(Counter::Instances, if whole { facts.instances.len() } else { 0 });
        whole.then_some(facts)
    }

    /// Lists the snapshots of the place.
    async fn list_snapshots(&self, facts: &mut Facts) -> Result<(), ProviderError> {
        let (run, lane) = (self.run, self.lane);
        let Context { settings, mut capabilities, .. } = run.cx(lane);
        let disks = facts.disks();
        let listing = &mut facts.listing;
        let snapshots = |token| run.inventory.snapshots(&lane.place, token);
        let id = |snapshot: &Snapshot| snapshot.id.clone();
        pages::turn(run.deadline, "list of snapshots", snapshots, id, async |turned| {
            match turned {
                Turned::Page(page) => {
                    for one in &page {
                        let source =
                            |disk: &str| disks.get(disk).map(|(id, name)| (id, name.as_str()));
                        listing.add(&one.traced(source), &settings.deployment, &capabilities);
                    }
                    if listing.shows_tags() {
                        capabilities.tags = TagSupport::Yes;
                    }
                }
                // Snapshots that only the broken list showed may be gone.
                Turned::Anew => *listing = Listing::default(),
            }
        })
        .await?;
        if listing.shows_tags() {
            lane.shows_tags();
        }
        Ok(())
    }

    /// Adds the ledger's live records of the place; `false` if they cannot be read.
    async fn recall(&self, facts: &mut Facts) -> bool {
        let (run, lane) = (self.run, self.lane);
        match run.ledger.live(&lane.place).await {
            Ok(live) => {
                lane.report().unreadable(&live.unreadable);
                facts.unreadable = live.unreadable.into_iter().map(|item| item.resource).collect();
                for record in live.records {
                    // The index is read page by page: a record that moves meanwhile appears twice.
                    let records = facts.records.entry(record.resource.clone()).or_default();
                    records.push(record);
                }
                facts.records.values_mut().for_each(newest_only);
                true
            }
            Err(error) => {
                lane.fail(Failure::from(&error));
                false
            }
        }
    }
}

/// Reduces the records to the newest version of each.
fn newest_only(records: &mut Vec<Record>) {
    let mut newest: BTreeMap<String, Record> = BTreeMap::new();
    for record in records.drain(..) {
        let key = record.sort_key();
        if newest.get(&key).is_none_or(|known| known.version < record.version) {
            newest.insert(key, record);
        }
    }
    *records = newest.into_values().collect();
}
