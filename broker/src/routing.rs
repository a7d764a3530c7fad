//! From a message to those who are to have it: what is retained, who has subscribed, the bus.
//!
//! All of it is behind the hub's lock; what a session does with a message is its seat's job.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::gate::Refusal;
use crate::held::{HeldWills, TakenOver};
use crate::hub::Hub;
use crate::journal::Mark;
use crate::limits::Limits;
use crate::message::{Message, Qos};
use crate::outlet::Outlet;
use crate::retained::{Retained, RetainedFull};
use crate::seat::{Seat, SessionId};
use crate::seats::Seats;
use crate::session::Delivery;
use crate::store::Kept;
use crate::subscriptions::Subscriptions;
use crate::topic::TopicFilter;

/// Who gets what.
#[derive(Debug)]
pub(crate) struct Routing {
    subscriptions: Subscriptions<SessionId>,
    retained: Retained,
    held: HeldWills,
    outlet: Outlet,
    /// Kept only for its memory.
    found: Vec<(SessionId, Qos)>,
}

/// What a new subscription had to look at among the retained messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    pub(crate) walked: usize,
    pub(crate) found: usize,
}

/// A will that the policies no longer permit, and whose. For the log, when no lock is held.
pub(crate) type RefusedWill = (Arc<str>, Refusal);

impl Routing {
    /// With what was kept, and where messages for the bus come out.
    pub(crate) fn new(limits: &Limits, kept: Kept) -> (Self, mpsc::Receiver<Arc<Message>>) {
        let (outlet, for_bus) = Outlet::new(limits.bus_queue, limits.retained_messages);
        let mut retained = Retained::new(limits.retained_messages, limits.retained_bytes);
        for message in kept.retained {
            retained.restore(Arc::new(message));
        }
        let routing = Self {
            subscriptions: Subscriptions::default(),
            retained,
            held: HeldWills::new(kept.wills),
            outlet,
            found: Vec::new(),
        };
        (routing, for_bus)
    }

    /// The wills of earlier sessions that are not settled yet.
    pub(crate) fn held(&self) -> &HeldWills {
        &self.held
    }

    /// A device's message goes to the bus too. Returned is when it is durable, if it is retained.
    pub(crate) fn route(
        &mut self,
        hub: &Hub,
        seats: &Seats,
        message: &Arc<Message>,
    ) -> Result<Mark, RetainedFull> {
        hub.counters.published.increment();
        let mark = self.distribute(hub, seats, message)?;
        self.outlet.send(message, &hub.counters);
        Ok(mark)
    }

    /// The will of a client, which has none any more. Its message comes before that on the disk too: one that is published
    /// twice says the same, and one that is not would never be. The policies decide once more: they may be others since the
    /// CONNECT, or since the broker that took it.
    pub(crate) fn route_will(
        &mut self,
        hub: &Hub,
        seats: &Seats,
        client_id: &Arc<str>,
        will: &Arc<Message>,
    ) -> Option<RefusedWill> {
        if let Some(refusal) = hub.gate.will_objection(client_id, will) {
            hub.counters.withdrawn_wills.increment();
            hub.journal.will(client_id, None);
            return Some((Arc::clone(client_id), refusal));
        }
        hub.counters.wills.increment();
        if self.route(hub, seats, will).is_err() {
            // It is told all the same, and what is not true any more is not kept.
            self.forget(hub, will);
            self.deliver(hub, seats, will);
            self.outlet.send(will, &hub.counters);
        }
        hub.journal.will(client_id, None);
        None
    }

    /// The message of a service or a device, without a way back to the bus.
    pub(crate) fn distribute(
        &mut self,
        hub: &Hub,
        seats: &Seats,
        message: &Arc<Message>,
    ) -> Result<Mark, RetainedFull> {
        let mark = if message.retain {
            self.retain(hub, message)?
        } else {
            Mark::default()
        };
        self.deliver(hub, seats, message);
        Ok(mark)
    }

    fn deliver(&mut self, hub: &Hub, seats: &Seats, message: &Arc<Message>) {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions
            .matching(&message.topic, |id, qos| found.push((id, qos)));
        // A client with several matching subscriptions gets one copy, of the highest `QoS` among them (MQTT-3.3.5-1).
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup_by_key(|(id, _)| *id);
        for (id, qos) in found.drain(..) {
            if let Some(seat) = seats.get(id) {
                let delivery = Delivery {
                    message: Arc::clone(message),
                    qos: qos.min(message.qos),
                    retained: false,
                };
                seat.deliver(delivery, &hub.gate, &hub.limits, &hub.counters);
            }
        }
        self.found = found;
    }

