//! What a controller does while it waits for a tunnel: the decisions, without a socket.

use std::time::Duration;

use protocol::{Forward, PlainState, Presence, RefusalCode, ReplyBody};
use tokio::time::Instant;

/// One attempt to open a tunnel, from the moment when the link to the broker is up.
#[derive(Debug)]
pub(crate) struct Attempt {
    began: Instant,
    next_order: Instant,
    presence: Option<Presence>,
    plain: Plain,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// The device's retained presence, or a new one.
    Presence(Presence),
    /// The device's answer to this attempt's lease.
    Reply(ReplyBody),
    /// The device's state in the plain grammar.
    PlainState(PlainState),
    /// The time that [`Attempt::deadline`] named has come, or the attempt begins.
    Deadline,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send the order, again if need be.
    Order,
    /// Send the plain grammar's `connect`.
    PlainConnect,
    /// The tunnel is open.
    Opened(Opened),
    /// There will be no tunnel.
    Fail(Failure),
}

/// What the device tells of its tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The proxy, `HOST:PORT`; `None` in the plain grammar, where everybody knows it.
    pub proxy: Option<String>,
    /// The ports of the services; in the plain grammar the one port is that of `ssh`.
    pub forwards: Ports,
    /// The host keys of the device's sshd.
    pub host_keys: Vec<String>,
}

/// At which ports the services are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// As the reply names them.
    Named(Vec<Forward>),
    /// The one of the plain grammar.
    Ssh(u16),
}

/// Why there will be no tunnel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No device of that name has ever shown itself.
    Unknown,
    /// The device is offline.
    Offline(Presence),
    /// The device refuses.
    Refused(RefusalCode, String),
    /// The device is online, but does not answer.
    NoAnswer(Duration),
}

/// What is known of a device that has no presence: an original one has none.
#[derive(Debug, PartialEq, Eq)]
enum Plain {
    Untried,
    Asked,
    Alive,
}

impl Attempt {
    /// An attempt that begins now. `plain` skips the wait for a presence.
    pub(crate) fn new(plain: bool, now: Instant) -> Self {
        let plain = if plain { Plain::Alive } else { Plain::Untried };
        Self {
            began: now,
            next_order: now,
            presence: None,
            plain,
        }
    }

    /// An attempt that begins now, with the first order already sent.
    pub(crate) fn ordered(plain: bool, now: Instant) -> Self {
        let again = if plain { PLAIN_AGAIN } else { ORDER_AGAIN };
        Self {
            next_order: now + again,
            ..Self::new(plain, now)
        }
    }

