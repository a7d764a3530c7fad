//! Stopping in three steps: ask everything to end, wait for it, then cut.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The one way to stop a daemon, and the owner of its tasks. Clones are the same shutdown; any number may ask and wait.
#[derive(Clone, Debug)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
    grace: Duration,
}

impl Shutdown {
    /// A shutdown that somebody has to [`request`](Self::request). `grace` is how long [`drained`](Self::drained) waits.
    pub fn new(grace: Duration) -> Self {
        Self {
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
            grace,
        }
    }

    /// A shutdown that SIGTERM (service supervisors) or SIGINT (terminals) requests. A second signal ends the process
    /// at once with the exit code that a shell reports for SIGINT, for whoever does not want to wait for the drain.
    pub fn on_signals(grace: Duration) -> io::Result<Self> {
        let shutdown = Self::new(grace);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let token = shutdown.token.clone();
        // This task is no work to wait for: it lives as long as the process and must outlast the drain.
        #[expect(
            clippy::disallowed_methods,
            reason = "the signal task outlives the drain that it starts"
        )]
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!("SIGTERM received"),
                    _ = interrupt.recv() => tracing::info!("SIGINT received"),
                }
                if first {
                    token.cancel();
                }
            }
            tracing::warn!("second signal: ending at once");
            std::process::exit(130);
        });
        Ok(shutdown)
    }

    /// Completes when the shutdown has been requested. Cancel-safe.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether the shutdown has been requested.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks everything to end.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Runs a task that [`drained`](Self::drained) waits for.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(future)
    }

    /// A shutdown of a part: requested together with this one or alone, with tasks of its own that this one waits for too.
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            tasks: self.tasks.clone(),
            grace: self.grace,
        }
    }

    /// A shutdown of a part with tasks of its own and a grace period of its own, requested together with this one or alone.
    pub fn part(&self, grace: Duration) -> Self {
        Self {
            token: self.token.child_token(),
            tasks: TaskTracker::new(),
            grace,
        }
    }

    /// Waits until the shutdown is requested and all tasks have ended, for at most the grace period after the request.
    /// Returns whether all had ended by then.
    pub async fn drained(&self) -> bool {
        self.requested().await;
        self.tasks.close();
        timeout(self.grace, self.tasks.wait()).await.is_ok()
    }

    /// How long a drain may take.
    pub fn grace(&self) -> Duration {
        self.grace
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_the_tasks_and_no_longer() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.spawn(sleep(Duration::from_secs(3)));
        shutdown.request();
        let start = Instant::now();
        assert!(shutdown.drained().await);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_not_waited_for_for_ever() {
        let shutdown = Shutdown::new(Duration::from_secs(10));
        shutdown.spawn(std::future::pending::<()>());
        shutdown.request();
        let start = Instant::now();
        assert!(!shutdown.drained().await);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_stops_alone_or_with_its_parent() {
        let parent = Shutdown::new(Duration::from_secs(1));
        let (first, second) = (parent.child(), parent.child());
        first.request();
        assert!(first.is_requested() && !parent.is_requested());
        parent.request();
        second.requested().await;
    }
}
