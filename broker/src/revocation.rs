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

/// The number of an authority's newest list (RFC 5280, section 5.2.3).
type Numbers = HashMap<Authority, BigUint>;

/// Who signs lists. One that has a new key counts its lists from the beginning, and both may be there for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Authority {
    /// The DER of its name.
    name: Vec<u8>,
    /// The DER of its public key.
    key: Vec<u8>,
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
    /// It was replaced by a newer one, and may lack whom that one names: a copy, or a backup.
    #[error("a revocation list in `{}` is older than the one that was read before", path.display())]
    Older {
        /// The file.
        path: PathBuf,
    },
}

impl RevocationListError {
    /// What the person can do about it.
    pub fn hint(&self) -> String {
        let newest =
            "the realm's signer writes the newest list to `ca/crl.pem`: put that one there, whole";
        match self {
            Self::File(error) => error.hint().unwrap_or_else(|| newest.to_owned()),
            Self::Pem { .. } | Self::Malformed { .. } | Self::Older { .. } => newest.to_owned(),
            Self::Signature { .. } => {
                "a list is signed by the authority whose certificates it revokes: `ca` in `realm.toml` has to have that one"
                    .to_owned()
            }
        }
    }
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

    /// Adds what a list of this authority says.
    fn add(&mut self, list: &CertificateRevocationList<'_>, by: Authority) {
        let names = list.iter_revoked_certificates().map(|one| CertificateName {
            issuer: by.name.clone(),
            serial: one.serial().to_bytes_be(),
        });
        self.certificates.extend(names);
        if let Some(number) = list.crl_number() {
            let newest = self.numbers.entry(by).or_default();
            *newest = number.max(newest).clone();
        }
    }

    /// Comes after `before`, and remembers its numbers. What an authority's newest list says is all there is to know from it,
    /// so an older one beside it does no harm.
    fn follow(&mut self, before: &Self) -> Result<(), OlderList> {
        for (authority, number) in &before.numbers {
            match self.numbers.entry(authority.clone()) {
                Entry::Occupied(newest) if newest.get() < number => return Err(OlderList),
                Entry::Occupied(_) => {}
                Entry::Vacant(none) => drop(none.insert(number.clone())),
            }
        }
        Ok(())
    }
}

/// There is an authority's list, and it has had a newer one.
struct OlderList;

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
    let mut revoked = Revoked::default();
    for der in &lists {
        let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
            return Err(RevocationListError::Malformed { path: path_of() });
        };
        let Some(by) = authorities.iter().find_map(|one| signer(&list, one)) else {
            return Err(RevocationListError::Signature { path: path_of() });
        };
        if list
            .next_update()
            .is_some_and(|next| next < ASN1Time::now())
        {
            tracing::warn!(path = %path.display(), "the revocation list is past its end: does the signer run?");
        }
        revoked.add(&list, by);
    }
    if let Some(before) = before {
        revoked
            .follow(before)
            .map_err(|OlderList| RevocationListError::Older { path: path_of() })?;
    }
    Ok(revoked)
}

/// The authority, if it has signed this list, which then names it as certificates do: the comparison of names is one of
/// octets everywhere in the broker.
fn signer(
    list: &CertificateRevocationList<'_>,
    authority: &CertificateDer<'_>,
) -> Option<Authority> {
    let (_, authority) = X509Certificate::from_der(authority).ok()?;
    let key = authority.public_key();
    let is_its = authority.subject().as_raw() == list.issuer().as_raw()
        && list.verify_signature(key).is_ok();
    is_its.then(|| Authority {
        name: authority.subject().as_raw().to_vec(),
        key: key.raw.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{
        CertificateRevocationListParams, CertifiedIssuer, KeyIdMethod, KeyPair, RevokedCertParams,
        SerialNumber,
    };
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::trust::tests::authority;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn list(by: &Issuer, number: u64, serials: &[u64]) -> String {
        let now = OffsetDateTime::now_utc();
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
        list.signed_by(by).unwrap().pem().unwrap()
    }

    /// What a file of these lists says after `before`.
    fn read_lists(
        lists: &[String],
        by: &[&Issuer],
        before: Option<&Revoked>,
    ) -> Result<Revoked, RevocationListError> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("crl.pem");
        fs::write(&path, lists.concat()).unwrap();
        let authorities: Vec<_> = by.iter().map(|one| one.der().clone()).collect();
        Ok(read(&path, &authorities, before)?.unwrap())
    }

    fn serials(revoked: &Revoked) -> Vec<u8> {
        let names = revoked.certificates.iter();
        let mut serials: Vec<_> = names.flat_map(|name| name.serial.clone()).collect();
        serials.sort_unstable();
        serials
    }

    #[test]
    fn an_older_list_lets_nobody_in_again() {
        let authority = authority();
        let read = |number, serials: &[u64], before: Option<&Revoked>| {
            read_lists(&[list(&authority, number, serials)], &[&authority], before)
        };
        let first = read(300, &[7], None).unwrap();
        assert_eq!(serials(&first), [7]);
        // 255 is more than 300 by its first octet.
        for older in [255, 299] {
            let refused = read(older, &[], Some(&first));
            assert!(matches!(refused, Err(RevocationListError::Older { .. })));
        }
        for next in [300, 301] {
            let next = read(next, &[8], Some(&first)).unwrap();
            assert_eq!(serials(&next), [8]);
        }
    }

    /// With a new key an authority begins to count anew, whatever comes first in the file.
    #[test]
    fn each_key_of_an_authority_counts_its_own_lists() {
        let (old, new) = (authority(), authority());
        let by = [&old, &new];
        let read = |numbers: [u64; 2], before: Option<&Revoked>| {
            let lists = [list(&old, numbers[0], &[7]), list(&new, numbers[1], &[8])];
            let there = read_lists(&lists, &by, before)?;
            let [first, second] = lists;
            let back = read_lists(&[second, first], &by, before)?;
            assert_eq!(serials(&there), serials(&back));
            Ok::<_, RevocationListError>(there)
        };
        let first = read([300, 1], None).unwrap();
        let second = read([300, 2], Some(&first)).unwrap();
        assert_eq!(serials(&second), [7, 8]);
        for older in [[299, 2], [300, 1]] {
            let refused = read(older, Some(&second));
            assert!(matches!(refused, Err(RevocationListError::Older { .. })));
        }
    }

    #[test]
    fn an_older_list_beside_the_newest_does_no_harm() {
        let authority = authority();
        let (older, newer) = (list(&authority, 3, &[7]), list(&authority, 5, &[7, 8]));
        let mut before = None;
        for lists in [
            [older.clone(), newer.clone()],
            [newer.clone(), older.clone()],
        ] {
            let now = read_lists(&lists, &[&authority], before.as_ref()).unwrap();
            assert_eq!(serials(&now), [7, 8]);
            before = Some(now);
        }
        let refused = read_lists(&[older], &[&authority], before.as_ref());
        assert!(matches!(refused, Err(RevocationListError::Older { .. })));
    }
}
