//! `tunnel policies`

use std::collections::BTreeSet;
use std::path::PathBuf;

use policies::{PolicySet, RoleDocument, render};
use protocol::{DeviceId, Role};
use signer::{CertificateState, Revocations, ledger};
use time::OffsetDateTime;

use crate::arguments::PoliciesAws;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::serve::Realm;

/// The policy documents for AWS IoT Core.
pub(crate) fn aws(dir: Option<PathBuf>, arguments: &PoliciesAws) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let mut documents = serde_json::Map::new();
    for role in RoleDocument::ALL {
        let policy = role
            .policy()
            .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        let text = render::aws(
            &policy,
            &arguments.region,
            &arguments.account,
            realm.file().realm.as_str(),
        )
        .map_err(|error| Failure::new(error, None, exit::USAGE))?;
        let document = serde_json::from_str(&text)
            .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
        documents.insert(role.name().to_owned(), document);
    }
    let text = serde_json::to_string_pretty(&documents)
        .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    output::line(text);
    Ok(exit::OK)
}

/// The access control list for mosquitto, of those whose certificates are good. What was signed stands in the signer's
/// journal: the registry, which strangers write to, is not asked.
pub(crate) fn mosquitto(dir: Option<PathBuf>) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let revoked = Revocations::new(realm.dir().clone()).current()?;
    let signed: BTreeSet<DeviceId> = ledger(realm.dir(), &revoked, OffsetDateTime::now_utc())?
        .into_iter()
        .filter(|entry| is_good(entry.state) && !revoked.shuts_out(&entry.id))
        .map(|entry| entry.id)
        .collect();
    let failure = |error: Box<dyn std::error::Error + Send + Sync>| {
        Failure::text(error.to_string(), None, exit::FAILURE)
    };
    let mut devices = Vec::new();
    for id in signed {
        let role = match id.role() {
            Role::Controller => RoleDocument::Controller,
            Role::Target => RoleDocument::Target,
        };
        let name = realm.file().client_id_suffix.client_id(&id);
        let device = render::Device::new(&name, id.device().as_str(), id.system().as_str(), role);
        devices.push(device.map_err(|error| failure(error.into()))?);
    }
    let set =
        PolicySet::for_realm(realm.file().realm.as_str()).map_err(|error| failure(error.into()))?;
    let text = render::mosquitto(&set, &devices).map_err(|error| failure(error.into()))?;
    output::line(text.trim_end());
    Ok(exit::OK)
}

/// Whether a certificate opens the broker's door, now or as soon as it is handed out.
fn is_good(state: CertificateState) -> bool {
    match state {
        CertificateState::Pending | CertificateState::Valid => true,
        CertificateState::Deleted
        | CertificateState::Expired
        | CertificateState::Inactive
        | CertificateState::Revoked => false,
    }
}
