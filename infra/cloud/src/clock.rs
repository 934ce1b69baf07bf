//! Simulated time, shared by every part of the cloud.
//!
//! One clock decides what "now" is for Lightsail, the ledger's TTL, the schedule and, over
//! HTTP, the function processes. It either runs, at a number of simulated seconds a real second, or it is stepped and stands still until someone moves it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// The longest single sleep of [`Clock::until`]; it looks again afterwards, so that a far-away
/// time can overflow nothing.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// A handle on the one simulated time; clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: Mutex<Mode>,
    /// Wakes the sleepers of [`Clock::until`] when time jumps.
    jumps: watch::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Running { start: Timestamp, since: Instant, speed: f64 },
    Stepped { now: Timestamp },
}

impl Clock {
    /// A clock that shows `start` now and runs at `speed` simulated seconds a real second.
    ///
    /// A speed that is not a positive number counts as 1: time that stands still is
    /// [`Clock::stepped`].
    #[must_use]
    pub fn running(start: Timestamp, speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        Self::with(Mode::Running { start, since: Instant::now(), speed })
    }

    /// A clock that shows real time.
    #[must_use]
    pub fn real() -> Self {
        Self::running(Timestamp::now(), 1.0)
    }

    /// A clock that shows `start` until it is moved with [`Clock::set`] or [`Clock::advance`].
    #[must_use]
    pub fn stepped(start: Timestamp) -> Self {
        Self::with(Mode::Stepped { now: start })
    }

    fn with(mode: Mode) -> Self {
        let (jumps, _) = watch::channel(());
        Self { inner: Arc::new(Inner { mode: Mutex::new(mode), jumps }) }
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.mode().now()
    }

    /// Simulated seconds a real second; 0 for a stepped clock.
    #[must_use]
    pub fn speed(&self) -> f64 {
        match *self.mode() {
            Mode::Running { speed, .. } => speed,
            Mode::Stepped { .. } => 0.0,
        }
    }

    /// Makes it `time` now, forwards or backwards; a running clock runs on from there.
    pub fn set(&self, time: Timestamp) {
        self.mode().set(time);
        self.inner.jumps.send_replace(());
    }

    /// Makes it run from now on at `speed` simulated seconds a real second; it stands still at 0.
    pub fn set_speed(&self, speed: f64) {
        {
            let mut mode = self.mode();
            let now = mode.now();
            *mode = if speed > 0.0 && speed.is_finite() {
                Mode::Running { start: now, since: Instant::now(), speed }
            } else {
                Mode::Stepped { now }
            };
        }
        self.inner.jumps.send_replace(());
    }

    /// Moves time by `step`, at most to the end of what a timestamp can hold; returns the new time.
    pub fn advance(&self, step: SignedDuration) -> Timestamp {
        let time = {
            let mut mode = self.mode();
            let time = later(mode.now(), step);
            mode.set(time);
            time
        };
        self.inner.jumps.send_replace(());
        time
    }

    /// Returns once it is `time` or later: by passing of time, or, on a stepped clock, because
    /// someone moved it there.
    pub async fn until(&self, time: Timestamp) {
        let mut jumps = self.inner.jumps.subscribe();
        loop {
            // Marked as seen before looking: a jump in between wakes us below.
            jumps.borrow_and_update();
            let sleep = match self.left(time) {
                Some(Duration::ZERO) => return,
                Some(left) => left.min(LONGEST_SLEEP),
                None => LONGEST_SLEEP,
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                // The sender lives as long as `self`.
                _ = jumps.changed() => {}
            }
        }
    }

