//! What has been issued, for whoever wants to look: no lock is taken, and a signer may be at work meanwhile.

use std::path::Path;

use daemon::realm_dir::RealmDir;
use daemon::report::one_line;
use enrollment::{Revision, Revoked, Title, pem_block};
use protocol::DeviceId;
use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::JournalError;
use crate::journal::{self, Readable, Record};

/// One certificate that the signer has made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerEntry {
    /// Whose it is.
    pub id: DeviceId,
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The last moment at which it is valid by itself.
    pub not_after: OffsetDateTime,
    /// Whether it is still good.
    pub state: CertificateState,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its id at AWS IoT Core, if that has made it.
    pub aws_certificate: Option<String>,
}

/// Whether a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateState {
    /// It is not in its AWS account any more.
    Deleted,
    /// It is past its end.
    Expired,
    /// AWS keeps it and does not accept it: somebody has switched it off, or it was never switched on.
    Inactive,
    /// It is made, and not yet handed out.
    Pending,
    /// It has been revoked.
    Revoked,
    /// It is good.
    Valid,
}

/// Why it is not known what there is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// AWS does not tell.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Aws(#[from] crate::AwsError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Everything that the signer of this realm's directory has issued, by name and then by age.
pub fn ledger(
    realm: &RealmDir,
    revoked: &Revoked,
    now: OffsetDateTime,
) -> Result<Vec<LedgerEntry>, JournalError> {
    entries(&realm.signer(), revoked, now)
}

/// What of that can be read, and why the rest cannot.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReadableLedger {
    /// By name and then by age.
    pub entries: Vec<LedgerEntry>,
    /// The records that are damaged.
    pub unreadable: Vec<Unreadable>,
}

/// A record of the journal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub fault: String,
    /// What the person can do about it.
    pub hint: Option<String>,
}

/// As [`ledger`], for whoever has to go on without the records that are damaged.
pub fn readable_ledger(
    realm: &RealmDir,
    revoked: &Revoked,
    now: OffsetDateTime,
) -> Result<ReadableLedger, JournalError> {
    let Readable {
        records,
        unreadable,
    } = journal::readable(&realm.signer())?;
    Ok(ReadableLedger {
        entries: of_records(records, revoked, now),
        unreadable: unreadable
            .iter()
            .map(|error| Unreadable {
                fault: one_line(error),
                hint: error.hint(),
            })
            .collect(),
    })
}

pub(crate) fn entries(
    journal: &Path,
    revoked: &Revoked,
    now: OffsetDateTime,
) -> Result<Vec<LedgerEntry>, JournalError> {
    Ok(of_records(journal::records(journal)?, revoked, now))
}

fn of_records(records: Vec<Record>, revoked: &Revoked, now: OffsetDateTime) -> Vec<LedgerEntry> {
    let mut entries: Vec<_> = records
        .into_iter()
        .filter_map(|record| entry(record, revoked, now))
        .collect();
    sort(&mut entries);
    entries
}

/// By name and then by age.
pub(crate) fn sort(entries: &mut [LedgerEntry]) {
    entries.sort_by(|a, b| (&a.id, a.not_after, &a.serial).cmp(&(&b.id, b.not_after, &b.serial)));
}

impl LedgerError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(source) => source.hint(),
            Self::Journal(source) => source.hint(),
        }
    }

    /// Whether it may be otherwise later.
    pub fn is_passing(&self) -> bool {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(source) => !source.is_configuration(),
            Self::Journal(_) => false,
        }
    }
}

impl LedgerEntry {
    /// The SHA-256 of its public key, as the list of revoked certificates has it.
    pub(crate) fn key_digest(&self) -> Option<String> {
        let der = pem_block::single(&self.certificate_pem, pem_block::CERTIFICATE).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        Some(Revision::of_bytes(certificate.public_key().raw).to_string())
    }
}

impl CertificateState {
    /// The state as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Revoked => "revoked",
            Self::Valid => "valid",
        }
    }
}

/// The signer writes no record that this cannot read.
pub(crate) fn entry(record: Record, revoked: &Revoked, now: OffsetDateTime) -> Option<LedgerEntry> {
    let title: Title = record.request.parse().ok()?;
    let not_after = OffsetDateTime::from_unix_timestamp(record.not_after).ok()?;
    let state = if revoked.has_serial(&record.serial) {
        CertificateState::Revoked
    } else if not_after < now {
        CertificateState::Expired
    } else if record.delivered {
        CertificateState::Valid
    } else {
        CertificateState::Pending
    };
    Some(LedgerEntry {
        id: title.id().clone(),
        serial: record.serial,
        not_after,
        state,
        certificate_pem: record.certificate,
        aws_certificate: record.aws.map(|certificate| certificate.id),
    })
}