    /// Decides on one event.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Option<Action> {
        match event {
            Event::Presence(presence) => {
                // A late last will of an earlier session says nothing of this one.
                if self
                    .presence
                    .as_ref()
                    .is_some_and(|known| known.epoch > presence.epoch)
                {
                    return None;
                }
                let offline = !presence.online;
                self.presence = Some(presence.clone());
                // An offline presence ends it at once, whatever was sent: nobody is there to read it.
                offline.then_some(Action::Fail(Failure::Offline(presence)))
            }
            Event::Reply(body) => match body {
                ReplyBody::Opened {
                    proxy,
                    forwards,
                    host_keys,
                } => {
                    let forwards = Ports::Named(forwards);
                    Some(Action::Opened(Opened {
                        proxy: Some(proxy),
                        forwards,
                        host_keys,
                    }))
                }
                ReplyBody::Refused { code, text } => {
                    Some(Action::Fail(Failure::Refused(code, text)))
                }
                // The answer to an earlier close: this lease has not been closed.
                ReplyBody::Closed => None,
            },
            Event::PlainState(state) => {
                if self.plain == Plain::Untried {
                    return None;
                }
                self.plain = Plain::Alive;
                match state {
                    PlainState::Connected { port: Some(port) } => {
                        let forwards = Ports::Ssh(port);
                        Some(Action::Opened(Opened {
                            proxy: None,
                            forwards,
                            host_keys: Vec::new(),
                        }))
                    }
                    PlainState::Connected { port: None } | PlainState::Disconnected => None,
                }
            }
            Event::Deadline => self.on_deadline(now),
        }
    }

    /// A new session has begun: what was sent in the one before may have been answered in between.
    pub(crate) fn again(&mut self, now: Instant) {
        self.next_order = now;
    }

    /// When to come back with [`Event::Deadline`] if nothing else happens before.
    pub(crate) fn deadline(&self) -> Instant {
        let silent = match (&self.presence, &self.plain) {
            (Some(_), _) | (None, Plain::Alive) => self.began + ANSWER,
            (None, Plain::Untried) => self.began + PRESENCE,
            (None, Plain::Asked) => self.began + PRESENCE + PLAIN_STATE,
        };
        silent.min(self.next_order)
    }

    fn on_deadline(&mut self, now: Instant) -> Option<Action> {
        let waited = now.saturating_duration_since(self.began);
        let known = self.presence.is_some() || self.plain == Plain::Alive;
        if known && waited >= ANSWER {
            return Some(Action::Fail(Failure::NoAnswer(waited)));
        }
        if !known && self.plain == Plain::Asked && waited >= PRESENCE + PLAIN_STATE {
            return Some(Action::Fail(Failure::Unknown));
        }
        if !known && self.plain == Plain::Untried && waited >= PRESENCE {
            self.plain = Plain::Asked;
            self.next_order = now + PLAIN_AGAIN;
            return Some(Action::PlainConnect);
        }
        if now < self.next_order {
            return None;
        }
        if self.presence.is_none() && self.plain != Plain::Untried {
            self.next_order = now + PLAIN_AGAIN;
            return Some(Action::PlainConnect);
        }
        self.next_order = now + ORDER_AGAIN;
        Some(Action::Order)
    }
}

/// How long to wait for a retained presence. The broker sends it right behind the subscription's answer, with which the
/// attempt begins, so that it comes at once however slow the link is; the rest is for brokers that look it up meanwhile.
pub(crate) const PRESENCE: Duration = Duration::from_millis(400);

/// How long an original device may take to answer with its state. It does so before its tunnel is up, so this is one
/// round trip through the broker: 600 ms with the device behind a geostationary satellite, and 400 ms for the rest. Who
/// is further away is reached with `--plain`, which waits for as long as for any device.
pub(crate) const PLAIN_STATE: Duration = Duration::from_secs(1);

/// How long a device that is there may take to open its tunnel: it dials the proxy and logs in, and tells at once if
/// it cannot. Three times the ten seconds of its own deadline would be no help to anybody.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);

/// How often an order is sent again. Messages of QoS 1 are not lost while a session lasts; this is for a device whose
/// session was just being replaced.
const ORDER_AGAIN: Duration = Duration::from_secs(3);

