//! Addresses from which logins fail: they are answered more slowly, then not at all for a while. Pure counting.
//!
//! Nobody guesses a key. What failed logins cost is the handshakes, the looks for a new key and the log. So an address has a
//! debt that each failed login adds to and time pays off: a site with some devices whose keys were withdrawn stays below
//! what is noticed, and a scanner does not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::doorway::origin_of;
use tokio::time::Instant;

use crate::limits::Limits;

/// Remembers who failed. Clones are the same memory.
#[derive(Clone, Debug)]
pub(crate) struct Penalties(Arc<Mutex<Ledger>>);

impl Penalties {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Ledger {
            free: limits.failed_logins_free,
            shut: limits.failed_logins_shut,
            room: limits.failed_addresses,
            debts: HashMap::new(),
        })))
    }

    /// A connection of this address has ended without a login, although it tried. Returns whether the address is shut out
    /// from now on.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) -> bool {
        self.lock().failed(origin_of(address), now)
    }

    /// How long the next refusal of a key for this address is held back.
    pub(crate) fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        let ledger = self.lock();
        let owed = ledger.owed(origin_of(address), now);
        let beyond = owed.saturating_sub(ledger.free * EACH).as_millis() / EACH.as_millis();
        STEP.saturating_mul(u32::try_from(beyond).unwrap_or(u32::MAX))
            .min(MAX_DELAY)
    }

    /// Whether the address is shut out, and for how much longer.
    pub(crate) fn shut_out(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.lock().shut_out(origin_of(address), now)
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Ledger {
    free: u32,
    shut: u32,
    room: usize,
    debts: HashMap<IpAddr, Debt>,
}

/// What an address owes, as the time when it will have been paid off.
#[derive(Debug)]
struct Debt {
    until: Instant,
    shut: bool,
}

impl Ledger {
    fn owed(&self, origin: IpAddr, now: Instant) -> Duration {
        self.debts.get(&origin).map_or(Duration::ZERO, |debt| {
            debt.until.saturating_duration_since(now)
        })
    }

    fn failed(&mut self, origin: IpAddr, now: Instant) -> bool {
        if !self.debts.contains_key(&origin) && !self.has_room(now) {
            return false;
        }
        let limit = self.shut * EACH;
        let debt = self.debts.entry(origin).or_insert(Debt {
            until: now,
            shut: false,
        });
        // Those that were on their way already do not make it longer.
        debt.until = (debt.until.max(now) + EACH).min(now + limit);
        let newly = !debt.shut && debt.until >= now + limit;
        debt.shut |= newly;
        newly
    }

    fn shut_out(&mut self, origin: IpAddr, now: Instant) -> Option<Duration> {
        let reopens = self.shut * EACH / 2;
        let debt = self.debts.get_mut(&origin)?;
        let owed = debt.until.saturating_duration_since(now);
        debt.shut &= owed > reopens;
        debt.shut.then(|| owed.saturating_sub(reopens))
    }

    /// Who has paid off is forgotten when the place is needed. If all owe, a newcomer goes unpunished.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.debts.len() >= self.room {
            self.debts.retain(|_, debt| debt.until > now);
        }
        self.debts.len() < self.room
    }
}

/// What one failed login adds to the debt: four a second are always forgiven. They cost the proxy less than a hundredth of a
/// processor. An agent whose key was withdrawn tries every eight seconds on average, a computer that enrolls every three: a
/// site with a dozen of each behind one address pays as it goes.
const EACH: Duration = Duration::from_millis(250);

/// How much longer each failed login beyond the free ones makes the next refusal take, and how long at most: sixteen strangers
/// of one address at a time still fail faster than they are forgiven, so who goes on is shut out.
const STEP: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn penalties() -> Penalties {
        Penalties::new(&Limits {
            failed_logins_free: 3,
            failed_logins_shut: 10,
            failed_addresses: 2,
            ..Limits::default()
        })
    }

    fn here() -> IpAddr {
        "10.0.0.1".parse().unwrap()
    }

    #[test]
    fn it_slows_down_then_shuts_out_then_forgives() {
        let (penalties, start) = (penalties(), Instant::now());
        for _ in 0..3 {
            assert!(!penalties.failed(here(), start));
        }
        assert_eq!(penalties.delay(here(), start), Duration::ZERO, "free");
        for _ in 3..9 {
            assert!(!penalties.failed(here(), start));
        }
        assert_eq!(penalties.delay(here(), start), 6 * STEP);
        assert_eq!(penalties.shut_out(here(), start), None);
        assert!(penalties.failed(here(), start), "the tenth");
        assert!(!penalties.failed(here(), start), "told once");
        assert_eq!(penalties.shut_out(here(), start), Some(5 * EACH));
        let almost = start + 5 * EACH - Duration::from_millis(1);
        assert!(penalties.shut_out(here(), almost).is_some());
        assert_eq!(penalties.shut_out(here(), start + 5 * EACH), None);
        assert_eq!(penalties.delay(here(), start + 10 * EACH), Duration::ZERO);
    }

    #[test]
    fn what_is_forgiven_as_it_comes_is_never_noticed() {
        let (penalties, mut now) = (penalties(), Instant::now());
        for _ in 0..1000 {
            penalties.failed(here(), now);
            assert_eq!(penalties.delay(here(), now), Duration::ZERO);
            now += EACH;
        }
    }

    #[test]
    fn addresses_are_told_apart_and_their_number_is_bounded() {
        let (penalties, start) = (penalties(), Instant::now());
        for _ in 0..10 {
            penalties.failed(here(), start);
        }
        for last in 2..200 {
            let other: IpAddr = format!("10.0.0.{last}").parse().unwrap();
            penalties.failed(other, start);
            assert_eq!(penalties.shut_out(other, start), None);
        }
        assert_eq!(penalties.lock().debts.len(), 2);
        assert!(penalties.shut_out(here(), start).is_some());
        let later = start + 20 * EACH;
        penalties.failed("10.0.1.1".parse().unwrap(), later);
        assert_eq!(penalties.lock().debts.len(), 1, "the others have paid off");
    }
}
