//! Ports that belong to one test for as long as it runs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

/// A free port of 127.0.0.1 that no other test takes while this value lives.
///
/// A port is needed before its listener exists (it is written into the realm's file), so asking the kernel for port 0 and
/// closing it again would leave a gap. The lock on a file per port closes that gap between tests; and the range lies below
/// Linux' ephemeral ports (32768 and up), so that no outgoing connection takes the number either.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _lock: File,
}

/// First and last port to reserve.
const RANGE: std::ops::RangeInclusive<u16> = 20_000..=32_000;

impl ReservedPort {
    /// Reserves a port.
    ///
    /// # Panics
    /// When no port of the range is free.
    #[track_caller]
    pub fn take() -> Self {
        let locks = std::env::temp_dir().join("tunnel-e2e-ports");
        fs::create_dir_all(&locks).expect("the temporary directory is writable");
        let span = RANGE.end() - RANGE.start();
        // Tests that start together begin at different places, so that they seldom meet.
        let start = u16::try_from(std::process::id() * 97 % u32::from(span)).unwrap_or(0);
        for step in 0..span {
            let number = RANGE.start() + (start + step) % span;
            let Ok(lock) = File::create(locks.join(number.to_string())) else {
                continue; // Another user's lock.
            };
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port in {RANGE:?}")
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<_> = (0..20).map(|_| ReservedPort::take()).collect();
        let mut numbers: Vec<_> = ports.iter().map(ReservedPort::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
    }
}
