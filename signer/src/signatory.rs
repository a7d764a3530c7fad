//! Who signs.

use std::sync::Arc;

use daemon::realm_dir::RealmDir;
use enrollment::Revoked;
use protocol::{DeviceId, Label};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;

#[cfg(feature = "aws")]
use crate::aws::Aws;
use crate::{
    Authority, LedgerEntry, LedgerError, Revocation, RevocationError, Revocations, SignError,
    ledger,
};

/// What a signer's certificates come from.
#[derive(Clone, Debug)]
pub enum Signatory {
    /// The realm's own authority.
    Realm(Arc<Authority>),
    /// AWS IoT Core.
    #[cfg(feature = "aws")]
    Aws(Arc<Aws>),
}

impl Signatory {
    /// For which realm.
    pub fn realm(&self) -> &Label {
        match self {
            Self::Realm(authority) => authority.realm(),
            #[cfg(feature = "aws")]
            Self::Aws(aws) => aws.realm(),
        }
    }

    /// Looks whether it can sign, as far as that can be seen without a request.
    #[cfg_attr(
        not(feature = "aws"),
        expect(clippy::unused_async, reason = "AWS is asked")
    )]
    pub async fn ready(&self) -> Result<(), SignError> {
        match self {
            Self::Realm(_) => Ok(()),
            #[cfg(feature = "aws")]
            Self::Aws(aws) => Ok(aws.ready().await?),
        }
    }

    /// What it has signed, by name and then by age.
    #[cfg_attr(
        not(feature = "aws"),
        expect(clippy::unused_async, reason = "AWS is asked")
    )]
    pub async fn ledger(
        &self,
        directory: &RealmDir,
        revoked: &Revoked,
        now: OffsetDateTime,
    ) -> Result<Vec<LedgerEntry>, LedgerError> {
        match self {
            Self::Realm(_) => Ok(ledger(directory, revoked, now)?),
            #[cfg(feature = "aws")]
            Self::Aws(aws) => aws.ledger(directory, revoked, now).await,
        }
    }

    /// Shuts a device out and revokes every certificate of it. May be done again, also after an interruption.
    pub async fn revoke(
        &self,
        directory: &RealmDir,
        id: &DeviceId,
        now: OffsetDateTime,
    ) -> Result<Revocation, RevocationError> {
        match self {
            Self::Realm(authority) => {
                let revocations = Revocations::new(directory.clone());
                let (authority, id) = (Arc::clone(authority), id.clone());
                spawn_blocking(move || revocations.revoke(&authority, &id, now))
                    .await
                    .unwrap_or(Err(RevocationError::Cut))
            }
            #[cfg(feature = "aws")]
            Self::Aws(aws) => aws.revoke(directory, id, now).await,
        }
    }
}

impl From<Authority> for Signatory {
    fn from(authority: Authority) -> Self {
        Self::Realm(Arc::new(authority))
    }
}

#[cfg(feature = "aws")]
impl From<Aws> for Signatory {
    fn from(aws: Aws) -> Self {
        Self::Aws(Arc::new(aws))
    }
}
