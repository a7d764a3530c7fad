//! Sessions, subscriptions and retained messages, and how a message gets from one to the others.
//!
//! One lock makes all of it one order: what is retained, what a subscriber was sent last and what is on the disk never
//! differ in it. It is held for the few map look-ups of one operation, and never over an await, the disk or the log. What a
//! connection does alone, taking its next message and acknowledging one, needs only the lock of its seat.
//!
//! The order of the locks is hub, then seat or journal; neither of these two is taken with the other held.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::accounts::Accounts;
use crate::attachment::Attachment;
use crate::audit::Audit;
use crate::counters::{Counters, QueueDepths};
use crate::gate::{Accepted, Admitted, Gate, Granted, Refusal};
use crate::journal::{Batch, Journal, Mark};
use crate::limits::{Limits, RECHECK_COUNT};
use crate::message::{Message, Qos};
use crate::retained::{ByTopic, RetainedFull};
use crate::routing::{RefusedWill, Routing, Search};
use crate::seat::{Cut, Seat, SubscribeError};
use crate::seats::Seats;
use crate::store::Kept;
use crate::topic::TopicFilter;

/// The middle of the broker; shared by all connections.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    pub(crate) journal: Journal,
    pub(crate) gate: Gate,
    pub(crate) accounts: Accounts,
    pub(crate) audit: Arc<Audit>,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
}

/// Why a client cannot be given a session now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AttachError {
    #[error("the broker is draining")]
    Draining,
    #[error("there are too many sessions")]
    Full,
    #[error("the policies no longer permit it")]
    Refused(Refusal),
    #[error("its will cannot be kept")]
    Will(#[source] RetainedFull),
}

