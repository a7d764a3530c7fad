//! How long something took, as counts of durations up to certain bounds.

use std::time::Duration;

use daemon::monitor::Counter;
use serde::Serialize;

/// Counts durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [Counter; BUCKETS],
    micros: Counter,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HistogramSnapshot {
    /// How many were at most as long as the bound of the same place in [`Self::BOUNDS`], and longer than the one before; the
    /// last, how many were longer than all bounds.
    pub counts: [u64; BUCKETS],
    /// All of them together, in microseconds.
    pub micros: u64,
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let place = HistogramSnapshot::BOUNDS
            .iter()
            .take_while(|bound| **bound < took)
            .count();
        if let Some(count) = self.counts.get(place) {
            count.increment();
        }
        self.micros
            .add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            counts: std::array::from_fn(|place| self.counts.get(place).map_or(0, Counter::get)),
            micros: self.micros.get(),
        }
    }
}

impl HistogramSnapshot {
    /// From what only cryptography takes to what a greeting may take at all.
    pub const BOUNDS: [Duration; BUCKETS - 1] = [
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(200),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ];

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

const BUCKETS: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_first_bucket_that_it_fits_into() {
        let histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.counts[0], snapshot.counts[1]), (2, 1));
        assert_eq!((snapshot.counts[12], snapshot.counts[13]), (1, 1));
        assert_eq!((snapshot.count(), snapshot.micros), (5, 20_002_002));
        assert!(HistogramSnapshot::BOUNDS.is_sorted());
    }
}
