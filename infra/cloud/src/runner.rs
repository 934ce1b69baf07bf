//! Runs functions by a schedule and by events, as EventBridge and Lambda's asynchronous invocation do
//! together.
//!
//! What the schedule asks for runs one event a function at a time, which keeps runs alike. What the bus
//! asks for runs beside it and at once, as on AWS, in up to [`AT_ONCE`] instances of a function. What comes
//! meanwhile waits, at most for Lambda's default of six hours of simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::SignedDuration;

use crate::clock::Clock;
use crate::events::Events;
use crate::lambda::{Function, Invocation};
use crate::schedule::{Due, Schedule};

/// How old an event may get before Lambda gives it up.
const MAXIMUM_EVENT_AGE: SignedDuration = SignedDuration::from_hours(6);

/// How many events of the bus a function serves at once: Lambda's concurrency in a new account.
pub const AT_ONCE: usize = 10;

/// Invokes `functions` (by name) with the schedule's events as time passes, and tells `report` of
/// each invocation when it ends.
///
/// Returns when the schedule has no more events, which it has forever unless it has no rules:
/// drop the future to end it. An invocation that is under way then takes its process with it.
pub async fn run(
    clock: &Clock,
    schedule: Schedule,
    functions: &[Function],
    report: impl FnMut(&Due, &Invocation),
) {
    run_with(clock, schedule, &Events::default(), functions, report).await;
}

/// [`run`], also with the events of a bus. As long as the bus has rules it does not return.
pub async fn run_with(
    clock: &Clock,
    mut schedule: Schedule,
    events: &Events,
    functions: &[Function],
    mut report: impl FnMut(&Due, &Invocation),
) {
    let functions: BTreeMap<&str, &Function> =
        functions.iter().map(|function| (function.name(), function)).collect();
    // By function, and whether they come from the bus.
    let mut waiting: BTreeMap<(String, bool), VecDeque<Due>> = BTreeMap::new();
    let mut busy: BTreeMap<(String, bool), usize> = BTreeMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let now = clock.now();
        for due in schedule.due(now).into_iter().chain(events.take_due()) {
            if functions.contains_key(due.function.as_str()) {
                waiting.entry((due.function.clone(), due.from_bus)).or_default().push_back(due);
            } else {
                tracing::warn!(function = due.function, rule = due.rule, "no such function");
            }
        }
        for (line, queue) in &mut waiting {
            let (name, from_bus) = line;
            while queue.front().is_some_and(|due| now.duration_since(due.at) > MAXIMUM_EVENT_AGE) {
                queue.pop_front();
                tracing::warn!(function = name, "an event got too old while another ran");
            }
            let Some(function) = functions.get(name.as_str()) else { continue };
            let busy = busy.entry(line.clone()).or_default();
            while *busy < if *from_bus { AT_ONCE } else { 1 } {
                let Some(due) = queue.pop_front() else { break };
                *busy += 1;
                running.push(async move {
                    let invocation =
                        function.invoke_as(due.request_id.clone(), due.event.clone()).await;
                    (due, invocation)
                });
            }
        }
        let next = schedule.next_at();
        if next.is_none() && running.is_empty() && !events.has_rules() {
            return;
        }
        let tick = async {
            match next {
                Some(next) => clock.until(next).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Some((due, invocation)) = running.next() => {
                report(&due, &invocation);
                if invocation.outcome.is_failure() {
                    schedule.failed(&due, clock.now());
                }
                if let Some(busy) = busy.get_mut(&(due.function.clone(), due.from_bus)) {
                    *busy -= 1;
                }
            }
            () = tick => {}
            () = events.arrived() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::lambda::FunctionConfig;
    use crate::schedule::{Delivery, Rule};

    use super::*;

    #[tokio::test]
    async fn functions_run_by_the_schedule_and_failures_are_tried_again() {
        // A binary that never gets ready is failure enough.
        let functions = [Function::new(FunctionConfig::new("poll", "/nonexistent/bootstrap"))];
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::stepped(start);
        let rules = vec![
            Rule::every(10, "often", "poll").unwrap(),
            Rule::every(10, "other", "absent").unwrap(),
        ];
        let habits = Delivery { retries: true, ..Delivery::default() };
        let schedule = Schedule::new(rules, "us-east-1", start).with_habits(habits);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let driver = async {
            let mut seen = Vec::new();
            while seen.len() < 4 {
                clock.advance(SignedDuration::from_mins(1));
                while let Ok(Some(at)) =
                    tokio::time::timeout(Duration::from_millis(20), told.recv()).await
                {
                    seen.push(at);
                }
            }
            seen
        };
        let runner = run(&clock, schedule, &functions, |due, invocation| {
            assert!(invocation.outcome.is_failure());
            let _ = tell.send((due.at.strftime("%H:%M").to_string(), due.attempt));
        });
        let seen = tokio::select! {
            () = runner => panic!("the schedule has no end"),
            seen = driver => seen,
        };
        let expected = [("00:10", 1), ("00:11", 2), ("00:13", 3), ("00:20", 1)];
        assert_eq!(seen, expected.map(|(at, attempt)| (at.to_owned(), attempt)));
    }
}
