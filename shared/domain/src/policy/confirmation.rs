//! The codes with which a person confirms what would otherwise be held back.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::policy::keep::Keep;
use crate::resource::ResourceId;
use crate::time::Zone;

/// A code that a finding prints and a person gives back: letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfirmationCode(String);

impl ConfirmationCode {
    /// The code that confirms these rules in this zone, as the brake prints it.
    #[must_use]
    pub fn of_rules(keep: &Keep, zone: &Zone) -> Self {
        Self::of(&format!("{keep}\n{}", zone.name()))
    }

    /// The code that releases the hold of an instance that is gone.
    #[must_use]
    pub fn of_release(resource: &ResourceId) -> Self {
        Self::of(&format!("release\n{}", resource.0))
    }

    fn of(what: &str) -> Self {
        let digest = Sha256::digest(what);
        ConfirmationCode(digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }
}

impl FromStr for ConfirmationCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Ok(ConfirmationCode(text.to_owned()));
        }
        Err("a code that a finding printed, such as 1a2b3c4d".to_owned())
    }
}

impl Deref for ConfirmationCode {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfirmationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_depend_on_rules_and_zone_only() {
        let code = |keep: &str, zone: &str| {
            ConfirmationCode::of_rules(&keep.parse().unwrap(), &zone.parse().unwrap())
        };
        assert_eq!(code("daily=7 last=1", "UTC"), code("last=1 daily=7", "UTC"));
        assert_ne!(code("daily=7", "UTC"), code("daily=7", "Europe/Berlin"));
        assert_eq!(code("all", "UTC").len(), 8);
        assert_eq!(code("all", "UTC").parse(), Ok(code("all", "UTC")));
        let release = |id: &str| ConfirmationCode::of_release(&ResourceId(id.to_owned()));
        assert_ne!(release("arn:web"), release("arn:db"));
        assert!("a-b".parse::<ConfirmationCode>().is_err());
    }
}
