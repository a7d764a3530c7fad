//! Who is to have a message: exact filters in a hash map, filters with wildcards in a trie.
//!
//! Finding the subscribers of a topic costs at most a walk of the trie along the topic's levels, whatever the number of
//! subscriptions; so does adding and removing one.

use std::collections::HashMap;

use crate::message::Qos;
use crate::topic::{TopicFilter, TopicName};

/// All subscriptions; `K` names a session.
#[derive(Debug)]
pub(crate) struct Subscriptions<K> {
    exact: HashMap<TopicFilter, Vec<(K, Qos)>>,
    wildcards: Node<K>,
}

/// One level of the trie: who wants exactly the topic that leads here, and who everything from here on.
#[derive(Debug)]
struct Node<K> {
    levels: HashMap<Box<str>, Box<Node<K>>>,
    any: Option<Box<Node<K>>>,
    here: Vec<(K, Qos)>,
    below: Vec<(K, Qos)>,
}

impl<K: Copy + Eq> Subscriptions<K> {
    /// Adds a subscription, or changes its `QoS`.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, key: K, qos: Qos) {
        if filter.is_exact() {
            upsert(self.exact.entry(filter.clone()).or_default(), key, qos);
            return;
        }
        let mut node = &mut self.wildcards;
        for level in filter.as_str().split('/') {
            node = match level {
                "#" => return upsert(&mut node.below, key, qos),
                "+" => node.any.get_or_insert_default(),
                _ => node.levels.entry(level.into()).or_default(),
            };
        }
        upsert(&mut node.here, key, qos);
    }

    /// Removes a subscription, and what only it needed.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, key: K) {
        if !filter.is_exact() {
            self.wildcards.remove(filter.as_str().split('/'), key);
            return;
        }
        if let Some(subscribers) = self.exact.get_mut(filter) {
            subscribers.retain(|(other, _)| *other != key);
            if subscribers.is_empty() {
                self.exact.remove(filter);
            }
        }
    }

    /// Calls `found` for each subscription that the topic matches; a session with several is found several times.
    pub(crate) fn matching(&self, topic: &TopicName, mut found: impl FnMut(K, Qos)) {
        // A filter without wildcards is equal to the one topic it matches.
        if let Some(subscribers) = self.exact.get(topic.as_str()) {
            for (key, qos) in subscribers {
                found(*key, *qos);
            }
        }
        let mut levels = topic.as_str().split('/');
        if topic.as_str().starts_with('$') {
            // MQTT-4.7.2-1: a wildcard at the first level does not match.
            let first = levels
                .next()
                .and_then(|level| self.wildcards.levels.get(level));
            if let Some(node) = first {
                node.matching(levels, &mut found);
            }
        } else {
            self.wildcards.matching(levels, &mut found);
        }
    }

    /// Whether nothing is kept at all.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

impl<K: Copy + Eq> Node<K> {
    fn remove<'a>(&mut self, mut levels: impl Iterator<Item = &'a str>, key: K) {
        // At most `MAX_TOPIC_LEVELS` deep.
        match levels.next() {
            None => self.here.retain(|(other, _)| *other != key),
            Some("#") => self.below.retain(|(other, _)| *other != key),
            Some("+") => {
                if let Some(node) = &mut self.any {
                    node.remove(levels, key);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some(level) => {
                if let Some(node) = self.levels.get_mut(level) {
                    node.remove(levels, key);
                    if node.is_empty() {
                        self.levels.remove(level);
                    }
                }
            }
        }
    }

    fn matching<'a>(
        &self,
        mut levels: impl Iterator<Item = &'a str> + Clone,
        found: &mut impl FnMut(K, Qos),
    ) {
        for (key, qos) in &self.below {
            found(*key, *qos);
        }
        let Some(level) = levels.next() else {
            for (key, qos) in &self.here {
                found(*key, *qos);
            }
            return;
        };
        if let Some(node) = self.levels.get(level) {
            node.matching(levels.clone(), found);
        }
        if let Some(node) = &self.any {
            node.matching(levels, found);
        }
    }

    fn is_empty(&self) -> bool {
        self.levels.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

impl<K> Default for Subscriptions<K> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcards: Node::default(),
        }
    }
}

impl<K> Default for Node<K> {
    fn default() -> Self {
        Self {
            levels: HashMap::new(),
            any: None,
            here: Vec::new(),
            below: Vec::new(),
        }
    }
}

fn upsert<K: Copy + Eq>(subscribers: &mut Vec<(K, Qos)>, key: K, qos: Qos) {
    match subscribers.iter_mut().find(|(other, _)| *other == key) {
        Some(subscriber) => subscriber.1 = qos,
        None => subscribers.push((key, qos)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::topic::tests::{any_filter, any_name, filter, name};

    fn found(subscriptions: &Subscriptions<u64>, topic: &TopicName) -> Vec<u64> {
        let mut keys = Vec::new();
        subscriptions.matching(topic, |key, _| keys.push(key));
        keys.sort_unstable();
        keys
    }

    #[test]
    fn exact_and_wildcard_filters_are_found_together() {
        let mut subscriptions = Subscriptions::default();
        for (key, text) in ["a/b", "a/+", "a/#", "+/b", "#", "a/b/#", "a", "$SYS/#"]
            .iter()
            .enumerate()
        {
            subscriptions.insert(&filter(text), key as u64, Qos::AtMostOnce);
        }
        assert_eq!(found(&subscriptions, &name("a/b")), [0, 1, 2, 3, 4, 5]);
        assert_eq!(found(&subscriptions, &name("a")), [2, 4, 6]);
        assert_eq!(found(&subscriptions, &name("$SYS/x")), [7]);
    }

    proptest! {
        #[test]
        fn the_trie_finds_what_the_filters_match(
            filters in vec((any_filter(), 0u64..4), 0..20), removed in vec(any::<bool>(), 20), topic in any_name(),
        ) {
            let mut subscriptions = Subscriptions::default();
            for (filter, key) in &filters {
                subscriptions.insert(filter, *key, Qos::AtLeastOnce);
            }
            let mut kept: Vec<_> = filters.clone();
            for (removed, (filter, key)) in removed.iter().zip(&filters) {
                if *removed {
                    subscriptions.remove(filter, *key);
                    kept.retain(|other| other != &(filter.clone(), *key));
                }
            }
            kept.sort();
            kept.dedup();
            let mut expected: Vec<u64> =
                kept.iter().filter(|(filter, _)| filter.matches(&topic)).map(|(_, key)| *key).collect();
            expected.sort_unstable();
            prop_assert_eq!(found(&subscriptions, &topic), expected);
            for (filter, key) in &kept {
                subscriptions.remove(filter, *key);
            }
            prop_assert!(subscriptions.is_empty());
        }
    }
}
