//! Whose certificates count: the authorities that sign for devices, and what they have revoked. One value, read as a whole.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, iter};

use daemon::report::one_line;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, OtherError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::config::Pem;
use crate::limits::{MAX_CHAIN, MAX_CHAIN_BYTES};
use crate::peer::Peer;
use crate::revocation::{self, CertificateName, RevocationListError, Revoked};
use crate::seat::Cut;
use crate::tls::{self, TlsError};

/// What the files say, until they say something else.
pub(crate) struct Trust {
    authorities: Vec<CertificateDer<'static>>,
    chain: Arc<dyn ClientCertVerifier>,
    /// `None`: there is no list yet.
    revoked: Option<Revoked>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TrustError {
    #[error(transparent)]
    Authorities(#[from] TlsError),
    #[error(transparent)]
    Revocations(#[from] RevocationListError),
}

/// What a new trust means for those whom an older one let in.
pub(crate) struct Change<'a> {
    now: &'a Trust,
    /// The names (DER) of the authorities that are there, and of those that have gone.
    present: HashSet<Vec<u8>>,
    gone: HashSet<Vec<u8>>,
}

impl Trust {
    /// Reads the files. That there is no list yet means that nothing is revoked; a list that has gone is remembered.
    pub(crate) fn load(
        authorities: &Pem,
        revocations: Option<&Path>,
        before: Option<&Self>,
    ) -> Result<Self, TrustError> {
        let authorities = tls::certificates(authorities, tls::CLIENT_AUTHORITIES)?;
        let revoked = match revocations {
            None => None,
            Some(path) => {
                let last = before.and_then(|before| before.revoked.as_ref());
                let read = revocation::read(path, &authorities, last)?;
                if read.is_none() {
                    let kept = before.map_or(0, Self::revoked);
                    tracing::warn!(path = %path.display(), kept, "there is no revocation list");
                }
                read.or_else(|| last.cloned())
            }
        };
        let mut roots = RootCertStore::empty();
        for (place, authority) in (1..).zip(&authorities) {
            roots
                .add(authority.clone())
                .map_err(|source| TlsError::Authority { place, source })?;
        }
        let provider = Arc::new(ring::default_provider());
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(TlsError::Verifier)?;
        Ok(Self {
            authorities,
            chain,
            revoked,
        })
    }

    /// Decides about a chain: signed by an authority, good at this time, and not revoked.
    pub(crate) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let bytes: usize = intermediates.iter().map(|one| one.len()).sum();
        if intermediates.len() > MAX_CHAIN || bytes + end_entity.len() > MAX_CHAIN_BYTES {
            let too_long = OtherError(Arc::new(ChainTooLong));
            return Err(CertificateError::Other(too_long).into());
        }
        self.chain
            .verify_client_cert(end_entity, intermediates, now)?;
        // Of the path that was found every certificate is among these, but for the authority's.
        for der in iter::once(end_entity).chain(intermediates) {
            let name = CertificateName::of_der(der).ok_or(CertificateError::BadEncoding)?;
            if self.is_revoked(&name) {
                return Err(CertificateError::Revoked.into());
            }
        }
        Ok(())
    }

    /// The verifier of chains alone, for what TLS asks it beside.
    pub(crate) fn chain(&self) -> &dyn ClientCertVerifier {
        &*self.chain
    }

    /// The authorities.
    pub(crate) fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// How many certificates are revoked.
    pub(crate) fn revoked(&self) -> usize {
        self.revoked.as_ref().map_or(0, Revoked::len)
    }

    /// Whether there is a revocation list.
    pub(crate) fn has_list(&self) -> bool {
        self.revoked.is_some()
    }

    /// What follows for those whom `before` let in.
    pub(crate) fn since<'a>(&'a self, before: &Self) -> Change<'a> {
        let gone = before
            .authorities
            .iter()
            .filter(|one| !self.authorities.contains(one));
        Change {
            now: self,
            present: self.authorities.iter().filter_map(subject).collect(),
            gone: gone.filter_map(subject).collect(),
        }
    }

    fn is_revoked(&self, name: &CertificateName) -> bool {
        self.revoked
            .as_ref()
            .is_some_and(|revoked| revoked.has(name))
    }
}

