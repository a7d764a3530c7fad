//! What each device has asked for, on whichever connection: who comes again has not rested.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::limits::Limits;
use crate::pace::Pace;

/// The accounts of all devices that are connected, or that owe something still. No other lock is taken under this one.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<Arc<str>, Arc<Account>>>);

/// One device's, shared by its connections: the present one, and those that have not noticed yet that they are over.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Pace>);

impl Accounts {
    /// The account of a device whose certificate has this client id. There are no more of them than certificates.
    pub(crate) fn of(&self, client_id: &str) -> Arc<Account> {
        let mut accounts = self.lock();
        if let Some(account) = accounts.get(client_id) {
            return Arc::clone(account);
        }
        let account = Arc::default();
        accounts.insert(client_id.into(), Arc::clone(&account));
        account
    }

    /// Forgets the accounts of those who are not connected and owe nothing.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut accounts = self.lock();
        accounts.retain(|_, account| Arc::strong_count(account) > 1 || account.owes(now));
        if accounts.capacity() > 4 * accounts.len() {
            accounts.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Account>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// See [`Pace::spend`].
    pub(crate) fn spend(&self, tokens: u32, now: Instant, limits: &Limits) -> bool {
        self.lock().spend(tokens, now, limits)
    }

    /// See [`Pace::held_until`].
    pub(crate) fn held_until(&self, now: Instant, limits: &Limits) -> Option<Instant> {
        self.lock().held_until(now, limits)
    }

    /// See [`Pace::is_flood`].
    pub(crate) fn is_flood(&self, now: Instant, limits: &Limits) -> bool {
        self.lock().is_flood(now, limits)
    }

    /// See [`Pace::may_connect`].
    pub(crate) fn may_connect(&self, now: Instant, limits: &Limits) -> bool {
        self.lock().may_connect(now, limits)
    }

    fn owes(&self, now: Instant) -> bool {
        self.lock().owes(now)
    }

    fn lock(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_account_is_kept_while_somebody_has_it_or_owes() {
        let (accounts, limits, now) = (Accounts::default(), Limits::default(), Instant::now());
        let (there, owing) = (accounts.of("there"), accounts.of("owing"));
        owing.spend(1_000, now, &limits);
        drop((owing, accounts.of("gone")));
        accounts.sweep(now);
        assert_eq!(accounts.len(), 2);
        // Who comes again has not rested.
        let again = accounts.of("owing");
        assert!(again.spend(1, now, &limits));
        drop(again);
        accounts.sweep(now + Duration::from_secs(3));
        assert_eq!(accounts.len(), 1);
        assert!(Arc::ptr_eq(&there, &accounts.of("there")));
    }
}
