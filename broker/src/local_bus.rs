//! The bus within one process, over `rumqttd` links.
//!
//! `rumqttd` never removes a topic or filter it has seen, so devices must not be able to name any: there are two topics,
//! one a direction, and the real topic travels inside. The router is a thread that cannot be stopped; it ends with the
//! process.

use std::sync::{Arc, Mutex, PoisonError};

use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::{Config, Notification, RouterConfig};

use crate::bus::{Bus, BusLost, OfferError};
use crate::message::Message;
use crate::topic::{TopicFilter, TopicName};

/// The front's end.
pub(crate) struct LocalBus {
    router: rumqttd::Broker,
    link: Link,
    wanted: Wanted,
}

/// A service's end: its messages go to devices, and it gets those of devices that its filters match.
pub struct ServiceLink {
    link: Link,
    filters: Vec<TopicFilter>,
    wanted: Wanted,
}

/// The bus cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("no link to the bus of the realm's services can be had")]
pub struct LinkUnavailable(#[source] Box<LinkError>);

impl LocalBus {
    /// Starts a bus. Blocks for a moment, until the router thread has answered.
    pub(crate) fn start() -> Result<Self, LinkUnavailable> {
        let router = RouterConfig {
            max_connections: MAX_LINKS,
            max_outgoing_packet_count: MAX_OUTGOING,
            max_segment_size: SEGMENT_SIZE,
            max_segment_count: SEGMENT_COUNT,
            ..RouterConfig::default()
        };
        let router = rumqttd::Broker::new(Config {
            router,
            ..Config::default()
        });
        let link = Link::new(&router, "front", FROM_SERVICES, FROM_DEVICES)?;
        Ok(Self {
            router,
            link,
            wanted: Wanted::default(),
        })
    }

    /// A link for a service. Blocks for a moment. Names are not to be used twice.
    pub(crate) fn service(&self, name: &str) -> Result<ServiceLink, LinkUnavailable> {
        let link = Link::new(&self.router, name, FROM_DEVICES, FROM_SERVICES)?;
        Ok(ServiceLink {
            link,
            filters: Vec::new(),
            wanted: self.wanted.clone(),
        })
    }
}

impl Bus for LocalBus {
    fn offer(&mut self, message: &Message) -> Result<(), OfferError> {
        if self.wanted.matches(&message.topic) {
            self.link.offer(message)
        } else {
            Ok(())
        }
    }

    async fn next(&mut self) -> Result<Message, BusLost> {
        self.link.next().await
    }
}

impl ServiceLink {
    /// From now on messages that the filter matches come too.
    pub fn subscribe(&mut self, filter: TopicFilter) {
        self.wanted.add(filter.clone());
        self.filters.push(filter);
    }

    /// Publishes for devices, without waiting. Services are trusted: no policy is asked.
    pub fn publish(&mut self, message: &Message) -> Result<(), OfferError> {
        self.link.offer(message)
    }

    /// The next message of a device. Cancel-safe.
    pub async fn next(&mut self) -> Result<Message, BusLost> {
        loop {
            let message = self.link.next().await?;
            if self
                .filters
                .iter()
                .any(|filter| filter.matches(&message.topic))
            {
                return Ok(message);
            }
        }
    }
}

/// The filters of all services, so that nothing is handed over that nobody wants.
#[derive(Clone, Default)]
struct Wanted(Arc<Mutex<Vec<TopicFilter>>>);

impl Wanted {
    fn add(&self, filter: TopicFilter) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(filter);
    }

    fn matches(&self, topic: &TopicName) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|filter| filter.matches(topic))
    }
}

/// Both halves of a link to the router.
struct Link {
    tx: LinkTx,
    rx: LinkRx,
    to: &'static str,
    /// The router waits to be told that there is room again. A flag, because telling is an await that may be dropped.
    paused: bool,
}

