//! Sends notices to people by SNS, and to programs by EventBridge.

use aws_config::SdkConfig;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sns::types::MessageAttributeValue;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use snapkeep_app::ports::{ErrorKind, Notifier, ProviderError, Relay, Tick};
use snapkeep_domain::function::Function;
use snapkeep_domain::notice::Notice;
use snapkeep_domain::policy::settings::Settings;

use crate::lightsail::{classify, provider_error};

/// The `source` of our events.
pub const SOURCE: &str = "snapkeep";
/// The `detail-type` of the event by which a function goes on with what it left in a place.
pub const TICK: &str = "Tick";
/// How many events fit into one call:
/// <https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html>.
const EVENTS_MAX: usize = 10;
/// The longest subject that SNS accepts:
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>.
const SUBJECT_MAX: usize = 100;

/// The topic and the event bus, if they are configured.
#[derive(Clone, Debug)]
pub struct Notifications {
    deployment: String,
    topic: Option<(aws_sdk_sns::Client, String)>,
    bus: Option<(aws_sdk_eventbridge::Client, String)>,
}

impl Notifications {
    /// Creates the clients; nothing is called yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, settings: &Settings) -> Self {
        let topic = |topic: &String| (aws_sdk_sns::Client::new(sdk), topic.clone());
        let bus = |bus: &String| (aws_sdk_eventbridge::Client::new(sdk), bus.clone());
        Notifications {
            deployment: settings.deployment.to_string(),
            topic: settings.topic.as_ref().map(topic),
            bus: settings.event_bus.as_ref().map(bus),
        }
    }
}

impl Notifier for Notifications {
    fn listens(&self) -> bool {
        self.topic.is_some() || self.bus.is_some()
    }

    async fn events(&self, notices: &[Notice]) -> Result<(), ProviderError> {
        let Some((client, bus)) = &self.bus else { return Ok(()) };
        let calls = notices.chunks(EVENTS_MAX).map(|some| {
            let entries = some.iter().map(|notice| {
                let about = notice.resource.clone().filter(|resource| resource.starts_with("arn:"));
                let detail = detail(&self.deployment, notice);
                event(bus, notice.topic.as_str(), &detail, about)
            });
            put_events(client, entries.collect())
        });
        let calls: Vec<_> = calls.collect();
        // A call that fails does not stop the others.
        let answers: Vec<_> = stream::iter(calls).buffer_unordered(8).collect().await;
        answers.into_iter().collect()
    }

    async fn mail(&self, notice: &Notice) -> Result<bool, ProviderError> {
        let Some((client, topic)) = &self.topic else { return Ok(false) };
        send_message(client, topic, &self.deployment, notice).await.map(|()| true)
    }
}

impl Relay for Notifications {
    async fn go_on(&self, function: Function, tick: &Tick) -> Result<bool, ProviderError> {
        let Some((client, bus)) = &self.bus else { return Ok(false) };
        let detail = json!({
            "deployment": self.deployment,
            "function": function,
            "place": tick.place,
            "run": tick.run,
        });
        put_events(client, vec![event(bus, TICK, &detail, None)]).await.map(|()| true)
    }
}

/// One event for the bus.
fn event(
    bus: &str,
    detail_type: &str,
    detail: &Value,
    about: Option<String>,
) -> PutEventsRequestEntry {
    PutEventsRequestEntry::builder()
        .event_bus_name(bus)
        .source(SOURCE)
        .detail_type(detail_type)
        .detail(detail.to_string())
        .set_resources(about.map(|arn| vec![arn]))
        .build()
}

async fn put_events(
    client: &aws_sdk_eventbridge::Client,
    entries: Vec<PutEventsRequestEntry>,
) -> Result<(), ProviderError> {
    const OPERATION: &str = "PutEvents";
    let answer = client.put_events().set_entries(Some(entries)).send().await;
    let answer = answer.map_err(|error| provider_error(OPERATION, &error))?;
    // EventBridge may accept the call and still refuse an event.
    let refused = answer.entries().iter().find_map(|entry| entry.error_code().map(|c| (c, entry)));
    let Some((code, entry)) = refused else { return Ok(()) };
    let message = entry.error_message().unwrap_or_default().to_owned();
    let kind = match code {
        "InternalFailure" => ErrorKind::Indeterminate,
        code => classify(Some(code), &message, 400),
    };
    Err(ProviderError { kind, operation: OPERATION, code: code.to_owned(), message })
}

