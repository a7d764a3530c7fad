//! How many lines of the log a peer may cause: some at once, then one now and then, which says how many were left out.
//! Pure: it is told the time. The counters count all of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// Whose lines are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// A device that has shown its certificate.
    Device(Box<str>),
    /// Strangers of one address, or of one /48 with IPv6, the most that a customer has.
    Address(IpAddr),
    /// Everybody else, when there are too many to be told apart.
    Others,
}

/// The counts.
#[derive(Debug)]
pub(crate) struct Lines {
    at_once: u32,
    interval: Duration,
    most: usize,
    sources: HashMap<Source, Count>,
}

#[derive(Debug)]
struct Count {
    /// When all its lines have been earned.
    paid: Instant,
    left_out: u64,
}

impl Source {
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
        })
    }
}

impl Lines {
    /// `at_once` for each of up to `most` sources, and one more for each `interval`.
    pub(crate) fn new((at_once, interval): (u32, Duration), most: usize) -> Self {
        Self {
            at_once,
            interval,
            most,
            sources: HashMap::new(),
        }
    }

    /// Whether a line is written; with how many were left out since the last one.
    pub(crate) fn take(&mut self, source: Source, now: Instant) -> Option<u64> {
        let source = if self.sources.len() < self.most || self.sources.contains_key(&source) {
            source
        } else {
            Source::Others
        };
        let count = self.sources.entry(source).or_insert(Count {
            paid: now,
            left_out: 0,
        });
        let paid = count.paid.max(now) + self.interval;
        if paid > now + self.interval * self.at_once {
            count.left_out += 1;
            return None;
        }
        count.paid = paid;
        Some(std::mem::take(&mut count.left_out))
    }

    /// Forgets the sources that have been silent. Returned are those of whose lines some were left out, which would never be
    /// said.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<(Source, u64)> {
        let mut unsaid = Vec::new();
        self.sources.retain(|source, count| {
            let stays = count.paid > now;
            if !stays && count.left_out > 0 {
                unsaid.push((source.clone(), count.left_out));
            }
            stays
        });
        self.sources.shrink_to(64);
        unsaid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines::new((2, Duration::from_secs(10)), 2)
    }

    fn device(name: &str) -> Source {
        Source::Device(name.into())
    }

    #[test]
    fn some_at_once_then_one_now_and_then_with_the_number_of_the_others() {
        let (mut lines, start) = (lines(), Instant::now());
        let mut at = |seconds| lines.take(device("a"), start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0), at(9)], [Some(0), Some(0), None, None]);
        assert_eq!([at(10), at(19)], [Some(2), None]);
        // Who rests has all of them again.
        assert_eq!([at(60), at(60), at(60)], [Some(1), Some(0), None]);
    }

    #[test]
    fn one_source_takes_no_line_from_another_and_too_many_share_one_count() {
        let (mut lines, now) = (lines(), Instant::now());
        for name in ["a", "b"] {
            assert_eq!([0; 2].map(|_| lines.take(device(name), now)), [Some(0); 2]);
        }
        assert_eq!(lines.take(device("c"), now), Some(0));
        assert_eq!(lines.take(device("d"), now), Some(0));
        assert_eq!(lines.take(device("e"), now), None);
        assert_eq!(lines.sources.len(), 3);
    }

    #[test]
    fn what_was_left_out_last_is_said_when_it_is_forgotten() {
        let (mut lines, now) = (lines(), Instant::now());
        for _ in 0..5 {
            lines.take(device("a"), now);
        }
        lines.take(device("b"), now);
        assert_eq!(lines.sweep(now + Duration::from_secs(19)), []);
        assert_eq!(
            lines.sweep(now + Duration::from_secs(20)),
            [(device("a"), 3)]
        );
        assert_eq!(lines.sources.len(), 0);
    }

    #[test]
    fn a_customers_network_is_one_source() {
        let source = |address: &str| Source::address(address.parse().unwrap());
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:ffff::2"));
        assert_ne!(source("2001:db8:1::1"), source("2001:db8:2::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
    }
}
