//! Once, or every so often until SIGTERM.

use std::pin::pin;
use std::time::Duration;

use daemon::monitor::Pulse;
use daemon::shutdown::Shutdown;
use daemon::systemd;
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
        let mut ticks = interval(Duration::from(every).max(SHORTEST));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (pulse, mut beats) = (Pulse::new(), Pulse::ticks());
        systemd::feed_watchdog(&shutdown, &pulse);
        let rounds = async {
            let mut first = true;
            loop {
                ticks.tick().await;
                if let Err(failure) = work().await {
                    // The next time may be better: a registry that is away comes back.
                    tracing::error!("{}", failure.to_string().replace('\n', "; "));
                }
                if std::mem::take(&mut first) {
                    // Whoever comes behind it in the order of starts finds the keys there.
                    systemd::ready();
                }
            }
        };
        let mut rounds = pin!(rounds);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                _ = beats.tick() => pulse.beat(),
                () = &mut rounds => {}
            }
        }
        systemd::stopping();
        Ok(exit::OK)
    })
}

/// The shortest time between two rounds.
const SHORTEST: Duration = Duration::from_millis(100);
