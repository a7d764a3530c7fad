//! Why there is no tunnel.

use std::time::Duration;

use daemon::ssh_client::{DialError, RequestError};
use protocol::{DeviceId, Label, RefusalCode};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::connection::BrokerError;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This computer is no controller.
    #[error("`{id}` is not a controller and may not connect to devices")]
    NotAController {
        /// What it is.
        id: DeviceId,
    },
    /// There is no such device, or it is of another system: the two look the same.
    #[error("system `{system}` has no device `{device}`")]
    Unknown {
        /// The controller's own system.
        system: Label,
        /// The name that was asked for.
        device: DeviceId,
    },
    /// The device has no session with the broker.
    #[error("`{device}` is offline {}", offline_since(*.since, *.lost))]
    Offline {
        /// The device.
        device: DeviceId,
        /// Since when, in seconds since 1970; for a lost session, when it had begun.
        since: u64,
        /// Whether its session was lost rather than ended.
        lost: bool,
    },
    /// The device refuses.
    #[error("`{device}` refuses: {text}")]
    Refused {
        /// The device.
        device: DeviceId,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, in the device's words.
        text: String,
    },
    /// The device is online, but does not answer.
    #[error("`{device}` is online, but has not answered for {} s", waited.as_secs())]
    NoAnswer {
        /// The device.
        device: DeviceId,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The device does not forward what was asked for.
    #[error("`{device}` forwards no service `{service}`")]
    NoService {
        /// The device.
        device: DeviceId,
        /// The service.
        service: Label,
    },
    /// Nobody has been told where it is, and it cannot be computed.
    #[error("the port of service `{service}` of `{device}` is not known")]
    NoPort {
        /// The device.
        device: DeviceId,
        /// The service.
        service: Label,
    },
    /// The device names a proxy that the realm does not have.
    #[error("`{device}` names the proxy `{proxy}`, which is not this realm's")]
    ForeignProxy {
        /// The device.
        device: DeviceId,
        /// The proxy that it names.
        proxy: String,
    },
    /// The realm names no proxy.
    #[error("`realm.toml` names no proxy")]
    NoProxy,
    /// A host key of the proxy in the realm file is none.
    #[error("a host key of the proxy in `realm.toml` is no public key")]
    ProxyHostKey {
        /// What the parser found.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
    /// The person does not want it any more.
    #[error("interrupted while connecting to `{device}`")]
    Interrupted {
        /// The device.
        device: DeviceId,
    },
    /// The order could not be sent.
    #[error("cannot ask `{device}` for a tunnel")]
    Broker {
        /// The device.
        device: DeviceId,
        /// Why.
        #[source]
        source: BrokerError,
    },
    /// The proxy could not be reached, or did not let us in.
    #[error("cannot reach `{device}` through the proxy")]
    Proxy {
        /// The device.
        device: DeviceId,
        /// Why.
        #[source]
        source: DialError,
    },
    /// The stream through the tunnel was refused or lost.
    #[error("cannot open a stream to `{device}`")]
    Stream {
        /// The device.
        device: DeviceId,
        /// Why.
        #[source]
        source: RequestError,
    },
}

impl OpenError {
    pub(crate) fn unknown(own: &DeviceId, device: &DeviceId) -> Self {
        Self::Unknown {
            system: own.system().clone(),
            device: device.clone(),
        }
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotAController { .. } => {
                "a controller's name begins with `controller`: enroll this computer under such a name"
            }
            Self::Unknown { .. } => UNKNOWN_HINT,
            Self::Offline { .. } => {
                "it comes back by itself when its agent reaches the broker: check its power and its network"
            }
            Self::Refused { code, .. } => match code {
                RefusalCode::Unsupported => "the older of the two programs has to be upgraded",
                RefusalCode::Stale => "set both clocks: they may differ by five minutes",
                RefusalCode::Busy | RefusalCode::ShuttingDown => "try again in a minute",
                RefusalCode::ProxyUnavailable => {
                    "the device and the proxy do not get together: see the agent's and the proxy's log"
                }
                RefusalCode::UnknownService => "services are set in the device's `device.toml`",
                RefusalCode::Other => return None,
            },
            Self::NoAnswer { .. } => {
                "its link to the broker may just have broken: try again in a minute"
            }
            Self::NoService { .. } => "services are set in the device's `device.toml`",
            Self::NoPort { .. } => {
                "without orders only `ssh` of a device whose name is a number within its system's `[ports]` has a known port: name another with `--port`"
            }
            Self::ForeignProxy { .. } => {
                "one of the two has an old `realm.toml`: ask the realm's admin for the present one"
            }
            Self::NoProxy | Self::ProxyHostKey { .. } => {
                "ask the realm's admin for the present `realm.toml`"
            }
            Self::Broker { source, .. } => return source.hint(),
            Self::Interrupted { .. } => return None,
            Self::Proxy { source, .. } => return Some(source.hint()?.to_owned()),
            Self::Stream { source, .. } => match source {
                RequestError::Refused { .. } => {
                    "the device's own sshd may not be running, or its tunnel was just closed: try again"
                }
                RequestError::TimedOut { .. } | RequestError::Lost { .. } => {
                    "the proxy or the device has just gone away: try again"
                }
            },
        };
        Some(text.to_owned())
    }
}

/// What to do about a device that is not known, whoever asked for it. The realm's own broker keeps presences in memory, so
/// that a device may be missing only because the broker was restarted.
pub(crate) const UNKNOWN_HINT: &str = "`tunnel list` shows your system's devices; one is missing there until its agent has been online since the broker began, and an original's always: `--plain` waits for those";

fn offline_since(since: u64, lost: bool) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    let date = i64::try_from(since)
        .ok()
        .and_then(|since| OffsetDateTime::from_unix_timestamp(since).ok())
        .and_then(|date| date.format(format).ok());
    match (date, lost) {
        (Some(date), false) => format!("since {date}"),
        (Some(date), true) => format!("since its link was lost; it had come online at {date}"),
        (None, _) => "since a time that it does not know".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_says_since_when() {
        let device: DeviceId = "333.hula.atlas".parse().unwrap();
        let text = |lost| {
            OpenError::Offline {
                device: device.clone(),
                since: 1_795_305_600,
                lost,
            }
            .to_string()
        };
        assert_eq!(
            text(false),
            "`333.hula.atlas` is offline since 2026-11-22 00:00:00 UTC"
        );
        assert_eq!(
            text(true),
            "`333.hula.atlas` is offline since its link was lost; it had come online at 2026-11-22 00:00:00 UTC"
        );
    }
}
