//! TLS towards devices: 1.2 and 1.3, and always both certificates.

use std::sync::Arc;

use daemon::files::FileError;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{BrokerConfig, Pem};
use crate::revocation::RevocationList;
use crate::verifier::RevocationVerifier;

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
        source: FileError,
    },
    /// What should be PEM is not, or has nothing of what should be in it.
    #[error("the broker's {what} cannot be read as PEM")]
    Pem {
        /// What should be in it.
        what: &'static str,
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
}

/// The authorities that sign for devices.
pub(crate) fn authorities(config: &BrokerConfig) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(&config.client_authorities, CLIENT_AUTHORITIES)
}

/// The settings of every TLS session with a device.
pub(crate) fn server(
    config: &BrokerConfig,
    authorities: Vec<CertificateDer<'static>>,
    revoked: Arc<RevocationList>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    for (place, authority) in (1..).zip(authorities) {
        roots
            .add(authority)
            .map_err(|source| TlsError::Authority { place, source })?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(TlsError::Verifier)?;
    let verifier = Arc::new(RevocationVerifier::new(verifier, revoked));
    let chain = certificates(&config.certificates, CERTIFICATE)?;
    let key = config
        .key
        .load_private()
        .map_err(|source| TlsError::File { what: KEY, source })?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|source| TlsError::Pem { what: KEY, source })?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Identity)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(TlsError::Identity)?;
    // `mqtt` is the registered name; clients of AWS IoT Core on port 443 send the other one.
    tls.alpn_protocols = vec![b"mqtt".to_vec(), b"x-amzn-mqtt-ca".to_vec()];
    // A session that resumes shows no certificate, so it could outlive a revocation; and devices connect once a month.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(Arc::new(tls))
}

/// Every certificate of a bundle; none at all is an error.
fn certificates(pem: &Pem, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = pem
        .load()
        .map_err(|source| TlsError::File { what, source })?;
    let fail = |source| TlsError::Pem { what, source };
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
const CLIENT_AUTHORITIES: &str = "bundle of client authorities";
