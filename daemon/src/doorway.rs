//! Who may stand in a server's doorway: connections that have not authenticated yet. Pure counting.
//!
//! A server accepts everybody and closes at once whom the doorway has no place for: a peer that waits in the kernel's
//! queue instead would hold up all who come after it. A server may also [make room](Doorway::make_room): those who say
//! nothing from few addresses, and have taken all places, then lose one to each who comes from another.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Counts the connections that have not authenticated yet, in all and by address. Clones are the same doorway.
#[derive(Clone, Debug)]
pub struct Doorway(Arc<Mutex<Counts>>);

/// A place in the doorway, until it is dropped.
#[derive(Debug)]
pub struct Pass {
    doorway: Doorway,
    origin: IpAddr,
    number: u64,
    pushed_out: Arc<Notify>,
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
            last_number: 0,
            origins: HashMap::new(),
            customers: HashMap::new(),
        })))
    }

    /// Takes a place for a connection of this address.
    pub fn enter(&self, address: IpAddr) -> Result<Pass, Full> {
        self.enter_with(address, |_| false)
    }

    /// The same, but when there are too many in all, and one customer has more places than the newcomer's would have, its
    /// oldest is [pushed out](Pass::pushed_out).
    pub fn make_room(&self, address: IpAddr) -> Result<Pass, Full> {
        let customer = customer_of(address);
        self.enter_with(address, |counts| counts.push_out_for(customer))
    }

    fn enter_with(
        &self,
        address: IpAddr,
        make_room: impl FnOnce(&mut Counts) -> bool,
    ) -> Result<Pass, Full> {
        let origin = origin_of(address);
        let mut counts = self.lock();
        if counts.origins.get(&origin).copied().unwrap_or(0) >= counts.per_address {
            return Err(Full::OfAddress);
        }
        if counts.total >= counts.in_all && !make_room(&mut counts) {
            return Err(Full::InAll);
        }
        let pushed_out = Arc::new(Notify::new());
        counts.last_number += 1;
        let number = counts.last_number;
        *counts.origins.entry(origin).or_insert(0) += 1;
        counts.total += 1;
        let places = counts.customers.entry(customer_of(origin)).or_default();
        places.push_back(Place {
            number,
            origin,
            pushed_out: Arc::clone(&pushed_out),
        });
        Ok(Pass {
            doorway: self.clone(),
            origin,
            number,
            pushed_out,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Completes when somebody else has got the place. Cancel-safe.
    pub async fn pushed_out(&self) {
        self.pushed_out.notified().await;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.doorway.lock();
        let customer = customer_of(self.origin);
        let places = counts.customers.get_mut(&customer);
        // Numbers only grow. One who was pushed out has no place any more.
        let place = places.and_then(|places| {
            let place = places.binary_search_by_key(&self.number, |place| place.number);
            places.remove(place.ok()?)
        });
        if place.is_some() {
            counts.given_back(self.origin);
        }
    }
}

#[derive(Debug)]
struct Counts {
    in_all: usize,
    per_address: usize,
    total: usize,
    last_number: u64,
    origins: HashMap<IpAddr, usize>,
    /// In the order in which they came.
    customers: HashMap<IpAddr, VecDeque<Place>>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    origin: IpAddr,
    pushed_out: Arc<Notify>,
}

impl Counts {
    /// Whether somebody has left for a newcomer of this customer. It is the one who came first of those with the most.
    fn push_out_for(&mut self, newcomer: IpAddr) -> bool {
        let has = self.customers.get(&newcomer).map_or(0, VecDeque::len);
        let most = self
            .customers
            .values_mut()
            .filter(|places| places.len() > has + 1)
            .max_by_key(|places| {
                (
                    places.len(),
                    Reverse(places.front().map(|first| first.number)),
                )
            });
        let Some(first) = most.and_then(VecDeque::pop_front) else {
            return false;
        };
        first.pushed_out.notify_one();
        self.given_back(first.origin);
        true
    }

    /// A place that is among those of its customer no more.
    fn given_back(&mut self, origin: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(here) = self.origins.get_mut(&origin) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                self.origins.remove(&origin);
            }
        }
        let customer = customer_of(origin);
        if self
            .customers
            .get(&customer)
            .is_some_and(VecDeque::is_empty)
        {
            self.customers.remove(&customer);
        }
    }
}

/// Who takes many addresses has a /48 of them at most (RFC 6177).
fn customer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

/// One line has one IPv4 address, or a whole /64 to take addresses from.
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

    #[tokio::test]
    async fn who_has_none_gets_the_oldest_place_of_who_has_most() {
        let doorway = Doorway::new(4, 4);
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        // One customer with two /64s has more than another with one address.
        let [first, second, third] = ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:2::2"]
            .map(|text| doorway.enter(address(text)).unwrap());
        let _other = doorway.enter(address("10.0.0.1")).unwrap();
        assert_eq!(doorway.enter(address("10.0.0.2")).unwrap_err(), Full::InAll);
        let _newcomer = doorway.make_room(address("10.0.0.2")).unwrap();
        first.pushed_out().await;
        drop(first);
        // Two are not enough to give one to somebody who has one.
        let one_more = doorway.make_room(address("10.0.0.2"));
        assert_eq!(one_more.unwrap_err(), Full::InAll);
        let _another = doorway.make_room(address("10.0.0.3")).unwrap();
        second.pushed_out().await;
        // Everybody has one.
        assert!(doorway.make_room(address("10.0.0.4")).is_err());
        drop((second, third));
        let counts = doorway.0.lock().unwrap();
        let (origins, customers) = (counts.origins.len(), counts.customers.len());
        assert_eq!((counts.total, origins, customers), (3, 3, 3));
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
