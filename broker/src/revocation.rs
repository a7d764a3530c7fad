//! Which certificates have been revoked: a file with the authorities' lists.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
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

/// What the authorities' lists say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revoked {
    certificates: HashSet<CertificateName>,
    numbers: Numbers,
}

/// The number of an authority's newest list (RFC 5280, section 5.2.3), by its name.
type Numbers = HashMap<Vec<u8>, BigUint>;

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
    /// It was replaced by a newer one, and may lack whom that one names: a copy, or a backup.
    #[error("a revocation list in `{}` is older than the one that was read before", path.display())]
    Older {
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

    /// The name of a certificate, if it is one.
    pub(crate) fn of_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self::of(&certificate))
    }

    /// The DER of the issuer's name.
    pub(crate) fn issuer(&self) -> &[u8] {
        &self.issuer
    }
}

impl Revoked {
    /// Whether a certificate is revoked.
    pub(crate) fn has(&self, name: &CertificateName) -> bool {
        self.certificates.contains(name)
    }

    /// How many are.
    pub(crate) fn len(&self) -> usize {
        self.certificates.len()
    }
}

/// What the file says. `None`: there is no file. Lists that are older than those in `before` are refused.
pub(crate) fn read(
    path: &Path,
    authorities: &[CertificateDer<'_>],
    before: Option<&Revoked>,
) -> Result<Option<Revoked>, RevocationListError> {
    let text = match files::read_bounded(path, MAX_PEM) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    parse(&text, path, authorities, before).map(Some)
}

fn parse(
    text: &[u8],
    path: &Path,
    authorities: &[CertificateDer<'_>],
    before: Option<&Revoked>,
) -> Result<Revoked, RevocationListError> {
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
    let mut certificates = HashSet::new();
    let mut numbers = before.map_or_else(Numbers::new, |before| before.numbers.clone());
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
        if let Some(number) = list.crl_number() {
            match numbers.entry(issuer.to_vec()) {
                Entry::Occupied(newest) if number < newest.get() => {
                    return Err(RevocationListError::Older { path: path_of() });
                }
                Entry::Occupied(mut newest) => drop(newest.insert(number.clone())),
                Entry::Vacant(first) => drop(first.insert(number.clone())),
            }
        }
        certificates.extend(list.iter_revoked_certificates().map(|one| CertificateName {
            issuer: issuer.to_vec(),
            serial: one.serial().to_bytes_be(),
        }));
    }
    Ok(Revoked {
        certificates,
        numbers,
    })
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
        IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    };
    use time::{Duration, OffsetDateTime};

    use super::*;

    #[test]
    fn an_older_list_lets_nobody_in_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("crl.pem");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let now = OffsetDateTime::now_utc();
        let write = |number: u64, serials: &[u64]| {
            let revoked_certs = serials.iter().map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            });
            let list = CertificateRevocationListParams {
                this_update: now,
                next_update: now + Duration::days(1),
                crl_number: SerialNumber::from(number),
                issuing_distribution_point: None,
                revoked_certs: revoked_certs.collect(),
                key_identifier_method: KeyIdMethod::Sha256,
            };
            fs::write(&path, list.signed_by(&authority).unwrap().pem().unwrap()).unwrap();
        };
        write(300, &[7]);
        let authorities = vec![authority.der().clone()];
        let first = read(&path, &authorities, None).unwrap().unwrap();
        let has = |revoked: &Revoked, serial: u8| {
            let mut names = revoked.certificates.iter();
            names.any(|name| name.serial == [serial])
        };
        assert!(has(&first, 7));
        // 255 is more than 300 by its first octet.
        for older in [255, 299] {
            write(older, &[]);
            assert!(matches!(
                read(&path, &authorities, Some(&first)),
                Err(RevocationListError::Older { .. })
            ));
        }
        for next in [300, 301] {
            write(next, &[8]);
            let next = read(&path, &authorities, Some(&first)).unwrap().unwrap();
            assert!(has(&next, 8) && !has(&next, 7), "{next:?}");
        }
    }
}
