//! How fast bytes may go, for a group of streams together: a token bucket.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::rate::Rate;

/// A rate that several streams share. Clones share it too.
///
/// Each message books its time in the order in which it asks, so nobody is overtaken; who has more streams gets more.
#[derive(Clone, Debug)]
pub struct Pace(Arc<Mutex<Bucket>>);

impl Pace {
    /// A pace of this rate; a twentieth of a second's worth may go at once.
    pub fn new(rate: Rate) -> Self {
        Self(Arc::new(Mutex::new(Bucket {
            rate,
            booked: Instant::now(),
        })))
    }

    /// Waits until so many bytes may go. If the wait is given up, they count all the same.
    pub async fn take(&self, bytes: usize) {
        let now = Instant::now();
        let start = {
            let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.book(bytes, now)
        };
        if start > now {
            sleep_until(start).await;
        }
    }
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    /// Until when all time is taken.
    booked: Instant,
}

impl Bucket {
    /// When so many bytes may go.
    fn book(&mut self, bytes: usize, now: Instant) -> Instant {
        let begin = self.booked.max(now);
        self.booked = begin + self.rate.time_for(bytes);
        begin.checked_sub(BURST).unwrap_or(begin)
    }
}

/// How far ahead of its time a message may go: a keystroke does not wait behind nothing.
const BURST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_streams_together_get_the_rate_and_not_each() {
        let pace = Pace::new("1 MB/s".parse().unwrap());
        let start = Instant::now();
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let pace = pace.clone();
            streams.spawn(async move {
                for _ in 0..10 {
                    pace.take(50_000).await;
                }
            });
        }
        while streams.join_next().await.is_some() {}
        let took = start.elapsed();
        let ideal = Duration::from_secs(5);
        assert!(took <= ideal && took + 2 * BURST >= ideal, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_does_not_save_up() {
        let pace = Pace::new("1 MB/s".parse().unwrap());
        tokio::time::advance(Duration::from_mins(10)).await;
        let start = Instant::now();
        for _ in 0..20 {
            pace.take(50_000).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(850));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_and_the_burst(sizes in prop::collection::vec(1usize..100_000, 1..100)) {
            let rate: Rate = "1 MB/s".parse().unwrap();
            let (start, mut sent) = (Instant::now(), 0_u32);
            let mut bucket = Bucket { rate, booked: start };
            for size in sizes {
                let at = bucket.book(size, start).max(start);
                let allowed = 1_000_000.0 * (at - start + BURST).as_secs_f64();
                prop_assert!(f64::from(sent) <= allowed + 100.0, "{} before {:?}", sent, at - start);
                sent += u32::try_from(size).unwrap();
            }
        }
    }
}
