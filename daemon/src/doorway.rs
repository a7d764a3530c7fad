//! Who may stand in a server's doorway: connections that have not authenticated yet. Pure counting.
//!
//! A server accepts everybody and closes at once whom the doorway has no place for: a peer that waits in the kernel's
//! queue instead would hold up all who come after it. A doorway may also make room: when all places are taken, a newcomer
//! displaces the oldest of the customer who has the most of them, so that those who say nothing from few addresses keep
//! nobody else out. It may have patience too: then whoever has stood there for longer makes room, wherever he comes from.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
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
    origin: IpAddr,
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
    /// A doorway with this many places, and this many of them for one address. When all are taken, nobody makes room.
    pub fn new(in_all: usize, per_address: usize) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            in_all,
            per_address,
            leaver: Leaver::Nobody,
            total: 0,
            last_number: 0,
            origins: HashMap::new(),
            customers: HashMap::new(),
        })))
    }

    /// The same, where who has most makes room when all places are taken. Whoever is [displaced](Pass::displaced) is
    /// counted no more: his connection has to be ended.
    pub fn making_room(self) -> Self {
        self.lock().leaver = Leaver::WhoHasMost;
        self
    }

    /// The same, and if nobody has more than others, whoever has stood there for longer than this makes room.
    pub fn displacing(self, patience: Duration) -> Self {
        self.lock().leaver = Leaver::WhoHasMostOrIsLate(patience);
        self
    }

    /// Takes a place for a connection of this address.
    pub fn enter(&self, address: IpAddr) -> Result<Pass, Full> {
        let (origin, now) = (origin_of(address), Instant::now());
        let mut counts = self.lock();
        if counts.origins.get(&origin).copied().unwrap_or(0) >= counts.per_address {
            return Err(Full::OfAddress);
        }
        if counts.total >= counts.in_all && !counts.make_room(customer_of(origin), now) {
            return Err(Full::InAll);
        }
        let displaced = CancellationToken::new();
        counts.last_number += 1;
        let number = counts.last_number;
        *counts.origins.entry(origin).or_insert(0) += 1;
        counts.total += 1;
        let places = counts.customers.entry(customer_of(origin)).or_default();
        places.push_back(Place {
            number,
            origin,
            since: now,
            displaced: displaced.clone(),
        });
        drop(counts);
        Ok(Pass {
            doorway: self.clone(),
            origin,
            number,
            displaced,
        })
    }

    /// How many stand there.
    pub fn occupied(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Completes when the place was given to a newcomer: the connection has to end. Cancel-safe, and never completes once
    /// the pass was dropped in time.
    pub fn displaced(&self) -> impl Future<Output = ()> + Send + use<> {
        self.displaced.clone().cancelled_owned()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.doorway.lock();
        let customer = customer_of(self.origin);
        let places = counts.customers.get_mut(&customer);
        // Numbers only grow. One who was displaced has no place any more.
        let place = places.and_then(|places| {
            let place = places.binary_search_by_key(&self.number, |place| place.number);
            places.remove(place.ok()?)
        });
        if place.is_some() {
            counts.given_back(self.origin);
        }
    }
}

/// The address that a place is counted for: one line has one IPv4 address, or a whole /64 (RFC 6177) to take addresses
/// from.
pub fn origin_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Who takes many addresses has a /48 of them at most (RFC 6177).
fn customer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
    }
}

#[derive(Debug)]
struct Counts {
    in_all: usize,
    per_address: usize,
    leaver: Leaver,
    total: usize,
    last_number: u64,
    origins: HashMap<IpAddr, usize>,
    /// In the order in which they came.
    customers: HashMap<IpAddr, VecDeque<Place>>,
}

/// Who makes room for a newcomer.
#[derive(Clone, Copy, Debug)]
enum Leaver {
    Nobody,
    WhoHasMost,
    WhoHasMostOrIsLate(Duration),
}

/// Somebody in the doorway.
#[derive(Debug)]
struct Place {
    number: u64,
    origin: IpAddr,
    since: Instant,
    displaced: CancellationToken,
}

impl Counts {
    /// Whether somebody has left for a newcomer of this customer.
    fn make_room(&mut self, newcomer: IpAddr, now: Instant) -> bool {
        let leaver = match self.leaver {
            Leaver::Nobody => None,
            Leaver::WhoHasMost => self.who_has_most(newcomer),
            Leaver::WhoHasMostOrIsLate(patience) => self
                .who_has_most(newcomer)
                .or_else(|| self.who_is_late(patience, now)),
        };
        let Some(customer) = leaver else {
            return false;
        };
        let places = self.customers.get_mut(&customer);
        let Some(first) = places.and_then(VecDeque::pop_front) else {
            return false;
        };
        first.displaced.cancel();
        self.given_back(first.origin);
        true
    }

    /// The customer with the most places, if even after the change he has as many as the newcomer.
    fn who_has_most(&self, newcomer: IpAddr) -> Option<IpAddr> {
        let has = self.customers.get(&newcomer).map_or(0, VecDeque::len);
        let more = self
            .customers
            .iter()
            .filter(|(_, places)| places.len() > has + 1);
        let most = more.max_by_key(|(_, places)| {
            let first = places.front().map(|first| first.number);
            (places.len(), Reverse(first))
        })?;
        Some(*most.0)
    }

    /// The customer of the one who has stood there longest, if that is too long.
    fn who_is_late(&self, patience: Duration, now: Instant) -> Option<IpAddr> {
        let firsts = self
            .customers
            .iter()
            .filter_map(|(customer, places)| Some((customer, places.front()?)));
        let (customer, first) = firsts.min_by_key(|(_, first)| first.number)?;
        (now >= first.since + patience).then_some(*customer)
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
        assert_eq!((counts.total, counts.origins.len()), (2, 2));
    }

    #[test]
    fn where_nobody_makes_room_all_stay_whoever_has_most() {
        let doorway = Doorway::new(3, 3);
        let inside = ["10.0.0.1"; 3].map(|text| doorway.enter(address(text)).unwrap());
        let newcomer = doorway.enter(address("10.0.0.2"));
        assert_eq!(newcomer.unwrap_err(), Full::InAll);
        assert!(inside.iter().all(|pass| !pass.displaced.is_cancelled()));
        assert_eq!(doorway.occupied(), 3);
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

    #[tokio::test]
    async fn who_has_none_gets_the_oldest_place_of_who_has_most() {
        let doorway = Doorway::new(4, 4).making_room();
        // One customer with two /64s has more than another with one address.
        let [first, second, third] = ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:2::2"]
            .map(|text| doorway.enter(address(text)).unwrap());
        let _other = doorway.enter(address("10.0.0.1")).unwrap();
        let _newcomer = doorway.enter(address("10.0.0.2")).unwrap();
        first.displaced().await;
        drop(first);
        // Two are not enough to give one to somebody who has one.
        assert_eq!(doorway.enter(address("10.0.0.2")).unwrap_err(), Full::InAll);
        let _another = doorway.enter(address("10.0.0.3")).unwrap();
        second.displaced().await;
        // Everybody has one.
        assert!(doorway.enter(address("10.0.0.4")).is_err());
        drop((second, third));
        let counts = doorway.lock();
        let (origins, customers) = (counts.origins.len(), counts.customers.len());
        assert_eq!((counts.total, origins, customers), (3, 3, 3));
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
