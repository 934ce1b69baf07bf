//! Learns how fast a place lets one kind of call through: a pure controller that the answers drive.
//!
//! Until the first throttling, it only limits how many calls are under way. From then on, its rate
//! quickly returns to just below the ceiling, where the throttling began, stays there for a while,
//! and then rises faster and faster: the shape of CUBIC (RFC 9438). It is relative to the rate, so
//! that it fits five calls a second as well as five hundred.

use std::collections::VecDeque;
use std::time::Duration;

/// The most calls of one kind that are under way at once in a place.
pub const CALLS_MAX: f64 = 32.0;
/// The most calls that are under way at first.
const CALLS_FIRST: f64 = 4.0;
/// The fractions by which a throttling cuts the rate: the smaller one applies while few of the
/// latest calls are throttled.
const CUT: (f64, f64) = (0.04, 0.15);
/// The greatest share of throttled calls that counts as few.
const FEW: f64 = 0.12;
/// The fraction by which the rate exceeds the ceiling after twice the time that it took to return.
const AHEAD: f64 = 0.6;
/// The rate returns to the ceiling in the time of this many calls, within these limits in seconds.
const BACK_AFTER_CALLS: f64 = 20.0;
const BACK_AFTER_SECONDS: (f64, f64) = (3.0, 12.0);
/// The periods over which the calls that got through are measured.
const MEASURED_OVER: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(12));
/// How many calls must have got through before a throttling tells the rate.
const ENOUGH: usize = 12;
/// While hardly anything is known, the rate doubles in this many seconds.
const DOUBLED_IN: f64 = 1.5;
/// The rate may have been higher than measured by this factor: a burst hides the rest.
const MEASURED_MARGIN: f64 = 1.25;
/// Fewer throttlings than this do not tell how far off the rate is.
const MANY: usize = 3;
/// The latest answers are those of this period.
const LATELY: Duration = Duration::from_secs(1);
/// The lowest rate, in calls a second: waiting for less is not worthwhile.
const RATE_MIN: f64 = 0.5;
/// A place in which nothing gets through for this long is left to the next tick.
pub const STALLED_AFTER: Duration = Duration::from_secs(5);

/// What an answer says about the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The provider dealt with the request.
    Through,
    /// The request was throttled.
    Throttled,
    /// The resource was busy, for a reason of its own.
    Busy,
    /// There was no answer.
    Nothing,
}

/// The pace of one kind of call in one place. Times count from the start of the run.
#[derive(Clone, Debug)]
pub struct Pace {
    window: f64,
    under_way: f64,
    /// The ceiling: the rate in calls a second at which the last throttling began, and its time.
    ceiling: Option<(f64, Duration)>,
    /// Whether too few calls had got through by then to tell the rate: it doubles until it is
    /// found.
    searching: bool,
    /// The fraction by which the last throttling cut the rate.
    cut: f64,
    tokens: f64,
    filled_at: Duration,
    first: Option<Duration>,
    /// When calls got through, within the period that is measured.
    through: VecDeque<Duration>,
    /// When calls were throttled, within that period.
    throttled: VecDeque<Duration>,
    progress: Option<Duration>,
    in_trouble: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            window: CALLS_FIRST,
            under_way: 0.0,
            ceiling: None,
            searching: false,
            cut: CUT.1,
            tokens: 0.0,
            filled_at: Duration::ZERO,
            first: None,
            through: VecDeque::new(),
            throttled: VecDeque::new(),
            progress: None,
            in_trouble: false,
        }
    }
}

/// Whether a call may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// It may go now.
    Now,
    /// It may go after this time, if nothing else happens.
    In(Duration),
    /// It may go when a call that is under way is answered.
    AfterAnswer,
}

impl Pace {
    /// Decides whether a call may go at this time; if it may, it counts as under way.
    pub fn go(&mut self, at: Duration) -> Go {
        if self.under_way + 1.0 > self.window {
            return Go::AfterAnswer;
        }
        if let Some(rate) = self.rate(at) {
            let grown = at.saturating_sub(self.filled_at).as_secs_f64() * rate;
            // Unused tokens are lost, but for one: a burst would only be throttled.
            self.tokens = (self.tokens + grown).min(1.0);
            self.filled_at = at;
            if self.tokens < 1.0 {
                let wait = (1.0 - self.tokens) / rate;
                return Go::In(Duration::from_secs_f64(wait.clamp(0.001, 5.0)));
            }
            self.tokens -= 1.0;
        }
        self.under_way += 1.0;
        self.first.get_or_insert(at);
        self.progress.get_or_insert(at);
        Go::Now
    }

    /// Takes back a call that was allowed and not sent.
    pub fn unsent(&mut self) {
        self.under_way = (self.under_way - 1.0).max(0.0);
        self.tokens = (self.tokens + 1.0).min(1.0);
    }

