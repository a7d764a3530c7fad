//! Asking a device for a tunnel, and what it answers.

use protocol::{
    DeviceId, Label, LeaseId, Lifetime, Order, PlainOrder, PlainState, Presence, Reply, Topic,
    filter,
};
use tokio::time::{Instant, timeout_at};

use daemon::clock;

use crate::attempt::{Action, Attempt, Event, Failure, Opened};
use crate::connection::{BrokerError, Session};
use crate::turn::HOLD;

/// One lease that is asked for.
pub(crate) struct Asked {
    pub(crate) controller: DeviceId,
    pub(crate) device: DeviceId,
    pub(crate) service: Label,
    pub(crate) lease: LeaseId,
}

/// Why a device did not answer as it should.
pub(crate) enum OrderError {
    Broker(BrokerError),
    Failed(Failure),
}

impl Asked {
    /// What is said first, before anything has been heard: the order, or the plain grammar's.
    pub(crate) fn first(&self, plain: bool) -> (Topic, Vec<u8>) {
        if plain {
            plain_order(&self.device, PlainOrder::Connect)
        } else {
            (self.topic(), self.open().encode())
        }
    }

    /// Orders until the device has answered, or it is clear that it will not. `None` when an order is to be sent again
    /// and others should have their turn before that.
    pub(crate) async fn order(
        &self,
        session: &mut Session,
        attempt: &mut Attempt,
    ) -> Result<Option<Opened>, OrderError> {
        let give_way = Instant::now() + HOLD;
        let mut next = Some(Event::Deadline);
        loop {
            let event = match next.take() {
                Some(event) => event,
                None => match timeout_at(attempt.deadline(), session.next()).await {
                    Err(_) => Event::Deadline,
                    Ok(Err(error)) => return Err(OrderError::Broker(error)),
                    Ok(Ok((topic, payload))) => match self.read(&topic, &payload) {
                        Some(event) => event,
                        None => continue,
                    },
                },
            };
            match attempt.on_event(event, Instant::now()) {
                None => {}
                Some(Action::Order | Action::PlainConnect) if Instant::now() >= give_way => {
                    return Ok(None);
                }
                Some(Action::Order) => session.publish(&self.topic(), self.open().encode()),
                Some(Action::PlainConnect) => {
                    let (topic, payload) = plain_order(&self.device, PlainOrder::Connect);
                    session.publish(&topic, payload);
                }
                Some(Action::Opened(opened)) => return Ok(Some(opened)),
                Some(Action::Fail(failure)) => return Err(OrderError::Failed(failure)),
            }
        }
    }

    /// The message that gives the lease up.
    pub(crate) fn close(&self) -> (Topic, Vec<u8>) {
        (
            self.topic(),
            Order::Close {
                lease: Some(self.lease),
            }
            .encode(),
        )
    }

    fn open(&self) -> Order {
        Order::Open {
            lease: self.lease,
            services: vec![self.service.clone()],
            issued: clock::unix_seconds(),
            lifetime: LIFETIME,
        }
    }

    fn topic(&self) -> Topic {
        Topic::Order {
            device: self.device.clone(),
            controller: self.controller.device().clone(),
        }
    }

    /// What a message says to this attempt, if anything.
    fn read(&self, topic: &str, payload: &[u8]) -> Option<Event> {
        match topic.parse().ok()? {
            Topic::Presence(device) if device == self.device => {
                Presence::decode(payload).ok().map(Event::Presence)
            }
            Topic::PlainState(device) if device == self.device => {
                PlainState::decode(payload).map(Event::PlainState)
            }
            Topic::Reply { device, .. } if device == *self.device.device() => {
                match Reply::decode(payload) {
                    // An answer without a lease is to something that the device could not read: to us, then.
                    Ok(reply) => reply
                        .lease
                        .is_none_or(|id| id == self.lease)
                        .then_some(Event::Reply(reply.body)),
                    Err(error) => {
                        tracing::warn!(%error, "a reply that cannot be read was ignored");
                        None
                    }
                }
            }
            Topic::Presence(_)
            | Topic::PlainState(_)
            | Topic::Reply { .. }
            | Topic::Order { .. }
            | Topic::PlainControl(_) => None,
        }
    }
}

/// What a device's answer to a controller may come on, and what it tells everybody of itself.
pub(crate) fn filters(controller: &DeviceId, device: &DeviceId) -> Vec<String> {
    let presence = Topic::Presence(device.clone());
    let state = Topic::PlainState(device.clone());
    vec![
        filter::replies(controller),
        presence.to_string(),
        state.to_string(),
    ]
}

/// A word of the plain grammar for a device.
pub(crate) fn plain_order(device: &DeviceId, word: PlainOrder) -> (Topic, Vec<u8>) {
    (
        Topic::PlainControl(device.clone()),
        word.to_string().into_bytes(),
    )
}

/// How long a lease lasts: until the stream is open, which then keeps the tunnel by itself.
pub(crate) const LIFETIME: Lifetime = match Lifetime::from_secs(60) {
    Some(lifetime) => lifetime,
    None => panic!("60 s are a lifetime"),
};

#[cfg(test)]
mod tests {
    use protocol::ReplyBody;

    use super::*;

    #[test]
    fn replies_of_others_and_to_others_are_not_ours() {
        let asked = Asked {
            controller: "controller-a.hula.atlas".parse().unwrap(),
            device: "333.hula.atlas".parse().unwrap(),
            service: "ssh".parse().unwrap(),
            lease: LeaseId::from_bytes([1; 16]),
        };
        let topic = "atlas/hula/controller-a/tunnel/reply/333";
        let reply = |lease| {
            Reply {
                lease,
                body: ReplyBody::Closed,
            }
            .encode()
        };
        let ours = reply(Some(asked.lease));
        assert!(asked.read(topic, &ours).is_some());
        assert!(asked.read(topic, &reply(None)).is_some());
        assert!(
            asked
                .read(topic, &reply(Some(LeaseId::from_bytes([2; 16]))))
                .is_none()
        );
        assert!(
            asked
                .read("atlas/hula/controller-a/tunnel/reply/334", &ours)
                .is_none()
        );
        assert!(asked.read(topic, b"{").is_none());
        assert!(asked.read("not/ours", &ours).is_none());
        assert!(
            asked
                .read("atlas/hula/334/tunnel/state", b"disconnected")
                .is_none()
        );
        assert!(
            asked
                .read("atlas/hula/333/tunnel/state", b"disconnected")
                .is_some()
        );
    }
}
