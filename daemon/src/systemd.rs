//! Telling the service supervisor how it goes (`sd_notify(3)`); without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;

use crate::monitor::Pulse;
use crate::shutdown::Shutdown;

/// The service does its work now.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// The service has begun to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Feeds the watchdog at half of its time, if one is set, until the shutdown, and not while the daemon's run loop is stuck. It
/// runs among the daemon's own tasks: when they starve, so does the watchdog, and the supervisor starts the service anew.
pub fn feed_watchdog(shutdown: &Shutdown, pulse: &Pulse) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = interval((limit / 2).max(Duration::from_millis(100)));
    let (until, pulse) = (shutdown.clone(), pulse.clone());
    shutdown.spawn(async move {
        loop {
            tokio::select! {
                () = until.requested() => return,
                _ = ticks.tick() => match pulse.stuck() {
                    None => notify(&[NotifyState::Watchdog]),
                    Some(still) => tracing::error!(?still, "the run loop is stuck"),
                },
            }
        }
    });
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service supervisor could not be told");
    }
}
