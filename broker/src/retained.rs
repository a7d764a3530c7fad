//! The retained message of each topic, in memory. What is on the disk is a copy of it.
//!
//! The topics are in order, so that a subscription costs as much as there is below its literal beginning, and not as much
//! as there is in the realm.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::message::Message;
use crate::topic::TopicFilter;

/// The store; bounded in topics and in bytes.
#[derive(Debug)]
pub(crate) struct Retained {
    messages: BTreeSet<ByTopic>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

/// The store is full, and the message has not been kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of retained messages is full")]
pub(crate) struct RetainedFull;

impl Retained {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            messages: BTreeSet::new(),
            bytes: 0,
            max_messages,
            max_bytes,
        }
    }

    /// Takes a message that was published with `retain`: it replaces the one of its topic, or deletes that if empty
    /// (MQTT-3.3.1-5, -10 and -11). Returned is whether that has changed anything.
    pub(crate) fn apply(&mut self, message: &Arc<Message>) -> Result<bool, RetainedFull> {
        let topic = message.topic.as_str();
        let before = self.messages.get(topic).map(|before| &before.0);
        if before.is_some_and(|before| before == message) {
            return Ok(false);
        }
        let old = before.map_or(0, |before| before.weight());
        if message.payload.is_empty() {
            self.bytes -= old;
            return Ok(self.messages.remove(topic));
        }
        let bytes = self.bytes - old + message.weight();
        if bytes > self.max_bytes || (old == 0 && self.messages.len() >= self.max_messages) {
            return Err(RetainedFull);
        }
        self.messages.replace(ByTopic(Arc::clone(message)));
        self.bytes = bytes;
        Ok(true)
    }

    /// Takes back a message that was kept on the disk. It has been promised to be, whatever the limits are now.
    pub(crate) fn restore(&mut self, message: Arc<Message>) {
        self.bytes += message.weight();
        self.messages.insert(ByTopic(message));
    }

    /// The message of a topic.
    pub(crate) fn get(&self, topic: &str) -> Option<&Arc<Message>> {
        self.messages.get(topic).map(|found| &found.0)
    }

    /// The messages that a new subscription has to look at, in the order of their topics: all that it finds, and others.
    pub(crate) fn near<'a>(
        &'a self,
        filter: &'a TopicFilter,
    ) -> impl Iterator<Item = &'a Arc<Message>> {
        let prefix = filter.literal_prefix();
        self.messages
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|entry| &entry.0)
            .take_while(move |message| message.topic.as_str().starts_with(prefix))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.messages.iter().map(|entry| &entry.0)
    }

    /// How many topics have one.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What they weigh.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A message that is found by its topic, without keeping that twice.
#[derive(Debug)]
pub(crate) struct ByTopic(pub(crate) Arc<Message>);

impl Borrow<str> for ByTopic {
    fn borrow(&self) -> &str {
        self.0.topic.as_str()
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic == other.0.topic
    }
}

impl Eq for ByTopic {}

impl PartialOrd for ByTopic {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByTopic {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.topic.as_str().cmp(other.0.topic.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::message::Qos;
    use crate::topic::tests::{any_filter, any_name, filter, name};

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        Arc::new(Message::new(
            name(topic),
            payload.as_bytes(),
            Qos::AtLeastOnce,
            true,
        ))
    }

    #[test]
    fn a_full_store_still_replaces_and_deletes() {
        let mut retained = Retained::new(2, 10);
        retained.apply(&message("a", "1")).unwrap();
        retained.apply(&message("b", "1")).unwrap();
        assert_eq!(retained.apply(&message("c", "1")), Err(RetainedFull));
        retained.apply(&message("a", "1234567")).unwrap();
        assert_eq!(retained.bytes(), 10);
        assert_eq!(retained.apply(&message("b", "12")), Err(RetainedFull));
        assert_eq!(
            retained.get("b").map(|found| found.payload.as_ref()),
            Some(&b"1"[..])
        );
        retained.apply(&message("a", "")).unwrap();
        retained.apply(&message("nobody", "")).unwrap();
        assert_eq!((retained.len(), retained.bytes()), (1, 2));
    }

    #[test]
    fn what_changes_nothing_says_so() {
        let mut retained = Retained::new(2, 10);
        for (text, changes) in [
            ("", false),
            ("1", true),
            ("1", false),
            ("2", true),
            ("", true),
            ("", false),
        ] {
            assert_eq!(retained.apply(&message("a", text)), Ok(changes), "{text:?}");
        }
    }

    #[test]
    fn what_was_kept_stays_when_the_limits_have_shrunk() {
        let mut retained = Retained::new(1, 10);
        for topic in ["a", "b"] {
            retained.restore(message(topic, "12345"));
        }
        assert_eq!((retained.len(), retained.bytes()), (2, 12));
        assert_eq!(retained.apply(&message("c", "1")), Err(RetainedFull));
        retained.apply(&message("a", "")).unwrap();
        retained.apply(&message("b", "1")).unwrap();
        assert_eq!((retained.len(), retained.bytes()), (1, 2));
    }

    #[test]
    fn a_filter_with_the_parent_finds_it() {
        let mut retained = Retained::new(10, 100);
        for topic in ["a", "a!", "a/b", "ab"] {
            retained.apply(&message(topic, "1")).unwrap();
        }
        let filter = filter("a/#");
        let found: Vec<_> = retained
            .near(&filter)
            .filter(|found| filter.matches(&found.topic))
            .map(|found| found.topic.as_str())
            .collect();
        assert_eq!(found, ["a", "a/b"]);
    }

    proptest! {
        #[test]
        fn it_is_a_map_with_a_filter(writes in vec((any_name(), "[x]{0,2}"), 0..30), filter in any_filter()) {
            let mut retained = Retained::new(100, 10_000);
            let mut model = BTreeMap::new();
            for (topic, payload) in &writes {
                retained.apply(&message(topic.as_str(), payload)).unwrap();
                if payload.is_empty() {
                    model.remove(topic.as_str());
                } else {
                    model.insert(topic.as_str(), payload.clone());
                }
            }
            let found: Vec<_> = retained.near(&filter).map(|found| found.topic.clone()).filter(|topic| filter.matches(topic)).collect();
            let expected: Vec<_> = model.keys().map(|topic| name(topic)).filter(|topic| filter.matches(topic)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(retained.len(), model.len());
            let bytes: usize = model.iter().map(|(topic, payload)| topic.len() + payload.len()).sum();
            prop_assert_eq!(retained.bytes(), bytes);
        }
    }
}
