//! Giving up all of a controller's leases and streams at a device.

use std::time::Duration;

use protocol::{DeviceId, Label, Order, PlainOrder, PlainState, Presence, Reply, ReplyBody, Topic};
use tokio::time::timeout;

use crate::connection::{Account, BrokerError, Session};
use crate::order::{filters, plain_order};
use crate::tunnel::UNKNOWN_HINT;

/// Why a device could not be told.
#[derive(Debug, thiserror::Error)]
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
    /// There is no such device, or it is of another system: the two look the same.
    #[error("system `{system}` has no device `{device}`")]
    Unknown {
        /// The controller's own system.
        system: Label,
        /// The name that was asked for.
        device: DeviceId,
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
            Self::Unknown { .. } => Some(UNKNOWN_HINT.to_owned()),
            Self::Offline { .. } => None,
            Self::NoAnswer { .. } => {
                Some("`tunnel list` shows which devices are online".to_owned())
            }
        }
    }
}

/// Gives up all leases and streams of this controller at the device, and waits for its answer. Other controllers' go on,
/// but for a device that speaks only the plain grammar, which has one tunnel for all.
pub async fn disconnect(
    account: &Account,
    device: &DeviceId,
    plain: bool,
) -> Result<(), DisconnectError> {
    let broker = |source| DisconnectError::Broker {
        device: device.clone(),
        source,
    };
    let unknown = || DisconnectError::Unknown {
        system: account.id().system().clone(),
        device: device.clone(),
    };
    if !account.id().same_system(device) {
        return Err(unknown());
    }
    let filters = filters(account.id(), device);
    let mut session = Session::begin(account, filters).await.map_err(broker)?;
    if plain {
        let (topic, payload) = plain_order(device, PlainOrder::Disconnect);
        session.publish(&topic, payload);
    } else {
        let controller = account.id().device().clone();
        let topic = Topic::Order {
            device: device.clone(),
            controller,
        };
        session.publish(&topic, Order::Close { lease: None }.encode());
    }
    let mut seen = plain;
    let answer = {
        let waiting = answered(&mut session, device, plain, &mut seen);
        timeout(ANSWER, waiting).await
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) if seen => Err(DisconnectError::NoAnswer {
            device: device.clone(),
        }),
        Err(_) => Err(unknown()),
    };
    session.finish(None).await;
    answer
}

async fn answered(
    session: &mut Session,
    device: &DeviceId,
    plain: bool,
    seen: &mut bool,
) -> Result<(), DisconnectError> {
    loop {
        let message = session.next().await;
        let (topic, payload) = message.map_err(|source| DisconnectError::Broker {
            device: device.clone(),
            source,
        })?;
        match topic.parse() {
            Ok(Topic::Presence(of)) if of == *device && !plain => {
                *seen = true;
                if Presence::decode(&payload).is_ok_and(|presence| !presence.online) {
                    return Err(DisconnectError::Offline {
                        device: device.clone(),
                    });
                }
            }
            Ok(Topic::Reply { device: of, .. }) if of == *device.device() => {
                let closed =
                    |reply: &Reply| reply.lease.is_none() && reply.body == ReplyBody::Closed;
                if Reply::decode(&payload).is_ok_and(|reply| closed(&reply)) {
                    return Ok(());
                }
            }
            Ok(Topic::PlainState(of)) if of == *device && plain => {
                if PlainState::decode(&payload) == Some(PlainState::Disconnected) {
                    return Ok(());
                }
            }
            Ok(
                Topic::Presence(_)
                | Topic::Reply { .. }
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
