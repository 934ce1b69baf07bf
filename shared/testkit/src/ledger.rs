//! A ledger in memory, with the same conflicts as the real one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use snapkeep_app::ports::{
    ConditionStore, Ledger, LedgerError, Memory, Note, Records, Remember, Unreadable, Write,
};
use snapkeep_domain::function::Function;
use snapkeep_domain::ledger::protected::Protected;
use snapkeep_domain::ledger::record::{HISTORY_MAX, Record, State};
use snapkeep_domain::ledger::run::LastRun;
use snapkeep_domain::notice::Condition;
use snapkeep_domain::place::Place;
use snapkeep_domain::poll::FOLLOWED;
use snapkeep_domain::resource::ResourceId;
use snapkeep_domain::time::Slot;

type Key = (ResourceId, String);

/// The contents of a ledger at some time.
#[derive(Clone, Debug)]
pub struct Backup(BTreeMap<Key, Item>, Remembered, BTreeMap<String, Condition>);

/// What the ledger remembers besides records.
#[derive(Clone, Debug, Default)]
struct Remembered {
    protected: BTreeMap<ResourceId, Protected>,
    runs: BTreeMap<(Function, Place), LastRun>,
}

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    items: Mutex<BTreeMap<Key, Item>>,
    conditions: Mutex<BTreeMap<String, Condition>>,
    remembered: Mutex<Remembered>,
}

#[derive(Clone, Debug)]
enum Item {
    Readable(Box<Record>),
    /// An item that cannot be read, with the place and the state under which the index shows it.
    Spoilt(Option<(String, State)>, Unreadable),
}

impl Item {
    /// The place and the state under which the index shows the item.
    fn live(&self) -> Option<(&str, State)> {
        match self {
            Item::Readable(record) => Some((&*record.place, record.live()?)),
            Item::Spoilt(live, _) => live.as_ref().map(|(place, state)| (place.as_str(), *state)),
        }
    }

    fn readable(&self) -> Option<&Record> {
        match self {
            Item::Readable(record) => Some(record),
            Item::Spoilt(..) => None,
        }
    }
}

fn key(record: &Record) -> Key {
    (record.resource.clone(), record.sort_key())
}

fn add(records: &mut Records, item: &Item) {
    match item {
        Item::Readable(record) => records.records.push(Record::clone(record)),
        Item::Spoilt(_, unreadable) => records.unreadable.push(unreadable.clone()),
    }
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All readable records, including tombstones, by resource and sort key.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        self.lock().values().filter_map(Item::readable).cloned().collect()
    }

    /// Puts a record, and bypasses all locking.
    pub fn insert(&self, record: Record) {
        self.lock().insert(key(&record), Item::Readable(Box::new(record)));
    }

    /// Puts an item that cannot be read; the index shows it under `live`.
    pub fn spoil(
        &self,
        resource: &ResourceId,
        sort_key: &str,
        live: Option<(&str, State)>,
        why: &str,
    ) {
        let unreadable = Unreadable {
            resource: resource.clone(),
            sort_key: sort_key.to_owned(),
            why: why.to_owned(),
        };
        let live = live.map(|(place, state)| (place.to_owned(), state));
        let item = Item::Spoilt(live, unreadable);
        self.lock().insert((resource.clone(), sort_key.to_owned()), item);
    }

    /// The record that stands under this record's key.
    #[must_use]
    pub fn find(&self, record: &Record) -> Option<Record> {
        self.lock().get(&key(record)).and_then(Item::readable).cloned()
    }

    /// Removes an item, as the TTL does.
    pub fn remove(&self, record: &Record) {
        self.lock().remove(&key(record));
    }

    /// Loses everything.
    pub fn clear(&self) {
        self.lock().clear();
        *self.remembered() = Remembered::default();
        self.conditions().clear();
    }

    /// What the ledger remembers of a resource.
    #[must_use]
    pub fn remembers(&self, resource: &ResourceId) -> Option<Protected> {
        self.remembered().protected.get(resource).cloned()
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<String, Condition>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the ledger remembers of all resources.
    #[must_use]
    pub fn protected(&self) -> Vec<Protected> {
        self.remembered().protected.values().cloned().collect()
    }

    /// Loses what the ledger remembers of a resource.
    pub fn forget(&self, resource: &ResourceId) {
        self.remembered().protected.remove(resource);
    }

    fn shown(&self, place: &str, states: &[State]) -> Records {
        let items = self.lock();
        let mut found = Records::default();
        for state in states {
            for item in items.values().filter(|item| item.live() == Some((place, *state))) {
                add(&mut found, item);
            }
        }
        found
    }

    /// The current contents.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.lock().clone(), self.remembered().clone(), self.conditions().clone())
    }

    /// Goes back to earlier contents.
    pub fn restore(&self, backup: Backup) {
        *self.lock() = backup.0;
        *self.remembered() = backup.1;
        *self.conditions() = backup.2;
    }

    /// Puts `record` as `version` if the item that stands there now may give way to it.
    fn put(
        &self,
        record: &Record,
        version: u64,
        gives_way: impl FnOnce(Option<&Item>) -> bool,
    ) -> Write {
        let mut items = self.lock();
        let standing = items.get(&key(record));
        if !gives_way(standing) {
            let standing = standing.and_then(Item::readable).cloned();
            return Write::Conflict(standing.map(Box::new));
        }
        // The history is the ledger's own: whoever writes adds one change to it.
        let old = standing.and_then(Item::readable).map(|old| old.history.past.clone());
        let change = record.history.next.as_deref().cloned();
        let mut history: Vec<_> = old.into_iter().flatten().chain(change).collect();
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        let record = Box::new(record.at_version(version).with_history(history));
        items.insert(key(&record), Item::Readable(record.clone()));
        Write::Done(record)
    }
}

