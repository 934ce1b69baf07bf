//! Places: each lane works in one.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The accepted form of a place.
const FORM: &str = "a Region, such as eu-west-1, one of another account, such as \
                    eu-west-1@222233334444, or one of another provider, such as name:ap-north-1";

/// A Region of an account of a provider: `eu-west-1` of our own, `eu-west-1@222233334444` of another
/// account, `name:ap-north-1` of a provider with a name. It is never empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(Arc<str>);

impl Place {
    /// A Region of a provider with a name; `None` if these cannot be names.
    #[must_use]
    pub fn of_provider(provider: &str, region: &str) -> Option<Place> {
        let place: Place = format!("{provider}:{region}").parse().ok()?;
        (place.provider() == Some(provider) && place.region() == region).then_some(place)
    }

    /// The provider's name; `None` for the one without.
    #[must_use]
    pub fn provider(&self) -> Option<&str> {
        self.0.split_once(':').map(|(provider, _)| provider)
    }

    /// The Region, as its provider names it.
    #[must_use]
    pub fn region(&self) -> &str {
        let (home, _) = self.0.split_once('@').unwrap_or((&*self.0, ""));
        home.split_once(':').map_or(home, |(_, region)| region)
    }

    /// The account; `None` if it is our own.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, account)| account)
    }

    /// The same Region of our own account.
    #[must_use]
    pub fn at_home(&self) -> Place {
        Place(self.0.split_once('@').map_or(&*self.0, |(home, _)| home).into())
    }

    /// The same Region of another account.
    #[must_use]
    pub fn of_account(&self, account: &str) -> Place {
        Place(format!("{}@{account}", self.at_home()).into())
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // How a provider names its Regions is its own business.
        let legal = |c: char| !"@:".contains(c) && !c.is_whitespace() && !c.is_control();
        let word = |part: &str| !part.is_empty() && part.chars().all(legal);
        let (home, account) = match text.split_once('@') {
            Some((home, account)) => (home, Some(account)),
            None => (text, None),
        };
        let (provider, region) = match home.split_once(':') {
            Some((provider, region)) => (Some(provider), region),
            None => (None, home),
        };
        match word(region) && provider.is_none_or(word) && account.is_none_or(word) {
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
        assert_eq!((home.provider(), home.region(), home.account()), (None, "eu-west-1", None));
        let theirs = home.of_account("222233334444");
        assert_eq!(theirs.to_string(), "eu-west-1@222233334444");
        assert_eq!((theirs.region(), theirs.account()), ("eu-west-1", Some("222233334444")));
        assert_eq!((theirs.at_home(), "eu-west-1@222233334444".parse()), (home, Ok(theirs)));
        let other = Place::of_provider("name", "ap-north-1").unwrap();
        assert_eq!((other.provider(), other.region()), (Some("name"), "ap-north-1"));
        assert_eq!((other.to_string().as_str(), other.at_home()), ("name:ap-north-1", other));
        assert_eq!(Place::of_provider("name", "a:b"), None);
        for bad in [
            "a:",
            ":b",
            "a:b:c",
            "",
            "@",
            "eu-west-1@",
            "@222233334444",
            "eu west",
            "a@b@c",
            "eu-west-1\n",
        ] {
            let error = bad.parse::<Place>().unwrap_err();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("eu-west-1"), "{error}");
        }
    }
}
