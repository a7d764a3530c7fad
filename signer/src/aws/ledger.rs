//! What there is, as AWS sees it.

use std::collections::{HashMap, HashSet};

use daemon::realm_dir::RealmDir;
use enrollment::Revoked;
use time::OffsetDateTime;

use super::Aws;
use super::calls::Status;
use crate::journal::{self, Record};
use crate::ledger::{CertificateState, LedgerEntry, LedgerError, entry, sort};

impl Aws {
    /// Every certificate of this realm's devices in the account, and those of the journal that are not there any more.
    pub async fn ledger(
        &self,
        directory: &RealmDir,
        revoked: &Revoked,
        now: OffsetDateTime,
    ) -> Result<Vec<LedgerEntry>, LedgerError> {
        let records = journal::records(&directory.signer())?;
        let delivered: HashMap<&str, bool> = records
            .iter()
            .filter_map(|record| Some((record.aws.as_ref()?.id.as_str(), record.delivered)))
            .collect();
        let mut there = HashSet::new();
        let mut entries = Vec::new();
        for held in self.of_this_realm(&records).await? {
            let is_delivered = delivered.get(held.certificate_id.as_str());
            let expired = held.content.not_after < now;
            let state = match held.status {
                Status::Revoked => CertificateState::Revoked,
                Status::Active if expired => CertificateState::Expired,
                Status::Active if is_delivered == Some(&false) => CertificateState::Pending,
                Status::Active => CertificateState::Valid,
                Status::Inactive | Status::Other => CertificateState::Inactive,
            };
            there.insert(held.certificate_id.clone());
            entries.push(LedgerEntry {
                id: held.content.id,
                serial: held.content.serial,
                not_after: held.content.not_after,
                state,
                certificate_pem: held.certificate_pem,
                aws_certificate: Some(held.certificate_id),
            });
        }
        // Those of a time before AWS signed, and those that somebody has deleted.
        let is_there = |record: &Record| {
            record
                .aws
                .as_ref()
                .is_some_and(|aws| there.contains(&aws.id))
        };
        let gone = records.iter().filter(|record| !is_there(record)).cloned();
        entries.extend(gone.filter_map(|record| {
            let deleted = record.aws.is_some();
            let mut entry = entry(record, revoked, now)?;
            if deleted {
                entry.state = CertificateState::Deleted;
            }
            Some(entry)
        }));
        sort(&mut entries);
        Ok(entries)
    }
}
