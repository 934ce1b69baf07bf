//! The only module that reads the environment.

use std::collections::BTreeMap;

/// All variables whose names and values are text.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one legitimate reading of the environment")]
pub fn vars() -> BTreeMap<String, String> {
    // A variable that is not UTF-8 cannot be one of ours.
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
