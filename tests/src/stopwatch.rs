//! Time as the person at the terminal has it.

#![expect(
    clippy::disallowed_types,
    reason = "real processes cannot be waited for on a paused clock"
)]

use std::time::Duration;
use std::time::Instant;

/// A running measurement.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since the start in milliseconds, for reports.
    pub fn elapsed_ms(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }
}
