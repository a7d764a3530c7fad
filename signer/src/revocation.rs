//! Revoking a device: its certificates for ever, its name until it is readmitted.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use daemon::realm_dir::RealmDir;
use enrollment::Revoked;
use enrollment::revoked::{RevokedCertificate, RevokedDevice, RevokedError};
use protocol::DeviceId;
use rustix::fs::{FlockOperation, flock};
use time::OffsetDateTime;

use crate::crl::{self, CrlError};
use crate::ledger::{CertificateState, entries};
use crate::{Authority, JournalError};

/// What a realm has revoked, and where it is written down. While one process changes it, or signs by it, others wait.
#[derive(Clone, Debug)]
pub struct Revocations {
    realm: RealmDir,
}

/// What a revocation has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The serial numbers of the certificates that were good until now.
    pub serials: Vec<String>,
    /// Whether the device was shut out before.
    pub was_shut_out: bool,
}

/// Why something could not be revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// The revocation list could not be made.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// It is not known what was issued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Nobody else could be kept out meanwhile.
    #[error("cannot lock `{}`", path.display())]
    Lock {
        /// The realm's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not known what is revoked.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
}

/// What is revoked, for as long as nothing changes.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) revoked: Revoked,
    // The lock lives as long as the file is open.
    _lock: File,
}

impl Revocations {
    /// Those of this realm's directory.
    pub fn new(realm: RealmDir) -> Self {
        Self { realm }
    }

    /// What is revoked now.
    pub fn current(&self) -> Result<Revoked, RevokedError> {
        Revoked::load(self.realm.path())
    }

    /// Shuts a device out, revokes every certificate of it that is good, and writes the revocation list. May be done
    /// again, also after an interruption.
    pub fn revoke(
        &self,
        authority: &Authority,
        id: &DeviceId,
        now: OffsetDateTime,
    ) -> Result<Revocation, RevocationError> {
        let mut held = self.hold(FlockOperation::LockExclusive)?;
        let since = now.unix_timestamp();
        let was_shut_out = held.revoked.shuts_out(id);
        if !was_shut_out {
            let id = id.clone();
            held.revoked.devices.push(RevokedDevice { id, since });
        }
        let mut serials = Vec::new();
        for entry in entries(&self.realm.signer(), &held.revoked, now)? {
            let good = match entry.state {
                CertificateState::Valid | CertificateState::Pending => true,
                CertificateState::Expired | CertificateState::Revoked => false,
            };
            if entry.id == *id && good {
                held.revoked.certificates.push(RevokedCertificate {
                    serial: entry.serial.clone(),
                    id: id.clone(),
                    since,
                    not_after: entry.not_after.unix_timestamp(),
                    key: entry.key_digest().unwrap_or_default(),
                });
                serials.push(entry.serial);
            }
        }
        held.revoked.save(self.realm.path())?;
        crl::refresh(authority, &held.revoked, &self.realm.crl(), now)?;
        Ok(Revocation {
            serials,
            was_shut_out,
        })
    }

    /// Lets a device enroll again, with new keys. Returns whether it was shut out.
    pub fn readmit(&self, id: &DeviceId) -> Result<bool, RevocationError> {
        let mut held = self.hold(FlockOperation::LockExclusive)?;
        let before = held.revoked.devices.len();
        held.revoked.devices.retain(|device| device.id != *id);
        let was_shut_out = held.revoked.devices.len() != before;
        if was_shut_out {
            held.revoked.save(self.realm.path())?;
        }
        Ok(was_shut_out)
    }

    /// Makes a new revocation list when it is time for one, or the old does not say what is revoked.
    pub fn refresh(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<bool, RevocationError> {
        let held = self.hold(FlockOperation::LockExclusive)?;
        Ok(crl::refresh(
            authority,
            &held.revoked,
            &self.realm.crl(),
            now,
        )?)
    }

    /// What is revoked, and will not change until this is dropped: nothing can be revoked between the look at it and
    /// the record of a new certificate.
    pub(crate) fn hold_shared(&self) -> Result<Held, RevocationError> {
        self.hold(FlockOperation::LockShared)
    }

    fn hold(&self, operation: FlockOperation) -> Result<Held, RevocationError> {
        let path = self.realm.path();
        let fail = |source| RevocationError::Lock {
            path: path.to_owned(),
            source,
        };
        let lock = File::open(path).map_err(fail)?;
        // Whoever holds it does so for the time of a few small files.
        flock(&lock, operation).map_err(|error| fail(error.into()))?;
        Ok(Held {
            revoked: Revoked::load(path)?,
            _lock: lock,
        })
    }
}

impl RevocationError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Crl(source) => source.hint(),
            Self::Journal(source) => source.hint(),
            Self::Revoked(source) => source.hint(),
            Self::Lock { .. } => None,
        }
    }
}
