//! Why a connection has ended, and which counter has it.

use std::io;

use rumqttc::mqttbytes;

use crate::counters::Counters;
use crate::packet::PacketError;
use crate::seat::Cut;

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum End {
    #[error("the client has disconnected")]
    Disconnected,
    #[error("the client has closed the connection without a DISCONNECT")]
    Closed,
    #[error("the connection is lost")]
    Lost(#[source] io::Error),
    #[error("the client was silent for too long")]
    Silent,
    #[error("the client takes nothing of what there is for it")]
    Stalled,
    #[error("the client has sent what MQTT 3.1.1 forbids")]
    Malformed(#[from] PacketError),
    #[error("the client wanted what it may not")]
    Refused,
    #[error("the client has asked for too much for too long")]
    Flood,
    #[error("the store could not take what the client wanted to be retained")]
    Unkept,
    #[error("a packet cannot be written")]
    Unwritable(#[source] mqttbytes::Error),
    #[error(transparent)]
    Cut(#[from] Cut),
}

impl End {
    pub(super) fn count(&self, counters: &Counters) {
        match self {
            Self::Silent => counters.silent.increment(),
            Self::Stalled | Self::Cut(Cut::QueueFull) => counters.slow.increment(),
            Self::Malformed(_) => counters.malformed.increment(),
            Self::Cut(Cut::TakenOver) => counters.taken_over.increment(),
            Self::Cut(Cut::Revoked) => counters.revoked.increment(),
            Self::Cut(Cut::Distrusted) => counters.distrusted.increment(),
            Self::Cut(Cut::Forbidden) => counters.forbidden.increment(),
            Self::Flood => counters.floods.increment(),
            Self::Disconnected
            | Self::Closed
            | Self::Lost(_)
            | Self::Refused
            | Self::Unwritable(_)
            | Self::Cut(Cut::Drain) => {}
            Self::Unkept => counters.unkept.increment(),
        }
    }
}
