//! The id of what is backed up.

use serde::{Deserialize, Serialize};

/// The provider's id of a resource, never its name: names are used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub String);
