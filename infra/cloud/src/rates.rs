//! Token buckets: whether a service that takes so many calls a second takes this one.
//!
//! Pure arithmetic on the instants that it is given; it reads no clock.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::knobs::{Rate, concerns};

/// Fractions of a token do not add up exactly.
const ROUNDING: f64 = 1e-9;

/// The buckets of all rates, one for each Region.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    buckets: BTreeMap<(usize, String), Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// The rate it was filled by; another one begins with a full bucket.
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Buckets {
    /// Takes a token for a call at `at`, if there is one. A call that no rate concerns needs none.
    pub(crate) fn take(
        &mut self,
        rates: &[Rate],
        at: Instant,
        region: &str,
        operation: &str,
    ) -> bool {
        let concerned =
            |rate: &Rate| concerns(&rate.operation, rate.region.as_deref(), region, operation);
        let Some((index, rate)) = rates.iter().enumerate().find(|(_, rate)| concerned(rate)) else {
            return true;
        };
        let full = || Bucket { rate: rate.clone(), tokens: size(rate), at };
        let bucket = self.buckets.entry((index, region.to_owned())).or_insert_with(full);
        if bucket.rate != *rate {
            *bucket = full();
        }
        bucket.take(at)
    }
}

impl Bucket {
    fn take(&mut self, at: Instant) -> bool {
        let passed = at.saturating_duration_since(self.at).as_secs_f64();
        let gained = passed * self.rate.per_second.max(0.0);
        self.tokens = (self.tokens + gained).min(size(&self.rate));
        self.at = self.at.max(at);
        if self.tokens < 1.0 - ROUNDING {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// How many tokens a bucket holds.
fn size(rate: &Rate) -> f64 {
    rate.burst.map_or_else(|| rate.per_second.ceil(), f64::from).max(1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(operation: &str, per_second: f64, burst: Option<u32>) -> Rate {
        Rate { operation: operation.to_owned(), region: None, per_second, burst }
    }

    /// How many of the calls that come every so many milliseconds are let through.
    fn through(rates: &[Rate], every_millis: u64, calls: u64) -> usize {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        let at = |call| start + Duration::from_millis(call * every_millis);
        (0..calls).filter(|call| buckets.take(rates, at(*call), "eu-west-1", "Get")).count()
    }

    #[test]
    fn so_many_calls_a_second_are_let_through_and_a_burst_besides() {
        // 10 seconds, 100 calls a second.
        assert_eq!(through(&[rate("*", 2.0, Some(1))], 10, 1000), 20);
        assert_eq!(through(&[rate("Get", 2.5, Some(5))], 10, 1000), 29);
        assert_eq!(through(&[rate("*", 20.0, None)], 10, 1000), 219);
        assert_eq!(
            through(&[rate("*", 2.0, Some(1))], 500, 100),
            100,
            "at its pace none is refused"
        );
        assert_eq!(through(&[rate("*", 0.1, Some(1))], 1000, 100), 10);
        assert_eq!(through(&[rate("*", 0.0, Some(0))], 10, 1000), 1);
        assert_eq!(through(&[rate("*", -1.0, Some(3))], 10, 1000), 3);
        assert_eq!(through(&[rate("Create", 1.0, None)], 10, 1000), 1000, "another operation");
        assert_eq!(through(&[], 10, 1000), 1000);
    }

    #[test]
    fn each_region_has_its_own_bucket_and_the_first_entry_counts() {
        let home = Rate { region: Some("us-east-1".to_owned()), ..rate("*", 1.0, Some(3)) };
        let rates = [rate("Create", 1.0, Some(1)), home, rate("*", 1.0, Some(2))];
        let (mut buckets, at) = (Buckets::default(), Instant::now());
        let mut calls = |region: &str, operation: &str| {
            (0..9).filter(|_| buckets.take(&rates, at, region, operation)).count()
        };
        assert_eq!((calls("us-east-1", "Create"), calls("eu-west-1", "Create")), (1, 1));
        assert_eq!((calls("us-east-1", "Get"), calls("us-east-1", "Delete")), (3, 0), "shared");
        assert_eq!((calls("eu-west-1", "Get"), calls("eu-west-2", "Get")), (2, 2));
    }

    #[test]
    fn a_rate_that_was_turned_begins_anew_and_an_earlier_instant_gains_nothing() {
        let (mut buckets, at) = (Buckets::default(), Instant::now());
        let slow = [rate("*", 1.0, Some(1))];
        let later = at + Duration::from_secs(1);
        assert!(buckets.take(&slow, later, "r", "Get"));
        assert!(!buckets.take(&slow, at, "r", "Get"));
        assert!(!buckets.take(&slow, later, "r", "Get"));
        assert!(buckets.take(&[rate("*", 2.0, Some(1))], later, "r", "Get"));
    }
}