    /// Takes in the answer of a call: `sent` is when it was sent, `at` when it was answered.
    pub fn heard(&mut self, sent: Duration, at: Duration, heard: Heard) {
        self.under_way = (self.under_way - 1.0).max(0.0);
        match heard {
            Heard::Through => {
                self.window = (self.window + 1.0).min(CALLS_MAX);
                self.through.push_back(at);
                self.forget(at);
                self.progress = Some(at);
                self.in_trouble = false;
            }
            Heard::Busy => self.in_trouble = true,
            Heard::Nothing => {
                self.window = (self.window / 2.0).max(CALLS_FIRST);
                self.in_trouble = true;
            }
            Heard::Throttled => {
                self.in_trouble = true;
                // Calls that were sent before the last cut say nothing new about the rate.
                self.throttled.push_back(at);
                let last = self.ceiling.map(|(_, cut)| cut);
                if last.is_none_or(|cut| sent >= cut) {
                    self.forget(at);
                    let rate = self.rate(at).unwrap_or(f64::MAX);
                    let few = self.throttled_share() <= FEW;
                    self.cut = if few { CUT.0 } else { CUT.1 };
                    self.searching = self.through.len() < ENOUGH;
                    let again = last.is_some() && self.mostly_throttled(at);
                    let most = self.measured(at) * MEASURED_MARGIN;
                    let rate = rate.min(most);
                    let rate = if again || self.searching { rate / 2.0 } else { rate };
                    self.ceiling = Some((rate.max(RATE_MIN), at));
                    (self.tokens, self.filled_at) = (0.0, at);
                }
            }
        }
    }

    /// Whether nothing got through for so long that the place should be left to the next tick.
    #[must_use]
    pub fn stalled(&self, at: Duration) -> bool {
        let since = self.progress.map_or(Duration::ZERO, |progress| at.saturating_sub(progress));
        self.in_trouble && since >= STALLED_AFTER
    }

    /// Calls a second at this time; `None` before the first throttling.
    fn rate(&self, at: Duration) -> Option<f64> {
        let (ceiling, cut) = self.ceiling?;
        let time = at.saturating_sub(cut).as_secs_f64();
        let (least, most) = BACK_AFTER_SECONDS;
        let back_after = (BACK_AFTER_CALLS / ceiling).clamp(least, most);
        if self.searching {
            return Some(ceiling * (time / DOUBLED_IN).exp2());
        }
        let far = (time - back_after) / back_after;
        let bend = if far < 0.0 { self.cut } else { AHEAD } * far.powi(3);
        Some((ceiling * (1.0 + bend)).max(RATE_MIN))
    }

    /// Calls a second that got through lately.
    fn measured(&mut self, at: Duration) -> f64 {
        self.forget(at);
        let run = at.saturating_sub(self.first.unwrap_or(at)).max(Duration::from_millis(250));
        let within = |time: Duration| {
            self.through.iter().filter(|then| at.saturating_sub(**then) <= time).count()
        };
        let rate = |over: Duration| within(over.min(run)) as f64 / over.min(run).as_secs_f64();
        // After a slow start the long period shows too little, and at a low rate the short one
        // does.
        rate(MEASURED_OVER.0).max(rate(MEASURED_OVER.1))
    }

    /// The share of the measured calls that was throttled.
    fn throttled_share(&self) -> f64 {
        let (throttled, through) = (self.throttled.len() as f64, self.through.len() as f64);
        throttled / (throttled + through).max(1.0)
    }

    /// Whether many of the latest answers were throttlings, so that the rate is still far too high,
    /// as after a burst.
    fn mostly_throttled(&self, at: Duration) -> bool {
        let lately = |times: &VecDeque<Duration>| {
            times.iter().filter(|t| at.saturating_sub(**t) <= LATELY).count()
        };
        let throttled = lately(&self.throttled);
        throttled >= MANY && throttled * 2 > lately(&self.through)
    }

