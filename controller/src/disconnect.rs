//! Giving up all of a controller's leases and streams at a device.

use std::time::Duration;

use daemon::mqtt::{Link, LinkEvent, Message};
use daemon::shutdown::Shutdown;
use protocol::{
    DeviceId, Order, PlainOrder, PlainState, Presence, Reply, ReplyBody, Topic, filter,
};
use tokio::time::{Instant, timeout_at};

use crate::connection::{Account, BrokerError, wait_until_up};

/// Why a device could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectError {
    /// There is no session with the broker.
    #[error("cannot tell `{device}` to disconnect")]
    Broker {
        /// The device.
        device: DeviceId,
        /// Why.
        #[source]
        source: BrokerError,
    },
    /// The device is offline, so that there is nothing to disconnect.
    #[error("`{device}` is offline: there is nothing to disconnect")]
    Offline {
        /// The device.
        device: DeviceId,
    },
    /// The device did not answer.
    #[error("`{device}` did not answer within {} s", ANSWER.as_secs())]
    NoAnswer {
        /// The device.
        device: DeviceId,
    },
}

impl DisconnectError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Broker { source, .. } => source.hint(),
            Self::Offline { .. } => None,
            Self::NoAnswer { .. } => {
                Some("`tunnel list` shows which devices are online".to_owned())
            }
        }
    }
}

/// Gives up all leases and streams of this controller at the device, and waits for its answer. Other controllers' go on.
pub async fn disconnect(
    account: &Account,
    device: &DeviceId,
    plain: bool,
) -> Result<(), DisconnectError> {
    let broker = |source| DisconnectError::Broker {
        device: device.clone(),
        source,
    };
    let shutdown = Shutdown::new(Duration::ZERO);
    let (presence, state) = (
        Topic::Presence(device.clone()),
        Topic::PlainState(device.clone()),
    );
    let filters = vec![
        filter::replies(account.id()),
        presence.to_string(),
        state.to_string(),
    ];
    let mut link = account.link(filters, &shutdown).map_err(broker)?;
    wait_until_up(&mut link).await.map_err(broker)?;
    if plain {
        let topic = Topic::PlainControl(device.clone()).to_string();
        let payload = PlainOrder::Disconnect.to_string().into_bytes();
        link.publisher().publish(Message {
            topic,
            payload,
            retain: false,
        });
    } else {
        account.order(&link.publisher(), device, &Order::Close { lease: None });
    }
    let answer = answered(&mut link, device, plain).await;
    link.finish(None).await;
    answer
}

async fn answered(link: &mut Link, device: &DeviceId, plain: bool) -> Result<(), DisconnectError> {
    let broker = |source| DisconnectError::Broker {
        device: device.clone(),
        source,
    };
    let deadline = Instant::now() + ANSWER;
    loop {
        let event = timeout_at(deadline, link.next()).await;
        let (topic, payload) = match event {
            Err(_) => {
                return Err(DisconnectError::NoAnswer {
                    device: device.clone(),
                });
            }
            Ok(Some(LinkEvent::Message { topic, payload })) => (topic, payload),
            Ok(Some(LinkEvent::Up { .. })) => continue,
            Ok(Some(LinkEvent::Down(error))) => return Err(broker(error.into())),
            Ok(None) => return Err(broker(BrokerError::Ended)),
        };
        match topic.parse() {
            Ok(Topic::Presence(_)) if !plain => {
                if Presence::decode(&payload).is_ok_and(|presence| !presence.online) {
                    return Err(DisconnectError::Offline {
                        device: device.clone(),
                    });
                }
            }
            Ok(Topic::Reply { .. }) => {
                let closed =
                    |reply: &Reply| reply.lease.is_none() && reply.body == ReplyBody::Closed;
                if Reply::decode(&payload).is_ok_and(|reply| closed(&reply)) {
                    return Ok(());
                }
            }
            Ok(Topic::PlainState(_))
                if plain && PlainState::decode(&payload) == Some(PlainState::Disconnected) =>
            {
                return Ok(());
            }
            Ok(
                Topic::Presence(_)
                | Topic::PlainState(_)
                | Topic::PlainControl(_)
                | Topic::Order { .. },
            )
            | Err(_) => {}
        }
    }
}

/// How long the device may take: one message each way and no work.
const ANSWER: Duration = Duration::from_secs(5);
