//! Tells the log of those who were not let in: the first at once, the many after it as a number now and then.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Counts refusals between two lines of the log.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    told: Option<Instant>,
    since: u64,
}

impl TurnedAway {
    /// Notes one refusal. In a flood, the log would otherwise be the next thing that is full.
    pub(crate) fn note(&mut self, address: SocketAddr, reason: &str) {
        if let Some(untold) = self.line(Instant::now()) {
            tracing::warn!(%address, reason, untold, "connection refused");
        }
    }

    /// Whether to say something now, and how many were not told since.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now < told + REPORT) {
            self.since += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// How often at most.
const REPORT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_none_is_forgotten() {
        let (mut turned_away, start) = (TurnedAway::default(), Instant::now());
        assert_eq!(turned_away.line(start), Some(0));
        for _ in 0..5 {
            assert_eq!(turned_away.line(start + REPORT / 2), None);
        }
        assert_eq!(turned_away.line(start + REPORT), Some(5));
        assert_eq!(turned_away.line(start + 2 * REPORT), Some(0));
    }
}
