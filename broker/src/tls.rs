//! TLS towards devices: 1.2 and 1.3, and always both certificates.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::{self, Ticketer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::{Pem, PemError};
use crate::trust::Trust;
use crate::verifier::DeviceVerifier;

/// What newcomers meet in TLS, for as long as the files say the same.
pub(crate) struct Front {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) identity: Arc<CertifiedKey>,
    pub(crate) trust: Arc<Trust>,
}

/// Why the broker's certificate, key or authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is missing, unreadable, too large, or a key that others may read.
    #[error("the broker's {what} cannot be loaded")]
    File {
        /// What should be in it.
        what: &'static str,
        /// Why not.
        #[source]
        source: PemError,
    },
    /// What should be PEM is not, or has nothing of what should be in it.
    #[error("the broker's {what} in {place} cannot be read as PEM")]
    Pem {
        /// What should be in it.
        what: &'static str,
        /// Where it should be.
        place: String,
        /// What the parser found.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate of the bundle is no authority's.
    #[error("certificate {place} of the client authorities cannot be used")]
    Authority {
        /// Its place in the bundle, counted from 1.
        place: usize,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// Devices cannot be verified with the bundle.
    #[error("devices cannot be verified with the client authorities")]
    Verifier(#[source] VerifierBuilderError),
    /// The certificate and the key do not belong together, or TLS cannot use them.
    #[error("the broker's certificate and key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// The library cannot do what is asked of it.
    #[error("no TLS protocol can be spoken")]
    Protocol(#[source] rustls::Error),
}

/// The certificate and key that the broker shows, if they belong together.
pub(crate) fn identity(certificates: &Pem, key: &Pem) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = self::certificates(certificates, CERTIFICATE)?;
    let text = key
        .load_private()
        .map_err(|source| TlsError::File { what: KEY, source })?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|source| TlsError::Pem {
        what: KEY,
        place: key.to_string(),
        source,
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(Arc::new)
        .map_err(TlsError::Identity)
}

impl Front {
    /// A front of what the files say. No ticket of an earlier front is good here: the key that they are sealed with is new.
    pub(crate) fn new(identity: Arc<CertifiedKey>, trust: Arc<Trust>) -> Result<Self, TlsError> {
        let verifier = DeviceVerifier::new(Arc::clone(&trust));
        let provider = Arc::new(ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(TlsError::Protocol)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&identity))));
        // `mqtt` is the registered name; clients of AWS IoT Core on port 443 send the other one.
        tls.alpn_protocols = vec![b"mqtt".to_vec(), b"x-amzn-mqtt-ca".to_vec()];
        // A session that resumes shows no certificate: the one in its ticket is verified again (greeting). Nothing of it
        // is kept here.
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.ticketer = Ticketer::new().map_err(TlsError::Protocol)?;
        tls.send_tls13_tickets = 1;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            identity,
            trust,
        })
    }
}

/// Every certificate of a bundle; none at all is an error.
pub(crate) fn certificates(
    pem: &Pem,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = pem
        .load()
        .map_err(|source| TlsError::File { what, source })?;
    let fail = |source| TlsError::Pem {
        what,
        place: pem.to_string(),
        source,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(fail)?;
    if found.is_empty() {
        return Err(fail(rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

const CERTIFICATE: &str = "certificate";
const KEY: &str = "private key";
pub(crate) const CLIENT_AUTHORITIES: &str = "bundle of client authorities";
