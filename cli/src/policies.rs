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
        let policy = broker::load_policy(Some(&realm.dir().policies()), role)
            .map_err(|error| Failure::new(error, None, exit::CONFIG))?;
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

/// The access control list for mosquitto.
pub(crate) fn mosquitto(dir: Option<PathBuf>) -> Result<u8, Failure> {
    let (policies, devices) = fleet(dir)?;
    let text = render::mosquitto(&policies, &devices).map_err(unwritable)?;
    output::line(text.trim_end());
    Ok(exit::OK)
}

/// The accounts and users for nats-server.
pub(crate) fn nats(dir: Option<PathBuf>) -> Result<u8, Failure> {
    let (policies, devices) = fleet(dir)?;
    let text = render::nats(&policies, &devices).map_err(unwritable)?;
    output::line(text.trim_end());
    Ok(exit::OK)
}

/// The realm's policies, and every device whose certificate is good. What was signed stands in the signer's journal: the
/// registry, which strangers write to, is not asked.
fn fleet(dir: Option<PathBuf>) -> Result<(PolicySet, Vec<render::Device>), Failure> {
    let realm = Realm::load(dir)?;
    let revoked = Revocations::new(realm.dir().clone()).current()?;
    let signed: BTreeSet<DeviceId> = ledger(realm.dir(), &revoked, OffsetDateTime::now_utc())?
        .into_iter()
        .filter(|entry| is_good(entry.state) && !revoked.shuts_out(&entry.id))
        .map(|entry| entry.id)
        .collect();
    let mut devices = Vec::new();
    for id in signed {
        let role = match id.role() {
            Role::Controller => RoleDocument::Controller,
            Role::Target => RoleDocument::Target,
        };
        let name = realm.file().client_id_suffix.client_id(&id);
        let device = render::Device::new(&name, id.device().as_str(), id.system().as_str(), role);
        devices.push(device.map_err(unwritable)?);
    }
    let policies = broker::load_policies(Some(&realm.dir().policies()), &realm.file().realm)
        .map_err(|error| Failure::new(error, None, exit::CONFIG))?;
    Ok((policies, devices))
}

fn unwritable(error: impl std::error::Error) -> Failure {
    Failure::text(error.to_string(), None, exit::FAILURE)
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