async fn send_message(
    client: &aws_sdk_sns::Client,
    topic: &str,
    deployment: &str,
    notice: &Notice,
) -> Result<(), ProviderError> {
    const OPERATION: &str = "Publish";
    let attribute = |value: &str| {
        MessageAttributeValue::builder().data_type("String").string_value(value).build()
    };
    let mut call = client
        .publish()
        .topic_arn(topic)
        .subject(subject(notice))
        .message(message(deployment, notice));
    // The attributes are for subscriptions that filter.
    let code = notice.code.map_or("", |code| code.as_str());
    for (name, value) in [("topic", notice.topic.as_str()), ("code", code)] {
        if !value.is_empty() {
            let value = attribute(value).map_err(|error| ProviderError {
                kind: ErrorKind::Refused,
                operation: OPERATION,
                code: "NotSent".to_owned(),
                message: error.to_string(),
            })?;
            call = call.message_attributes(name, value);
        }
    }
    call.send().await.map(drop).map_err(|error| provider_error(OPERATION, &error))
}

/// The detail of an event: the notice, and the deployment that sends it.
fn detail(deployment: &str, notice: &Notice) -> Value {
    // A notice consists of text and numbers, so that it can always be written as JSON.
    let mut detail = serde_json::to_value(notice).unwrap_or_else(|_| json!({}));
    detail["deployment"] = deployment.into();
    detail
}

/// The subject: printable ASCII on one line, as SNS requires.
fn subject(notice: &Notice) -> String {
    let text = format!("snapkeep: {}", notice.title());
    let legal = |c: &char| (' '..='~').contains(c);
    text.chars().filter(legal).take(SUBJECT_MAX).collect()
}

fn message(deployment: &str, notice: &Notice) -> String {
    let key = notice.key.as_ref().map(|key| match &notice.value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let since = notice.since.map(|since| since.to_string());
    let slot = notice.slot.map(|slot| slot.to_string());
    let lines = [
        ("What to do", notice.fix.as_deref()),
        ("Name", notice.name.as_deref()),
        ("Resource", notice.resource.as_deref()),
        ("Snapshot", notice.snapshot.as_deref()),
        ("Slot", slot.as_deref()),
        ("Setting", key.as_deref()),
        ("Since", since.as_deref()),
        ("Finding", notice.code.map(|code| code.as_str())),
        ("Deployment", Some(deployment)),
    ];
    let mut text = format!("{}\n", notice.message);
    for (what, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("\n{what}: {value}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use snapkeep_domain::finding::Topic;
    use snapkeep_domain::finding::{Code, Finding};

    use super::*;

    fn notice(name: &str) -> Notice {
        let finding = Finding::new(Code::BadTag, "`dayly=7` cannot be read")
            .named(name)
            .key("snapkeep:keep")
            .value("dayly=7")
            .fix("write daily=7");
        Notice::of_finding(Topic::HeldBack, &finding)
    }

    #[test]
    fn a_message_names_the_resource_the_reason_and_what_to_do() {
        let expected = "`dayly=7` cannot be read\n\nWhat to do: write daily=7\nName: web\n\
                        Setting: snapkeep:keep=dayly=7\nFinding: bad-tag\nDeployment: dep";
        assert_eq!(message("dep", &notice("web")), expected);
        assert_eq!(subject(&notice("web")), "snapkeep: Snapshot Held Back: web");
    }

    #[test]
    fn a_subject_is_what_sns_takes() {
        let long = subject(&notice(&format!("w\u{e9}b\n{}", "x".repeat(200))));
        assert_eq!(long.len(), SUBJECT_MAX);
        assert!(long.starts_with("snapkeep: Snapshot Held Back: wbx"), "{long}");
    }

    #[test]
    fn an_events_detail_is_the_notice() {
        let expected = json!({
            "deployment": "dep", "over": false, "severity": "warning", "code": "bad-tag",
            "name": "web", "key": "snapkeep:keep", "value": "dayly=7",
            "message": "`dayly=7` cannot be read", "fix": "write daily=7",
        });
        assert_eq!(detail("dep", &notice("web")), expected);
    }
}
