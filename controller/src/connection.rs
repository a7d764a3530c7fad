//! A controller's session with the broker.

use daemon::device_dir::{DeviceDir, Membership};
use daemon::identity::Identity;
use daemon::mqtt::{Link, LinkError, LinkEvent, LinkSettings, Message, Publisher};
use daemon::shutdown::Shutdown;
use daemon::tls::{self, TlsError};
use protocol::{DeviceId, Order, Topic};

/// Who the controller is: what its directory holds.
pub struct Account {
    /// The directory.
    pub dir: DeviceDir,
    /// Its configuration.
    pub membership: Membership,
    /// Its keys.
    pub identity: Identity,
}

/// Why there is no session with the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// TLS cannot be set up with what the directory holds.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The link could not be made, or was lost.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The link's task has ended.
    #[error("the session with the broker has been ended")]
    Ended,
}

impl BrokerError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Link(error) => Some(error.hint()),
            Self::Tls(_) | Self::Ended => None,
        }
    }
}

impl Account {
    /// The controller's own id.
    pub fn id(&self) -> &DeviceId {
        &self.membership.id
    }

    /// Begins a session that is subscribed to these filters.
    pub(crate) fn link(
        &self,
        filters: Vec<String>,
        shutdown: &Shutdown,
    ) -> Result<Link, BrokerError> {
        let realm = &self.membership.realm;
        let settings = LinkSettings {
            broker: realm.broker.address.clone(),
            tls: tls::client(realm.broker_ca(), &self.identity)?,
            client_id: realm.client_id_suffix.client_id(self.id()),
            filters,
            will: None,
        };
        Ok(Link::start(settings, shutdown))
    }

    /// Sends an order to a device.
    pub(crate) fn order(&self, publisher: &Publisher, device: &DeviceId, order: &Order) {
        let topic = Topic::Order {
            device: device.clone(),
            controller: self.id().device().clone(),
        };
        publisher.publish(Message {
            topic: topic.to_string(),
            payload: order.encode(),
            retain: false,
        });
    }
}

/// Waits until the link is up. A controller has somebody waiting: it does not try again by itself.
pub(crate) async fn wait_until_up(link: &mut Link) -> Result<(), BrokerError> {
    loop {
        match link.next().await {
            Some(LinkEvent::Up { .. }) => return Ok(()),
            Some(LinkEvent::Down(error)) => return Err(error.into()),
            Some(LinkEvent::Message { .. }) => {}
            None => return Err(BrokerError::Ended),
        }
    }
}
