//! Runs functions by a schedule, as EventBridge and Lambda's asynchronous invocation do together.
//!
//! One event a function at a time, which is what `ReservedConcurrentExecutions: 1` gives on AWS;
//! what comes meanwhile waits, at most for Lambda's default of six hours of simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::SignedDuration;

use crate::clock::Clock;
use crate::lambda::{Function, Invocation};
use crate::schedule::{Due, Schedule};

/// How old an event may get before Lambda gives it up.
const MAXIMUM_EVENT_AGE: SignedDuration = SignedDuration::from_hours(6);

/// Invokes `functions` (by name) with the schedule's events as time passes, and tells `report` of
/// each invocation when it ends.
///
/// Returns when the schedule has no more events, which it has forever unless it has no rules:
/// drop the future to end it. An invocation that is under way then takes its process with it.
pub async fn run(
    clock: &Clock,
    mut schedule: Schedule,
    functions: &[Function],
    mut report: impl FnMut(&Due, &Invocation),
) {
    let functions: BTreeMap<&str, &Function> =
        functions.iter().map(|function| (function.name(), function)).collect();
    let mut waiting: BTreeMap<String, VecDeque<Due>> = BTreeMap::new();
    let mut busy: Vec<String> = Vec::new();
    let mut running = FuturesUnordered::new();
    loop {
        let now = clock.now();
        for due in schedule.due(now) {
            if functions.contains_key(due.function.as_str()) {
                waiting.entry(due.function.clone()).or_default().push_back(due);
            } else {
                tracing::warn!(function = due.function, rule = due.rule, "no such function");
            }
        }
        for (name, queue) in &mut waiting {
            while queue.front().is_some_and(|due| now.duration_since(due.at) > MAXIMUM_EVENT_AGE) {
                queue.pop_front();
                tracing::warn!(function = name, "an event got too old while another ran");
            }
            if busy.contains(name) {
                continue;
            }
            let Some((due, function)) = queue.pop_front().zip(functions.get(name.as_str())) else {
                continue;
            };
            busy.push(name.clone());
            running.push(async move {
                let invocation =
                    function.invoke_as(due.request_id.clone(), due.event.clone()).await;
                (due, invocation)
            });
        }
        let next = schedule.next_at();
        if next.is_none() && running.is_empty() {
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
                busy.retain(|name| *name != due.function);
            }
            () = tick => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::lambda::FunctionConfig;
    use crate::schedule::{Habits, Rule};

    use super::*;

    #[tokio::test]
    async fn functions_run_by_the_schedule_and_failures_are_tried_again() {
        // A binary that never gets ready is failure enough.
        let functions = [Function::new(FunctionConfig::new("poll", "/nonexistent/bootstrap"))];
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::stepped(start);
        let rules = vec![
            Rule::every(10, "snapkeep-poll", "poll").unwrap(),
            Rule::every(10, "other", "absent").unwrap(),
        ];
        let habits = Habits { retries: true, ..Habits::default() };
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
