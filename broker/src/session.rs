//! What the broker keeps for one client: what waits for it, and what it has not acknowledged. Pure: no clock, no socket.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::limits::{Limits, QUEUE_SHARE};
use crate::load::LoadShare;
use crate::message::{Message, Qos};
use crate::topic::TopicFilter;

/// The state of a session (MQTT 3.1.1, section 4.1). It outlives its connection when `clean_session` is 0.
#[derive(Debug)]
pub(crate) struct Session {
    queue: VecDeque<Delivery>,
    /// How much of the queue is not from the retained store, in messages and in bytes.
    queued: usize,
    queued_bytes: usize,
    /// The same, and what is in flight.
    load: LoadShare,
    /// In the order in which they were sent; the first `again` of them not yet on this connection.
    inflight: VecDeque<(u16, Delivery)>,
    again: usize,
    last_pkid: u16,
    subscriptions: HashMap<TopicFilter, Qos>,
}

/// A message for one client.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    /// The lower of the publisher's and the subscription's (MQTT 3.1.1, section 3.8.4).
    pub(crate) qos: Qos,
    /// Whether a new subscription found it in the retained store; only then it is sent with the flag (MQTT-3.3.1-8, -9).
    pub(crate) retained: bool,
}

/// A message to be sent now.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) message: Arc<Message>,
    pub(crate) retained: bool,
    /// None for `QoS` 0.
    pub(crate) pkid: Option<u16>,
    /// Whether it may have been sent before.
    pub(crate) dup: bool,
}

/// The queue is full: the client does not read, or not fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

