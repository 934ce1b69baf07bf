//! EventBridge: which function gets which event when.
//!
//! Rules here are cron expressions of one kind, "every N minutes, aligned on
//! the hour", in UTC as EventBridge rules are. A [`Schedule`] yields events in order of time; how
//! fast they come is up to the clock. Two things that real deliveries do are options of it: an
//! event may come twice, and Lambda tries an asynchronous event again after an error.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::lambda::{ACCOUNT, new_request_id, uuid};

const NANOS_A_MINUTE: i128 = 60_000_000_000;

/// How long Lambda waits before it tries an asynchronous event for the second and third time.
const RETRY_AFTER: [SignedDuration; 2] =
    [SignedDuration::from_mins(1), SignedDuration::from_mins(2)];

/// An interval that no single cron expression can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} minutes: an interval divides the hour, or is whole hours that divide the day")]
pub struct NotAnInterval(pub u32);

/// A rule: `function` gets an event every so many minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    name: String,
    function: String,
    minutes: u32,
}

impl Rule {
    /// A rule that is due every `minutes` minutes, counted from midnight UTC.
    pub fn every(
        minutes: u32,
        name: impl Into<String>,
        function: impl Into<String>,
    ) -> Result<Self, NotAnInterval> {
        let divides = |whole: u32, part: u32| part > 0 && whole.is_multiple_of(part);
        if divides(60, minutes) || (minutes.is_multiple_of(60) && divides(24, minutes / 60)) {
            Ok(Self { name: name.into(), function: function.into(), minutes })
        } else {
            Err(NotAnInterval(minutes))
        }
    }

    /// The rule's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The function that gets its events.
    #[must_use]
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The interval in minutes.
    #[must_use]
    pub fn minutes(&self) -> u32 {
        self.minutes
    }

    /// The same as EventBridge writes it.
    #[must_use]
    pub fn cron(&self) -> String {
        match self.minutes {
            1 => "cron(* * * * ? *)".to_owned(),
            60 => "cron(0 * * * ? *)".to_owned(),
            1440 => "cron(0 0 * * ? *)".to_owned(),
            minutes if minutes < 60 => format!("cron(0/{minutes} * * * ? *)"),
            minutes => format!("cron(0 0/{} * * ? *)", minutes / 60),
        }
    }

    /// When the rule is due next, strictly after `time`.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Timestamp {
        let period = i128::from(self.minutes) * NANOS_A_MINUTE;
        let next = (time.as_nanosecond().div_euclid(period) + 1) * period;
        Timestamp::from_nanosecond(next).unwrap_or(Timestamp::MAX)
    }
}

/// An event that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// When it is due.
    pub at: Timestamp,
    /// The rule it comes from.
    pub rule: String,
    /// The function to invoke.
    pub function: String,
    /// What to invoke it with.
    pub event: Value,
    /// The request id to invoke it as: the same in each try, another in a duplicate.
    pub request_id: String,
    /// 1 for the first try.
    pub attempt: u32,
    /// Whether it was an event on the bus, not the time, that asked for it.
    pub from_bus: bool,
}

/// The two unpleasant habits of asynchronous delivery, both off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Every how many events one is delivered twice; 0 for never.
    pub duplicate_every: u32,
    /// Whether a failed event is tried again, twice at most: 1 minute after the failure and 2
    /// minutes after the next. Tell of failures with [`Schedule::failed`].
    pub retries: bool,
}

/// The events of all rules, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    rules: Vec<Rule>,
    region: String,
    habits: Delivery,
    /// The time up to which the rules' events have been taken.
    at: Timestamp,
    /// What is to come, by time and order of arrival.
    queue: BTreeMap<(Timestamp, u64), Due>,
    arrivals: u64,
    delivered: u32,
}

impl Schedule {
    /// The events of `rules` strictly after `start`.
    pub fn new(rules: Vec<Rule>, region: impl Into<String>, start: Timestamp) -> Self {
        Self {
            rules,
            region: region.into(),
            habits: Delivery::default(),
            at: start,
            queue: BTreeMap::new(),
            arrivals: 0,
            delivered: 0,
        }
    }

