//! Sessions, subscriptions and retained messages, and how a message gets from one to the others.
//!
//! One lock makes all of it one order: what is retained and what a subscriber was sent last never differ. It is held for
//! the few map look-ups of one operation, and never over an await. What a connection does alone, taking its next message
//! and acknowledging one, needs only the lock of its seat. The order of the locks is hub, then seat.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::attachment::Attachment;
use crate::counters::Counters;
use crate::gate::{Accepted, Admitted, Gate, Granted};
use crate::limits::Limits;
use crate::message::{Message, Qos};
use crate::retained::{Retained, RetainedFull};
use crate::revocation::RevocationList;
use crate::seat::{Cut, Seat, SessionId};
use crate::session::Delivery;
use crate::subscriptions::Subscriptions;
use crate::topic::{TopicFilter, TopicName};

/// The middle of the broker; shared by all connections.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
}

/// Why a client cannot be given a session now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AttachError {
    #[error("the broker is draining")]
    Draining,
    #[error("there are too many sessions")]
    Full,
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
    seats: HashMap<SessionId, Arc<Seat>>,
    by_client: HashMap<Arc<str>, SessionId>,
    subscriptions: Subscriptions<SessionId>,
    retained: Retained,
    /// The way to the bus, and the topics of retained messages that did not fit on it.
    to_bus: mpsc::Sender<Arc<Message>>,
    late_for_bus: BTreeSet<TopicName>,
    /// When which session without a connection is given up, in that order.
    expiring: BTreeSet<(Instant, SessionId)>,
    last_id: SessionId,
    draining: bool,
    /// Kept only for its memory.
    found: Vec<(SessionId, Qos)>,
}

impl Hub {
    /// A hub without sessions, and where its messages for the bus come out.
    pub(crate) fn new(gate: Gate, limits: Limits) -> (Arc<Self>, mpsc::Receiver<Arc<Message>>) {
        let (to_bus, for_bus) = mpsc::channel(limits.bus_queue);
        let state = State {
            seats: HashMap::new(),
            by_client: HashMap::new(),
            subscriptions: Subscriptions::default(),
            retained: Retained::new(limits.retained_messages, limits.retained_bytes),
            to_bus,
            late_for_bus: BTreeSet::new(),
            expiring: BTreeSet::new(),
            last_id: 0,
            draining: false,
            found: Vec::new(),
        };
        let hub = Self {
            state: Mutex::new(state),
            gate,
            limits,
            counters: Counters::default(),
        };
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
        let mut state = self.lock();
        if state.draining {
            return Err(AttachError::Draining);
        }
        let client_id: Arc<str> = client.peer().subject.client_id().into();
        let old = state
            .by_client
            .get(&client_id)
            .and_then(|id| state.seats.get(id))
            .map(Arc::clone);
        if old.is_none() && state.seats.len() >= self.limits.sessions {
            return Err(AttachError::Full);
        }
        if let Some(will) = old.as_ref().and_then(|seat| seat.displace()) {
            self.counters.wills.increment();
            // A full store has been logged, and nobody is left to be told.
            self.route(&mut state, &will).ok();
        }
        let will = will.map(|will| Arc::new(will.into_message()));
        let resumed = old.filter(|seat| !clean_session && !seat.is_clean());
        let session_present = resumed.is_some();
        let seat = resumed.unwrap_or_else(|| {
            state.remove(&client_id);
            state.add(&client_id, clean_session)
        });
        self.counters.sessions.set(state.seats.len());
        self.counters.connected.increment();
        let (generation, bell, expiry) = seat.occupy(client, will);
        if let Some(expiry) = expiry {
            state.expiring.remove(&(expiry, seat.id()));
        }
        Ok(Attachment::new(
            Arc::clone(self),
            seat,
            generation,
            bell,
            session_present,
        ))
    }

    /// Takes a connection off its seat, unless another one has it by now. `cleanly` is after a DISCONNECT: the will is
    /// not published (MQTT-3.14.4-3). When the broker drains it is not either: its clients come back and are not lost.
    pub(crate) fn detach(&self, seat: &Seat, generation: u64, cleanly: bool) {
        self.counters.connected.decrement();
        let mut state = self.lock();
        let expiry = Instant::now() + self.limits.session_expiry;
        let Ok(will) = seat.vacate(generation, expiry) else {
            return;
        };
        if seat.is_clean() {
            state.remove(seat.client_id());
            self.counters.sessions.set(state.seats.len());
        } else {
            state.expiring.insert((expiry, seat.id()));
        }
        if let Some(will) = will
            && !cleanly
            && !state.draining
        {
            self.counters.wills.increment();
            // A full store has been logged, and nobody is left to be told.
            self.route(&mut state, &will).ok();
        }
    }

