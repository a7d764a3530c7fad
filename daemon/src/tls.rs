//! TLS towards the broker: mutual authentication with the realm's authorities, and nobody else's.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::identity::Identity;

/// Why no TLS client can be made of what there is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The authorities are not certificates in PEM form.
    #[error("the broker's authority in `realm.toml` is no certificate in PEM form")]
    Authority(#[source] rustls_pki_types::pem::Error),
    /// There is none, or none that can be used as one.
    #[error("the broker's authority in `realm.toml` cannot be used")]
    UnusableAuthority,
    /// The device's key does not belong to its certificate, or is of an unknown kind.
    #[error("the device's certificate and key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// The library has no cipher suite for TLS 1.2 and 1.3.
    #[error("no TLS protocol can be spoken")]
    Protocol(#[source] rustls::Error),
}

/// A TLS 1.2 and 1.3 client that trusts these authorities (PEM, all of them) and shows this identity.
pub fn client(authorities: &str, identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let authority = authority.map_err(TlsError::Authority)?;
        roots
            .add(authority)
            .map_err(|_| TlsError::UnusableAuthority)?;
    }
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|_| TlsError::UnusableAuthority)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(identity.certificates.clone(), identity.key.clone_key())
        .map_err(TlsError::Identity)?;
    Ok(Arc::new(config))
}