    /// The same with habits.
    #[must_use]
    pub fn with_habits(mut self, habits: Delivery) -> Self {
        self.habits = habits;
        self
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The next time that any rule is due strictly after `time`, and those that are, in order of
    /// the list; `None` without rules. Looks only at the rules, and takes nothing.
    #[must_use]
    pub fn next_after(&self, time: Timestamp) -> Option<(Timestamp, Vec<&Rule>)> {
        let next = self.rules.iter().map(|rule| rule.next_after(time)).min()?;
        let due = self.rules.iter().filter(|rule| rule.next_after(time) == next).collect();
        Some((next, due))
    }

    /// When the next event is due: the time to sleep until, or to step to.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let ruled = self.rules.iter().map(|rule| rule.next_after(self.at)).min();
        queued.into_iter().chain(ruled).min()
    }

    /// Takes the next event, however far away it is.
    pub fn pop(&mut self) -> Option<Due> {
        let next = self.next_at()?;
        if self.queue.keys().next().is_none_or(|(at, _)| *at > next) {
            self.take_rules_of(next);
        }
        self.queue.pop_first().map(|(_, due)| due)
    }

    /// Takes every event that is due at `now` or was before.
    pub fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut all = Vec::new();
        while self.next_at().is_some_and(|next| next <= now) {
            let Some(due) = self.pop() else { break };
            all.push(due);
        }
        all
    }

    /// Says that an event's handling failed at `now`. Returns when it will be tried again, if it
    /// will.
    pub fn failed(&mut self, due: &Due, now: Timestamp) -> Option<Timestamp> {
        if !self.habits.retries {
            return None;
        }
        let tried = usize::try_from(due.attempt.saturating_sub(1)).ok()?;
        let at = now.saturating_add(*RETRY_AFTER.get(tried)?).ok()?;
        self.push(Due { at, attempt: due.attempt + 1, ..due.clone() });
        Some(at)
    }

    fn take_rules_of(&mut self, time: Timestamp) {
        let due: Vec<Rule> =
            self.rules.iter().filter(|rule| rule.next_after(self.at) == time).cloned().collect();
        self.at = time;
        for rule in due {
            let due = Due {
                at: time,
                event: rule_event(&rule.name, time, &self.region),
                rule: rule.name,
                function: rule.function,
                request_id: new_request_id(),
                attempt: 1,
                from_bus: false,
            };
            self.delivered = self.delivered.wrapping_add(1);
            let every = self.habits.duplicate_every;
            let twice = every > 0 && self.delivered.is_multiple_of(every);
            if twice {
                // The same event, id included, in an invocation of its own.
                self.push(Due { request_id: new_request_id(), ..due.clone() });
            }
            self.push(due);
        }
    }

    fn push(&mut self, due: Due) {
        self.arrivals += 1;
        self.queue.insert((due.at, self.arrivals), due);
    }
}

/// The event of an EventBridge rule, which is due at `time`.
#[must_use]
pub fn rule_event(rule: &str, time: Timestamp, region: &str) -> Value {
    let arn = format!("arn:aws:events:{region}:{ACCOUNT}:rule/{rule}");
    event("aws.events", arn, json!({}), time, region)
}

/// The default event of EventBridge Scheduler, which differs in its source and in that `detail`
/// is a string.
#[must_use]
pub fn scheduler_event(schedule: &str, time: Timestamp, region: &str) -> Value {
    let arn = format!("arn:aws:scheduler:{region}:{ACCOUNT}:schedule/default/{schedule}");
    event("aws.scheduler", arn, json!("{}"), time, region)
}

fn event(source: &str, arn: String, detail: Value, time: Timestamp, region: &str) -> Value {
    // EventBridge writes whole seconds.
    let time = Timestamp::from_second(time.as_second()).unwrap_or(time);
    json!({
        "version": "0",
        "id": event_id(&arn, time),
        "detail-type": "Scheduled Event",
        "source": source,
        "account": ACCOUNT,
        "time": time.to_string(),
        "region": region,
        "resources": [arn],
        "detail": detail,
    })
}