impl Link {
    fn new(
        router: &rumqttd::Broker,
        name: &str,
        from: &'static str,
        to: &'static str,
    ) -> Result<Self, LinkUnavailable> {
        let fail = |error| LinkUnavailable(Box::new(error));
        let (mut tx, rx) = router.link(name).map_err(fail)?;
        tx.subscribe(from).map_err(fail)?;
        Ok(Self {
            tx,
            rx,
            to,
            paused: false,
        })
    }

    fn offer(&mut self, message: &Message) -> Result<(), OfferError> {
        // The buffer has no bound of its own. The router empties it whenever it is told of a packet.
        if self.tx.buffer().len() >= BUFFER {
            return Err(OfferError::Full);
        }
        match self.tx.try_publish(self.to, message.encode()) {
            // After `TrySend` it is in the buffer, only not announced: both are taken with the next one. A router that is gone is
            // noticed in `next`.
            Ok(_) | Err(LinkError::TrySend(_)) => Ok(()),
            Err(_) => Err(BusLost.into()),
        }
    }

    async fn next(&mut self) -> Result<Message, BusLost> {
        loop {
            if self.paused {
                self.rx.wake().await.map_err(|_| BusLost)?;
                self.paused = false;
            }
            match self.rx.next().await.map_err(|_| BusLost)? {
                Some(Notification::Forward(forward)) => {
                    if let Some(message) = Message::decode(&forward.publish.payload) {
                        return Ok(message);
                    }
                }
                Some(Notification::Unschedule) => self.paused = true,
                Some(_) | None => {}
            }
        }
    }
}

/// The bus's two topics.
const FROM_DEVICES: &str = "devices";
const FROM_SERVICES: &str = "services";

/// Links: the front and a handful of services.
const MAX_LINKS: usize = 16;

/// Messages that the router reads for a link at once; its own links hold 200 notifications.
const MAX_OUTGOING: u64 = 100;

/// The router's memory for each of the two topics: 4 MiB, in pieces that are dropped one by one. A service that is
/// further behind loses messages.
const SEGMENT_SIZE: usize = 1024 * 1024;
const SEGMENT_COUNT: usize = 4;

/// Messages that wait for the router; with 16 links it could not be told of many more (it holds 1,000 events).
const BUFFER: usize = 500;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::message::Qos;
    use crate::topic::tests::{filter, name};

    const PATIENCE: Duration = Duration::from_secs(30);

    fn message(topic: &str, payload: &str) -> Message {
        Message::new(name(topic), payload.as_bytes(), Qos::AtLeastOnce, true)
    }

    #[tokio::test]
    async fn messages_go_both_ways_and_no_further() {
        let mut bus = LocalBus::start().unwrap();
        let mut service = bus.service("test").unwrap();
        service.subscribe(filter("r/+/+/tunnel/presence"));
        bus.offer(&message("r/s/d/tunnel/state", "no")).unwrap();
        bus.offer(&message("r/s/d/tunnel/presence", "yes")).unwrap();
        let received = timeout(PATIENCE, service.next()).await.unwrap().unwrap();
        assert_eq!(received, message("r/s/d/tunnel/presence", "yes"));
        service
            .publish(&message("r/s/d/tunnel/control", "order"))
            .unwrap();
        let received = timeout(PATIENCE, bus.next()).await.unwrap().unwrap();
        assert_eq!(received, message("r/s/d/tunnel/control", "order"));
    }

    #[tokio::test]
    async fn more_than_the_router_holds_at_once_arrives_in_order() {
        let mut bus = LocalBus::start().unwrap();
        let mut service = bus.service("test").unwrap();
        service.subscribe(filter("#"));
        let mut received = 0;
        for number in 0..5_000 {
            while bus.offer(&message("t", &number.to_string())) == Err(OfferError::Full) {
                let next = timeout(PATIENCE, service.next()).await.unwrap().unwrap();
                assert_eq!(next.payload, received.to_string());
                received += 1;
            }
        }
        while received < 5_000 {
            let next = timeout(PATIENCE, service.next()).await.unwrap().unwrap();
            assert_eq!(next.payload, received.to_string());
            received += 1;
        }
    }
}