    fn forget(&mut self, at: Duration) {
        while self.throttled.front().is_some_and(|then| at.saturating_sub(*then) > MEASURED_OVER.1)
        {
            self.throttled.pop_front();
        }
        while self.through.front().is_some_and(|then| at.saturating_sub(*then) > MEASURED_OVER.1) {
            self.through.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A service that lets a burst through, and then this many calls a second.
    struct Service {
        per_second: f64,
        burst: f64,
        tokens: f64,
        at: Duration,
        calls: u64,
    }

    impl Service {
        /// A call takes a little more or less time to arrive.
        fn jitter(&mut self) -> Duration {
            self.calls += 1;
            Duration::from_micros(self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50)
        }

        fn answers(&mut self, at: Duration) -> Heard {
            let at = at + self.jitter();
            let grown = at.saturating_sub(self.at).as_secs_f64() * self.per_second;
            self.tokens = (self.tokens + grown).min(self.burst.max(1.0));
            self.at = self.at.max(at);
            if self.tokens < 1.0 {
                return Heard::Throttled;
            }
            self.tokens -= 1.0;
            Heard::Through
        }
    }

    /// Sends as fast as the pace allows for this time. Returns how many calls got through, and how
    /// many were throttled.
    fn run(per_second: f64, burst: f64, latency: Duration, time: Duration) -> (f64, f64) {
        let mut service =
            Service { per_second, burst, tokens: burst, at: Duration::ZERO, calls: 0 };
        let mut pace = Pace::default();
        let mut under_way: BTreeMap<(Duration, u64), (Duration, Heard)> = BTreeMap::new();
        let (mut at, mut number) = (Duration::ZERO, 0);
        let (mut through, mut throttled) = (0.0, 0.0);
        while at < time {
            let mut next = time;
            loop {
                match pace.go(at) {
                    Go::Now => {
                        number += 1;
                        under_way.insert((at + latency, number), (at, service.answers(at)));
                    }
                    Go::In(wait) => {
                        next = at + wait;
                        break;
                    }
                    Go::AfterAnswer => break,
                }
            }
            if let Some(((answered, _), _)) = under_way.first_key_value() {
                next = next.min(*answered);
            }
            at = next;
            while let Some(entry) = under_way.first_entry().filter(|entry| entry.key().0 <= at) {
                let (sent, heard) = entry.remove();
                pace.heard(sent, at, heard);
                match heard {
                    Heard::Through => through += 1.0,
                    _ => throttled += 1.0,
                }
            }
            assert!(!pace.stalled(at));
        }
        (through, throttled)
    }

    #[test]
    fn most_of_a_rate_is_used_and_few_calls_are_throttled() {
        let mut worst = (1.0_f64, 0.0_f64);
        for per_second in [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0] {
            let few = f64::max(2.0, per_second / 5.0);
            for burst in [few, per_second, 3.0 * per_second, 10.0 * f64::min(per_second, 10.0)] {
                for millis in [5, 30, 100, 150] {
                    let latency = Duration::from_millis(millis);
                    let (through, throttled) =
                        run(per_second, burst, latency, Duration::from_secs(60));
                    // At most `CALLS_MAX` calls are under way at once.
                    let possible = per_second.min(CALLS_MAX / latency.as_secs_f64());
                    let used = through / (possible * 60.0);
                    let wasted = throttled / (through + throttled);
                    worst = (worst.0.min(used), worst.1.max(wasted));
                    assert!(
                        used >= 0.8 && wasted <= 0.25,
                        "{per_second} a second, burst {burst}, {millis} ms: {used:.2} used, \
                         {wasted:.2} throttled"
                    );
                }
            }
        }
        println!(
            "at worst {:.2} of a rate is used, and {:.2} of the calls are throttled",
            worst.0, worst.1
        );
    }

    #[test]
    fn without_throttling_only_the_calls_under_way_are_limited() {
        let latency = Duration::from_millis(100);
        let (through, throttled) = run(1e9, 1e9, latency, Duration::from_secs(10));
        assert!(throttled == 0.0 && through > 0.95 * CALLS_MAX / 0.1 * 10.0, "{through}");
    }

    #[test]
    fn a_rate_that_rises_is_found_again() {
        let latency = Duration::from_millis(50);
        let mut pace = Pace::default();
        for _ in 0..4 {
            assert_eq!(pace.go(Duration::ZERO), Go::Now);
        }
        for _ in 0..4 {
            pace.heard(Duration::ZERO, latency, Heard::Throttled);
        }
        let (mut at, mut through) = (latency, 0);
        while at < Duration::from_secs(60) {
            match pace.go(at) {
                Go::Now => {
                    pace.heard(at, at + latency, Heard::Through);
                    through += 1;
                }
                Go::In(wait) => at += wait,
                Go::AfterAnswer => at += latency,
            }
        }
        assert!(through > 2000, "{through}");
    }

    #[test]
    fn a_place_in_which_nothing_gets_through_is_left() {
        let mut pace = Pace::default();
        let seconds = Duration::from_secs;
        assert!(!pace.stalled(seconds(60)), "nothing was asked for");
        assert_eq!(pace.go(seconds(60)), Go::Now);
        assert!(!pace.stalled(seconds(80)), "it may still be answered");
        pace.heard(seconds(60), seconds(62), Heard::Nothing);
        assert!(!pace.stalled(seconds(64)));
        assert!(pace.stalled(seconds(65)));
        assert_eq!(pace.go(seconds(65)), Go::Now);
        pace.heard(seconds(65), seconds(66), Heard::Through);
        assert!(!pace.stalled(seconds(80)));
    }

    #[test]
    fn what_was_not_sent_leaves_room_for_another() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            assert_eq!(pace.go(Duration::ZERO), Go::Now);
            pace.unsent();
        }
        for _ in 0..4 {
            assert_eq!(pace.go(Duration::ZERO), Go::Now);
        }
        assert_eq!(pace.go(Duration::ZERO), Go::AfterAnswer);
    }
}
