//! Telling the service supervisor how it goes (`sd_notify(3)`); without one, nothing happens.

use sd_notify::NotifyState;

mod watchdog;

pub use watchdog::{Pulse, Watchdog};

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

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service supervisor could not be told");
    }
}
