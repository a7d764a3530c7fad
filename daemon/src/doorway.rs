//! Who may stand in a server's doorway: connections that have not authenticated yet. Pure counting.
//!
//! A server accepts everybody and closes at once whom the doorway has no place for: a peer that waits in the kernel's
//! queue instead would hold up all who come after it. A doorway may also make room: then a newcomer displaces whoever
//! has stood there longest and should have been through by now, so that those who only stand there keep nobody out.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Counts the connections that have not authenticated yet, in all and by address. Clones are the same doorway.
#[derive(Clone, Debug)]
pub struct Doorway(Arc<Mutex<Counts>>);

/// A place in the doorway, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    doorway: Doorway,
    number: u64,
    displaced: CancellationToken,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Full {
    /// There are too many of them.
    #[error("too many connections that have not authenticated")]
    InAll,
    /// There are too many of its address, which is a /64 with IPv6.
    #[error("too many connections of its address that have not authenticated")]
    OfAddress,
}

impl Doorway {
    /// A doorway with this many places, and this many of them for one address.
    pub fn new(in_all: usize, per_address: usize) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            in_all,
            per_address,
            patience: None,
            next: 0,
            inside: BTreeMap::new(),
            origins: HashMap::new(),
        })))
    }

    /// The same, where a newcomer who finds all places taken displaces the one who has been there longest, if that is
    /// longer than this.
    pub fn displacing(self, patience: Duration) -> Self {
        self.lock().patience = Some(patience);
        self
    }

    /// Takes a place for a connection of this address.
    pub fn enter(&self, address: IpAddr) -> Result<Pass, Full> {
        let origin = origin_of(address);
        let now = Instant::now();
        let mut counts = self.lock();
        if counts.origins.get(&origin).copied().unwrap_or(0) >= counts.per_address {
            return Err(Full::OfAddress);
        }
        if counts.inside.len() >= counts.in_all && !counts.make_room(now) {
            return Err(Full::InAll);
        }
        let displaced = CancellationToken::new();
        let number = counts.next;
        counts.next += 1;
        *counts.origins.entry(origin).or_insert(0) += 1;
        let standing = Standing {
            origin,
            since: now,
            displaced: displaced.clone(),
        };
        counts.inside.insert(number, standing);
        drop(counts);
        Ok(Pass {
            doorway: self.clone(),
            number,
            displaced,
        })
    }

    /// How many stand there.
    pub fn occupied(&self) -> usize {
        self.lock().inside.len()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Completes when the place was given to a newcomer: the connection has to end. Cancel-safe.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.doorway.lock().leave(self.number);
    }
}

/// The address that a place is counted for: one customer has one IPv4 address, or a whole /64 (RFC 6177) to take addresses
/// from.
pub fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[derive(Debug)]
struct Counts {
    in_all: usize,
    per_address: usize,
    patience: Option<Duration>,
    next: u64,
    /// By number, so the first is the one who has been there longest.
    inside: BTreeMap<u64, Standing>,
    origins: HashMap<IpAddr, usize>,
}

impl Counts {
    fn leave(&mut self, number: u64) -> Option<Standing> {
        let left = self.inside.remove(&number)?;
        if let Some(here) = self.origins.get_mut(&left.origin) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.origins.remove(&left.origin);
            }
        }
        Some(left)
    }

    fn make_room(&mut self, now: Instant) -> bool {
        let (Some(patience), Some((number, oldest))) =
            (self.patience, self.inside.first_key_value())
        else {
            return false;
        };
        let number = *number;
        if now < oldest.since + patience {
            return false;
        }
        if let Some(left) = self.leave(number) {
            left.displaced.cancel();
        }
        true
    }
}

/// Somebody in the doorway.
#[derive(Debug)]
struct Standing {
    origin: IpAddr,
    since: Instant,
    displaced: CancellationToken,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let doorway = Doorway::new(3, 2);
        let (here, there) = (address("10.0.0.1"), address("10.0.0.2"));
        let first = doorway.enter(here).unwrap();
        let _second = doorway.enter(here).unwrap();
        assert_eq!(doorway.enter(here).unwrap_err(), Full::OfAddress);
        let _third = doorway.enter(there).unwrap();
        assert_eq!(doorway.enter(there).unwrap_err(), Full::InAll);
        drop(first);
        drop(doorway.enter(here).unwrap());
        let counts = doorway.lock();
        assert_eq!((counts.inside.len(), counts.origins.len()), (2, 2));
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let doorway = Doorway::new(9, 1);
        let _pass = doorway.enter(address("2001:db8::1")).unwrap();
        assert!(doorway.enter(address("2001:db8::ffff:1")).is_err());
        assert!(doorway.enter(address("2001:db8:0:1::1")).is_ok());
        let _mapped = doorway.enter(address("::ffff:10.0.0.1")).unwrap();
        assert!(doorway.enter(address("10.0.0.1")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_stood_there_too_long_makes_room_and_nobody_else() {
        let patience = Duration::from_secs(3);
        let doorway = Doorway::new(2, 2).displacing(patience);
        let old = doorway.enter(address("10.0.0.1")).unwrap();
        tokio::time::advance(patience / 2).await;
        let young = doorway.enter(address("10.0.0.2")).unwrap();
        assert_eq!(
            doorway.enter(address("10.0.0.3")).unwrap_err(),
            Full::InAll,
            "all of them may still be on their way"
        );
        tokio::time::advance(patience / 2).await;
        let new = doorway.enter(address("10.0.0.3")).unwrap();
        old.displaced().await;
        assert!(!young.displaced.is_cancelled() && !new.displaced.is_cancelled());
        assert!(doorway.enter(address("10.0.0.4")).is_err());
        drop(old);
        assert_eq!(doorway.occupied(), 2, "its place was not given back twice");
        drop((young, new));
        assert!(doorway.lock().origins.is_empty());
    }
}
