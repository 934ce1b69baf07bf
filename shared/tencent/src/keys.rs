//! The keys that requests are signed with.

use std::fmt;
use std::sync::Arc;

use async_lock::Mutex;
use futures_util::future::BoxFuture;
use serde::Deserialize;

/// The accepted form of a secret.
pub const FORM: &str =
    r#"{"secretId": "AKID…", "secretKey": "…"}, with "token" for temporary keys"#;

/// A pair of keys, and the token of temporary ones.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// The SecretId.
    pub secret_id: String,
    /// The SecretKey.
    pub secret_key: String,
    /// The token, if the keys are temporary.
    #[serde(default)]
    pub token: Option<String>,
}

impl Keys {
    /// Reads a secret's JSON.
    ///
    /// # Errors
    /// The accepted form; never what was found there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys: Option<Keys> = serde_json::from_str(text).ok();
        keys.filter(Keys::are_filled).ok_or_else(|| format!("expected {FORM}"))
    }

    /// The keys of the standard variables; `None` if none of them is set.
    ///
    /// # Errors
    /// The name of the one that is missing.
    pub fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        const NAMES: [&str; 2] = ["TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY"];
        match NAMES.map(&variable) {
            [None, None] => Ok(None),
            [Some(secret_id), Some(secret_key)] => {
                let token = variable("TENCENTCLOUD_TOKEN");
                Ok(Some(Keys { secret_id, secret_key, token }))
            }
            [None, _] => Err(format!("{} is missing beside {}", NAMES[0], NAMES[1])),
            [_, None] => Err(format!("{} is missing beside {}", NAMES[1], NAMES[0])),
        }
    }

    fn are_filled(&self) -> bool {
        // They become parts of headers.
        let word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        word(&self.secret_id) && word(&self.secret_key) && self.token.as_deref().is_none_or(word)
    }
}

/// Nothing secret gets into a log.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("secret_id", &self.secret_id).finish_non_exhaustive()
    }
}

/// Where keys come from.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// Reads them.
    ///
    /// The error says what could not be read, and why.
    fn read(&self) -> BoxFuture<'_, Result<Keys, String>>;
}

/// Keys that are known from the beginning.
impl KeySource for Keys {
    fn read(&self) -> BoxFuture<'_, Result<Keys, String>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// Keys that could not be had at all: this text says why.
impl KeySource for String {
    fn read(&self) -> BoxFuture<'_, Result<Keys, String>> {
        Box::pin(std::future::ready(Err(self.clone())))
    }
}

/// The keys of a process: read once, and again when the service refuses them.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing {
    source: Arc<dyn KeySource>,
    current: Arc<Mutex<Option<Arc<Keys>>>>,
}

impl KeyRing {
    pub(crate) fn new(source: Arc<dyn KeySource>) -> Self {
        KeyRing { source, current: Arc::default() }
    }

    /// The keys to sign with.
    pub(crate) async fn keys(&self) -> Result<Arc<Keys>, String> {
        let mut current = self.current.lock().await;
        if let Some(keys) = &*current {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(self.source.read().await?);
        *current = Some(Arc::clone(&keys));
        Ok(keys)
    }

    /// Other keys than those that the service refused; `None` if there are none.
    pub(crate) async fn instead_of(&self, refused: &Keys) -> Result<Option<Arc<Keys>>, String> {
        let mut current = self.current.lock().await;
        // Another call read them again in the meantime.
        if let Some(keys) = current.as_ref().filter(|keys| ***keys != *refused) {
            return Ok(Some(Arc::clone(keys)));
        }
        let keys = Arc::new(self.source.read().await?);
        *current = Some(Arc::clone(&keys));
        Ok(Some(keys).filter(|keys| **keys != *refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_one_form_and_its_error_does_not_say_what_was_found() {
        let keys = Keys::parse(r#"{"secretId": "AKID", "secretKey": "k", "token": "t"}"#).unwrap();
        assert_eq!((keys.secret_id.as_str(), keys.token.as_deref()), ("AKID", Some("t")));
        for bad in [
            "",
            "AKID:sesame",
            r#"{"secretId": "sesame"}"#,
            r#"{"secretId": "a b", "secretKey": "sesame"}"#,
        ] {
            let error = Keys::parse(bad).unwrap_err();
            assert!(error.contains("secretKey") && !error.contains("sesame"), "{error}");
        }
        assert!(!format!("{keys:?}").contains("secret_key"));
    }

    #[test]
    fn the_variables_come_in_pairs() {
        let of = |set: &'static [(&str, &str)]| {
            let value = |name: &str| Some(set.iter().find(|(key, _)| *key == name)?.1.to_owned());
            Keys::of_variables(value)
        };
        assert_eq!(of(&[]), Ok(None));
        let error = of(&[("TENCENTCLOUD_SECRET_ID", "a")]).unwrap_err();
        assert!(error.contains("TENCENTCLOUD_SECRET_KEY is missing"), "{error}");
        assert!(
            of(&[("TENCENTCLOUD_SECRET_ID", "a"), ("TENCENTCLOUD_SECRET_KEY", "b")])
                .unwrap()
                .is_some()
        );
    }
}
