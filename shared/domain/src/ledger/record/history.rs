//! The history of a record: the last changes of its state. The ledger keeps it from write to write, so
//! that a writer need not know it; the index does not have it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::State;
use crate::function::Function;

/// So many changes of state are kept in the history of a record.
pub const HISTORY_MAX: usize = 20;

/// A change of a record's state. In the ledger it is a text, because most of an item would be names of
/// members otherwise: `2026-11-20T03:00:07Z create - intended 1 due`, with `-` for what is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Change {
    /// When it was made.
    pub at: Timestamp,
    /// The function that made it.
    pub function: Option<Function>,
    /// The state before it; absent if the record began with it.
    pub from: Option<State>,
    /// The state after it.
    pub to: State,
    /// The attempt.
    pub attempt: u32,
    /// The reason for it.
    pub reason: String,
}

impl From<Change> for String {
    fn from(change: Change) -> String {
        let Change { at, function, from, to, attempt, reason } = change;
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        let function = function.map_or("-", Function::as_str);
        let from = from.map_or("-", State::as_str);
        format!("{at} {function} {from} {} {attempt} {reason}", to.as_str())
    }
}

impl TryFrom<String> for Change {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read = || {
            let mut words = text.splitn(6, ' ');
            let at = words.next()?.parse().ok()?;
            let function = match words.next()? {
                "-" => None,
                name => Some(name.parse().ok()?),
            };
            let from = match words.next()? {
                "-" => None,
                name => Some(State::of(name)?),
            };
            let to = State::of(words.next()?)?;
            let attempt = words.next()?.parse().ok()?;
            let reason = words.next()?.to_owned();
            Some(Change { at, function, from, to, attempt, reason })
        };
        read().ok_or_else(|| format!("`{text}` is no change of state"))
    }
}

/// The changes of a record's state. Records that differ only in these are equal.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Vec<Change>")]
pub struct History {
    /// The changes that were read, the oldest first; none where the index was read.
    pub past: Vec<Change>,
    /// The change that the next write adds.
    pub next: Option<Box<Change>>,
}

impl PartialEq for History {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for History {}

impl From<Vec<Change>> for History {
    fn from(past: Vec<Change>) -> Self {
        History { past, next: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_as_it_was_written() {
        let change = Change {
            at: "2026-11-20T03:00:07.5Z".parse().unwrap(),
            function: None,
            from: None,
            to: State::Intended,
            attempt: 2,
            reason: "due, and more words".to_owned(),
        };
        let text = String::from(change.clone());
        assert_eq!(text, "2026-11-20T03:00:07Z - - intended 2 due, and more words");
        let whole = Change { at: "2026-11-20T03:00:07Z".parse().unwrap(), ..change };
        assert_eq!(Change::try_from(text), Ok(whole.clone()));
        let by = Change {
            function: Some(Function::Prune),
            from: Some(State::Available),
            reason: String::new(),
            ..whole
        };
        assert_eq!(Change::try_from(String::from(by.clone())), Ok(by));
        assert!(Change::try_from("2026-11-20T03:00:07Z prune".to_owned()).is_err());
    }
}