/// Why a message is not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PublishError {
    #[error(transparent)]
    Cut(#[from] Cut),
    #[error(transparent)]
    Full(#[from] RetainedFull),
}

#[derive(Debug)]
struct State {
    seats: Seats,
    routing: Routing,
    draining: bool,
}

impl Hub {
    /// A hub without sessions, and where its messages for the bus come out. With `kept` it goes on from what an earlier
    /// one left behind, and notes what is to be written for a later one.
    pub(crate) fn new(
        gate: Gate,
        limits: Limits,
        kept: Option<Kept>,
    ) -> (Arc<Self>, mpsc::Receiver<Arc<Message>>) {
        let journal = Journal::new(kept.is_some(), limits.retained_messages + limits.sessions);
        let (routing, for_bus) = Routing::new(&limits, kept.unwrap_or_default());
        let state = State {
            seats: Seats::default(),
            routing,
            draining: false,
        };
        let hub = Self {
            state: Mutex::new(state),
            journal,
            gate,
            accounts: Accounts::default(),
            audit: Arc::default(),
            limits,
            counters: Counters::default(),
        };
        hub.lock().routing.count(&hub);
        (Arc::new(hub), for_bus)
    }

    /// Gives a client its session. If it has a connection, that is closed and its will published, before anything of the
    /// new one happens (MQTT-3.1.4-2, MQTT-3.1.2-8).
    pub(crate) fn attach(
        self: &Arc<Self>,
        client: Admitted,
        clean_session: bool,
        will: Option<Accepted>,
    ) -> Result<Attachment, AttachError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.draining {
            return Err(AttachError::Draining);
        }
        // Once more: there may be other policies since, and who rechecks them comes before this or finds the seat.
        let message = will.as_ref().map(Accepted::message);
        if let Some(refusal) = self.gate.objection(&client, message) {
            return Err(AttachError::Refused(refusal));
        }
        let client_id: Arc<str> = client.peer().subject.client_id().into();
        let old = state.seats.of_client(&client_id).map(Arc::clone);
        let held = state.routing.held();
        if old.is_none()
            && !held.has(&client_id)
            && state.seats.len() + held.len() >= self.limits.sessions
        {
            return Err(AttachError::Full);
        }
        let will = will.map(|will| Arc::new(will.into_message()));
        if will.is_some() && !self.journal.has_room() {
            return Err(AttachError::Will(RetainedFull));
        }
        let displaced = old.as_ref().and_then(|seat| seat.displace());
        let displaced = displaced.and_then(|will| {
            state
                .routing
                .route_will(self, &state.seats, &client_id, &will)
        });
        let held = state
            .routing
            .take_over(self, &state.seats, &client_id, will.as_deref());
        if let Some(will) = &will {
            self.journal.will(&client_id, Some(Arc::clone(will)));
        }
        let resumed = old.filter(|seat| !clean_session && !seat.is_clean());
        let session_present = resumed.is_some();
        let seat = resumed.unwrap_or_else(|| {
            state.remove(&client_id);
            state.seats.add(&client_id, clean_session)
        });
        self.counters.sessions.set(state.seats.len());
        self.counters.connected.increment();
        let (generation, bell, expiry) = seat.occupy(client, will);
        if let Some(expiry) = expiry {
            state.seats.keep(expiry, seat.id());
        }
        drop(guard);
        self.log_wills([displaced, held].into_iter().flatten());
        Ok(Attachment::new(
            Arc::clone(self),
            seat,
            generation,
            bell,
            session_present,
        ))
    }

    /// Takes a connection off its seat, unless another one has it by now. `cleanly` is after a DISCONNECT: the will is
    /// not published (MQTT-3.14.4-3). When the broker drains it is not either, but kept: its clients come back to the next
    /// one and are not lost, or do not and are.
    pub(crate) fn detach(&self, seat: &Seat, generation: u64, cleanly: bool) {
        self.counters.connected.decrement();
        let mut guard = self.lock();
        let state = &mut *guard;
        let expiry = Instant::now() + self.limits.session_expiry;
        let Ok(will) = seat.vacate(generation, expiry) else {
            return;
        };
        if seat.is_clean() {
            state.remove(seat.client_id());
            self.counters.sessions.set(state.seats.len());
        } else {
            state.seats.keep_until(expiry, seat.id());
        }
        let refused = match will {
            None => None,
            Some(_) if cleanly => {
                self.journal.will(seat.client_id(), None);
                None
            }
            Some(will) if state.draining => {
                state.routing.keep_will(seat.client_id(), will);
                None
            }
            Some(will) => state
                .routing
                .route_will(self, &state.seats, seat.client_id(), &will),
        };
        drop(guard);
        self.log_wills(refused);
    }

    /// Publishes a message of the client whose connection has the seat. A connection that has lost it says nothing in its
    /// name any more: under this lock no successor can come between the check and the message. Returned is when it is
    /// durable.
    pub(crate) fn publish(
        &self,
        seat: &Seat,
        generation: u64,
        message: Accepted,
    ) -> Result<Mark, PublishError> {
        let message = Arc::new(message.into_message());
        let mut guard = self.lock();
        let state = &mut *guard;
        seat.standing(generation)?;
        Ok(state.routing.route(self, &state.seats, &message)?)
    }

    /// Publishes a message of one of the realm's own services, which are not asked for permission.
    pub(crate) fn publish_for_service(&self, message: Message) -> Result<(), RetainedFull> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state
            .routing
            .distribute(self, &state.seats, &Arc::new(message))
            .map(drop)
    }

    /// Subscribes, and queues what is retained; how much was looked at for it. Nothing happens for a connection that no
    /// longer has the seat.
    pub(crate) fn subscribe(
        &self,
        seat: &Seat,
        generation: u64,
        granted: &Granted,
        qos: Qos,
    ) -> Result<Search, SubscribeError> {
        let mut state = self.lock();
        seat.subscribe(generation, granted, qos, &self.gate, &self.limits)?;
        Ok(state.routing.subscribe(self, seat, granted.filter(), qos))
    }

    /// Unsubscribes; filters that were not subscribed to are no error.
    pub(crate) fn unsubscribe(&self, seat: &Seat, generation: u64, filters: &[TopicFilter]) {
        let mut state = self.lock();
        for filter in filters {
            if seat.unsubscribe(generation, filter) {
                state.routing.unsubscribe(seat, filter);
            }
        }
    }

    /// Forgets the sessions that were kept for clients which did not come back in time, and what else is over.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut expired = Vec::new();
        let mut state = self.lock();
        while let Some(seat) = state.seats.next_expired(now) {
            state.remove(seat.client_id());
            expired.push(seat);
        }
        self.counters.sessions.set(state.seats.len());
        drop(state);
        for seat in expired {
            tracing::info!(client = &**seat.client_id(), "the session has expired");
        }
        self.accounts.sweep(now);
        self.audit.sweep(now);
    }

    /// Publishes the wills of up to `count` sessions of an earlier broker whose clients have not come back; false when
    /// there are no more of them.
    pub(crate) fn give_up(&self, count: usize) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.draining {
            // The next broker will have them.
            return false;
        }
        let mut refused = Vec::new();
        let more = (0..count).all(|_| state.routing.give_up_one(self, &state.seats, &mut refused));
        drop(guard);
        self.log_wills(refused);
        more
    }

    /// From now on there are no new connections and no wills, and every connection ends.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        state.seats.iter().for_each(|seat| seat.cut(Cut::Drain));
    }

    /// Ends the connections to whose clients there is an objection; their wills are published.
    pub(crate) fn cut_where(&self, objection: impl Fn(&Admitted) -> Option<Cut>) {
        let state = self.lock();
        state
            .seats
            .iter()
            .for_each(|seat| seat.cut_where(&objection));
    }

    /// The gate has other policies: what they do not permit is taken back. Who comes meanwhile is under them already.
    pub(crate) fn recheck(&self) {
        for seats in self.seats().chunks(RECHECK_COUNT) {
            let mut refused = Vec::new();
            let mut state = self.lock();
            for seat in seats {
                let withdrawn = seat.recheck(&self.gate);
                for filter in &withdrawn.filters {
                    state.routing.unsubscribe(seat, filter);
                }
                refused.extend(withdrawn.refused);
            }
            drop(state);
            for (client, refusal) in &refused {
                self.audit.refused(client, refusal);
            }
        }
    }

    /// All that there is to keep, with what waits to be written.
    pub(crate) fn everything(&self) -> Batch {
        let state = self.lock();
        let mut batch = self.journal.take();
        batch.retained = state
            .routing
            .retained()
            .map(|message| ByTopic(Arc::clone(message)))
            .collect();
        let held = state.routing.held().iter();
        let held = held.map(|(client_id, will)| (Arc::clone(client_id), Arc::clone(will)));
        let live = state.seats.iter().filter_map(|seat| {
            let will = seat.will()?;
            Some((Arc::clone(seat.client_id()), will))
        });
        batch.wills = held
            .chain(live)
            .map(|(client_id, will)| (client_id, Some(will)))
            .collect();
        batch.is_everything = true;
        batch
    }

    /// What waits for clients now.
    pub(crate) fn queue_depths(&self) -> QueueDepths {
        let mut depths = QueueDepths::default();
        for seat in self.seats() {
            seat.add_depth(&mut depths);
        }
        depths
    }

    fn log_wills(&self, refused: impl IntoIterator<Item = RefusedWill>) {
        for (client_id, refusal) in refused {
            self.audit.refused_will(&client_id, &refusal);
        }
    }

    fn seats(&self) -> Vec<Arc<Seat>> {
        self.lock().seats.iter().map(Arc::clone).collect()
    }

    /// The newest messages of up to `count` topics whose retained message did not get to the bus; one that was deleted
    /// comes as an empty message.
    pub(crate) fn late_for_bus(&self, count: usize) -> Vec<Arc<Message>> {
        self.lock().routing.take_late(count)
    }

    /// A message did not get to the bus after all.
    pub(crate) fn is_late_for_bus(&self, message: &Message) {
        self.lock().routing.is_late(self, message);
    }

    /// A panic elsewhere must not stop everybody: what the lock protects is consistent after every single step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes a session and all that points to it.
    fn remove(&mut self, client_id: &str) {
        if let Some(seat) = self.seats.remove(client_id) {
            for filter in seat.filters() {
                self.routing.unsubscribe(&seat, &filter);
            }
        }
    }
}

#[cfg(test)]
mod tests;
