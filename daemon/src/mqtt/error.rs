//! Why a link to the broker is down.

use std::io;

use rumqttc::mqttbytes;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};

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
    /// The connection ended: the broker closed it or broke the protocol.
    #[error("the connection to the broker `{broker}` was lost")]
    Lost {
        /// The broker.
        broker: HostPort,
        /// How.
        #[source]
        source: Loss,
    },
    /// The realm names none.
    #[error("there is no broker to connect to")]
    NoBroker,
    /// The link's owner took no event for too long, and a link that waits for it would be silent.
    #[error("the session with the broker `{broker}` was given up: too many messages were waiting")]
    Overloaded {
        /// The broker.
        broker: HostPort,
    },
}

/// How a connection was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Loss {
    /// It was closed by the broker, or by something on the way to it.
    #[error("it was closed at the other end")]
    Closed,
    /// The network broke it.
    #[error(transparent)]
    Network(io::Error),
    /// The broker sent bytes that are no packet.
    #[error("the broker sent what is not MQTT 3.1.1")]
    Malformed(#[source] mqttbytes::Error),
    /// The broker sent a packet that does not belong there.
    #[error("the broker did not keep to MQTT 3.1.1")]
    Protocol(#[source] Box<ConnectionError>),
}

impl LinkError {
    pub(super) fn new(broker: &HostPort, error: ConnectionError) -> Self {
        let broker = broker.clone();
        match error {
            ConnectionError::Io(source) => unconnected(broker, source),
            ConnectionError::Tls(TlsError::Io(source))
            | ConnectionError::MqttState(
                StateError::Io(source) | StateError::Deserialization(mqttbytes::Error::Io(source)),
            ) => connected(broker, source),
            ConnectionError::Tls(TlsError::TLS(source)) => Self::Tls { broker, source },
            ConnectionError::NetworkTimeout
            | ConnectionError::FlushTimeout
            | ConnectionError::MqttState(
                StateError::AwaitPingResp | StateError::CollisionTimeout,
            ) => Self::Silent { broker },
            ConnectionError::ConnectionRefused(code) => Self::Refused {
                broker,
                reason: reason(code),
            },
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::Lost {
                broker,
                source: Loss::Closed,
            },
            ConnectionError::MqttState(StateError::Deserialization(source)) => Self::Lost {
                broker,
                source: Loss::Malformed(source),
            },
            other @ (ConnectionError::MqttState(
                StateError::InvalidState
                | StateError::Unsolicited(_)
                | StateError::WrongPacket
                | StateError::EmptySubscription,
            )
            | ConnectionError::Tls(_)
            | ConnectionError::NotConnAck(_)
            | ConnectionError::RequestsDone) => Self::Lost {
                broker,
                source: Loss::Protocol(Box::new(other)),
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
            Self::Silent { broker } => format!(
                "it is busy or cannot be reached: try again in a minute, and check that TCP port {} is open on the way to it",
                broker.port()
            ),
            Self::Tls { .. } => {
                "check this computer's clock, and that its certificate and `realm.toml` are of this realm; `tunnel enroll` gets a new certificate".to_owned()
            }
            Self::Refused {
                reason: UNAVAILABLE,
                ..
            } => "the broker is busy or stopping; try again in a minute".to_owned(),
            Self::Refused { .. } | Self::SubscriptionRefused { .. } => {
                "the certificate does not permit this; ask the realm's admin, and see the broker's log".to_owned()
            }
            Self::Lost { .. } => {
                "the broker is stopping or busy, or the network broke; try again, and see the broker's log".to_owned()
            }
            Self::NoBroker => "`realm.toml` has to name one under `[broker]`".to_owned(),
            Self::Overloaded { .. } => {
                "this computer is too busy to take what its system sends; try again".to_owned()
            }
        }
    }
}

/// An I/O error before there was a connection.
fn unconnected(broker: HostPort, source: io::Error) -> LinkError {
    if source.kind() == io::ErrorKind::TimedOut {
        return LinkError::Silent { broker };
    }
    LinkError::Unreachable { broker, source }
}

/// An I/O error of a connection. rustls wraps its own errors into I/O errors, and an end without its goodbye is one too.
fn connected(broker: HostPort, source: io::Error) -> LinkError {
    let inner = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = inner {
        let source = tls.clone();
        return LinkError::Tls { broker, source };
    }
    if source.kind() == io::ErrorKind::TimedOut {
        return LinkError::Silent { broker };
    }
    let closed = matches!(
        source.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    );
    let source = if closed {
        Loss::Closed
    } else {
        Loss::Network(source)
    };
    LinkError::Lost { broker, source }
}

fn reason(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "accepted",
        ConnectReturnCode::RefusedProtocolVersion => "protocol version",
        ConnectReturnCode::BadClientId => "client id",
        ConnectReturnCode::ServiceUnavailable => UNAVAILABLE,
        ConnectReturnCode::BadUserNamePassword => "user name or password",
        ConnectReturnCode::NotAuthorized => "not authorized",
    }
}

/// MQTT 3.1.1, table 3.1: the one refusal that time may heal.
const UNAVAILABLE: &str = "service unavailable";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn told(error: ConnectionError) -> String {
        let error = LinkError::new(&"broker.example.org:8883".parse().unwrap(), error);
        let hint = error.hint();
        Report::new(&error, Some(&hint)).to_string()
    }

    fn broken(kind: io::ErrorKind, text: &'static str) -> ConnectionError {
        let source = io::Error::new(kind, text);
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(source)))
    }

    const LOST: &str = "error: the connection to the broker `broker.example.org:8883` was lost\n";
    const AGAIN: &str = "hint: the broker is stopping or busy, or the network broke; try again, and see the broker's log";

    #[test]
    fn a_connection_that_is_closed_reads_the_same_however_the_libraries_see_it() {
        let expected = format!("{LOST}caused by: it was closed at the other end\n{AGAIN}");
        let no_goodbye = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
        for error in [
            broken(io::ErrorKind::UnexpectedEof, no_goodbye),
            broken(
                io::ErrorKind::ConnectionReset,
                "Connection reset by peer (os error 104)",
            ),
            broken(io::ErrorKind::BrokenPipe, "Broken pipe (os error 32)"),
            ConnectionError::MqttState(StateError::ConnectionAborted),
            ConnectionError::MqttState(StateError::Io(io::ErrorKind::ConnectionAborted.into())),
            ConnectionError::Tls(TlsError::Io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "tls handshake eof",
            ))),
        ] {
            assert_eq!(told(error), expected);
        }
    }

    #[test]
    fn a_network_that_breaks_says_how() {
        let error = broken(io::ErrorKind::NetworkUnreachable, "Network is unreachable");
        assert_eq!(
            told(error),
            format!("{LOST}caused by: Network is unreachable\n{AGAIN}")
        );
    }

    #[test]
    fn a_broker_that_is_none_says_so() {
        let error = StateError::Deserialization(mqttbytes::Error::InvalidPacketType(15));
        assert_eq!(
            told(error.into()),
            format!(
                "{LOST}caused by: the broker sent what is not MQTT 3.1.1\ncaused by: Invalid packet type: 15\n{AGAIN}"
            )
        );
    }

    #[test]
    fn a_certificate_that_is_refused_is_no_lost_connection() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let source = io::Error::new(io::ErrorKind::InvalidData, alert);
        let error = ConnectionError::MqttState(StateError::Deserialization(source.into()));
        let told = told(error);
        assert!(
            told.starts_with("error: no TLS session with the broker `broker.example.org:8883`"),
            "{told}"
        );
        assert!(told.contains("hint: check this computer's clock"), "{told}");
    }

    #[test]
    fn silence_is_busy_or_unreachable() {
        let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
        for error in [
            ConnectionError::NetworkTimeout,
            ConnectionError::FlushTimeout,
            ConnectionError::MqttState(StateError::AwaitPingResp),
            ConnectionError::Io(timed_out()),
            ConnectionError::Tls(TlsError::Io(timed_out())),
        ] {
            assert_eq!(
                told(error),
                "error: the broker `broker.example.org:8883` does not answer\nhint: it is busy or cannot be reached: try again in a minute, and check that TCP port 8883 is open on the way to it"
            );
        }
    }

    #[test]
    fn a_busy_broker_is_no_matter_of_permission() {
        let busy = told(ConnectionError::ConnectionRefused(
            ConnectReturnCode::ServiceUnavailable,
        ));
        assert!(
            busy.contains("(service unavailable)") && busy.contains("busy"),
            "{busy}"
        );
        let forbidden = told(ConnectionError::ConnectionRefused(
            ConnectReturnCode::NotAuthorized,
        ));
        assert!(forbidden.contains("does not permit"), "{forbidden}");
    }
}
