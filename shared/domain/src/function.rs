//! The three functions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the three functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Takes snapshots.
    Create,
    /// Follows snapshots until they are available.
    Poll,
    /// Deletes snapshots past retention.
    Prune,
}

impl Function {
    /// All functions.
    pub const ALL: [Function; 3] = [Function::Create, Function::Poll, Function::Prune];

    /// The function's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Function::Create => "create",
            Function::Poll => "poll",
            Function::Prune => "prune",
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Function {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Function::ALL.into_iter().find(|function| function.as_str() == name);
        found.ok_or_else(|| format!("no function `{name}`: expected create, poll or prune"))
    }
}
