//! Why a stream is not opened: what the log says, and what the controller is told.

use russh::ChannelOpenFailure;

use crate::admission::Refusal;
use crate::crowd::Crowded;
use crate::rendezvous::TooManyWaiting;

/// Why a stream was not opened: for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("not allowed: {0}")]
    NotAllowed(Refusal),
    #[error("nobody serves it")]
    Nobody,
    #[error("the device does not open it: {0}")]
    Device(String),
    #[error("no connection of the device opened it in time")]
    Unreachable,
    #[error("all connections of the device are busy")]
    Busy,
    #[error("the device serves enough: {0}")]
    Crowded(Crowded),
    #[error(transparent)]
    TooManyWaiting(TooManyWaiting),
    #[error("the proxy is stopping")]
    Stopping,
}

impl Failure {
    /// What the controller is told. What is not there, and what is not for it, is the same.
    pub(super) fn public(&self) -> ChannelOpenFailure {
        let (code, reason) = match self {
            Self::NotAllowed(_) | Self::Nobody => (
                ChannelOpenFailure::AdministrativelyProhibited,
                "there is no such tunnel, or it is not for you",
            ),
            Self::Device(_) => (
                ChannelOpenFailure::ConnectFailed,
                "the device cannot reach its service",
            ),
            Self::Unreachable => (
                ChannelOpenFailure::ConnectFailed,
                "the device does not answer",
            ),
            Self::Busy | Self::Crowded(_) => (
                ChannelOpenFailure::ResourceShortage,
                "the device has too many streams",
            ),
            Self::TooManyWaiting(_) => (
                ChannelOpenFailure::ResourceShortage,
                "too many of your streams are waiting for their devices",
            ),
            Self::Stopping => (
                ChannelOpenFailure::ResourceShortage,
                "the proxy is stopping",
            ),
        };
        refusal(&code, reason)
    }
}

/// A refusal in words: russh's own reasons have none of ours.
pub(crate) fn refusal(code: &ChannelOpenFailure, reason: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        code: code.code(),
        reason: reason.to_owned(),
    }
}
