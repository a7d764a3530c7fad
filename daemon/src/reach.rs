//! The way to a server, step by step: its name, a TCP connection, a TLS session. For whoever wants to know where it breaks.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::host_port::HostPort;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The name has no address.
    #[error("`{host}` cannot be found")]
    Name {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No TCP connection: a computer, or something on the way, says no.
    #[error("cannot connect to `{place}`")]
    Connect {
        /// Where to.
        place: HostPort,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody says anything.
    #[error("`{place}` does not answer within {} s", limit.as_secs())]
    Silent {
        /// Where to.
        place: HostPort,
        /// How long it was waited for.
        limit: Duration,
    },
    /// One side did not accept the other.
    #[error("no TLS session with `{place}`")]
    Tls {
        /// Where to.
        place: HostPort,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The connection broke in the middle.
    #[error("the TLS session with `{place}` broke off")]
    Broken {
        /// Where to.
        place: HostPort,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ReachError {
    /// What the person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Name { host, .. } => format!(
                "check this computer's DNS and that `realm.toml` is right: `getent hosts {host}` has to find it"
            ),
            Self::Connect { place, .. } => format!(
                "check that it runs, and that TCP port {} is open on the way to it",
                place.port()
            ),
            Self::Silent { place, .. } => format!(
                "a firewall on the way may drop TCP port {}, or what listens there is stuck: see its log",
                place.port()
            ),
            Self::Tls { source, .. } => tls_hint(source).to_owned(),
            Self::Broken { .. } => {
                "something else than the realm's broker may listen there: see its log".to_owned()
            }
        }
    }
}

/// The addresses of a host.
pub async fn resolve(place: &HostPort) -> Result<Vec<SocketAddr>, ReachError> {
    let fail = |source| ReachError::Name {
        host: place.host().to_owned(),
        source,
    };
    match timeout(NAME, lookup_host((place.host(), place.port()))).await {
        Ok(Ok(found)) => Ok(found.take(MOST_ADDRESSES).collect()),
        Ok(Err(source)) => Err(fail(source)),
        Err(_) => Err(fail(io::ErrorKind::TimedOut.into())),
    }
}

/// A TCP connection with the first of these addresses that takes one.
pub async fn connect(place: &HostPort, addresses: &[SocketAddr]) -> Result<TcpStream, ReachError> {
    match timeout(CONNECT, TcpStream::connect(addresses)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(ReachError::Connect {
            place: place.clone(),
            source,
        }),
        Err(_) => Err(ReachError::Silent {
            place: place.clone(),
            limit: CONNECT,
        }),
    }
}

/// A TLS handshake. That it succeeds does not say that the server takes our certificate: in TLS 1.3 it looks at that
/// afterwards.
pub async fn shake_hands(
    place: &HostPort,
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<(), ReachError> {
    let place = place.clone();
    let name = match ServerName::try_from(place.host().to_owned()) {
        Ok(name) => name,
        Err(error) => {
            let source = io::Error::new(io::ErrorKind::InvalidInput, error);
            return Err(ReachError::Broken { place, source });
        }
    };
    match timeout(HANDSHAKE, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(mut session)) => {
            // So that the server's log has nobody who vanished; whether it hears of it matters to nobody.
            let _ = timeout(GOODBYE, session.shutdown()).await;
            Ok(())
        }
        Ok(Err(source)) => {
            let tls = source
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .cloned();
            Err(match tls {
                Some(source) => ReachError::Tls { place, source },
                None => ReachError::Broken { place, source },
            })
        }
        Err(_) => Err(ReachError::Silent {
            place,
            limit: HANDSHAKE,
        }),
    }
}

/// What the person can do about a handshake that failed: who did not accept whom says what is wrong.
pub fn tls_hint(error: &rustls::Error) -> &'static str {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    if let AlertReceived(alert) = error {
        if *alert == AlertDescription::CertificateExpired {
            return "the broker holds this computer's certificate for expired: `tunnel enroll --renew` gets a new one";
        }
        if *alert == AlertDescription::CertificateRevoked {
            return "this computer's certificate was revoked: ask the realm's admin, who can `tunnel signer readmit` it";
        }
        return "the broker does not accept this computer's certificate: certificate and `realm.toml` have to be of one realm; the broker's log says more";
    }
    if let InvalidCertificate(why) = error {
        if matches!(
            why,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ) {
            return "the broker's certificate names another host: ask the realm's admin for the present `realm.toml`";
        }
        if matches!(
            why,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        ) {
            return "check this computer's clock; if it is right, the realm's admin has to renew the broker's certificate";
        }
        return "who answers there is not who `realm.toml` names: ask the realm's admin for the present `realm.toml`";
    }
    "what listens there does not speak TLS as the realm's broker does: check the address in `realm.toml`"
}

/// How long the resolver may take: two of its servers, asked once each, answer within that or not at all.
const NAME: Duration = Duration::from_secs(5);

/// How long a connection may take: two retransmissions of a SYN (1 + 2 s) and the rest.
const CONNECT: Duration = Duration::from_secs(4);

/// How long a handshake may take: two round trips, and whatever a busy server needs.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The most addresses of one host that are tried.
const MOST_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_that_failed_says_whose_matter_it_is() {
        let invalid = |why| rustls::Error::InvalidCertificate(why);
        for (error, expected) in [
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateExpired),
                "--renew",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRevoked),
                "revoked",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                "of one realm",
            ),
            (invalid(CertificateError::UnknownIssuer), "not who"),
            (invalid(CertificateError::Expired), "clock"),
            (invalid(CertificateError::NotValidForName), "another host"),
            (rustls::Error::DecryptError, "does not speak TLS"),
        ] {
            assert!(tls_hint(&error).contains(expected), "{error}");
        }
    }
}
