//! The id of what is backed up.

use serde::{Deserialize, Serialize};

/// The provider's id of a resource (an ARN with a UUID at Lightsail), never its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub String);
