//! `tunnel signer list`, `tunnel signer revoke` and `tunnel signer readmit`

use std::path::PathBuf;

use daemon::realm_dir::RealmDir;
use enrollment::registry::within_limit;
use enrollment::{AnyRegistry, Kind, Registry, RegistryError, Title};
use protocol::DeviceId;
use serde_json::json;
use signer::{Authority, Revocations, ledger};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::arguments::{SignerDevice, SignerList};
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::passphrase;
use crate::runtime;
use crate::serve::Realm;

/// The realm's authority, with its key.
pub(crate) fn authority(dir: &RealmDir) -> Result<Authority, Failure> {
    passphrase::authority(&dir.authority())
}

/// `tunnel signer list`
pub(crate) fn list(dir: Option<PathBuf>, arguments: &SignerList) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let revoked = Revocations::new(realm.dir().clone()).current()?;
    let entries = ledger(realm.dir(), &revoked, OffsetDateTime::now_utc())?;
    let expires = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_else(|_| at.to_string());
    if arguments.json {
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| {
                json!({
                    "device": entry.id,
                    "serial": entry.serial,
                    "not_after": expires(entry.not_after),
                    "state": entry.state,
                    "shut_out": revoked.shuts_out(&entry.id),
                })
            })
            .collect();
        output::line(json!(entries));
        return Ok(exit::OK);
    }
    let width = entries
        .iter()
        .map(|entry| entry.id.to_string().len())
        .max()
        .unwrap_or_default();
    for entry in &entries {
        output::line(format_args!(
            "{:width$}  {}  {}  {}",
            entry.id.to_string(),
            entry.serial,
            expires(entry.not_after),
            entry.state.as_str()
        ));
    }
    Ok(exit::OK)
}

/// `tunnel signer revoke`
pub(crate) fn revoke(dir: Option<PathBuf>, arguments: &SignerDevice) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let id = &arguments.device;
    of_this_realm(&realm, id)?;
    let authority = authority(realm.dir())?;
    let now = OffsetDateTime::now_utc();
    let revocation = Revocations::new(realm.dir().clone()).revoke(&authority, id, now)?;
    for serial in &revocation.serials {
        output::line(format_args!("{id}: certificate {serial} revoked"));
    }
    if revocation.serials.is_empty() {
        output::line(format_args!("{id}: there is no certificate to revoke"));
    }
    output::line(format_args!(
        "{id}: {}",
        if revocation.was_shut_out {
            "was shut out before"
        } else {
            "shut out"
        }
    ));
    // What follows needs the registry; the revocation list, which does not, is written already.
    let registry = realm.registry()?.permitting(realm.permission()?);
    let withdrawn = runtime::block_on(async { Ok(withdraw(&registry, id).await?) })?;
    for title in withdrawn {
        output::line(format_args!("{title}: withdrawn"));
    }
    Ok(exit::OK)
}

/// `tunnel signer readmit`
pub(crate) fn readmit(dir: Option<PathBuf>, arguments: &SignerDevice) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let id = &arguments.device;
    of_this_realm(&realm, id)?;
    if Revocations::new(realm.dir().clone()).readmit(id)? {
        output::line(format_args!(
            "{id}: may enroll again, with new keys; its old certificates stay revoked"
        ));
    } else {
        output::line(format_args!("{id}: was not shut out"));
    }
    Ok(exit::OK)
}

/// Takes what the device has in the registry out of it: its SSH key, its certificate.
async fn withdraw(registry: &AnyRegistry, id: &DeviceId) -> Result<Vec<Title>, RegistryError> {
    let mut withdrawn = Vec::new();
    for kind in [Kind::SshPublicKey, Kind::Certificate] {
        let title = Title::new(id.clone(), kind);
        if let Some(entry) = within_limit(registry.get(&title)).await? {
            within_limit(registry.close(&title, &entry.revision)).await?;
            withdrawn.push(title);
        }
    }
    Ok(withdrawn)
}

fn of_this_realm(realm: &Realm, id: &DeviceId) -> Result<(), Failure> {
    if *id.realm() == realm.file().realm {
        return Ok(());
    }
    Err(Failure::text(
        format!("`{id}` is not of the realm `{}`", realm.file().realm),
        Some("devices are named `DEVICE.SYSTEM.REALM`"),
        exit::USAGE,
    ))
}