impl Ledger for MemoryLedger {
    async fn claim(&self, record: &Record) -> Result<Write, LedgerError> {
        Ok(self.put(record, 1, |standing| standing.is_none()))
    }

    async fn advance(&self, record: &Record) -> Result<Write, LedgerError> {
        let same = |item: &Item| item.readable().is_some_and(|old| old.version == record.version);
        Ok(self.put(record, record.version.saturating_add(1), |item| item.is_some_and(same)))
    }

    async fn open(&self, place: &Place) -> Result<Records, LedgerError> {
        Ok(self.shown(place, &FOLLOWED))
    }

    async fn live(&self, place: &Place) -> Result<Records, LedgerError> {
        Ok(self.shown(place, &State::ALL))
    }

    async fn recent(&self, resource: &ResourceId, from: Slot) -> Result<Records, LedgerError> {
        let items = self.lock();
        let mut found = Records::default();
        for ((_, sort_key), item) in items.iter().rev().filter(|((id, _), _)| id == resource) {
            add(&mut found, item);
            // The key of a superseded attempt is not a slot, so it ends nothing.
            if sort_key.parse::<Slot>().is_ok_and(|slot| slot < from) {
                break;
            }
        }
        Ok(found)
    }
}

impl Remember for MemoryLedger {
    async fn memory(&self) -> Result<Memory, LedgerError> {
        let remembered = self.remembered();
        let protected = remembered.protected.values().cloned().collect();
        let runs = remembered.runs.values().cloned().collect();
        Ok(Memory { protected, runs, unreadable: Vec::new() })
    }

    async fn remember(&self, item: &Protected) -> Result<bool, LedgerError> {
        let mut remembered = self.remembered();
        let standing = remembered.protected.get(&item.resource);
        if standing.map_or(0, |standing| standing.version) != item.version {
            return Ok(false);
        }
        let raised = Protected {
            version: item.version.saturating_add(1),
            newest: standing.map_or(item.newest, |standing| standing.newest),
            answered: standing.map_or(item.answered, |standing| standing.answered),
            ..item.clone()
        };
        remembered.protected.insert(item.resource.clone(), raised);
        Ok(true)
    }

    async fn note(&self, resource: &ResourceId, note: Note) -> Result<(), LedgerError> {
        if let Some(item) = self.remembered().protected.get_mut(resource) {
            match note {
                Note::Answered(at) => item.answered = Some(at),
                Note::Available(slot) => item.newest = item.newest.max(Some(slot)),
                Note::Newest(slot) => item.newest = slot,
                Note::Proven(proof) => item.proven = Some(proof),
            }
        }
        Ok(())
    }

    async fn put_run(&self, run: &LastRun) -> Result<Option<LastRun>, LedgerError> {
        let mut remembered = self.remembered();
        let key = (run.function, run.place.clone());
        if remembered.runs.get(&key).map_or(0, |standing| standing.version) != run.version {
            return Ok(None);
        }
        let raised = LastRun { version: run.version.saturating_add(1), ..run.clone() };
        remembered.runs.insert(key, raised.clone());
        Ok(Some(raised))
    }
}

impl ConditionStore for MemoryLedger {
    async fn known(&self) -> Result<(Vec<Condition>, Vec<Unreadable>), LedgerError> {
        let conditions = self.conditions();
        Ok((conditions.values().cloned().collect(), Vec::new()))
    }

    async fn put(&self, condition: &Condition) -> Result<Option<Condition>, LedgerError> {
        let mut conditions = self.conditions();
        let key = Condition::key(&condition.finding);
        if conditions.get(&key).map_or(0, |standing| standing.version) != condition.version {
            return Ok(None);
        }
        let raised =
            Condition { version: condition.version.saturating_add(1), ..condition.clone() };
        conditions.insert(key, raised.clone());
        Ok(Some(raised))
    }
}