    /// Publishes a message of the client whose connection has the seat. A connection that has lost it says nothing in its
    /// name any more: under this lock no successor can come between the check and the message.
    pub(crate) fn publish(
        &self,
        seat: &Seat,
        generation: u64,
        message: Accepted,
    ) -> Result<(), PublishError> {
        let message = Arc::new(message.into_message());
        let mut state = self.lock();
        seat.standing(generation)?;
        Ok(self.route(&mut state, &message)?)
    }

    /// Publishes a message of one of the realm's own services, which are not asked for permission.
    pub(crate) fn publish_for_service(&self, message: Message) -> Result<(), RetainedFull> {
        let mut state = self.lock();
        self.distribute(&mut state, &Arc::new(message))
    }

    /// Subscribes, and queues what is retained (MQTT-3.3.1-6). Returns which of them fit. Nothing happens for a
    /// connection that no longer has the seat.
    pub(crate) fn subscribe(
        &self,
        seat: &Seat,
        generation: u64,
        filters: &[(Granted, Qos)],
    ) -> Vec<bool> {
        let mut state = self.lock();
        let state = &mut *state;
        let mut fitted = Vec::with_capacity(filters.len());
        for (granted, qos) in filters {
            let filter = granted.filter();
            let fits = seat.subscribe(generation, filter, *qos, &self.limits);
            fitted.push(fits);
            if fits {
                state.subscriptions.insert(filter, seat.id(), *qos);
                for message in state.retained.matching(filter) {
                    let qos = message.qos.min(*qos);
                    self.deliver(
                        seat,
                        Delivery {
                            message: Arc::clone(message),
                            qos,
                            retained: true,
                        },
                    );
                }
            }
        }
        fitted
    }

    /// Unsubscribes; filters that were not subscribed to are no error.
    pub(crate) fn unsubscribe(&self, seat: &Seat, generation: u64, filters: &[TopicFilter]) {
        let mut state = self.lock();
        for filter in filters {
            if seat.unsubscribe(generation, filter) {
                state.subscriptions.remove(filter, seat.id());
            }
        }
    }

