//! EventBridge's bus and SNS: what is published is kept in a mailbox, and events that a rule matches
//! invoke functions.
//!
//! There is one bus and one topic, whatever their names: rules and mailbox get everything. A matching
//! event becomes a [`Due`], which waits here until [`crate::runner::run_with`] or a test takes it. All of
//! this is there before the publisher has its answer, so that stepped runs stay deterministic.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::lambda::{ACCOUNT, new_request_id, uuid};
use crate::schedule::Due;

pub(crate) mod wire;

/// How much the mailbox holds, and how many deliveries may wait: the oldest go first.
const KEPT: usize = 10_000;

/// A rule of the bus: a function gets the events that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    /// The rule's name.
    pub name: String,
    /// The source that an event must have.
    pub source: String,
    /// The detail-type that it must have.
    pub detail_type: String,
    /// Members of its detail, and the values that they must have.
    pub detail_equals: BTreeMap<String, Value>,
    /// The function that gets it.
    pub function: String,
}

impl EventRule {
    fn matches(&self, event: &Event) -> bool {
        self.source == event.source
            && self.detail_type == event.detail_type
            && self.detail_equals.iter().all(|(name, value)| event.detail.get(name) == Some(value))
    }
}

/// An event that was put on the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The Region in which it was put.
    pub region: String,
    /// Its time, if the publisher gave one.
    pub time: Option<Timestamp>,
    /// Where it comes from.
    pub source: String,
    /// What it is.
    pub detail_type: String,
    /// What it is about.
    pub resources: Vec<String>,
    /// The rest.
    pub detail: Map<String, Value>,
}

/// A message that was published to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The topic's ARN.
    pub topic: String,
    /// The subject, if it has one.
    pub subject: Option<String>,
    /// The text.
    pub message: String,
    /// Its attributes of the types String and Number.
    pub attributes: BTreeMap<String, String>,
}

/// A bus and a topic; clones share them.
#[derive(Clone, Default)]
pub struct Events {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    rules: Vec<EventRule>,
    notices: VecDeque<Value>,
    due: VecDeque<Due>,
    published: u64,
}

impl Events {
    /// A bus with these rules.
    #[must_use]
    pub fn new(rules: Vec<EventRule>) -> Self {
        let events = Events::default();
        events.set_rules(rules);
        events
    }

    /// Replaces the rules.
    pub fn set_rules(&self, rules: Vec<EventRule>) {
        self.state().rules = rules;
    }

    /// Whether any event may ever invoke a function.
    pub(crate) fn has_rules(&self) -> bool {
        !self.state().rules.is_empty()
    }

    /// Puts an event on the bus; returns its id.
    pub fn put(&self, now: Timestamp, event: Event) -> String {
        let mut state = self.state();
        let id = state.next_id();
        state.keep(json!({
            "at": now,
            "kind": "event",
            "source": event.source,
            "detail-type": event.detail_type,
            "resources": event.resources,
            "detail": event.detail,
        }));
        let matching: Vec<(String, String)> = state
            .rules
            .iter()
            .filter(|rule| rule.matches(&event))
            .map(|rule| (rule.name.clone(), rule.function.clone()))
            .collect();
        if matching.is_empty() {
            return id;
        }
        let envelope = event.envelope(&id, now);
        for (rule, function) in matching {
            if state.due.len() >= KEPT {
                state.due.pop_front();
                tracing::warn!("too many events wait: the oldest is lost");
            }
            state.due.push_back(Due {
                at: now,
                rule,
                function,
                event: envelope.clone(),
                request_id: new_request_id(),
                attempt: 1,
                from_bus: true,
            });
        }
        drop(state);
        self.inner.arrived.notify_one();
        id
    }

    /// Publishes a message; returns its id.
    pub fn publish(&self, now: Timestamp, mail: &Mail) -> String {
        let mut state = self.state();
        state.keep(json!({
            "at": now,
            "kind": "mail",
            "topic": mail.topic,
            "subject": mail.subject,
            "message": mail.message,
            "attributes": mail.attributes,
        }));
        state.next_id()
    }

    /// Everything published so far as far as it is kept, the oldest first: what `GET /notices` answers.
    #[must_use]
    pub fn notices(&self) -> Vec<Value> {
        self.state().notices.iter().cloned().collect()
    }

