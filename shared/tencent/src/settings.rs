//! The variables of this provider. A bad one fails the provider's places, never the function.

use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use snapkeep_domain::finding::{Code, Finding, without_password};
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;
use snapkeep_domain::policy::settings::Regions;

use crate::PROVIDER;

/// The variable that names the Regions.
pub const REGIONS: &str = "SNAPKEEP_LIGHTHOUSE_REGIONS";
/// The variable that names the secret with the keys.
pub const SECRET: &str = "SNAPKEEP_LIGHTHOUSE_SECRET";
/// The variable that names the endpoint.
pub const ENDPOINT: &str = "SNAPKEEP_LIGHTHOUSE_ENDPOINT";
/// All of them.
pub const VARIABLES: [&str; 3] = [REGIONS, SECRET, ENDPOINT];

const ENDPOINT_DEFAULT: &str = "https://lighthouse.tencentcloudapi.com";

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    host: String,
}

impl Endpoint {
    /// The URL, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The value of the header `Host`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        host.is_some_and(|host| is_loopback(&host))
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            format!(
                "{ENDPOINT_DEFAULT}, https://lighthouse.intl.tencentcloudapi.com, or another https URL \
                 without a path; http only on loopback"
            )
        };
        let uri: Uri = text.parse().map_err(|_| form())?;
        let authority = uri.authority().ok_or_else(form)?;
        let plain = authority.as_str().bytes().all(|b| b != b'@') && uri.query().is_none();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => is_loopback(authority.host()),
            _ => false,
        };
        if !secure || !plain || !["", "/"].contains(&uri.path()) {
            return Err(form());
        }
        Ok(Endpoint { url: text.trim_end_matches('/').to_owned(), host: authority.to_string() })
    }
}

/// What the variables say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LighthouseSettings {
    /// The Regions to look after.
    pub regions: Regions,
    /// Where the API is.
    pub endpoint: Endpoint,
    /// The name or ARN of the secret with the keys.
    pub secret: Option<String>,
    /// What is wrong: the provider's places are not served.
    pub problems: Vec<Finding>,
}

impl LighthouseSettings {
    /// Reads the variables that this function uses.
    #[must_use]
    pub fn read(variable: impl Fn(&str) -> Option<String>, function: Function) -> Self {
        let mut problems = Vec::new();
        let mut bad = |key: &str, value: &str, form: &str| {
            // Who writes the keys themselves there must not read them again in a log.
            let value =
                if value.contains(['{', '"']) { "…".into() } else { without_password(value) };
            let message = format!(
                "invalid {key}=`{value}`: expected {form}; no place of {PROVIDER} is served meanwhile"
            );
            let finding = Finding::new(Code::BadProvider, message).key(key).value(value.clone());
            problems.push(finding.fix(format!("set {key} to {form}, or unset it")));
        };
        let text = variable(ENDPOINT).unwrap_or_else(|| ENDPOINT_DEFAULT.to_owned());
        let endpoint = text.parse().unwrap_or_else(|form: String| {
            bad(ENDPOINT, &text, &form);
            Endpoint { url: ENDPOINT_DEFAULT.to_owned(), host: String::new() }
        });
        let text = variable(REGIONS).unwrap_or_else(|| "all".to_owned());
        let regions = regions(&text).unwrap_or_else(|form| {
            // `poll` follows what the ledger knows.
            if function != Function::Poll {
                bad(REGIONS, &text, form);
            }
            Regions::All
        });
        let secret = variable(SECRET);
        if let Some(text) = secret.as_ref().filter(|text| !is_secret(text)) {
            bad(SECRET, text, "the name or ARN of a secret of AWS Secrets Manager");
        }
        LighthouseSettings { regions, endpoint, secret, problems }
    }
}

/// Reads Regions into places of this provider.
fn regions(text: &str) -> Result<Regions, &'static str> {
    if text == "all" {
        return Ok(Regions::All);
    }
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let read = |name: &str| {
        let legal = name.contains('-') && name.chars().all(legal);
        legal.then(|| Place::of_provider(PROVIDER, name)).flatten()
    };
    let places: Option<std::collections::BTreeSet<Place>> =
        text.split_ascii_whitespace().map(read).collect();
    let places =
        places.ok_or("all, or Regions with spaces between, such as ap-guangzhou ap-tokyo")?;
    Ok(Regions::Only(places.into_iter().collect()))
}

/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html>
fn is_secret(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-:".contains(c);
    text.len() <= 2048 && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)], function: Function) -> LighthouseSettings {
        let value = |name: &str| Some(set.iter().find(|(key, _)| *key == name)?.1.to_owned());
        LighthouseSettings::read(value, function)
    }

    #[test]
    fn unset_is_the_whole_of_the_public_service() {
        let settings = read(&[], Function::Create);
        assert_eq!((settings.regions, settings.problems), (Regions::All, vec![]));
        assert_eq!(settings.endpoint.host(), "lighthouse.tencentcloudapi.com");
    }

    #[test]
    fn regions_are_places_of_this_provider() {
        let settings = read(&[(REGIONS, "ap-tokyo ap-guangzhou")], Function::Prune);
        let places = ["lighthouse:ap-guangzhou", "lighthouse:ap-tokyo"];
        let places = places.map(|place| place.parse().unwrap()).to_vec();
        assert_eq!(settings.regions, Regions::Only(places));
    }

    #[test]
    fn a_bad_variable_is_named_with_its_value_and_form() {
        for (key, bad) in [
            (REGIONS, "guangzhou"),
            (REGIONS, "ap-tokyo,ap-guangzhou"),
            (SECRET, "my secret"),
            (ENDPOINT, "lighthouse.tencentcloudapi.com"),
            (ENDPOINT, "http://lighthouse.tencentcloudapi.com"),
            (ENDPOINT, "https://lighthouse.tencentcloudapi.com/v3"),
        ] {
            let [problem] = &read(&[(key, bad)], Function::Create).problems[..] else {
                panic!("{key}={bad}");
            };
            assert!(problem.message.contains(&format!("{key}=`{bad}`")), "{}", problem.message);
            assert_eq!(problem.code, Code::BadProvider);
        }
        for (key, bad, secret) in [
            (SECRET, r#"{"secretId": "AKID", "secretKey": "hush"}"#, "hush"),
            (ENDPOINT, "https://user:hush@lighthouse.tencentcloudapi.com", "hush"),
            (ENDPOINT, "https://user@lighthouse.tencentcloudapi.com", "user"),
        ] {
            let [problem] = &read(&[(key, bad)], Function::Create).problems[..] else {
                panic!("{key}={bad}");
            };
            assert!(problem.message.contains(&format!("invalid {key}=")), "{}", problem.message);
            assert_eq!(problem.code, Code::BadProvider);
            assert!(!format!("{problem:?}").contains(secret), "{problem:?}");
        }
        assert_eq!(read(&[(REGIONS, "guangzhou")], Function::Poll).problems, []);
        for good in
            ["http://127.0.0.1:8000", "http://localhost:1/", "http://[::1]:80", "https://a.b"]
        {
            let settings = read(&[(ENDPOINT, good)], Function::Create);
            assert_eq!(settings.problems, [], "{good}");
            assert!(!settings.endpoint.url().ends_with('/'));
            assert_eq!(settings.endpoint.is_loopback(), good.starts_with("http://"), "{good}");
        }
    }
}
