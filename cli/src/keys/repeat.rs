//! Once, or every so often until SIGTERM.

use std::time::Duration;

use daemon::shutdown::Shutdown;
use daemon::systemd::{self, Watchdog};
use tokio::time::{MissedTickBehavior, interval};

use crate::exit;
use crate::failure::Failure;
use crate::runtime;

/// Runs the work once, and returns its failure; or, with `every`, again and again, and only tells of failures.
pub(crate) fn repeat<F>(
    every: Option<humantime::Duration>,
    mut work: impl FnMut() -> F,
) -> Result<u8, Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    runtime::block_on(async {
        let Some(every) = every else {
            return work().await.map(|()| exit::OK);
        };
        let shutdown = Shutdown::on_signals(Duration::ZERO)
            .map_err(|error| runtime::cannot("watch for signals", error))?;
        let every = Duration::from(every).max(SHORTEST);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::start();
        let pulse = watchdog.pulse("synchronisation");
        systemd::ready();
        let rounds = async {
            loop {
                pulse.during(every, ticks.tick()).await;
                if let Err(failure) = pulse.during(ROUND_LIMIT, work()).await {
                    // The next time may be better: a registry that is away comes back.
                    tracing::error!("{}", failure.to_string().replace('\n', "; "));
                }
            }
        };
        let fed = async {
            loop {
                watchdog.tick().await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = fed => {}
            () = rounds => {}
        }
        systemd::stopping();
        Ok(exit::OK)
    })
}

/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest round that is no hang: a registry with thousands of entries, each request with a deadline of its own.
pub(super) const ROUND_LIMIT: Duration = Duration::from_mins(30);
