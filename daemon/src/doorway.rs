//! Who may stand in a server's doorway: connections that have not authenticated yet. Pure counting.
//!
//! A server accepts everybody and closes at once whom the doorway has no place for: a peer that waits in the kernel's
//! queue instead would hold up all who come after it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts the connections that have not authenticated yet, in all and by address. Clones are the same doorway.
#[derive(Clone, Debug)]
pub struct Doorway(Arc<Mutex<Counts>>);

/// A place in the doorway, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    doorway: Doorway,
    origin: IpAddr,
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
            total: 0,
            origins: HashMap::new(),
        })))
    }

    /// Takes a place for a connection of this address.
    pub fn enter(&self, address: IpAddr) -> Result<Pass, Full> {
        let origin = origin_of(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= counts.in_all {
            return Err(Full::InAll);
        }
        let limit = counts.per_address;
        let here = counts.origins.entry(origin).or_insert(0);
        if *here >= limit {
            return Err(Full::OfAddress);
        }
        *here += 1;
        counts.total += 1;
        Ok(Pass {
            doorway: self.clone(),
            origin,
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self
            .doorway
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        if let Some(here) = counts.origins.get_mut(&self.origin) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.origins.remove(&self.origin);
            }
        }
    }
}

#[derive(Debug)]
struct Counts {
    in_all: usize,
    per_address: usize,
    total: usize,
    origins: HashMap<IpAddr, usize>,
}

/// One customer has one IPv4 address, or a whole /64 (RFC 6177) to take addresses from.
fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let doorway = Doorway::new(3, 2);
        let (here, there): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = doorway.enter(here).unwrap();
        let _second = doorway.enter(here).unwrap();
        assert_eq!(doorway.enter(here).unwrap_err(), Full::OfAddress);
        let _third = doorway.enter(there).unwrap();
        assert_eq!(doorway.enter(there).unwrap_err(), Full::InAll);
        drop(first);
        drop(doorway.enter(here).unwrap());
        let counts = doorway.0.lock().unwrap();
        assert_eq!((counts.total, counts.origins.len()), (2, 2));
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let doorway = Doorway::new(9, 1);
        let _pass = doorway.enter("2001:db8::1".parse().unwrap()).unwrap();
        assert!(doorway.enter("2001:db8::ffff:1".parse().unwrap()).is_err());
        assert!(doorway.enter("2001:db8:0:1::1".parse().unwrap()).is_ok());
        let _mapped = doorway.enter("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(doorway.enter("10.0.0.1".parse().unwrap()).is_err());
    }
}