    /// Forgets the sessions that were kept for clients which did not come back in time.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut state = self.lock();
        while let Some(&(expiry, id)) = state.expiring.first()
            && expiry <= now
        {
            state.expiring.pop_first();
            if let Some(seat) = state.seats.get(&id).map(Arc::clone) {
                tracing::info!(client = &**seat.client_id(), "the session has expired");
                state.remove(seat.client_id());
            }
        }
        self.counters.sessions.set(state.seats.len());
    }

    /// From now on there are no new connections and no wills, and every connection ends.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        state.draining = true;
        state.seats.values().for_each(|seat| seat.cut(Cut::Drain));
    }

    /// Ends the connections whose certificates are revoked; their wills are published.
    pub(crate) fn cut_revoked(&self, revoked: &RevocationList) {
        let state = self.lock();
        state
            .seats
            .values()
            .for_each(|seat| seat.cut_if_revoked(revoked));
    }

    /// The newest messages of up to `count` topics whose retained message did not get to the bus; one that was deleted
    /// comes as an empty message.
    pub(crate) fn late_for_bus(&self, count: usize) -> Vec<Arc<Message>> {
        let mut state = self.lock();
        let mut late = Vec::new();
        while late.len() < count
            && let Some(topic) = state.late_for_bus.pop_first()
        {
            let kept = state.retained.get(topic.as_str()).map(Arc::clone);
            late.push(
                kept.unwrap_or_else(|| Arc::new(Message::new(topic, b"", Qos::AtLeastOnce, true))),
            );
        }
        late
    }

    /// A message did not get to the bus after all.
    pub(crate) fn is_late_for_bus(&self, message: &Message) {
        self.late(&mut self.lock(), message);
    }

    fn route(&self, state: &mut State, message: &Arc<Message>) -> Result<(), RetainedFull> {
        self.counters.published.increment();
        self.distribute(state, message)?;
        if state.to_bus.try_send(Arc::clone(message)).is_err() {
            self.late(state, message);
        }
        Ok(())
    }

    fn late(&self, state: &mut State, message: &Message) {
        self.counters.bus_delayed.increment();
        // There are never more than retained topics, and topics just deleted.
        if message.retain && state.late_for_bus.len() < self.limits.retained_messages {
            state.late_for_bus.insert(message.topic.clone());
        }
    }

    fn distribute(&self, state: &mut State, message: &Arc<Message>) -> Result<(), RetainedFull> {
        if message.retain {
            let applied = state.retained.apply(message);
            self.counters.retained_messages.set(state.retained.len());
            self.counters.retained_bytes.set(state.retained.bytes());
            if applied.is_err() {
                self.counters.retained_refused.increment();
                tracing::warn!(topic = %message.topic, "the store of retained messages is full");
            }
            applied?;
        }
        let mut found = std::mem::take(&mut state.found);
        state
            .subscriptions
            .matching(&message.topic, |id, qos| found.push((id, qos)));
        // A client with several matching subscriptions gets one copy, of the highest `QoS` among them (MQTT-3.3.5-1).
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup_by_key(|(id, _)| *id);
        for (id, qos) in found.drain(..) {
            if let Some(seat) = state.seats.get(&id) {
                let delivery = Delivery {
                    message: Arc::clone(message),
                    qos: qos.min(message.qos),
                    retained: false,
                };
                self.deliver(seat, delivery);
            }
        }
        state.found = found;
        Ok(())
    }

    fn deliver(&self, seat: &Seat, delivery: Delivery) {
        seat.deliver(delivery, &self.gate, &self.limits, &self.counters);
    }

    /// A panic elsewhere must not stop everybody: what the lock protects is consistent after every single step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, client_id: &Arc<str>, clean: bool) -> Arc<Seat> {
        self.last_id += 1;
        let seat = Arc::new(Seat::new(self.last_id, Arc::clone(client_id), clean));
        self.by_client.insert(Arc::clone(client_id), seat.id());
        self.seats.insert(seat.id(), Arc::clone(&seat));
        seat
    }

    /// Removes a session and all that points to it.
    fn remove(&mut self, client_id: &str) {
        let Some(seat) = self
            .by_client
            .remove(client_id)
            .and_then(|id| self.seats.remove(&id))
        else {
            return;
        };
        if let Some(expiry) = seat.expiry() {
            self.expiring.remove(&(expiry, seat.id()));
        }
        for filter in seat.filters() {
            self.subscriptions.remove(&filter, seat.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;
    use crate::gate::tests::admitted;
    use crate::topic::tests::{filter, name};

    const DEVICE: &str = "333.hula.atlas";
    const CONTROLLER: &str = "controller-a.hula.atlas";
    const PRESENCE: &str = "atlas/hula/333/tunnel/presence";

    fn hub() -> (Arc<Hub>, mpsc::Receiver<Arc<Message>>) {
        let limits = Limits {
            bus_queue: 2,
            ..Limits::default()
        };
        Hub::new(Gate::new(&"atlas".parse().unwrap()).unwrap(), limits)
    }

    fn attach(hub: &Arc<Hub>, id: &str, clean: bool) -> Attachment {
        hub.attach(admitted(&hub.gate, id), clean, None).unwrap()
    }

    fn presence(hub: &Hub, text: &str) -> Accepted {
        let message = Message::new(name(PRESENCE), text.as_bytes(), Qos::AtLeastOnce, true);
        hub.gate
            .publish(&admitted(&hub.gate, DEVICE), message)
            .unwrap()
    }

    fn watch(hub: &Hub, attachment: &Attachment) {
        let client = admitted(&hub.gate, CONTROLLER);
        let granted = hub.gate.subscribe(&client, filter(PRESENCE)).unwrap();
        assert_eq!(attachment.subscribe(&[(granted, Qos::AtLeastOnce)]), [true]);
    }

    fn next(attachment: &Attachment) -> Option<String> {
        let outgoing = attachment.next().unwrap()?;
        Some(String::from_utf8(outgoing.message.payload.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_session_expires_unless_its_client_is_there() {
        let (hub, _for_bus) = hub();
        let attachment = attach(&hub, CONTROLLER, false);
        watch(&hub, &attachment);
        let later = |hours| Instant::now() + Duration::from_hours(hours);
        hub.sweep(later(2));
        drop(attachment);
        let attachment = attach(&hub, CONTROLLER, false);
        assert!(attachment.session_present());
        hub.sweep(later(2));
        drop(attachment);
        hub.sweep(Instant::now());
        assert_eq!(hub.counters.snapshot().sessions, 1);
        hub.sweep(later(1));
        assert_eq!(hub.counters.snapshot().sessions, 0);
        assert!(!attach(&hub, CONTROLLER, false).session_present());
        assert_eq!(hub.lock().expiring.len(), 1);
        // Nobody is subscribed any more.
        let mut found = 0;
        hub.lock()
            .subscriptions
            .matching(&name(PRESENCE), |_, _| found += 1);
        assert_eq!(found, 0);
    }

    #[tokio::test]
    async fn what_has_lost_its_seat_reaches_nobody() {
        let (hub, _for_bus) = hub();
        let old = attach(&hub, CONTROLLER, false);
        watch(&hub, &old);
        let new = attach(&hub, CONTROLLER, false);
        old.rung().await;
        assert!(matches!(old.next(), Err(Cut::TakenOver)));
        old.unsubscribe(&[filter(PRESENCE)]);
        let device = attach(&hub, DEVICE, true);
        device.publish(presence(&hub, "1")).unwrap();
        new.rung().await;
        let outgoing = new.next().unwrap().unwrap();
        old.acknowledge(outgoing.pkid.unwrap());
        drop((old, device));
        assert_eq!(hub.counters.snapshot().connected, 1);
        assert_eq!(new.standing(), Ok(()));
        drop(new);
        // Not acknowledged by the one who could.
        let again = attach(&hub, CONTROLLER, false);
        assert!(again.next().unwrap().unwrap().dup);
    }

    #[tokio::test]
    async fn what_has_lost_its_seat_says_nothing() {
        for clean in [true, false] {
            let (hub, mut for_bus) = hub();
            let witness = attach(&hub, CONTROLLER, true);
            watch(&hub, &witness);
            // Decided by the gate while the old connection still had the seat.
            let old = attach(&hub, DEVICE, clean);
            let message = presence(&hub, "old");
            let new = attach(&hub, DEVICE, clean);
            assert!(matches!(
                old.publish(message),
                Err(PublishError::Cut(Cut::TakenOver))
            ));
            assert_eq!(next(&witness), None);
            assert!(for_bus.try_recv().is_err());
            assert_eq!(hub.counters.snapshot().retained_messages, 0);
            new.publish(presence(&hub, "new")).unwrap();
            assert_eq!(next(&witness).as_deref(), Some("new"));
        }
    }

    #[tokio::test]
    async fn a_draining_hub_lets_nobody_in_and_everybody_go() {
        let (hub, _for_bus) = hub();
        let attachment = attach(&hub, CONTROLLER, true);
        hub.drain();
        attachment.rung().await;
        assert!(matches!(attachment.next(), Err(Cut::Drain)));
        let refused = hub
            .attach(admitted(&hub.gate, DEVICE), true, None)
            .map(drop);
        assert_eq!(refused, Err(AttachError::Draining));
    }

    #[tokio::test]
    async fn a_panic_with_the_lock_held_stops_nobody() {
        let (hub, _for_bus) = hub();
        let attachment = attach(&hub, CONTROLLER, true);
        watch(&hub, &attachment);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = hub.state.lock();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        let device = attach(&hub, DEVICE, true);
        device.publish(presence(&hub, "1")).unwrap();
        assert_eq!(next(&attachment).as_deref(), Some("1"));
    }

    #[tokio::test]
    async fn what_does_not_fit_on_the_bus_comes_later_and_is_the_newest() {
        let (hub, mut for_bus) = hub();
        let device = attach(&hub, DEVICE, true);
        for text in ["1", "2", "3", "4"] {
            device.publish(presence(&hub, text)).unwrap();
        }
        assert_eq!(for_bus.recv().await.unwrap().payload, "1");
        let late = hub.late_for_bus(10);
        assert_eq!(
            late.iter()
                .map(|message| &message.payload[..])
                .collect::<Vec<_>>(),
            [b"4"]
        );
        assert!(hub.late_for_bus(10).is_empty());
        hub.is_late_for_bus(&late[0]);
        device.publish(presence(&hub, "")).unwrap();
        assert_eq!(hub.late_for_bus(10)[0].payload, "");
    }
}