    /// Empties the mailbox.
    pub fn forget_notices(&self) {
        self.state().notices.clear();
    }

    /// Takes the invocations that events asked for, the oldest first.
    #[must_use]
    pub fn take_due(&self) -> Vec<Due> {
        self.state().due.drain(..).collect()
    }

    /// Resolves when an invocation was asked for since the last time.
    pub(crate) async fn arrived(&self) {
        self.inner.arrived.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("rules", &self.state().rules).finish_non_exhaustive()
    }
}

impl State {
    fn keep(&mut self, notice: Value) {
        if self.notices.len() >= KEPT {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// The same in each run, so that runs can be compared.
    fn next_id(&mut self) -> String {
        self.published += 1;
        let half = |salt: u8| {
            let mut hasher = DefaultHasher::new();
            (salt, "published", self.published).hash(&mut hasher);
            hasher.finish()
        };
        uuid(half(0), half(1))
    }
}

impl Event {
    /// The event as a function gets it.
    fn envelope(&self, id: &str, now: Timestamp) -> Value {
        // EventBridge writes whole seconds.
        let time = self.time.unwrap_or(now);
        let time = Timestamp::from_second(time.as_second()).unwrap_or(time);
        json!({
            "version": "0",
            "id": id,
            "detail-type": self.detail_type,
            "source": self.source,
            "account": ACCOUNT,
            "time": time,
            "region": self.region,
            "resources": self.resources,
            "detail": self.detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00.5Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn rule(function: &str) -> EventRule {
        EventRule {
            name: format!("go-on-{function}"),
            source: "shop".to_owned(),
            detail_type: "Order".to_owned(),
            detail_equals: BTreeMap::from([("to".to_owned(), json!(function))]),
            function: function.to_owned(),
        }
    }

    fn event(detail: Value) -> Event {
        Event {
            region: "eu-west-1".to_owned(),
            time: None,
            source: "shop".to_owned(),
            detail_type: "Order".to_owned(),
            resources: vec!["arn:x".to_owned()],
            detail: detail.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn events_that_match_invoke_with_the_envelope_of_eventbridge() {
        let events = Events::new(vec![rule("pack"), rule("ship")]);
        let detail = json!({"to": "ship", "n": 3});
        let id = events.put(now(), event(detail.clone()));
        for other in [json!({"to": "nobody"}), json!({}), json!({"to": ["ship"]})] {
            events.put(now(), event(other));
        }
        events.put(now(), Event { source: "other".to_owned(), ..event(detail.clone()) });
        events.put(now(), Event { detail_type: "Offer".to_owned(), ..event(detail.clone()) });
        let due = events.take_due();
        assert_eq!(due.len(), 1, "{due:?}");
        assert_eq!((due[0].function.as_str(), due[0].rule.as_str()), ("ship", "go-on-ship"));
        assert!(due[0].from_bus && due[0].attempt == 1 && due[0].at == now());
        let expected = json!({
            "version": "0", "id": id, "detail-type": "Order", "source": "shop",
            "account": "123456789012", "time": "2026-01-01T00:00:00Z", "region": "eu-west-1",
            "resources": ["arn:x"], "detail": detail,
        });
        assert_eq!(due[0].event, expected);
        assert!(events.take_due().is_empty());
        assert_eq!(events.notices().len(), 6);
    }

    #[test]
    fn the_mailbox_keeps_the_newest_in_order() {
        let events = Events::default();
        let mail = |n: usize| Mail {
            topic: "arn:t".to_owned(),
            subject: (n == 0).then(|| "s".to_owned()),
            message: n.to_string(),
            attributes: BTreeMap::from([("code".to_owned(), "x".to_owned())]),
        };
        let first = events.publish(now(), &mail(0));
        assert_ne!(events.publish(now(), &mail(1)), first);
        let expected = json!({
            "at": NOW, "kind": "mail", "topic": "arn:t", "subject": "s", "message": "0",
            "attributes": {"code": "x"},
        });
        assert_eq!(events.notices()[0], expected);
        for n in 2..=KEPT {
            events.publish(now(), &mail(n));
        }
        let notices = events.notices();
        let ends = [&notices[0]["message"], &notices[KEPT - 1]["message"]];
        assert_eq!((notices.len(), ends), (KEPT, [&json!("1"), &json!(KEPT.to_string())]));
        events.forget_notices();
        assert!(events.notices().is_empty());
    }
}
