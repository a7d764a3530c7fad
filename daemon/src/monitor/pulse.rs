//! Whether a daemon's run loop turns: the one truth of `/healthz` and of the supervisor's watchdog.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// When the run loop turned last. Clones are the same pulse.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    /// A pulse that beats now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// The run loop turns.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// What a run loop waits for beside its events, so that it turns without any.
    pub fn ticks() -> Interval {
        let mut ticks = interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// How long it has been still, if that is too long.
    pub fn stuck(&self) -> Option<Duration> {
        let still = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        (still >= STUCK).then_some(still)
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

/// How often a run loop turns at least.
pub const BEAT: Duration = Duration::from_secs(5);

/// After so long without a turn it is stuck: six beats, and three times the longest wait inside of one turn, which is the
/// 10 s of a link whose owner does not listen.
pub(super) const STUCK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_turn_is_stuck_until_it_does() {
        let pulse = Pulse::new();
        tokio::time::advance(BEAT * 5).await;
        assert_eq!(pulse.stuck(), None);
        tokio::time::advance(BEAT).await;
        assert_eq!(pulse.stuck(), Some(STUCK));
        pulse.beat();
        assert_eq!(pulse.stuck(), None);
    }
}
