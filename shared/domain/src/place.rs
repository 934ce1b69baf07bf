//! Places: each lane works in one.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The accepted form of a place.
const FORM: &str =
    "a Region, such as eu-west-1, or one of another account, such as eu-west-1@222233334444";

/// A Region of an account: `eu-west-1` of our own, `eu-west-1@222233334444` of another. It is never
/// empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(Arc<str>);

impl Place {
    /// The Region.
    #[must_use]
    pub fn region(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(region, _)| region)
    }

    /// The account; `None` if it is our own.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, account)| account)
    }

    /// The same Region of our own account.
    #[must_use]
    pub fn at_home(&self) -> Place {
        Place(self.region().into())
    }

    /// The same Region of another account.
    #[must_use]
    pub fn of_account(&self, account: &str) -> Place {
        Place(format!("{}@{account}", self.region()).into())
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // How a provider names its Regions is its own business.
        let legal = |c: char| c != '@' && !c.is_whitespace() && !c.is_control();
        let word = |part: &str| !part.is_empty() && part.chars().all(legal);
        let (region, account) = match text.split_once('@') {
            Some((region, account)) => (region, Some(account)),
            None => (text, None),
        };
        match word(region) && account.is_none_or(word) {
            true => Ok(Place(text.into())),
            false => Err(format!("`{text}` is no place: expected {FORM}")),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

impl From<&Place> for String {
    fn from(place: &Place) -> String {
        place.to_string()
    }
}

impl Deref for Place {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_region_of_an_account() {
        let home: Place = "eu-west-1".parse().unwrap();
        assert_eq!((home.region(), home.account()), ("eu-west-1", None));
        let theirs = home.of_account("222233334444");
        assert_eq!(theirs.to_string(), "eu-west-1@222233334444");
        assert_eq!((theirs.region(), theirs.account()), ("eu-west-1", Some("222233334444")));
        assert_eq!((theirs.at_home(), "eu-west-1@222233334444".parse()), (home, Ok(theirs)));
        for bad in ["", "@", "eu-west-1@", "@222233334444", "eu west", "a@b@c", "eu-west-1\n"] {
            let error = bad.parse::<Place>().unwrap_err();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("eu-west-1"), "{error}");
        }
    }
}