impl Session {
    pub(crate) fn new(load: LoadShare) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            queued_bytes: 0,
            load,
            inflight: VecDeque::new(),
            again: 0,
            last_pkid: 0,
            subscriptions: HashMap::new(),
        }
    }

    /// Puts a message behind those that wait.
    pub(crate) fn enqueue(&mut self, delivery: Delivery, limits: &Limits) -> Result<(), QueueFull> {
        if delivery.retained {
            if self.queue.len() - self.queued >= limits.queue_retained {
                return Err(QueueFull);
            }
        } else {
            let bytes = self.queued_bytes + delivery.message.weight();
            if self.queued >= limits.queue_messages
                || bytes > limits.queue_bytes
                || !self
                    .load
                    .add(delivery.load(), limits.all_queues_bytes, QUEUE_SHARE)
            {
                return Err(QueueFull);
            }
            self.queued += 1;
            self.queued_bytes = bytes;
        }
        self.queue.push_back(delivery);
        Ok(())
    }

    /// What is to be sent next: first what has to be sent again, in its order (MQTT-4.4.0-1, MQTT-4.6.0-1), then what
    /// waits, as far as the window of unacknowledged messages allows.
    pub(crate) fn next(&mut self, limits: &Limits) -> Option<Outgoing> {
        if self.again > 0 {
            let place = self.inflight.len() - self.again;
            self.again -= 1;
            let (pkid, delivery) = self.inflight.get(place)?;
            return Some(delivery.outgoing(Some(*pkid), true));
        }
        // A message behind one that has to wait waits too: they stay in order.
        if self.queue.front()?.qos == Qos::AtLeastOnce && self.inflight.len() >= limits.inflight {
            return None;
        }
        let delivery = self.dequeue()?;
        let pkid = match delivery.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(self.free_pkid()),
        };
        let outgoing = delivery.outgoing(pkid, false);
        if let Some(pkid) = pkid {
            self.inflight.push_back((pkid, delivery));
        } else {
            self.load.remove(delivery.load());
        }
        Some(outgoing)
    }

    /// The client has the message; one that it was not sent is no reason to end anything. Whether it was awaited.
    pub(crate) fn acknowledge(&mut self, pkid: u16) -> bool {
        let sent = self.inflight.len() - self.again;
        let place = self
            .inflight
            .iter()
            .take(sent)
            .position(|(other, _)| *other == pkid);
        let had = place.and_then(|place| self.inflight.remove(place));
        let awaited = had.is_some();
        if let Some((_, delivery)) = had {
            self.load.remove(delivery.load());
        }
        if self.inflight.is_empty() {
            // Most sessions idle; what they needed once is given back.
            self.inflight.shrink_to_fit();
        }
        awaited
    }

    /// A new connection: all that is not acknowledged is to be sent again.
    pub(crate) fn resume(&mut self) {
        self.again = self.inflight.len();
    }

    /// Nobody is connected: what is to be delivered at most once does not wait for somebody to be.
    pub(crate) fn rest(&mut self) {
        let (queued, bytes, load) = (&mut self.queued, &mut self.queued_bytes, &mut self.load);
        self.queue.retain(|delivery| {
            let keep = delivery.qos == Qos::AtLeastOnce;
            if !keep && !delivery.retained {
                *queued -= 1;
                *bytes -= delivery.message.weight();
                load.remove(delivery.load());
            }
            keep
        });
    }

    /// Remembers a subscription; false when there are too many. One of the same filter is replaced (MQTT-3.8.4-3).
    pub(crate) fn subscribe(&mut self, filter: &TopicFilter, qos: Qos, limits: &Limits) -> bool {
        if self.subscriptions.len() >= limits.subscriptions
            && !self.subscriptions.contains_key(filter)
        {
            return false;
        }
        self.subscriptions.insert(filter.clone(), qos);
        true
    }

    /// Forgets a subscription; whether there was one.
    pub(crate) fn unsubscribe(&mut self, filter: &TopicFilter) -> bool {
        self.subscriptions.remove(filter).is_some()
    }

    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = &TopicFilter> {
        self.subscriptions.keys()
    }

    /// How many messages wait, the bytes of those that are not from the retained store, and how many are in flight.
    pub(crate) fn depth(&self) -> (usize, usize, usize) {
        (self.queue.len(), self.queued_bytes, self.inflight.len())
    }

    /// Messages that wait or are not acknowledged.
    #[cfg(test)]
    fn pending(&self) -> usize {
        self.queue.len() + self.inflight.len()
    }

    fn dequeue(&mut self) -> Option<Delivery> {
        let delivery = self.queue.pop_front()?;
        if !delivery.retained {
            self.queued -= 1;
            self.queued_bytes -= delivery.message.weight();
        }
        if self.queue.is_empty() {
            self.queue.shrink_to_fit();
        }
        Some(delivery)
    }

    /// An identifier that is not in use, and not 0 (MQTT-2.3.1-1, MQTT-2.3.1-4). There always is one: far fewer are in
    /// flight than there are.
    fn free_pkid(&mut self) -> u16 {
        loop {
            self.last_pkid = self.last_pkid.checked_add(1).unwrap_or(1);
            if !self
                .inflight
                .iter()
                .any(|(pkid, _)| *pkid == self.last_pkid)
            {
                return self.last_pkid;
            }
        }
    }
}

impl Delivery {
    /// What it adds to what waits for all: the retained store has its own limit.
    fn load(&self) -> usize {
        if self.retained {
            0
        } else {
            self.message.weight()
        }
    }

