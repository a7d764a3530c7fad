//! TLS towards the broker: mutual authentication with the realm's authorities, and nobody else's.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::{ResolvesClientCert, Resumption, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SignatureScheme};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::identity::{Identity, IdentityError};
use crate::report::one_line;

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

impl TlsError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Authority(_) | Self::UnusableAuthority => {
                Some("ask the realm's admin for the present `realm.toml`")
            }
            Self::Identity(_) => Some("`tunnel enroll --renew` gets a certificate for the key"),
            Self::Protocol(_) => None,
        }
    }
}

/// A TLS 1.2 and 1.3 client that trusts these authorities (PEM, all of them) and shows this identity.
pub fn client(authorities: &str, identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let config = builder(authorities)?
        .with_client_auth_cert(identity.certificates.clone(), identity.key.clone_key())
        .map_err(TlsError::Identity)?;
    Ok(Arc::new(config))
}

/// Like [`client`], with an identity that is read again for each session, so that a renewed certificate is used from the
/// next one on. While it cannot be read the last one is shown.
pub fn reloading_client(
    authorities: &str,
    identity: &Identity,
    load: impl Fn() -> Result<Identity, IdentityError> + Send + Sync + 'static,
) -> Result<Arc<ClientConfig>, TlsError> {
    let resolver = Reloading {
        load: Box::new(load),
        last: Mutex::new(certified(identity).map_err(TlsError::Identity)?),
    };
    let mut config = builder(authorities)?.with_client_cert_resolver(Arc::new(resolver));
    // A resumed session would go on with the certificate that it began with.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

struct Reloading {
    load: Box<dyn Fn() -> Result<Identity, IdentityError> + Send + Sync>,
    last: Mutex<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for Reloading {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.load)() {
            Ok(identity) => match certified(&identity) {
                Ok(now) => *last = now,
                Err(error) => {
                    tracing::warn!(%error, "the certificate and key on disk do not fit: the last ones are used");
                }
            },
            Err(error) => {
                tracing::warn!(
                    error = one_line(&error),
                    "the certificate cannot be read again: the last one is used"
                );
            }
        }
        Some(Arc::clone(&last))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloading(..)")
    }
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = any_supported_type(&identity.key)?;
    let certified = CertifiedKey::new(identity.certificates.clone(), key);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

fn builder(authorities: &str) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
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
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Protocol)?
        .with_webpki_verifier(verifier))
}
