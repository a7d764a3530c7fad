//! How long to wait before the next try.

use std::time::Duration;

use rand::RngExt;

/// Exponential backoff with full jitter: each delay is drawn evenly from zero to a bound that doubles from `first` to `cap`.
///
/// Full jitter spreads a fleet that lost its broker at one moment over the whole bound, which keeps the sum of tries low
/// (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). It never ends: an agent never gives up.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    bound: Duration,
}

impl Backoff {
    /// A backoff whose first delay is at most `first`, and no delay more than `cap`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        let first = first.min(cap);
        Self {
            first,
            cap,
            bound: first,
        }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let delay = rand::rng().random_range(Duration::ZERO..=self.bound);
        self.bound = self.bound.saturating_mul(2).min(self.cap);
        delay
    }

    /// Back to the first bound. Call it only after a success that lasted: a peer that accepts and closes is not one.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// The bound of an agent's first delay before it dials its proxy again: one that restarts is back within a second.
pub const FIRST_REDIAL: Duration = Duration::from_millis(500);

/// The bound of later delays where every device of a system dials for ever: 5,000 of them are some 700 tries a second.
pub const LAST_REDIAL: Duration = Duration::from_secs(15);

/// How long an agent's connection must have lasted to count as a success.
pub const LASTING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds(first in 1u64..5_000, cap in 1u64..100_000, tries in 1usize..80) {
            let (first, cap) = (Duration::from_millis(first), Duration::from_millis(cap));
            let mut backoff = Backoff::new(first, cap);
            let mut bound = first.min(cap);
            for _ in 0..tries {
                prop_assert!(backoff.next_delay() <= bound);
                bound = bound.saturating_mul(2).min(cap);
            }
            backoff.reset();
            prop_assert!(backoff.next_delay() <= first);
        }
    }
}