    /// The real time until it is `time`: zero if it is already, `None` if it never will be by
    /// itself.
    fn left(&self, time: Timestamp) -> Option<Duration> {
        let mode = *self.mode();
        let left = mode.now().duration_until(time);
        if !left.is_positive() {
            return Some(Duration::ZERO);
        }
        match mode {
            Mode::Stepped { .. } => None,
            Mode::Running { speed, .. } => {
                let real = left.as_secs_f64() / speed;
                // At least a little, or the last nanoseconds would be a busy loop.
                let real = Duration::try_from_secs_f64(real).unwrap_or(Duration::MAX);
                Some(real.max(Duration::from_micros(50)))
            }
        }
    }

    /// `GET /` answers the time as RFC 3339 text.
    pub fn router(&self) -> Router {
        Router::new().route("/", get(read)).with_state(self.clone())
    }

    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.inner.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mode {
    fn now(&self) -> Timestamp {
        match *self {
            Self::Stepped { now } => now,
            Self::Running { start, since, speed } => {
                let passed = since.elapsed().as_secs_f64() * speed;
                later(start, SignedDuration::try_from_secs_f64(passed).unwrap_or_default())
            }
        }
    }

    fn set(&mut self, time: Timestamp) {
        match self {
            Self::Stepped { now } => *now = time,
            Self::Running { start, since, .. } => {
                *start = time;
                *since = Instant::now();
            }
        }
    }
}

/// `time + step`, at most the end of what a timestamp can hold.
fn later(time: Timestamp, step: SignedDuration) -> Timestamp {
    // The only error is for calendar units, which a `SignedDuration` has not.
    time.saturating_add(step).unwrap_or(time)
}

async fn read(State(clock): State<Clock>) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], clock.now().to_string())
}

/// Lets the TTL of the embedded DynamoDB follow simulated time.
impl dynoxide::storage_backend::Clock for Clock {
    fn now_unix_secs(&self) -> u64 {
        u64::try_from(self.now().as_second()).unwrap_or(0)
    }

    fn now_unix_secs_f64(&self) -> f64 {
        self.now().as_duration().as_secs_f64().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_stepped_clock_moves_only_when_told_also_backwards() {
        let clock = Clock::stepped(at("2026-01-01T00:00:00Z"));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(clock.now(), at("2026-01-01T00:00:00Z"));
        assert_eq!(clock.advance(SignedDuration::from_mins(90)), at("2026-01-01T01:30:00Z"));
        clock.set(at("2025-12-31T00:00:00Z"));
        assert_eq!(clock.clone().now(), at("2025-12-31T00:00:00Z"));
        clock.advance(SignedDuration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
        assert!(clock.speed().abs() < f64::EPSILON);
    }

    #[tokio::test]
    async fn a_running_clock_runs_at_its_speed() {
        let start = at("2026-01-01T00:00:00Z");
        let (clock, began) = (Clock::running(start, 3600.0), Instant::now());
        clock.until(at("2026-01-01T00:06:00Z")).await;
        let real = began.elapsed();
        assert!(real >= Duration::from_millis(99), "{real:?}");
        assert!(clock.now() >= at("2026-01-01T00:06:00Z"));
        clock.set(at("2030-01-01T00:00:00Z"));
        assert!(clock.now() >= at("2030-01-01T00:00:00Z"));
    }

    #[tokio::test]
    async fn a_clock_can_be_stopped_and_started() {
        let clock = Clock::stepped(at("2026-01-01T00:00:00Z"));
        clock.set_speed(3600.0);
        clock.until(at("2026-01-01T00:01:00Z")).await;
        clock.set_speed(0.0);
        let stood = clock.now();
        assert!(stood >= at("2026-01-01T00:01:00Z"));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(clock.now(), stood);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_time_is_stepped_past_its_time() {
        let clock = Clock::stepped(at("2026-01-01T00:00:00Z"));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.until(at("2026-01-01T00:10:00Z")).await }
        });
        tokio::task::yield_now().await;
        clock.advance(SignedDuration::from_mins(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!sleeper.is_finished());
        clock.advance(SignedDuration::from_mins(5));
        tokio::time::timeout(Duration::from_secs(5), sleeper).await.unwrap().unwrap();
    }
}