/// How often the plain `connect` is sent again: as often as the original does.
const PLAIN_AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use protocol::Epoch;

    use super::*;

    fn presence(online: bool) -> Presence {
        Presence {
            online,
            since: 1_795_305_600,
            lost: false,
            version: "0.1.0".into(),
            epoch: Epoch(1),
            proxy: None,
            controllers: Vec::new(),
        }
    }

    /// Runs the attempt until it ends, with nothing but time and these events.
    fn run(plain: bool, mut events: Vec<(u64, Event)>) -> (Vec<Action>, Duration) {
        let began = Instant::now();
        let mut attempt = Attempt::new(plain, began);
        let mut actions: Vec<Action> = attempt
            .on_event(Event::Deadline, began)
            .into_iter()
            .collect();
        let mut now = began;
        loop {
            let next = events
                .first()
                .map(|(at, _)| began + Duration::from_millis(*at));
            let event = if next.is_some_and(|at| at <= attempt.deadline()) {
                now = next.unwrap();
                events.remove(0).1
            } else {
                now = now.max(attempt.deadline());
                Event::Deadline
            };
            actions.extend(attempt.on_event(event, now));
            if matches!(actions.last(), Some(Action::Opened(_) | Action::Fail(_))) {
                return (actions, now - began);
            }
        }
    }

    #[test]
    fn the_order_goes_out_at_once_and_offline_ends_it() {
        let (actions, took) = run(false, vec![(5, Event::Presence(presence(false)))]);
        assert_eq!(
            actions,
            [
                Action::Order,
                Action::Fail(Failure::Offline(presence(false)))
            ]
        );
        assert_eq!(took, Duration::from_millis(5));
    }

    #[test]
    fn a_device_that_does_not_answer_is_asked_again_and_not_for_ever() {
        let (actions, took) = run(false, vec![(5, Event::Presence(presence(true)))]);
        assert_eq!(
            actions
                .iter()
                .filter(|action| **action == Action::Order)
                .count(),
            7
        );
        assert_eq!(
            actions.last(),
            Some(&Action::Fail(Failure::NoAnswer(ANSWER)))
        );
        assert_eq!(took, ANSWER);
    }

    #[test]
    fn a_name_without_presence_is_tried_in_the_plain_grammar_and_then_unknown() {
        let (actions, took) = run(false, vec![]);
        assert_eq!(
            actions,
            [
                Action::Order,
                Action::PlainConnect,
                Action::Fail(Failure::Unknown)
            ]
        );
        let longest = PRESENCE + PLAIN_STATE;
        assert_eq!(took, longest);
        assert!(longest <= Duration::from_millis(1500), "at once");
    }

    #[test]
    fn an_original_device_is_waited_for() {
        let states = vec![
            (1100, Event::PlainState(PlainState::Disconnected)),
            (
                5500,
                Event::PlainState(PlainState::Connected { port: Some(61333) }),
            ),
        ];
        let (actions, _) = run(false, states);
        let opened = Opened {
            proxy: None,
            forwards: Ports::Ssh(61333),
            host_keys: vec![],
        };
        assert_eq!(
            actions,
            [
                Action::Order,
                Action::PlainConnect,
                Action::PlainConnect,
                Action::Opened(opened)
            ]
        );
    }

    #[test]
    fn a_late_last_will_does_not_end_it() {
        let late = Presence {
            epoch: Epoch(0),
            lost: true,
            ..presence(false)
        };
        let events = vec![
            (5, Event::Presence(presence(true))),
            (6, Event::Presence(late)),
        ];
        let (actions, _) = run(false, events);
        assert!(matches!(
            actions.last(),
            Some(Action::Fail(Failure::NoAnswer(_)))
        ));
    }

    #[test]
    fn a_state_that_nobody_asked_for_is_not_taken() {
        let state = Event::PlainState(PlainState::Connected { port: Some(61333) });
        let (actions, _) = run(
            false,
            vec![(5, Event::Presence(presence(true))), (6, state)],
        );
        assert!(matches!(
            actions.last(),
            Some(Action::Fail(Failure::NoAnswer(_)))
        ));
    }

    #[test]
    fn an_order_that_went_out_with_the_subscription_is_not_sent_twice_but_again() {
        let began = Instant::now();
        for (plain, action, again) in [
            (false, Action::Order, ORDER_AGAIN),
            (true, Action::PlainConnect, PLAIN_AGAIN),
        ] {
            let mut attempt = Attempt::ordered(plain, began);
            assert_eq!(attempt.on_event(Event::Deadline, began), None);
            attempt.on_event(Event::Presence(presence(true)), began);
            if plain {
                attempt.presence = None;
            }
            assert_eq!(attempt.deadline(), began + again);
            assert_eq!(
                attempt.on_event(Event::Deadline, began + again),
                Some(action)
            );
        }
    }

    #[test]
    fn plain_can_be_asked_for() {
        let state = Event::PlainState(PlainState::Connected { port: Some(61333) });
        let (actions, took) = run(true, vec![(10, state)]);
        assert_eq!(actions.first(), Some(&Action::PlainConnect));
        assert_eq!(took, Duration::from_millis(10));
    }
}
