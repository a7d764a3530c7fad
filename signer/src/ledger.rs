//! What has been issued, for whoever wants to look: no lock is taken, and a signer may be at work meanwhile.

use std::path::Path;

use daemon::realm_dir::RealmDir;
use enrollment::{Revision, Revoked, Title, pem_block};
use protocol::DeviceId;
use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::JournalError;
use crate::journal::{self, Record};

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
}

/// Whether a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CertificateState {
    /// It is past its end.
    Expired,
    /// It is made, and not yet handed out.
    Pending,
    /// It has been revoked.
    Revoked,
    /// It is good.
    Valid,
}

/// Everything that the signer of this realm's directory has issued, by name and then by age.
pub fn ledger(
    realm: &RealmDir,
    revoked: &Revoked,
    now: OffsetDateTime,
) -> Result<Vec<LedgerEntry>, JournalError> {
    entries(&realm.signer(), revoked, now)
}

pub(crate) fn entries(
    journal: &Path,
    revoked: &Revoked,
    now: OffsetDateTime,
) -> Result<Vec<LedgerEntry>, JournalError> {
    let mut entries: Vec<_> = journal::records(journal)?
        .into_iter()
        .filter_map(|record| entry(record, revoked, now))
        .collect();
    entries.sort_by(|a, b| (&a.id, a.not_after, &a.serial).cmp(&(&b.id, b.not_after, &b.serial)));
    Ok(entries)
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
            Self::Expired => "expired",
            Self::Pending => "pending",
            Self::Revoked => "revoked",
            Self::Valid => "valid",
        }
    }
}

/// The signer writes no record that this cannot read.
fn entry(record: Record, revoked: &Revoked, now: OffsetDateTime) -> Option<LedgerEntry> {
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
    })
}
