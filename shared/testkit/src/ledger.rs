//! A ledger in memory, with the very conflicts of the real one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use snapkeep_app::ports::{Ledger, LedgerError, Matters, Records, Unreadable, Write};
use snapkeep_domain::notice::Matter;
use snapkeep_domain::record::{Record, State};
use snapkeep_domain::snapshot::ResourceId;
use snapkeep_domain::time::Slot;

type Key = (ResourceId, String);

/// Everything that a ledger held at some time.
#[derive(Clone, Debug)]
pub struct Backup(BTreeMap<Key, Item>);

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    items: Mutex<BTreeMap<Key, Item>>,
    matters: Mutex<BTreeMap<String, Matter>>,
}

#[derive(Clone, Debug)]
enum Item {
    Readable(Box<Record>),
    /// With the state under which the index shows it.
    Spoilt(Option<State>, Unreadable),
}

impl Item {
    fn live(&self) -> Option<State> {
        match self {
            Item::Readable(record) => record.live(),
            Item::Spoilt(live, _) => *live,
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

    /// All readable records, tombstones too, by resource and sort key.
    #[must_use]
    pub fn all(&self) -> Vec<Record> {
        self.lock().values().filter_map(Item::readable).cloned().collect()
    }

    /// Puts a record past all locking.
    pub fn insert(&self, record: Record) {
        self.lock().insert(key(&record), Item::Readable(Box::new(record)));
    }

    /// Puts an item that cannot be read, shown under `live` in the index.
    pub fn spoil(&self, resource: &ResourceId, sort_key: &str, live: Option<State>, why: &str) {
        let unreadable = Unreadable {
            resource: resource.clone(),
            sort_key: sort_key.to_owned(),
            why: why.to_owned(),
        };
        let item = Item::Spoilt(live, unreadable);
        self.lock().insert((resource.clone(), sort_key.to_owned()), item);
    }

    /// What stands where this record belongs.
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
    }

    /// What it holds now.
    #[must_use]
    pub fn backup(&self) -> Backup {
        Backup(self.lock().clone())
    }

    /// Goes back to what it held then.
    pub fn restore(&self, backup: Backup) {
        *self.lock() = backup.0;
    }

    /// Puts `record` as `version` if what stands there now may give way to it.
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
        let record = Record { version, ..record.clone() };
        let record = Box::new(record);
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

    async fn live(&self, states: &[State]) -> Result<Records, LedgerError> {
        let items = self.lock();
        let mut found = Records::default();
        for state in states {
            for item in items.values().filter(|item| item.live() == Some(*state)) {
                add(&mut found, item);
            }
        }
        Ok(found)
    }

    async fn recent(&self, resource: &ResourceId, from: Slot) -> Result<Records, LedgerError> {
        let items = self.lock();
        let mut found = Records::default();
        for ((_, sort_key), item) in items.iter().rev().filter(|((id, _), _)| id == resource) {
            add(&mut found, item);
            // A leftover's key is no slot by itself, so it ends nothing.
            if sort_key.parse::<Slot>().is_ok_and(|slot| slot < from) {
                break;
            }
        }
        Ok(found)
    }
}

impl Matters for MemoryLedger {
    async fn known(&self) -> Result<(Vec<Matter>, Vec<Unreadable>), LedgerError> {
        let matters = self.matters.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((matters.values().cloned().collect(), Vec::new()))
    }

    async fn put(&self, matter: &Matter) -> Result<Option<Matter>, LedgerError> {
        let mut matters = self.matters.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Matter::key(&matter.finding);
        if matters.get(&key).map_or(0, |standing| standing.version) != matter.version {
            return Ok(None);
        }
        let raised = Matter { version: matter.version.saturating_add(1), ..matter.clone() };
        matters.insert(key, raised.clone());
        Ok(Some(raised))
    }
}