/// An id that is the same for the same event, so that runs can be compared.
fn event_id(arn: &str, time: Timestamp) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, arn, time.as_second()).hash(&mut hasher);
        hasher.finish()
    };
    uuid(half(0), half(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn short(due: &Due) -> (String, &str) {
        (due.at.strftime("%H:%M").to_string(), due.function.as_str())
    }

    #[test]
    fn rules_come_in_order() {
        let rules = [(15, "create"), (10, "poll"), (60, "prune")]
            .map(|(minutes, name)| Rule::every(minutes, name, name).unwrap());
        let mut schedule = Schedule::new(rules.to_vec(), "eu-west-1", at("2026-01-01T23:30:00Z"));
        let (next, rules) = schedule.next_after(at("2026-01-01T23:45:00Z")).unwrap();
        assert_eq!(next, at("2026-01-01T23:50:00Z"));
        assert_eq!(rules.iter().map(|rule| rule.function()).collect::<Vec<_>>(), ["poll"]);
        assert_eq!(schedule.next_at(), Some(at("2026-01-01T23:40:00Z")));

        let due = schedule.due(at("2026-01-02T00:09:59Z"));
        let order: Vec<_> = due.iter().map(short).collect();
        let expected = [
            ("23:40", "poll"),
            ("23:45", "create"),
            ("23:50", "poll"),
            ("00:00", "create"),
            ("00:00", "poll"),
            ("00:00", "prune"),
        ];
        assert_eq!(order, expected.map(|(at, function)| (at.to_owned(), function)));
        assert_eq!(schedule.pop().unwrap().at, at("2026-01-02T00:10:00Z"));
        assert_eq!(Schedule::new(vec![], "eu-west-1", Timestamp::UNIX_EPOCH).pop(), None);
    }

    #[test]
    fn intervals_are_those_that_cron_can_say() {
        let cron = |minutes| Rule::every(minutes, "r", "f").map(|rule| rule.cron());
        assert_eq!(cron(15).unwrap(), "cron(0/15 * * * ? *)");
        assert_eq!(cron(60).unwrap(), "cron(0 * * * ? *)");
        assert_eq!(cron(1).unwrap(), "cron(* * * * ? *)");
        assert_eq!(cron(360).unwrap(), "cron(0 0/6 * * ? *)");
        assert_eq!(cron(1440).unwrap(), "cron(0 0 * * ? *)");
        for minutes in [0, 7, 90, 300, 2880] {
            assert_eq!(cron(minutes), Err(NotAnInterval(minutes)));
        }
        let rule = Rule::every(360, "r", "f").unwrap();
        let before = at("1969-12-31T23:59:59.5Z");
        assert_eq!(rule.next_after(before), Timestamp::UNIX_EPOCH);
        assert_eq!(rule.next_after(at("2026-01-01T06:00:00Z")), at("2026-01-01T12:00:00Z"));
    }

    #[test]
    fn events_look_as_eventbridge_writes_them() {
        let time = at("2026-01-01T00:15:00Z");
        let mut event = rule_event("nightly", time, "eu-west-1");
        assert_eq!(event, rule_event("nightly", time, "eu-west-1"));
        let id = event.as_object_mut().unwrap().remove("id").unwrap();
        assert_eq!(id.as_str().unwrap().len(), 36);
        let arn = "arn:aws:events:eu-west-1:123456789012:rule/nightly";
        assert_eq!(
            event,
            json!({
                "version": "0", "detail-type": "Scheduled Event", "source": "aws.events",
                "account": "123456789012", "time": "2026-01-01T00:15:00Z",
                "region": "eu-west-1", "resources": [arn], "detail": {},
            })
        );
        let event = scheduler_event("tick", time, "eu-west-1");
        assert_eq!(event["source"], "aws.scheduler");
        assert_eq!(event["detail"], "{}");
    }

    #[test]
    fn duplicates_and_retries_are_delivered() {
        let habits = Delivery { duplicate_every: 2, retries: true };
        let rules = vec![Rule::every(60, "r", "f").unwrap()];
        let mut schedule =
            Schedule::new(rules, "us-east-1", at("2026-01-01T00:00:00Z")).with_habits(habits);
        let first = schedule.pop().unwrap();
        assert_eq!(schedule.failed(&first, first.at), Some(at("2026-01-01T01:01:00Z")));
        let second = schedule.pop().unwrap();
        assert_eq!((second.attempt, &second.request_id), (2, &first.request_id));
        assert_eq!(second.event, first.event);
        assert_eq!(schedule.failed(&second, second.at), Some(at("2026-01-01T01:03:00Z")));
        let third = schedule.pop().unwrap();
        assert_eq!(schedule.failed(&third, third.at), None, "three tries at most");

        let (one, two) = (schedule.pop().unwrap(), schedule.pop().unwrap());
        assert_eq!(one.at, at("2026-01-01T02:00:00Z"));
        assert_eq!(one.event, two.event);
        assert_ne!(one.request_id, two.request_id);
        assert_eq!(schedule.next_at(), Some(at("2026-01-01T03:00:00Z")));
    }
}
