//! The wills of sessions that a broker before this one left behind, until their devices are back.
//!
//! Nobody has a session right after the start, so nobody is online, whatever was retained. But a fleet that is about to
//! come back is not lost, and nobody should be told that it is. So for a while these wills are not published, and stand
//! in for what is retained: who looks now sees them. Pure: no clock.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::Message;
use crate::topic::TopicName;

/// Wills that are not yet published and not yet taken over.
#[derive(Debug, Default)]
pub(crate) struct HeldWills {
    by_client: HashMap<Arc<str>, Arc<Message>>,
    /// What stands in for the retained message of a topic, and whose will it is.
    stand_in: HashMap<TopicName, Arc<str>>,
}

/// A will whose client is back.
#[derive(Debug)]
pub(crate) enum TakenOver {
    /// The client's new will says what this one would have said.
    Replaced {
        /// What stood in for the retained message until now, and is the truth until the client says something.
        stood_in: Option<Arc<Message>>,
    },
    /// Nobody else would ever say it.
    ToPublish(Arc<Message>),
}

impl HeldWills {
    pub(crate) fn new(wills: Vec<(Box<str>, Message)>) -> Self {
        let mut held = Self::default();
        for (client_id, will) in wills {
            let client_id: Arc<str> = client_id.into();
            if will.retain {
                held.stand_in
                    .insert(will.topic.clone(), Arc::clone(&client_id));
            }
            held.by_client.insert(client_id, Arc::new(will));
        }
        held
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(crate) fn has(&self, client_id: &str) -> bool {
        self.by_client.contains_key(client_id)
    }

    /// What a new subscriber is sent in place of this retained message; nothing, if the will would delete it.
    pub(crate) fn view<'a>(&'a self, retained: &'a Arc<Message>) -> Option<&'a Arc<Message>> {
        let will = self
            .stand_in
            .get(&retained.topic)
            .and_then(|client_id| self.by_client.get(client_id));
        match will {
            Some(will) if will.payload.is_empty() => None,
            Some(will) => Some(will),
            None => Some(retained),
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Message>)> {
        self.by_client.iter()
    }

    /// The client of this will has to go because the broker does.
    pub(crate) fn keep(&mut self, client_id: &Arc<str>, will: Arc<Message>) {
        self.by_client.insert(Arc::clone(client_id), will);
    }

    /// Somebody has retained something newer on this topic.
    pub(crate) fn outdated(&mut self, topic: &TopicName) {
        self.stand_in.remove(topic);
    }

    /// A client is back, with this will.
    pub(crate) fn take_over(
        &mut self,
        client_id: &str,
        new: Option<&Message>,
    ) -> Option<TakenOver> {
        let (old, stood_in) = self.remove(client_id)?;
        let same = new.is_some_and(|new| new.topic == old.topic && new.retain == old.retain);
        Some(if same {
            TakenOver::Replaced {
                stood_in: stood_in.then_some(old),
            }
        } else {
            TakenOver::ToPublish(old)
        })
    }

    /// Any one that is left, to be published because its client has not come back.
    pub(crate) fn give_up_one(&mut self) -> Option<(Arc<str>, Arc<Message>)> {
        let client_id = self.by_client.keys().next().map(Arc::clone)?;
        let (will, _) = self.remove(&client_id)?;
        Some((client_id, will))
    }

    /// Returned too is whether it stood in for what is retained.
    fn remove(&mut self, client_id: &str) -> Option<(Arc<Message>, bool)> {
        let will = self.by_client.remove(client_id)?;
        let stood_in = self
            .stand_in
            .get(&will.topic)
            .is_some_and(|owner| **owner == *client_id);
        if stood_in {
            self.stand_in.remove(&will.topic);
        }
        if self.by_client.is_empty() {
            // What a whole fleet needed for a while is given back.
            *self = Self::default();
        }
        Some((will, stood_in))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Qos;
    use crate::topic::tests::name;

    fn message(topic: &str, payload: &str, retain: bool) -> Message {
        Message::new(name(topic), payload.as_bytes(), Qos::AtLeastOnce, retain)
    }

    fn held() -> HeldWills {
        HeldWills::new(vec![
            ("a".into(), message("t/a", "a is lost", true)),
            ("b".into(), message("t/b", "b is lost", false)),
        ])
    }

    fn seen(held: &HeldWills, topic: &str) -> Vec<u8> {
        let retained = Arc::new(message(topic, "online", true));
        let seen = held.view(&retained);
        seen.map_or_else(Vec::new, |seen| seen.payload.to_vec())
    }

    #[test]
    fn a_will_stands_in_until_its_client_is_back_or_something_newer_is_retained() {
        let mut held = held();
        assert_eq!(seen(&held, "t/a"), b"a is lost");
        // It would not be retained.
        assert_eq!(seen(&held, "t/b"), b"online");
        let new = message("t/a", "again lost", true);
        assert!(matches!(
            held.take_over("a", Some(&new)),
            Some(TakenOver::Replaced { stood_in: Some(old) }) if old.payload == "a is lost"
        ));
        assert_eq!(seen(&held, "t/a"), b"online");
        assert!(held.take_over("a", Some(&new)).is_none());

        let mut held = self::held();
        held.outdated(&name("t/a"));
        assert_eq!(seen(&held, "t/a"), b"online");
        assert!(held.has("a"), "it is published all the same");
        assert!(matches!(
            held.take_over("a", Some(&new)),
            Some(TakenOver::Replaced { stood_in: None })
        ));
    }

    #[test]
    fn a_will_that_would_delete_hides() {
        let held = HeldWills::new(vec![("a".into(), message("t/a", "", true))]);
        assert!(
            held.view(&Arc::new(message("t/a", "online", true)))
                .is_none()
        );
    }

    #[test]
    fn a_client_that_comes_back_without_such_a_will_does_not_take_it_over() {
        for new in [
            None,
            Some(message("t/other", "x", true)),
            Some(message("t/a", "x", false)),
        ] {
            let mut held = held();
            let taken = held.take_over("a", new.as_ref());
            assert!(
                matches!(taken, Some(TakenOver::ToPublish(will)) if will.payload == "a is lost")
            );
            assert_eq!(seen(&held, "t/a"), b"online");
        }
    }

    #[test]
    fn those_who_do_not_come_are_given_up_one_by_one() {
        let mut held = held();
        let mut given_up = Vec::new();
        while let Some((client_id, _)) = held.give_up_one() {
            given_up.push(client_id.to_string());
        }
        given_up.sort();
        assert_eq!((given_up, held.len()), (vec!["a".into(), "b".into()], 0));
        assert_eq!(seen(&held, "t/a"), b"online");
    }
}
