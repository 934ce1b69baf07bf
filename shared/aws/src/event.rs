//! What invokes a function: a rule's event, a Scheduler's event, or `{}` by hand.
//!
//! Events are hints: their time is for the log, `now` and the ledger decide what is due.

use aws_lambda_events::eventbridge::EventBridgeEvent;
use serde_json::Value;

/// Where an invocation comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The event's source, or `by hand`.
    pub source: String,
    /// The time that the event carries.
    pub time: Option<String>,
}

/// An event that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the event `{value}` cannot be read ({why}); accepted: an event of an EventBridge rule or of \
     EventBridge Scheduler, or {{}} by hand"
)]
pub struct BadEvent {
    value: String,
    why: String,
}

/// Reads an event.
///
/// # Errors
/// When it is no object, or claims to be an EventBridge event and is none.
pub fn read(event: &Value) -> Result<Trigger, BadEvent> {
    let bad = |why: String| {
        let mut value = event.to_string();
        // An event is up to 256 KB; its beginning is enough to recognise it.
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
        // `detail` is an object from a rule and the string "{}" from Scheduler.
        let event: EventBridgeEvent<Value> =
            serde_json::from_value(event.clone()).map_err(|error| bad(error.to_string()))?;
        return Ok(Trigger {
            source: event.source,
            time: event.time.map(|time| time.to_rfc3339()),
        });
    }
    match members.get("time").or_else(|| members.get("scheduledTime")) {
        None => Ok(Trigger { source: "by hand".to_owned(), time: None }),
        Some(Value::String(text)) if text.parse::<jiff::Timestamp>().is_ok() => {
            Ok(Trigger { source: "by hand".to_owned(), time: Some(text.clone()) })
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
