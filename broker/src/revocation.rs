//! Which certificates have been revoked: a file with the authorities' lists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::limits::MAX_PEM;

/// A certificate's issuer and serial number, which together name it (RFC 5280, section 4.1.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CertificateName {
    /// The DER of the issuer's name.
    issuer: Vec<u8>,
    serial: Vec<u8>,
}

/// Why a file with revocation lists cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationListError {
    /// It is unreadable or too large.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not PEM, or has no list in it.
    #[error("`{}` cannot be read as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// What stands in the PEM is no list.
    #[error("`{}` holds no certificate revocation list", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// A list that none of the authorities has signed: somebody else's, or a forged one.
    #[error("a revocation list in `{}` is signed by none of the client authorities", path.display())]
    Signature {
        /// The file.
        path: PathBuf,
    },
}

impl CertificateName {
    /// The name of a parsed certificate.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self {
            issuer: certificate.issuer().as_raw().to_vec(),
            serial: certificate.tbs_certificate.serial.to_bytes_be(),
        }
    }

    /// The DER of the issuer's name.
    pub(crate) fn issuer(&self) -> &[u8] {
        &self.issuer
    }
}

/// The certificates that the file says are revoked. `None`: there is no file.
pub(crate) fn read(
    path: &Path,
    authorities: &[CertificateDer<'_>],
) -> Result<Option<HashSet<CertificateName>>, RevocationListError> {
    let text = match files::read_bounded(path, MAX_PEM) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    parse(&text, path, authorities).map(Some)
}

fn parse(
    text: &[u8],
    path: &Path,
    authorities: &[CertificateDer<'_>],
) -> Result<HashSet<CertificateName>, RevocationListError> {
    let path_of = || path.to_owned();
    let pem = |source| RevocationListError::Pem {
        path: path_of(),
        source,
    };
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(pem)?;
    if lists.is_empty() {
        return Err(pem(rustls_pki_types::pem::Error::NoItemsFound));
    }
    let mut revoked = HashSet::new();
    for der in &lists {
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err(RevocationListError::Malformed { path: path_of() });
        };
        if !authorities.iter().any(|by| signed(&list, by)) {
            return Err(RevocationListError::Signature { path: path_of() });
        }
        if list
            .next_update()
            .is_some_and(|next| next < ASN1Time::now())
        {
            tracing::warn!(path = %path.display(), "the revocation list is past its end: does the signer run?");
        }
        let issuer = list.issuer().as_raw();
        revoked.extend(list.iter_revoked_certificates().map(|one| CertificateName {
            issuer: issuer.to_vec(),
            serial: one.serial().to_bytes_be(),
        }));
    }
    Ok(revoked)
}

/// Whether an authority has signed a list, which then names it as certificates do: the comparison of names is one of
/// octets everywhere in the broker.
fn signed(list: &CertificateRevocationList<'_>, authority: &CertificateDer<'_>) -> bool {
    let Ok((_, authority)) = X509Certificate::from_der(authority) else {
        return false;
    };
    authority.subject().as_raw() == list.issuer().as_raw()
        && list.verify_signature(authority.public_key()).is_ok()
}
