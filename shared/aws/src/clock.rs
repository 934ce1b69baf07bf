//! The only module that reads a clock: `now` once for each invocation, and the real time that is
//! left.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jiff::Timestamp;
use snapkeep_app::ports::Deadline;
use snapkeep_domain::finding::{Finding, without_password};
use snapkeep_domain::policy::settings::BadSettings;

/// The source of `now`.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    Real,
    /// The embedded cloud's clock, only on loopback.
    Simulated(Uri),
}

/// How long the embedded cloud's clock may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// The clock did not answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "the clock at SNAPKEEP_CLOCK_URL={url} does not answer: {why}; start the embedded cloud, or unset the variable"
)]
pub struct ClockError {
    url: String,
    why: String,
}

/// The machine's time, which requests to Tencent Cloud are signed with.
#[must_use]
pub fn system() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "a signature counts for the service's clock")]
    Timestamp::now()
}

impl Clock {
    /// The clock that the environment selects: `SNAPKEEP_CLOCK_URL` is refused unless it and the
    /// endpoints of all services are loopback; `elsewhere` is another provider's that is not.
    ///
    /// # Errors
    /// The variable to change.
    pub fn from_vars(
        var: impl Fn(&str) -> Option<String>,
        elsewhere: Option<(&'static str, String)>,
    ) -> Result<Self, BadSettings> {
        const KEY: &str = "SNAPKEEP_CLOCK_URL";
        let Some(url) = var(KEY) else { return Ok(Clock::Real) };
        let bad = |key, value: &str, accepted: &str| {
            BadSettings(vec![Finding::bad_variable(key, value, accepted)])
        };
        let accepted = "a loopback URL of the embedded cloud, such as http://127.0.0.1:8000/";
        if !is_loopback(&url) {
            return Err(bad(KEY, &url, accepted));
        }
        for service in ["AWS_ENDPOINT_URL_LIGHTSAIL", "AWS_ENDPOINT_URL_DYNAMODB"] {
            let endpoint = var(service).or_else(|| var("AWS_ENDPOINT_URL")).unwrap_or_default();
            if !is_loopback(&endpoint) {
                let accepted = format!("a loopback URL while {KEY} is set; unset {KEY} otherwise");
                return Err(bad(service, &endpoint, &accepted));
            }
        }
        if let Some((endpoint, value)) = elsewhere {
            let accepted = format!("a loopback URL while {KEY} is set; unset {KEY} otherwise");
            return Err(bad(endpoint, &value, &accepted));
        }
        url.parse().map(Clock::Simulated).map_err(|_| bad(KEY, &url, accepted))
    }

    /// Reads the current time; called once for each invocation.
    ///
    /// # Errors
    /// When the simulated clock does not answer with an RFC 3339 time.
    pub async fn now(&self) -> Result<Timestamp, ClockError> {
        let Clock::Simulated(url) = self else {
            #[expect(clippy::disallowed_methods, reason = "the one legitimate reading of now")]
            return Ok(Timestamp::now());
        };
        let shown = without_password(&url.to_string()).into_owned();
        let error = |why: String| ClockError { url: shown.clone(), why };
        let client: Client<_, Empty<&[u8]>> = Client::builder(TokioExecutor::new()).build_http();
        let read = async {
            let answer = client.get(url.clone()).await.map_err(|e| error(e.to_string()))?;
            let body = Limited::new(answer.into_body(), 1024).collect().await;
            Ok(body.map_err(|e| error(e.to_string()))?.to_bytes())
        };
        let read = tokio::time::timeout(ANSWERS_WITHIN, read).await;
        let body = read.unwrap_or_else(|_| Err(error("it took too long".to_owned())))?;
        let text = String::from_utf8_lossy(&body);
        text.trim().parse().map_err(|_| error(format!("`{}` is not RFC 3339", text.trim())))
    }
}

fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    uri.scheme_str() == Some("http")
        && (host == "localhost" || address.is_ok_and(|ip| ip.is_loopback()))
}

/// The real time that an invocation has.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    began: Instant,
    /// The time from the beginning to Lambda's deadline.
    whole: Duration,
    /// The part of it that is for the end: calls under way, leases, notices, and the report.
    reserve: Duration,
}

impl Budget {
    /// The budget up to Lambda's deadline.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the deadline is real time, whatever now is")]
    pub fn until(deadline: SystemTime) -> Self {
        let whole = deadline.duration_since(SystemTime::now()).unwrap_or_default();
        let reserve = Duration::from_secs(10).min(whole / 4);
        Budget { began: Instant::now(), whole, reserve }
    }

    /// The time from the beginning to the deadline.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.whole
    }
}

impl Deadline for Budget {
    #[expect(clippy::disallowed_methods, reason = "the deadline is real time, whatever now is")]
    fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.began)
    }

    fn stop(&self) -> Duration {
        self.whole - self.reserve
    }

    fn end(&self) -> Duration {
        self.whole - self.reserve / 2
    }

    fn last(&self) -> Duration {
        self.whole - self.reserve / 5
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_is_for_loopback_only() {
        let key = |refused: Result<Clock, BadSettings>| refused.unwrap_err().0.remove(0).key;
        let clock = |url: &'static str, lightsail: &'static str| {
            Clock::from_vars(
                move |key| match key {
                    "SNAPKEEP_CLOCK_URL" => Some(url.to_owned()),
                    "AWS_ENDPOINT_URL_LIGHTSAIL" => Some(lightsail.to_owned()),
                    "AWS_ENDPOINT_URL" => Some("http://localhost:1".to_owned()),
                    _ => None,
                },
                None,
            )
        };
        let (clock_url, lightsail) = ("http://127.0.0.1:1/", "http://[::1]:2");
        assert!(matches!(clock(clock_url, lightsail), Ok(Clock::Simulated(_))));
        for bad in [
            "http://10.0.0.1/",
            "http://localhost.example.com/",
            "file:///x",
            "",
            "https://127.0.0.1",
        ] {
            assert_eq!(key(clock(bad, lightsail)).as_deref(), Some("SNAPKEEP_CLOCK_URL"));
        }
        let real = "https://lightsail.eu-west-1.amazonaws.com";
        assert_eq!(key(clock(clock_url, real)).as_deref(), Some("AWS_ENDPOINT_URL_LIGHTSAIL"));
        assert!(matches!(Clock::from_vars(|_| None, None), Ok(Clock::Real)));
        let all_here = |_: &str| Some("http://127.0.0.1:1".to_owned());
        let there = Some(("SNAPKEEP_OTHER_ENDPOINT", "https://example.com".to_owned()));
        let refused = key(Clock::from_vars(all_here, there));
        assert_eq!(refused.as_deref(), Some("SNAPKEEP_OTHER_ENDPOINT"));
    }
}
