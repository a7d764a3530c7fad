//! The supervisor's watchdog, fed by the run loops themselves: one that hangs feeds nothing, and the service is started anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep_until};

use super::notify;

/// The watchdog of a service, which its main loop feeds. Loops beside that one have a [`Pulse`] each.
#[derive(Debug)]
pub struct Watchdog {
    limit: Option<Duration>,
    fed: Instant,
    pulses: Vec<Pulse>,
}

/// A run loop's sign of life. Clones are the same loop's; that of [`default`](Self::default) is asked for by nobody.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Option<Arc<Beats>>);

#[derive(Debug)]
struct Beats {
    name: &'static str,
    every: Duration,
    last: Mutex<Instant>,
}

impl Watchdog {
    /// The one that the supervisor has set, if it has.
    pub fn start() -> Self {
        Self::of(sd_notify::watchdog_enabled())
    }

    fn of(limit: Option<Duration>) -> Self {
        Self {
            limit,
            fed: Instant::now(),
            pulses: Vec::new(),
        }
    }

    /// The pulse of a further loop. Without its beats the watchdog is not fed.
    pub fn pulse(&mut self, name: &'static str) -> Pulse {
        let Some(limit) = self.limit else {
            return Pulse::default();
        };
        let pulse = Pulse(Some(Arc::new(Beats {
            name,
            every: (limit / 4).max(SHORTEST),
            last: Mutex::new(Instant::now()),
        })));
        self.pulses.push(pulse.clone());
        pulse
    }

    /// Feeds the watchdog when half of its time is over, as `sd_notify(3)` asks, and completes: a branch of the main loop's
    /// `select!`. Cancel-safe; without a watchdog it never completes.
    pub async fn tick(&mut self) {
        let Some(limit) = self.limit else {
            return std::future::pending().await;
        };
        sleep_until(self.fed + (limit / 2).max(SHORTEST)).await;
        self.fed = Instant::now();
        match self.stalled(limit) {
            None => notify(&[NotifyState::Watchdog]),
            Some(name) => {
                tracing::error!("the {name} shows no sign of life: the watchdog is not fed");
            }
        }
    }

    /// Whose pulse has stopped.
    fn stalled(&self, limit: Duration) -> Option<&'static str> {
        let beats = self.pulses.iter().filter_map(|pulse| pulse.0.as_ref());
        let mut stalled = beats.filter(|beats| beats.last().elapsed() > limit);
        stalled.next().map(|beats| beats.name)
    }
}

impl Pulse {
    /// Beats when it is time, and completes: a branch of the loop's `select!`. Cancel-safe.
    pub async fn tick(&self) {
        let Some(beats) = &self.0 else {
            return std::future::pending().await;
        };
        let due = *beats.last() + beats.every;
        sleep_until(due).await;
        *beats.last() = Instant::now();
    }

    /// Beats while a loop does a piece of work of several steps, for as long as it may take; after that only its end counts.
    pub async fn during<T>(&self, limit: Duration, work: impl Future<Output = T>) -> T {
        let end = Instant::now() + limit;
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.tick(), if Instant::now() < end => {}
            }
        }
    }
}

impl Beats {
    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// However short the watchdog's time is, signs of life cost next to nothing.
const SHORTEST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::time::{sleep, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_named_and_others_do_not_hide_it() {
        let mut watchdog = Watchdog::of(Some(LIMIT));
        let (healthy, hanging) = (watchdog.pulse("broker"), watchdog.pulse("proxy"));
        let well = async {
            loop {
                healthy.tick().await
            }
        };
        let hangs = async {
            for _ in 0..8 {
                hanging.tick().await;
            }
            std::future::pending::<()>().await;
        };
        let looks = async {
            for _ in 0..4 {
                watchdog.tick().await;
                assert_eq!(watchdog.stalled(LIMIT), None);
            }
            sleep(2 * LIMIT).await;
            assert_eq!(watchdog.stalled(LIMIT), Some("proxy"));
        };
        tokio::select! {
            () = well => {}
            () = hangs => {}
            () = looks => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_main_loop_feeds_it_at_half_of_its_time() {
        let mut watchdog = Watchdog::of(Some(LIMIT));
        let start = Instant::now();
        for fed in 1..4 {
            watchdog.tick().await;
            assert_eq!(start.elapsed(), fed * LIMIT / 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_work_counts_as_life_for_as_long_as_it_may_take() {
        let mut watchdog = Watchdog::of(Some(LIMIT));
        let pulse = watchdog.pulse("signer");
        let work = pulse.during(10 * LIMIT, std::future::pending::<()>());
        let looks = async {
            sleep(9 * LIMIT).await;
            assert_eq!(watchdog.stalled(LIMIT), None);
            sleep(3 * LIMIT).await;
            assert_eq!(watchdog.stalled(LIMIT), Some("signer"));
        };
        tokio::select! {
            () = work => {}
            () = looks => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_nobody_is_asked() {
        let mut watchdog = Watchdog::of(None);
        let pulse = watchdog.pulse("broker");
        assert!(timeout(10 * LIMIT, watchdog.tick()).await.is_err());
        assert!(timeout(10 * LIMIT, pulse.tick()).await.is_err());
        assert_eq!(pulse.during(LIMIT, async { 7 }).await, 7);
    }
}
