//! A connection's hold on its session.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::gate::{Accepted, Granted};
use crate::hub::{Hub, PublishError};
use crate::journal::Mark;
use crate::message::Qos;
use crate::routing::Search;
use crate::seat::{Cut, Seat, SubscribeError};
use crate::session::Outgoing;
use crate::topic::TopicFilter;

/// What a connection can do with its session. When it is dropped, however that comes about, the session is left and the
/// will published; after [`Self::disconnect`] without the will.
#[derive(Debug)]
pub(crate) struct Attachment {
    hub: Arc<Hub>,
    seat: Arc<Seat>,
    generation: u64,
    bell: Arc<Notify>,
    session_present: bool,
    cleanly: bool,
}

impl Attachment {
    pub(crate) fn new(
        hub: Arc<Hub>,
        seat: Arc<Seat>,
        generation: u64,
        bell: Arc<Notify>,
        session_present: bool,
    ) -> Self {
        Self {
            hub,
            seat,
            generation,
            bell,
            session_present,
            cleanly: false,
        }
    }

    /// Whether the client had a session before (MQTT-3.2.2-2, MQTT-3.2.2-3).
    pub(crate) fn session_present(&self) -> bool {
        self.session_present
    }

    /// Completes when [`Self::next`] may have something new to say. Cancel-safe.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// The next message for the client, or why its connection has to end.
    pub(crate) fn next(&self) -> Result<Option<Outgoing>, Cut> {
        self.seat.next(self.generation, &self.hub.limits)
    }

    /// The connection goes on, or why it has to end.
    pub(crate) fn standing(&self) -> Result<(), Cut> {
        self.seat.standing(self.generation)
    }

    /// Whether the acknowledgement was awaited.
    pub(crate) fn acknowledge(&self, pkid: u16) -> bool {
        self.seat.acknowledge(self.generation, pkid)
    }

    /// Publishes a message of the client, unless another connection speaks for it by now. Returned is when it is durable.
    pub(crate) fn publish(&self, message: Accepted) -> Result<Mark, PublishError> {
        self.hub.publish(&self.seat, self.generation, message)
    }

    /// Up to where everything is durable.
    pub(crate) fn durable(&self) -> Mark {
        self.hub.journal.durable()
    }

    /// Completes when everything up to the mark is durable. Cancel-safe.
    pub(crate) async fn until_durable(&self, mark: Mark) {
        self.hub.journal.until_durable(mark).await;
    }

    /// Subscribes; how much was looked at for it.
    pub(crate) fn subscribe(&self, granted: &Granted, qos: Qos) -> Result<Search, SubscribeError> {
        self.hub
            .subscribe(&self.seat, self.generation, granted, qos)
    }

    pub(crate) fn unsubscribe(&self, filters: &[TopicFilter]) {
        self.hub.unsubscribe(&self.seat, self.generation, filters);
    }

    /// The client has said goodbye.
    pub(crate) fn disconnect(mut self) {
        self.cleanly = true;
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.hub.detach(&self.seat, self.generation, self.cleanly);
    }
}
