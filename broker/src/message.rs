//! A message on its way through the broker.

use bytes::{Buf, BufMut, Bytes, BytesMut};

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

    /// The message as bytes, for the bus and the store: flags, length of the topic, topic, payload.
    pub(crate) fn encode(&self) -> Bytes {
        let topic = self.topic.as_str();
        let mut bytes = BytesMut::with_capacity(3 + self.weight());
        let qos = match self.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => AT_LEAST_ONCE,
        };
        bytes.put_u8(qos | if self.retain { RETAIN } else { 0 });
        // A topic has at most `MAX_TOPIC` bytes.
        bytes.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
        bytes.put_slice(topic.as_bytes());
        bytes.put_slice(&self.payload);
        bytes.freeze()
    }

    /// None for what [`encode`](Self::encode) has not written.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 3 {
            return None;
        }
        let flags = bytes.get_u8();
        let length = usize::from(bytes.get_u16());
        let topic = TopicName::parse(std::str::from_utf8(bytes.get(..length)?).ok()?).ok()?;
        let qos = match flags & !RETAIN {
            0 => Qos::AtMostOnce,
            AT_LEAST_ONCE => Qos::AtLeastOnce,
            _ => return None,
        };
        Some(Self::new(
            topic,
            bytes.get(length..)?,
            qos,
            flags & RETAIN != 0,
        ))
    }
}

const RETAIN: u8 = 0x01;
const AT_LEAST_ONCE: u8 = 0x02;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic::tests::any_name;

    proptest! {
        #[test]
        fn what_is_encoded_is_what_is_decoded(
            topic in any_name(),
            payload in any::<Vec<u8>>(),
            once in any::<bool>(),
            retain in any::<bool>(),
        ) {
            let qos = if once { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            let message = Message::new(topic, &payload, qos, retain);
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            Message::decode(&bytes);
        }
    }
}
