//! All sessions, by their id and by their client, and when those that nobody has are given up.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use crate::load::Load;
use crate::seat::{Seat, SessionId};

/// The sessions of the broker.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    by_id: HashMap<SessionId, Arc<Seat>>,
    by_client: HashMap<Arc<str>, SessionId>,
    /// When which session without a connection is given up, in that order.
    expiring: BTreeSet<(Instant, SessionId)>,
    last_id: SessionId,
    load: Load,
}

impl Seats {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Arc<Seat>> {
        self.by_id.get(&id)
    }

    pub(crate) fn of_client(&self, client_id: &str) -> Option<&Arc<Seat>> {
        self.by_id.get(self.by_client.get(client_id)?)
    }

    /// A new session. The client must have none.
    pub(crate) fn add(&mut self, client_id: &Arc<str>, clean: bool) -> Arc<Seat> {
        self.last_id += 1;
        let seat = Arc::new(Seat::new(
            self.last_id,
            Arc::clone(client_id),
            clean,
            self.load.share(),
        ));
        self.by_client.insert(Arc::clone(client_id), seat.id());
        self.by_id.insert(seat.id(), Arc::clone(&seat));
        seat
    }

    /// Removes the session of a client.
    pub(crate) fn remove(&mut self, client_id: &str) -> Option<Arc<Seat>> {
        let seat = self.by_id.remove(&self.by_client.remove(client_id)?)?;
        if let Some(expiry) = seat.expiry() {
            self.expiring.remove(&(expiry, seat.id()));
        }
        Some(seat)
    }

    /// Nobody has the session; it is given up at this time.
    pub(crate) fn keep_until(&mut self, expiry: Instant, id: SessionId) {
        self.expiring.insert((expiry, id));
    }

    /// Somebody has it again.
    pub(crate) fn keep(&mut self, expiry: Instant, id: SessionId) {
        self.expiring.remove(&(expiry, id));
    }

    /// The next session whose time is over.
    pub(crate) fn next_expired(&mut self, now: Instant) -> Option<Arc<Seat>> {
        while let Some(&(expiry, id)) = self.expiring.first()
            && expiry <= now
        {
            self.expiring.pop_first();
            if let Some(seat) = self.by_id.get(&id) {
                return Some(Arc::clone(seat));
            }
        }
        None
    }

    /// How many sessions will be given up.
    #[cfg(test)]
    pub(crate) fn expiring(&self) -> usize {
        self.expiring.len()
    }
}