    /// From now on the session gets what the filter matches, and at once what is retained (MQTT-3.3.1-6).
    pub(crate) fn subscribe(
        &mut self,
        hub: &Hub,
        seat: &Seat,
        filter: &TopicFilter,
        qos: Qos,
    ) -> Search {
        self.subscriptions.insert(filter, seat.id(), qos);
        let mut search = Search::default();
        for message in self.retained.near(filter) {
            search.walked += 1;
            if !filter.matches(&message.topic) {
                continue;
            }
            search.found += 1;
            let Some(message) = self.held.view(message) else {
                continue;
            };
            let delivery = Delivery {
                message: Arc::clone(message),
                qos: message.qos.min(qos),
                retained: true,
            };
            seat.deliver(delivery, &hub.gate, &hub.limits, &hub.counters);
        }
        search
    }

    pub(crate) fn unsubscribe(&mut self, seat: &Seat, filter: &TopicFilter) {
        self.subscriptions.remove(filter, seat.id());
    }

    /// A client of an earlier broker is back, with this will. Its old one is published, unless the new one says the same.
    pub(crate) fn take_over(
        &mut self,
        hub: &Hub,
        seats: &Seats,
        client_id: &Arc<str>,
        new: Option<&Message>,
    ) -> Option<RefusedWill> {
        match self.held.take_over(client_id, new) {
            None => None,
            Some(TakenOver::Replaced { stood_in }) => {
                hub.counters.held_wills.set(self.held.len());
                // Its new will says nothing when the client leaves with a goodbye. Nobody is told: who looks has seen it.
                if let Some(old) = stood_in
                    && self.retain(hub, &old).is_err()
                {
                    self.forget(hub, &old);
                }
                None
            }
            Some(TakenOver::ToPublish(old)) => {
                hub.counters.held_wills.set(self.held.len());
                self.route_will(hub, seats, client_id, &old)
            }
        }
    }

    /// Publishes one held will, whose client has not come back; false when there is none.
    pub(crate) fn give_up_one(
        &mut self,
        hub: &Hub,
        seats: &Seats,
        refused: &mut Vec<RefusedWill>,
    ) -> bool {
        let Some((client_id, will)) = self.held.give_up_one() else {
            return false;
        };
        hub.counters.held_wills.set(self.held.len());
        refused.extend(self.route_will(hub, seats, &client_id, &will));
        true
    }

    /// The client of this will has to go because the broker does; the next one will have it.
    pub(crate) fn keep_will(&mut self, client_id: &Arc<str>, will: Arc<Message>) {
        self.held.keep(client_id, will);
    }

    /// The retained messages.
    pub(crate) fn retained(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.retained.iter()
    }

    /// See [`Outlet::take_late`].
    pub(crate) fn take_late(&mut self, count: usize) -> Vec<Arc<Message>> {
        self.outlet.take_late(count, &self.retained)
    }

    /// See [`Outlet::is_late`].
    pub(crate) fn is_late(&mut self, hub: &Hub, message: &Message) {
        self.outlet.is_late(message, &hub.counters);
    }

    /// Sets the counters of what is kept.
    pub(crate) fn count(&self, hub: &Hub) {
        hub.counters.retained_messages.set(self.retained.len());
        hub.counters.retained_bytes.set(self.retained.bytes());
        hub.counters.held_wills.set(self.held.len());
    }

    /// The subscribers of a topic.
    #[cfg(test)]
    pub(crate) fn subscribers(&self, topic: &crate::topic::TopicName) -> usize {
        let mut found = 0;
        self.subscriptions.matching(topic, |_, _| found += 1);
        found
    }

    fn retain(&mut self, hub: &Hub, message: &Arc<Message>) -> Result<Mark, RetainedFull> {
        let applied = if hub.journal.has_room() {
            self.retained.apply(message)
        } else {
            Err(RetainedFull)
        };
        hub.counters.retained_messages.set(self.retained.len());
        hub.counters.retained_bytes.set(self.retained.bytes());
        // Its publisher is told, and there is a line about that.
        let changed = applied.inspect_err(|_| hub.counters.retained_refused.increment())?;
        self.held.outdated(&message.topic);
        Ok(if changed {
            hub.journal.retain(message)
        } else {
            // The disk has it, or will with what was noted before.
            hub.journal.noted()
        })
    }

    /// Deletes what is retained on the topic of a message that there is no room for.
    fn forget(&mut self, hub: &Hub, message: &Message) {
        let topic = message.topic.clone();
        let nothing = Arc::new(Message::new(topic, b"", message.qos, true));
        if message.retain && self.retained.apply(&nothing) == Ok(true) {
            self.held.outdated(&message.topic);
            hub.journal.retain(&nothing);
            hub.counters.retained_messages.set(self.retained.len());
            hub.counters.retained_bytes.set(self.retained.bytes());
        }
    }
}
