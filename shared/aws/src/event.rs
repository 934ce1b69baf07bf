//! Reads what invokes a function: a rule's event, a Scheduler's event, or `{}` by hand.
//!
//! Events are hints: their time is only for the log; `now` and the ledger decide what is due.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use serde::Deserialize;
use serde_json::Value;
use snapkeep_app::ports::{RUNS_MAX, Tick};
use snapkeep_domain::function::Function;
use snapkeep_domain::place::Place;

use crate::notifications::{SOURCE, TICK};

/// The origin of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The event's source, or `by hand`.
    pub source: String,
    /// The time that the event carries.
    pub time: Option<String>,
    /// The content of a Tick, or what is wrong with it.
    pub tick: Option<Result<Ticked, String>>,
}

/// The content of a Tick, which makes a function go on with what it left in a place.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Ticked {
    /// The deployment that it is for.
    pub deployment: String,
    /// The function that it is for.
    pub function: String,
    /// The place.
    pub place: Place,
    /// The number of the run, from 1.
    pub run: u32,
}

impl Ticked {
    /// Returns the place to go on with, if the Tick is for this function of this deployment.
    ///
    /// # Errors
    /// What does not fit, as text.
    pub fn for_whom(self, deployment: &str, function: Function) -> Result<Tick, String> {
        if self.deployment != deployment {
            return Err(format!(
                "it is for the deployment `{}`, and this is `{deployment}`",
                self.deployment
            ));
        }
        if self.function != function.as_str() {
            return Err(format!(
                "it is for the function `{}`, and this is `{function}`",
                self.function
            ));
        }
        if !(1..=RUNS_MAX).contains(&self.run) {
            return Err(format!("its run {} is not from 1 to {RUNS_MAX}", self.run));
        }
        Ok(Tick { place: self.place, run: self.run })
    }
}

/// Reads the detail of an event that claims to be a Tick.
fn ticked(event: &Value) -> Option<Result<Ticked, String>> {
    let is = |member: &str, value: &str| event.get(member).and_then(Value::as_str) == Some(value);
    if !is("source", SOURCE) || !is("detail-type", TICK) {
        return None;
    }
    let detail = event.get("detail").cloned().unwrap_or_default();
    Some(
        serde_json::from_value(detail)
            .map_err(|error| format!("its detail cannot be read: {error}")),
    )
}

/// An event that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid event `{value}` ({why}): expected an event of an EventBridge rule or of \
     EventBridge Scheduler, or {{}} by hand"
)]
pub struct BadEvent {
    value: String,
    why: String,
}

/// Reads an event.
///
/// # Errors
/// When it is not an object, when it claims to be an EventBridge event and is not one, or when its
/// time is not RFC 3339.
pub fn read(event: &Value) -> Result<Trigger, BadEvent> {
    let bad = |why: String| {
        let mut value = event.to_string();
        // An event has up to 256 KB; its beginning is enough to recognise it.
        if let Some((end, _)) = value.char_indices().nth(200) {
            value.truncate(end);
            value.push('…');
        }
        BadEvent { value, why }
    };
    let Value::Object(members) = event else {
        return Err(bad("it is no JSON object".to_owned()));
    };
    if ["source", "detail-type"].iter().any(|member| members.contains_key(*member)) {
        let tick = ticked(event);
        // `detail` is an object in a rule's event, and the string "{}" in a Scheduler's event.
        let event: EventBridgeEvent<Value> =
            serde_json::from_value(event.clone()).map_err(|error| bad(error.to_string()))?;
        return Ok(Trigger {
            source: event.source,
            time: event.time.map(|time| time.to_rfc3339()),
            tick,
        });
    }
    match members.get("time").or_else(|| members.get("scheduledTime")) {
        None => Ok(Trigger { source: "by hand".to_owned(), time: None, tick: None }),
        Some(Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {
            Ok(Trigger { source: "by hand".to_owned(), time: Some(text.clone()), tick: None })
        }
        Some(other) => Err(bad(format!("its time {other} is not RFC 3339"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(source: &str, detail: Value) -> Value {
        json!({"version": "0", "id": "x", "detail-type": "Scheduled Event", "source": source,
            "account": "123456789012", "time": "2026-01-01T00:00:00Z", "region": "us-east-1",
            "resources": ["arn:aws:events:us-east-1:123456789012:rule/tick"], "detail": detail})
    }

    #[test]
    fn rules_scheduler_and_hands_are_all_welcome() {
        assert_eq!(read(&event("aws.events", json!({}))).unwrap().source, "aws.events");
        assert_eq!(read(&event("aws.scheduler", json!("{}"))).unwrap().source, "aws.scheduler");
        assert_eq!(read(&json!({})).unwrap().source, "by hand");
        let input = json!({"scheduledTime": "2026-01-01T00:00:00Z"});
        assert_eq!(read(&input).unwrap().time.unwrap(), "2026-01-01T00:00:00Z");
    }

    fn tick(detail: &Value) -> Result<Tick, String> {
        let mut event = event(SOURCE, detail.clone());
        event["detail-type"] = TICK.into();
        read(&event).unwrap().tick.unwrap()?.for_whom("dep", Function::Create)
    }

    #[test]
    fn a_tick_says_where_to_go_on_and_one_that_does_not_fit_says_why() {
        let good =
            json!({"deployment": "dep", "function": "create", "place": "eu-west-1", "run": 2});
        assert_eq!(tick(&good), Ok(Tick { place: "eu-west-1".parse().unwrap(), run: 2 }));
        for (member, value, why) in [
            ("deployment", json!("other"), "`other`"),
            ("function", json!("prune"), "`prune`"),
            ("run", json!(0), "run 0"),
            ("run", json!(16), "run 16"),
            ("run", json!(-1), "cannot be read"),
            ("place", json!(null), "cannot be read"),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            let said = tick(&bad).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(tick(&json!("{}")).unwrap_err().contains("cannot be read"));
        // Events of another source are not Ticks.
        assert_eq!(read(&event("aws.events", good)).unwrap().tick, None);
    }

    #[test]
    fn what_is_no_event_is_named() {
        for bad in [
            json!(null),
            json!([]),
            json!("tick"),
            json!(3),
            json!({"source": "aws.events"}),
            json!({"time": "noon"}),
            json!({"detail-type": 3, "source": "x", "detail": {}}),
        ] {
            let message = read(&bad).unwrap_err().to_string();
            assert!(message.contains(&bad.to_string()) && message.contains("by hand"), "{message}");
        }
        let mut late = event("aws.events", json!({}));
        late["time"] = json!("yesterday");
        assert!(read(&late).is_err());
        assert!(read(&json!("ü".repeat(300))).unwrap_err().to_string().contains('…'));
    }
}
