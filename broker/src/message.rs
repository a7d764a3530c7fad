//! A message on its way through the broker.

use bytes::Bytes;

use crate::topic::TopicName;

/// How a message is delivered. `QoS` 2 is not spoken, so it cannot be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// At most once (`QoS` 0).
    AtMostOnce,
    /// At least once (`QoS` 1).
    AtLeastOnce,
}

/// What somebody published. Shared by everyone it is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub topic: TopicName,
    /// What, of its own memory: it must not keep a connection's read buffer alive.
    pub payload: Bytes,
    /// How the publisher sent it.
    pub qos: Qos,
    /// Whether it replaces the topic's retained message; with an empty payload it only deletes that.
    pub retain: bool,
}

impl Message {
    /// A message with a copy of the payload.
    pub fn new(topic: TopicName, payload: &[u8], qos: Qos, retain: bool) -> Self {
        Self {
            topic,
            payload: Bytes::copy_from_slice(payload),
            qos,
            retain,
        }
    }

    /// What it counts for where memory is bounded, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.topic.as_str().len() + self.payload.len()
    }
}
