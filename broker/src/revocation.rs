//! Which certificates have been revoked: a file with the authorities' lists, read again whenever it changes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use daemon::files::{self, FileError};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::hub::Hub;
use crate::limits::MAX_PEM;

/// A certificate's issuer and serial number, which together name it (RFC 5280, section 4.1.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct CertificateName {
    /// The DER of the issuer's name.
    issuer: Vec<u8>,
    serial: Vec<u8>,
}

/// The revoked certificates, as the file says now.
#[derive(Debug)]
pub(crate) struct RevocationList {
    path: Option<PathBuf>,
    authorities: Vec<CertificateDer<'static>>,
    current: RwLock<Current>,
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

/// The number of an authority's newest list (RFC 5280, section 5.2.3), by its name.
type Numbers = HashMap<Vec<u8>, BigUint>;

#[derive(Debug, Default)]
struct Current {
    stamp: Option<Stamp>,
    revoked: Arc<HashSet<CertificateName>>,
    numbers: Numbers,
}

/// By what a changed file is known: inode, size, and the times of its last change of content and of status.
type Stamp = (u64, u64, i64, i64, i64, i64);

impl CertificateName {
    /// The name of a parsed certificate.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self {
            issuer: certificate.issuer().as_raw().to_vec(),
            serial: certificate.tbs_certificate.serial.to_bytes_be(),
        }
    }
}

impl RevocationList {
    /// Reads the file, if one is named. That there is none yet means that nothing is revoked; one that cannot be used
    /// is an error.
    pub(crate) fn open(
        path: Option<PathBuf>,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Arc<Self>, RevocationListError> {
        let list = Self {
            path,
            authorities,
            current: RwLock::default(),
        };
        if let Some(path) = &list.path {
            list.reload(path)?;
        }
        Ok(Arc::new(list))
    }

    /// Whether a certificate is revoked.
    pub(crate) fn has(&self, name: &CertificateName) -> bool {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.revoked.contains(name)
    }

    /// Looks at the file every so often and ends the connections of whoever is revoked by it. Never completes. While
    /// the file cannot be used, or is gone, the last good list stays.
    pub(crate) async fn watch(self: Arc<Self>, hub: Arc<Hub>) {
        let Some(path) = self.path.clone() else {
            return std::future::pending().await;
        };
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            ticks.tick().await;
            let (list, path) = (Arc::clone(&self), path.clone());
            let looked = spawn_blocking(move || {
                let stamp = stamp(&path);
                // One that was refused is refused once.
                if stamp.is_none() || stamp == refused || stamp == list.stamp() {
                    return (refused, false);
                }
                match list.reload(&path) {
                    Ok(()) => (None, true),
                    Err(error) => {
                        let cause = std::error::Error::source(&error).map(ToString::to_string);
                        tracing::error!(cause, "{error}; what was revoked before stays revoked");
                        (stamp, false)
                    }
                }
            });
            let Ok((failed, changed)) = looked.await else {
                continue;
            };
            refused = failed;
            if changed {
                hub.cut_revoked(&self);
            }
        }
    }

    fn numbers(&self) -> Numbers {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.numbers.clone()
    }

    fn stamp(&self) -> Option<Stamp> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.stamp
    }

    fn reload(&self, path: &Path) -> Result<(), RevocationListError> {
        // Before the reading: a change meanwhile is then seen by the next look.
        let stamp = stamp(path);
        let text = match files::read_bounded(path, MAX_PEM) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => {
                tracing::warn!(path = %path.display(), "there is no revocation list; nothing is revoked");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let (revoked, numbers) = self.parse(&text, path)?;
        tracing::info!(revoked = revoked.len(), "revocation list read");
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Current {
            stamp,
            revoked: Arc::new(revoked),
            numbers,
        };
        Ok(())
    }

    fn parse(
        &self,
        text: &[u8],
        path: &Path,
    ) -> Result<(HashSet<CertificateName>, Numbers), RevocationListError> {
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
        let mut numbers = self.numbers();
        for der in &lists {
            let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
                return Err(RevocationListError::Malformed { path: path_of() });
            };
            if !self.authorities.iter().any(|by| signed(&list, by)) {
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
            revoked.extend(list.iter_revoked_certificates().map(|one| CertificateName {
                issuer: issuer.to_vec(),
                serial: one.serial().to_bytes_be(),
            }));
        }
        Ok((revoked, numbers))
    }
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

fn stamp(path: &Path) -> Option<Stamp> {
    let status = fs::metadata(path).ok()?;
    Some((
        status.ino(),
        status.size(),
        status.mtime(),
        status.mtime_nsec(),
        status.ctime(),
        status.ctime_nsec(),
    ))
}

/// How often the file is looked at: whoever is revoked is gone within seconds, and one `stat` costs microseconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
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
        let list = RevocationList::open(Some(path.clone()), authorities).unwrap();
        let has = |serial: u8| {
            let current = list.current.read().unwrap();
            current.revoked.iter().any(|name| name.serial == [serial])
        };
        assert!(has(7));
        // 255 is more than 300 by its first octet.
        for older in [255, 299] {
            write(older, &[]);
            assert!(matches!(
                list.reload(&path),
                Err(RevocationListError::Older { .. })
            ));
            assert!(has(7), "{older}");
        }
        for next in [300, 301] {
            write(next, &[8]);
            list.reload(&path).unwrap();
            assert!(has(8) && !has(7), "{next}");
        }
    }
}
