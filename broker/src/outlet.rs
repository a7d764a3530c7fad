//! The way from the hub to the bus, which never waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::counters::Counters;
use crate::message::{Message, Qos};
use crate::retained::Retained;
use crate::topic::TopicName;

/// Where messages leave for the realm's own services.
#[derive(Debug)]
pub(crate) struct Outlet {
    to_bus: mpsc::Sender<Arc<Message>>,
    /// The topics of retained messages that did not fit.
    late: BTreeSet<TopicName>,
    most_late: usize,
}

impl Outlet {
    /// An outlet for `queue` messages that remembers `most_late` topics, and where the messages come out.
    pub(crate) fn new(queue: usize, most_late: usize) -> (Self, mpsc::Receiver<Arc<Message>>) {
        let (to_bus, for_bus) = mpsc::channel(queue);
        let outlet = Self {
            to_bus,
            late: BTreeSet::new(),
            most_late,
        };
        (outlet, for_bus)
    }

    pub(crate) fn send(&mut self, message: &Arc<Message>, counters: &Counters) {
        if self.to_bus.try_send(Arc::clone(message)).is_err() {
            self.is_late(message, counters);
        }
    }

    /// A message did not get to the bus.
    pub(crate) fn is_late(&mut self, message: &Message, counters: &Counters) {
        counters.bus_delayed.increment();
        // There are never more than retained topics, and topics just deleted.
        if message.retain && self.late.len() < self.most_late {
            self.late.insert(message.topic.clone());
        }
    }

    /// The newest messages of up to `count` topics whose retained message is late; one that was deleted comes as an empty
    /// message.
    pub(crate) fn take_late(&mut self, count: usize, retained: &Retained) -> Vec<Arc<Message>> {
        let mut late = Vec::new();
        while late.len() < count
            && let Some(topic) = self.late.pop_first()
        {
            let kept = retained.get(topic.as_str()).map(Arc::clone);
            late.push(
                kept.unwrap_or_else(|| Arc::new(Message::new(topic, b"", Qos::AtLeastOnce, true))),
            );
        }
        late
    }
}
