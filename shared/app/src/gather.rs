//! Gathers what a place is judged by: both lists, the ledger's live records, and what only a question
//! tells. `prune` judges by it, and so does every command that says what `prune` would do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream;
use snapkeep_domain::answer::{Lookup, ProviderError};
use snapkeep_domain::capabilities::TagSupport;
use snapkeep_domain::ledger::record::Record;
use snapkeep_domain::policy::settings::{Context, Settings};
use snapkeep_domain::policy::tags::{OptIn, Protection};
use snapkeep_domain::prune::{Facts, Listing, SourceStatus};
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::snapshot::{Instance, Snapshot, SnapshotRef};

use crate::lane::{Lane, Run};
use crate::pace::{Heard, Pace};
use crate::pages::{self, Turned};
use crate::ports::{Deadline, Inventory, Ledger, Remember};
use crate::report::{Counter, Failure};
use crate::work::{Queue, Turn, drain, heard, pause};

/// How often one run asks a question, unless it is throttled.
const TRIES_MAX: u32 = 3;

/// Something to look up by name.
enum Question {
    Source(ResourceId, String),
    Snapshot(SnapshotRef),
}

/// The gathering in one place.
pub(crate) struct Gather<'a, I, L, D> {
    pub(crate) run: &'a Run<'a, I, L, D>,
    pub(crate) lane: &'a Lane,
}

impl<I: Inventory, L: Ledger + Remember, D: Deadline> Gather<'_, I, L, D> {
    /// Reads the ledger's live records and both lists; `None` if any of them is incomplete.
    pub(crate) async fn lists(&self) -> Option<Facts> {
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
                    Turned::Page(page) => {
                        let lasting = page.into_iter().filter(|one| !one.is_of_a_drill(run.now));
                        facts.instances.extend(lasting.map(one));
                    }
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
        if !whole {
            return None;
        }
        let Settings { tag, policies, .. } = run.settings;
        let unprotected = facts.instances.values().filter(|instance| {
            Protection::read(&instance.tags, tag, policies).opt_in == OptIn::Untagged
        });
        let mut report = lane.report();
        report.count(Counter::Instances, facts.instances.len());
        report.unprotected.extend(unprotected.map(|instance| instance.name.clone()));
        drop(report);
        Some(facts)
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

    /// Looks up by name what the lists should have shown.
    pub(crate) async fn ask(&self, facts: &mut Facts) {
        let (run, lane) = (self.run, self.lane);
        let questions = facts.questions(&run.cx(lane));
        let sources = questions.sources.into_iter().map(|(id, name)| Question::Source(id, name));
        let snapshots = questions.snapshots.into_iter().map(Question::Snapshot);
        let all: Vec<Question> = sources.chain(snapshots).collect();
        lane.open(all.len());
        let queue = Queue::new(all.into_iter().enumerate().map(|(rank, one)| (rank, (one, 0))));
        let found = Mutex::new(&mut *facts);
        let left = drain(
            run.deadline,
            Pace::default(),
            queue,
            stream::empty(),
            Duration::ZERO,
            |(question, tries)| self.answer(question, tries, &found),
        )
        .await;
        for (question, _) in left {
            match question {
                Question::Source(id, _) => drop(facts.sources.insert(id, SourceStatus::Unknown)),
                Question::Snapshot(of) => drop(facts.looks.insert(of, Lookup::Unknown)),
            }
        }
    }

    async fn answer(
        &self,
        question: Question,
        tries: u32,
        facts: &Mutex<&mut Facts>,
    ) -> Turn<(Question, u32)> {
        let (run, lane) = (self.run, self.lane);
        let place = &lane.place;
        let answer = match &question {
            Question::Source(id, name) => {
                run.inventory.instance(place, id, name).await.map(|found| {
                    let source = match found {
                        Some(found) if found.id == *id => SourceStatus::Alive(found),
                        other => SourceStatus::Gone { name_lives: other.is_some() },
                    };
                    with(facts, |facts| drop(facts.sources.insert(id.clone(), source)));
                })
            }
            Question::Snapshot(of) => run.inventory.look_up(of).await.map(|found| {
                let found = found.into_iter().next();
                let look = found.map_or(Lookup::Missing, |found| Lookup::Found(Box::new(found)));
                with(facts, |facts| {
                    // The list lagged behind: the snapshot exists, and counts.
                    if let Lookup::Found(found) = &look {
                        let disks = facts.disks();
                        let source =
                            |disk: &str| disks.get(disk).map(|(id, name)| (id, name.as_str()));
                        let Context { settings, capabilities, .. } = run.cx(lane);
                        let found = found.traced(source);
                        facts.listing.add(&found, &settings.deployment, &capabilities);
                    }
                    facts.looks.insert(of.clone(), look);
                });
            }),
        };
        let Err(error) = answer else {
            lane.done();
            return Turn::Done(Some(Heard::Through));
        };
        let heard = heard(&error);
        if error.kind.transient() && (heard == Heard::Throttled || tries + 1 < TRIES_MAX) {
            return Turn::Again((question, tries + 1), heard, pause(error.kind, tries));
        }
        lane.done();
        let failure = Failure::from(&error);
        match question {
            Question::Source(id, name) => {
                lane.fail(failure.of(&id, &name));
                with(facts, |facts| drop(facts.sources.insert(id, SourceStatus::Unknown)));
            }
            Question::Snapshot(of) => {
                lane.fail(failure.of(&of.source, &of.name));
                with(facts, |facts| drop(facts.looks.insert(of, Lookup::Unknown)));
            }
        }
        Turn::Done(Some(heard))
    }
}

fn with(facts: &Mutex<&mut Facts>, change: impl FnOnce(&mut Facts)) {
    change(&mut facts.lock().unwrap_or_else(PoisonError::into_inner));
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
