//! The way between the front, which meets the devices, and the realm's own services.
//!
//! The front hands over what it has accepted, and never waits: a service that is slow or gone costs no device anything.
//! The in-process form is [`LocalBus`](crate::local_bus::LocalBus); an external cluster, which would join several fronts,
//! is another implementation of [`Bus`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::hub::Hub;
use crate::message::Message;

/// The front's end of a bus.
pub trait Bus: Send {
    /// Hands a device's message to the services, without waiting.
    fn offer(&mut self, message: &Message) -> Result<(), OfferError>;

    /// The next message that a service has published for devices. Must be cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Message, BusLost>> + Send;
}

/// Why a message has not been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// There is no room; later there will be.
    #[error("the bus is full")]
    Full,
    /// There is no bus any more.
    #[error(transparent)]
    Lost(#[from] BusLost),
}

/// The other end of the bus is gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus is lost")]
pub struct BusLost;

/// Carries messages between hub and bus, for as long as there is a bus.
///
/// What the bus cannot take is lost to the services, unless it is retained: then its topic's newest message is handed
/// over as soon as there is room, so that what a service knows becomes true again.
pub(crate) async fn carry(
    mut bus: impl Bus,
    hub: Arc<Hub>,
    mut for_bus: mpsc::Receiver<Arc<Message>>,
) -> BusLost {
    let mut retry = interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let offered = tokio::select! {
            message = for_bus.recv() => match message {
                Some(message) => vec![message],
                None => return BusLost,
            },
            published = bus.next() => match published {
                Ok(message) => {
                    // A full store has been logged, and no device is to blame.
                    hub.publish_for_service(message).ok();
                    continue;
                }
                Err(lost) => return lost,
            },
            _ = retry.tick() => hub.late_for_bus(RETRY_COUNT),
        };
        for message in offered {
            match bus.offer(&message) {
                Ok(()) => {}
                Err(OfferError::Full) => hub.is_late_for_bus(&message),
                Err(OfferError::Lost(lost)) => return lost,
            }
        }
    }
}

/// How often late messages are tried again: a person who looks at the number of devices does not notice it.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How many at once, at most: 100,000 presences are told again within 20 s and leave room for new ones.
const RETRY_COUNT: usize = 500;
