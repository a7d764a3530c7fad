//! SIGHUP to a command that somebody waits for, unless whoever started it has it ignored, as `nohup` does: a handler would hear
//! it all the same.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Watches for SIGHUP, where it was not ignored when the program was started.
#[derive(Debug)]
pub struct HangUp(Option<Signal>);

impl HangUp {
    /// Begins to watch; must run in a runtime.
    pub fn watch() -> io::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status");
        if status.is_ok_and(|status| is_ignored(&status)) {
            return Ok(Self(None));
        }
        signal(SignalKind::hangup()).map(|signal| Self(Some(signal)))
    }

    /// Completes when the signal comes. Cancel-safe.
    pub async fn received(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// The mask of the signals that a process ignores is a line of its status (`proc(5)`), in which SIGHUP is the lowest bit.
fn is_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bit_of_what_is_ignored_counts() {
        assert!(is_ignored(
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"
        ));
        assert!(!is_ignored(
            "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"
        ));
        assert!(!is_ignored(""));
    }
}
