//! Revoking a device: its certificates for ever, its name until it is readmitted.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use daemon::realm_dir::RealmDir;
use enrollment::revoked::{RevokedCertificate, RevokedDevice, RevokedError};
use enrollment::{DeviceKey, Revoked};
use protocol::DeviceId;
use rustix::fs::{FlockOperation, flock};
use time::OffsetDateTime;

use crate::crl::{self, CrlError};
use crate::ledger::{CertificateState, Unreadable, readable_ledger};
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
    /// What of the journal cannot be read: there may be certificates of the device in it, which are not revoked.
    pub unreadable: Vec<Unreadable>,
}

/// Why something could not be revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// AWS did not revoke. The device is shut out here all the same.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Aws(#[from] crate::AwsError),
    /// The work was given up because its task died.
    #[error("the revocation was cut short")]
    Cut,
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

    /// Shuts a device out, revokes every certificate of it, and writes the revocation list. May be done again, also after
    /// an interruption.
    ///
    /// What can be done is done: a damaged record of one certificate does not keep the others from being revoked. Nor are
    /// those left out that seem to be past their end, because only this clock may say so.
    pub fn revoke(
        &self,
        authority: &Authority,
        id: &DeviceId,
        now: OffsetDateTime,
    ) -> Result<Revocation, RevocationError> {
        let mut held = self.hold(FlockOperation::LockExclusive)?;
        let since = now.unix_timestamp();
        // Before anything that may fail.
        let was_shut_out = held.shut_out(&self.realm, id, since)?;
        let ledger = readable_ledger(&self.realm, &held.revoked, now)?;
        let mut serials = Vec::new();
        for entry in ledger.entries {
            let good = match entry.state {
                CertificateState::Expired | CertificateState::Pending | CertificateState::Valid => {
                    true
                }
                CertificateState::Deleted
                | CertificateState::Inactive
                | CertificateState::Revoked => false,
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
            unreadable: ledger.unreadable,
        })
    }

    /// Revokes SSH keys for ever, beside the device that they are of. Returns the fingerprints of those that were not yet.
    pub fn revoke_ssh_keys(
        &self,
        keys: &[DeviceKey],
        now: OffsetDateTime,
    ) -> Result<Vec<String>, RevocationError> {
        let mut held = self.hold(FlockOperation::LockExclusive)?;
        let added = held.revoked.add_ssh_keys(keys, now.unix_timestamp());
        if !added.is_empty() {
            held.revoked.save(self.realm.path())?;
        }
        Ok(added)
    }

    /// Shuts a device out and no more. Returns whether it was shut out before.
    #[cfg(feature = "aws")]
    pub(crate) fn shut_out(
        &self,
        id: &DeviceId,
        now: OffsetDateTime,
    ) -> Result<bool, RevocationError> {
        let mut held = self.hold(FlockOperation::LockExclusive)?;
        Ok(held.shut_out(&self.realm, id, now.unix_timestamp())?)
    }

    /// Writes down certificates that are revoked, each once.
    #[cfg(feature = "aws")]
    pub(crate) fn add(&self, certificates: Vec<RevokedCertificate>) -> Result<(), RevocationError> {
        let mut held = self.hold(FlockOperation::LockExclusive)?;
        for certificate in certificates {
            if !held.revoked.has_serial(&certificate.serial) {
                held.revoked.certificates.push(certificate);
            }
        }
        Ok(held.revoked.save(self.realm.path())?)
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
        // Whoever holds it does so for the time of a few small files, or of the calls to AWS for one certificate.
        flock(&lock, operation).map_err(|error| fail(error.into()))?;
        Ok(Held {
            revoked: Revoked::load(path)?,
            _lock: lock,
        })
    }
}

impl Held {
    /// Shuts a device out, and writes it down. Returns whether it was shut out before.
    fn shut_out(
        &mut self,
        realm: &RealmDir,
        id: &DeviceId,
        since: i64,
    ) -> Result<bool, RevokedError> {
        let was_shut_out = self.revoked.shuts_out(id);
        if !was_shut_out {
            let id = id.clone();
            self.revoked.devices.push(RevokedDevice { id, since });
            self.revoked.save(realm.path())?;
        }
        Ok(was_shut_out)
    }
}

impl RevocationError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(source) => source.hint(),
            Self::Crl(source) => source.hint(),
            Self::Journal(source) => source.hint(),
            Self::Revoked(source) => source.hint(),
            Self::Cut => Some("run the command again: what was done is not done twice".to_owned()),
            Self::Lock { .. } => {
                Some("run the command as the user whose the realm's directory is".to_owned())
            }
        }
    }

    /// Whether the device is shut out all the same, and only AWS has not done its part.
    pub fn is_remote(&self) -> bool {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(_) => true,
            Self::Crl(_) | Self::Cut | Self::Journal(_) | Self::Lock { .. } | Self::Revoked(_) => {
                false
            }
        }
    }

    /// Whether it is in the configuration of AWS, which waiting does not mend.
    pub fn is_configuration(&self) -> bool {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(source) => source.is_configuration(),
            Self::Crl(_) | Self::Cut | Self::Journal(_) | Self::Lock { .. } | Self::Revoked(_) => {
                false
            }
        }
    }
}
