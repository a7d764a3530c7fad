//! Certificates from AWS IoT Core, whose broker admits nobody else's.
//!
//! A certificate is made inactive, written into the journal, given its policy, and only then made active. AWS knows no token by
//! which a repeated `CreateCertificateFromCsr` would be the same call; so **no more than one certificate of a request is ever
//! active**, because only the one in the journal is made so. What an interruption between the making and the journal leaves
//! behind is inactive, and the next run finds it and goes on with it (`issue`).

mod account;
mod answer;
mod calls;
mod connection;
mod error;
mod intent;
mod issue;
mod ledger;
mod revoke;

use daemon::server_file::AwsRules;
use protocol::{ClientIdSuffix, DeviceId, Label, Role};

pub use self::error::AwsError;

use self::connection::Connection;

/// The signer's end of an AWS account, for one realm. Nothing is asked before the first call.
#[derive(Debug)]
pub struct Aws {
    realm: Label,
    suffix: ClientIdSuffix,
    rules: AwsRules,
    connection: Connection,
}

impl Aws {
    /// The account that these rules and the environment name.
    pub fn new(realm: Label, suffix: ClientIdSuffix, rules: AwsRules) -> Result<Self, AwsError> {
        let connection = Connection::new(rules.region.clone(), rules.endpoint.as_deref())?;
        Ok(Self {
            realm,
            suffix,
            rules,
            connection,
        })
    }

    /// Looks whether there are a region and credentials. No call is made to AWS IoT Core.
    pub async fn ready(&self) -> Result<(), AwsError> {
        self.connection.ready().await
    }

    pub(crate) fn realm(&self) -> &Label {
        &self.realm
    }

    /// The policy that a device gets: the name alone says which role it has.
    fn policy(&self, id: &DeviceId) -> &str {
        match id.role() {
            Role::Controller => &self.rules.controller_policy,
            Role::Target => &self.rules.target_policy,
        }
    }
}

pub(crate) use self::issue::record;