    fn outgoing(&self, pkid: Option<u16>, dup: bool) -> Outgoing {
        Outgoing {
            message: Arc::clone(&self.message),
            retained: self.retained,
            pkid,
            dup,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::load::Load;
    use crate::topic::tests::{filter, name};

    fn delivery(text: &str, qos: Qos, retained: bool) -> Delivery {
        let message = Message::new(name("t"), text.as_bytes(), qos, retained);
        Delivery {
            message: Arc::new(message),
            qos,
            retained,
        }
    }

    fn limits() -> Limits {
        Limits {
            inflight: 2,
            queue_messages: 5,
            queue_bytes: 40,
            queue_retained: 3,
            subscriptions: 2,
            ..Limits::default()
        }
    }

    fn drain(session: &mut Session) -> Vec<(String, Option<u16>, bool)> {
        std::iter::from_fn(|| session.next(&limits()))
            .map(|out| {
                (
                    String::from_utf8(out.message.payload.to_vec()).unwrap(),
                    out.pkid,
                    out.dup,
                )
            })
            .collect()
    }

    #[test]
    fn what_is_found_in_the_retained_store_has_a_limit_of_its_own() {
        let mut session = Session::new(Load::default().share());
        let found = || delivery("a text that is long", Qos::AtLeastOnce, true);
        for _ in 0..3 {
            session.enqueue(found(), &limits()).unwrap();
        }
        assert_eq!(session.enqueue(found(), &limits()), Err(QueueFull));
        // It takes nothing of the other one, and what has been sent makes room.
        let live = delivery("1", Qos::AtMostOnce, false);
        session.enqueue(live, &limits()).unwrap();
        assert!(session.next(&limits()).is_some());
        session.enqueue(found(), &limits()).unwrap();
    }

    #[test]
    fn the_window_holds_and_order_is_kept() {
        let mut session = Session::new(Load::default().share());
        for (text, qos) in [
            ("1", Qos::AtLeastOnce),
            ("2", Qos::AtLeastOnce),
            ("3", Qos::AtLeastOnce),
            ("4", Qos::AtMostOnce),
        ] {
            session
                .enqueue(delivery(text, qos, false), &limits())
                .unwrap();
        }
        assert_eq!(
            drain(&mut session),
            [("1".into(), Some(1), false), ("2".into(), Some(2), false)]
        );
        session.acknowledge(7);
        session.acknowledge(2);
        assert_eq!(
            drain(&mut session),
            [("3".into(), Some(3), false), ("4".into(), None, false)]
        );
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_first() {
        let mut session = Session::new(Load::default().share());
        for text in ["1", "2", "3"] {
            session
                .enqueue(delivery(text, Qos::AtLeastOnce, false), &limits())
                .unwrap();
        }
        drain(&mut session);
        session.rest();
        session.resume();
        // Not sent on this connection, so this acknowledgement is for nothing.
        session.acknowledge(1);
        assert_eq!(
            drain(&mut session),
            [("1".into(), Some(1), true), ("2".into(), Some(2), true)]
        );
        session.acknowledge(1);
        assert_eq!(drain(&mut session), [("3".into(), Some(3), false)]);
    }

    #[test]
    fn both_queues_are_bounded_and_do_not_push_each_other_out() {
        let mut session = Session::new(Load::default().share());
        for _ in 0..3 {
            session
                .enqueue(delivery("r", Qos::AtMostOnce, true), &limits())
                .unwrap();
        }
        assert_eq!(
            session.enqueue(delivery("r", Qos::AtMostOnce, true), &limits()),
            Err(QueueFull)
        );
        for _ in 0..5 {
            session
                .enqueue(delivery("q", Qos::AtMostOnce, false), &limits())
                .unwrap();
        }
        assert_eq!(
            session.enqueue(delivery("q", Qos::AtMostOnce, false), &limits()),
            Err(QueueFull)
        );
        assert_eq!(drain(&mut session).len(), 8);
        assert_eq!(
            session.enqueue(delivery(&"x".repeat(40), Qos::AtMostOnce, false), &limits()),
            Err(QueueFull)
        );
        session
            .enqueue(delivery(&"x".repeat(39), Qos::AtMostOnce, false), &limits())
            .unwrap();
    }

    #[test]
    fn resting_keeps_only_what_must_arrive() {
        let mut session = Session::new(Load::default().share());
        for retained in [false, true] {
            session
                .enqueue(delivery("0", Qos::AtMostOnce, retained), &limits())
                .unwrap();
            session
                .enqueue(delivery("1", Qos::AtLeastOnce, retained), &limits())
                .unwrap();
        }
        session.rest();
        assert_eq!(
            (session.pending(), session.queued, session.queued_bytes),
            (2, 1, 2)
        );
    }

    #[test]
    fn subscriptions_are_bounded_but_can_be_replaced() {
        let mut session = Session::new(Load::default().share());
        assert!(session.subscribe(&filter("a"), Qos::AtMostOnce, &limits()));
        assert!(session.subscribe(&filter("b"), Qos::AtMostOnce, &limits()));
        assert!(!session.subscribe(&filter("c"), Qos::AtMostOnce, &limits()));
        assert!(session.subscribe(&filter("b"), Qos::AtLeastOnce, &limits()));
        assert!(session.unsubscribe(&filter("a")) && !session.unsubscribe(&filter("a")));
        assert!(session.subscribe(&filter("c"), Qos::AtMostOnce, &limits()));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enqueue(bool, bool),
        Send,
        Acknowledge(u16),
        Reconnect,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (any::<bool>(), any::<bool>()).prop_map(|(qos, retained)| Step::Enqueue(qos, retained)),
            3 => Just(Step::Send),
            2 => (0u16..8).prop_map(Step::Acknowledge),
            1 => Just(Step::Reconnect),
        ]
    }

    proptest! {
        /// Every message of `QoS` 1 is sent at least once, no identifier is used twice at a time, and the counts hold.
        #[test]
        fn nothing_acknowledged_at_the_queue_is_lost(steps in vec(any_step(), 0..200), start in any::<u16>()) {
            let limits = limits();
            let load = Load::default();
            let mut session = Session::new(load.share());
            session.last_pkid = start;
            let (mut accepted, mut seen, mut number) = (Vec::new(), Vec::new(), 0);
            let send = |session: &mut Session, seen: &mut Vec<String>| {
                let out = session.next(&limits)?;
                seen.push(String::from_utf8(out.message.payload.to_vec()).unwrap());
                Some(out.pkid)
            };
            for step in steps {
                match step {
                    Step::Enqueue(once, retained) => {
                        let qos = if once { Qos::AtLeastOnce } else { Qos::AtMostOnce };
                        let text = number.to_string();
                        number += 1;
                        if session.enqueue(delivery(&text, qos, retained), &limits).is_ok() && once {
                            accepted.push(text);
                        }
                    }
                    Step::Send => { send(&mut session, &mut seen); }
                    Step::Acknowledge(offset) => { session.acknowledge(start.wrapping_add(offset)); }
                    Step::Reconnect => { session.rest(); session.resume(); }
                }
                let mut pkids: Vec<_> = session.inflight.iter().map(|(pkid, _)| *pkid).collect();
                pkids.sort_unstable();
                pkids.dedup();
                prop_assert_eq!(pkids.len(), session.inflight.len());
                prop_assert!(!pkids.contains(&0) && session.inflight.len() <= limits.inflight);
                let live: Vec<_> = session.queue.iter().filter(|waiting| !waiting.retained).collect();
                let unanswered = session.inflight.iter().map(|(_, sent)| sent.load()).sum::<usize>();
                prop_assert_eq!(load.get(), session.queued_bytes + unanswered);
                prop_assert_eq!(session.queued, live.len());
                prop_assert_eq!(session.queued_bytes, live.iter().map(|waiting| waiting.message.weight()).sum::<usize>());
            }
            loop {
                let sent = send(&mut session, &mut seen);
                let oldest: Vec<_> = session.inflight.iter().map(|(pkid, _)| *pkid).collect();
                for pkid in oldest { session.acknowledge(pkid); }
                if sent.is_none() && session.pending() == 0 { break; }
            }
            prop_assert_eq!(load.get(), 0, "all that waited has been given back");
            for text in accepted {
                prop_assert!(seen.contains(&text), "{} was lost", text);
            }
        }
    }
}
