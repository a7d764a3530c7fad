//! Revoking a device at AWS: its certificates are revoked there, whoever has made them, and lose their policies.

use daemon::realm_dir::RealmDir;
use enrollment::revoked::RevokedCertificate;
use protocol::DeviceId;
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use super::Aws;
use super::calls::Status;
use crate::{Revocation, RevocationError, Revocations, journal};

impl Aws {
    /// Shuts a device out here, and then revokes each certificate of its name in the account. AWS ends its connections within
    /// minutes. May be done again, also after an interruption: what was done is left as it is.
    pub async fn revoke(
        &self,
        directory: &RealmDir,
        id: &DeviceId,
        now: OffsetDateTime,
    ) -> Result<Revocation, RevocationError> {
        let revocations = Revocations::new(directory.clone());
        // First, so that the signer makes no new one meanwhile.
        let (shut_out, device) = (revocations.clone(), id.clone());
        let was_shut_out = blocking(move || shut_out.shut_out(&device, now)).await?;
        let journal = directory.signer();
        let records = blocking(move || Ok(journal::records(&journal)?)).await?;

        let mut serials = Vec::new();
        let mut certificates = Vec::new();
        for held in self.of_this_realm(&records).await? {
            if held.content.id != *id {
                continue;
            }
            if held.status != Status::Revoked {
                self.update(&held.certificate_id, "REVOKED").await?;
                serials.push(held.content.serial.clone());
            }
            for policy in self.attached_policies(&held.arn).await? {
                self.detach_policy(&policy, &held.arn).await?;
            }
            certificates.push(RevokedCertificate {
                serial: held.content.serial,
                id: id.clone(),
                since: now.unix_timestamp(),
                not_after: held.content.not_after.unix_timestamp(),
                key: held.content.key,
            });
        }
        blocking(move || revocations.add(certificates)).await?;
        Ok(Revocation {
            serials,
            was_shut_out,
            unreadable: Vec::new(),
        })
    }
}

/// Runs what waits for files and locks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RevocationError> + Send + 'static,
) -> Result<T, RevocationError> {
    spawn_blocking(work)
        .await
        .unwrap_or(Err(RevocationError::Cut))
}