impl Change<'_> {
    /// Why the connection of this device has to end. Of its chain only the names are kept, so that where an authority has
    /// gone only those stay whose issuer's name is an authority's that is still there, and none's that has gone; the others
    /// come back at once if they may.
    pub(crate) fn objection(&self, peer: &Peer) -> Option<Cut> {
        let name = &peer.certificate;
        let mut names = iter::once(name).chain(&peer.intermediates);
        if names.any(|name| self.now.is_revoked(name)) {
            return Some(Cut::Revoked);
        }
        let stays = self.gone.is_empty()
            || self.present.contains(name.issuer()) && !self.gone.contains(name.issuer());
        (!stays).then_some(Cut::Distrusted)
    }
}

/// The rule that a chain has broken, as the log has it: of a cause that is not its own the library shows what a debugger
/// would.
pub(crate) fn rule(error: &Error) -> String {
    if let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error {
        one_line(&**cause)
    } else {
        one_line(error)
    }
}

/// More than [`MAX_CHAIN`] or [`MAX_CHAIN_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error(
    "there are more certificates with it than {MAX_CHAIN}, or they have more than {MAX_CHAIN_BYTES} bytes"
)]
struct ChainTooLong;

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("authorities", &self.authorities.len())
            .field("revoked", &self.revoked())
            .finish_non_exhaustive()
    }
}

fn subject(authority: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(authority).ok()?;
    Some(certificate.subject().as_raw().to_vec())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, IsCa, KeyPair,
    };

    use super::*;
    use crate::limits::MAX_PEM;

    /// One of many with the same name.
    pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn trust(authority: &CertifiedIssuer<'static, KeyPair>) -> Trust {
        Trust::load(&Pem::Text(authority.pem().into()), None, None).unwrap()
    }

    #[test]
    fn a_chain_is_as_long_as_the_limit_and_no_longer() {
        let authority = authority();
        let trust = trust(&authority);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::default()
            .signed_by(&key, &*authority)
            .unwrap();
        for (count, fits) in [(MAX_CHAIN, true), (MAX_CHAIN + 1, false)] {
            let others = vec![authority.der().clone(); count];
            let verified = trust.verify(leaf.der(), &others, UnixTime::now());
            assert_eq!(verified.is_ok(), fits, "{count}: {verified:?}");
            // As every refused certificate: with its own alert, its line and its count.
            assert!(!matches!(verified, Err(Error::General(_))));
        }
    }

    #[test]
    fn a_chain_is_as_large_as_the_limit_and_no_larger() {
        let authority = authority();
        let trust = trust(&authority);
        let key = KeyPair::generate().unwrap();
        let padded = |padding: usize| {
            let mut params = CertificateParams::default();
            // The serial number has a fixed length.
            params.serial_number = Some(vec![1; 16].into());
            let padding = vec![0; padding];
            params.custom_extensions = vec![CustomExtension::from_oid_content(
                &[1, 3, 6, 1, 4, 1],
                padding,
            )];
            params.signed_by(&key, &*authority).unwrap()
        };
        // A signature has one of a few lengths.
        let sized = |size: usize| {
            let guess = size - padded(size / 2).der().len() + size / 2;
            (0..1_000)
                .map(|turn| padded(guess - 4 + turn % 9))
                .find(|leaf| leaf.der().len() == size)
                .unwrap()
        };
        for (size, fits) in [(MAX_CHAIN_BYTES, true), (MAX_CHAIN_BYTES + 1, false)] {
            let others = [authority.der().clone()];
            let leaf = sized(size - others[0].len());
            let verified = trust.verify(leaf.der(), &others, UnixTime::now());
            assert_eq!(verified.is_ok(), fits, "{size}: {verified:?}");
        }
    }

    #[test]
    fn a_bundle_is_as_large_as_the_limit_and_no_larger() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca.pem");
        let pem = authority().pem();
        for (size, fits) in [(MAX_PEM, true), (MAX_PEM + 1, false)] {
            let padding = "\n".repeat(size - pem.len());
            fs::write(&path, format!("{pem}{padding}")).unwrap();
            let loaded = Trust::load(&Pem::File(path.clone()), None, None);
            assert_eq!(loaded.is_ok(), fits, "{size}: {loaded:?}");
        }
    }
}
