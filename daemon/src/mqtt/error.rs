//! Why a link to the broker is down.

use std::io;

use rumqttc::{ConnectReturnCode, ConnectionError, StateError};

use crate::host_port::HostPort;

/// Why the link is down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No TCP connection: no route, no such host, nobody listens.
    #[error("cannot reach the broker `{broker}`")]
    Unreachable {
        /// The broker.
        broker: HostPort,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long to connect, or the broker stopped answering.
    #[error("the broker `{broker}` does not answer")]
    Silent {
        /// The broker.
        broker: HostPort,
    },
    /// One side did not accept the other's certificate, or the two have no protocol in common.
    #[error("no TLS session with the broker `{broker}`")]
    Tls {
        /// The broker.
        broker: HostPort,
        /// What exactly.
        #[source]
        source: rustls::Error,
    },
    /// The broker does not want this client.
    #[error("the broker `{broker}` refused the connection ({reason})")]
    Refused {
        /// The broker.
        broker: HostPort,
        /// The reason that it gave (MQTT 3.1.1, table 3.1).
        reason: &'static str,
    },
    /// The broker's policy does not allow what this device needs.
    #[error("the broker `{broker}` refused the subscription to `{filter}`")]
    SubscriptionRefused {
        /// The broker.
        broker: HostPort,
        /// The first filter that was refused.
        filter: String,
    },
    /// The session ended: the broker closed it or broke the protocol.
    #[error("the session with the broker `{broker}` ended")]
    Lost {
        /// The broker.
        broker: HostPort,
        /// What the client library saw.
        #[source]
        source: Box<ConnectionError>,
    },
}

impl LinkError {
    pub(super) fn new(broker: &HostPort, error: ConnectionError) -> Self {
        let broker = broker.clone();
        match error {
            ConnectionError::Io(source) | ConnectionError::Tls(rumqttc::TlsError::Io(source)) => {
                from_io(broker, source)
            }
            ConnectionError::Tls(rumqttc::TlsError::TLS(source)) => Self::Tls { broker, source },
            ConnectionError::NetworkTimeout
            | ConnectionError::FlushTimeout
            | ConnectionError::MqttState(StateError::AwaitPingResp) => Self::Silent { broker },
            ConnectionError::ConnectionRefused(code) => Self::Refused {
                broker,
                reason: reason(code),
            },
            other @ (ConnectionError::MqttState(_)
            | ConnectionError::Tls(_)
            | ConnectionError::NotConnAck(_)
            | ConnectionError::RequestsDone) => Self::Lost {
                broker,
                source: Box::new(other),
            },
        }
    }

    /// What the person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreachable { broker, .. } => format!(
                "check the network, and that the realm's broker runs and TCP port {} is open on the way to it",
                broker.port()
            ),
            Self::Silent { .. } => "something answers at that address but not as a broker does; check the network and the broker's log".to_owned(),
            Self::Tls { .. } => {
                "check this computer's clock, and that its certificate and `realm.toml` are of this realm; `tunnel enroll` gets a new certificate".to_owned()
            }
            Self::Refused { .. } | Self::SubscriptionRefused { .. } => {
                "the certificate does not permit this; ask the realm's admin, and see the broker's log".to_owned()
            }
            Self::Lost { .. } => "the broker's log says why".to_owned(),
        }
    }
}

/// rustls wraps its own errors into I/O errors; a broken handshake is not an unreachable broker.
fn from_io(broker: HostPort, source: io::Error) -> LinkError {
    let inner = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(tls) => LinkError::Tls {
            broker,
            source: tls.clone(),
        },
        None => LinkError::Unreachable { broker, source },
    }
}

fn reason(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "accepted",
        ConnectReturnCode::RefusedProtocolVersion => "protocol version",
        ConnectReturnCode::BadClientId => "client id",
        ConnectReturnCode::ServiceUnavailable => "service unavailable",
        ConnectReturnCode::BadUserNamePassword => "user name or password",
        ConnectReturnCode::NotAuthorized => "not authorized",
    }
}
