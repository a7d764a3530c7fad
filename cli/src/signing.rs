//! `tunnel signer list`, `tunnel signer revoke` and `tunnel signer readmit`

use std::collections::BTreeMap;
use std::path::PathBuf;

use enrollment::key_directory::KeyDirectory;
use enrollment::{DeviceKey, permitted_keys};
use protocol::DeviceId;
use serde_json::json;
use signer::{Revocations, Unreadable, readable_ledger, withdraw};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::arguments::{SignerDevice, SignerList};
use crate::exit;
use crate::failure::Failure;
use crate::keys::proxy_sync::{key_path, own_directory};
use crate::output;
use crate::runtime;
use crate::serve::Realm;
use crate::signatory::{aws_rules, signatory};

/// `tunnel signer list`
pub(crate) fn list(dir: Option<PathBuf>, arguments: &SignerList) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let revoked = Revocations::new(realm.dir().clone()).current()?;
    let now = OffsetDateTime::now_utc();
    let mut unreadable = Vec::new();
    // What the realm's own authority has signed can be seen without its key.
    let entries = if aws_rules(&realm).is_some() {
        let signatory = signatory(&realm)?;
        runtime::block_on(async { Ok(signatory.ledger(realm.dir(), &revoked, now).await?) })?
    } else {
        let seen = readable_ledger(realm.dir(), &revoked, now)?;
        unreadable = seen.unreadable;
        seen.entries
    };
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
                    "aws_certificate": entry.aws_certificate,
                    "shut_out": revoked.shuts_out(&entry.id),
                })
            })
            .collect();
        output::line(json!(entries));
        return tell_unreadable(&unreadable);
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
    tell_unreadable(&unreadable)
}

/// `tunnel signer revoke`
pub(crate) fn revoke(dir: Option<PathBuf>, arguments: &SignerDevice) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let id = &arguments.device;
    of_this_realm(&realm, id)?;
    let signatory = signatory(&realm)?;
    let now = OffsetDateTime::now_utc();
    let revocation = runtime::block_on(async { Ok(signatory.revoke(realm.dir(), id, now).await) })?;
    let keys = Keys {
        realm: &realm,
        id,
        now,
    };
    let revocation = match revocation {
        Ok(revocation) => revocation,
        Err(error) => {
            // The way through the proxy is closed even when AWS cannot be reached.
            if error.is_remote() {
                keys.take_away()?;
            }
            return Err(error.into());
        }
    };
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
    keys.take_away()?;
    tell_unreadable(&revocation.unreadable)
}

/// `tunnel signer readmit`
pub(crate) fn readmit(dir: Option<PathBuf>, arguments: &SignerDevice) -> Result<u8, Failure> {
    let realm = Realm::load(dir)?;
    let id = &arguments.device;
    of_this_realm(&realm, id)?;
    if Revocations::new(realm.dir().clone()).readmit(id)? {
        output::line(format_args!(
            "{id}: may enroll again, with new keys; its old certificates and SSH keys stay revoked"
        ));
    } else {
        output::line(format_args!("{id}: was not shut out"));
    }
    Ok(exit::OK)
}

/// What a revoked device has besides certificates.
struct Keys<'a> {
    realm: &'a Realm,
    id: &'a DeviceId,
    now: OffsetDateTime,
}

impl Keys<'_> {
    /// Revokes its SSH keys, and takes what it has out of the registry. First what the registry is not needed for.
    fn take_away(&self) -> Result<(), Failure> {
        let directory = self.key_directory()?;
        let failed = |error| Failure::new(error, None, exit::FAILURE);
        let present = match &directory {
            Some(directory) => directory.keys().map_err(failed)?,
            None => BTreeMap::new(),
        };
        self.revoke(present.get(self.id))?;
        let permission = self.realm.permission()?;
        let registry = self.realm.registry()?.permitting(permission.clone());
        let holds = |key: &DeviceKey| present.get(key.id()) == Some(key);
        let name = self.id.realm();
        // At one go: a connection to GitHub ends with the runtime in which it was made.
        let withdrawn = runtime::block_on(async {
            let permitted = permitted_keys(&registry, name, &permission, holds).await?;
            // Before they are taken out: afterwards nobody knows which they were.
            self.revoke(permitted.keys().get(self.id))?;
            Ok(withdraw(&registry, self.id).await?)
        })?;
        for (title, count) in withdrawn {
            let times = if count > 1 {
                format!(" {count} times")
            } else {
                String::new()
            };
            output::line(format_args!("{title}: withdrawn{times}"));
        }
        Ok(())
    }

    fn revoke(&self, key: Option<&DeviceKey>) -> Result<(), Failure> {
        let keys: Vec<_> = key.cloned().into_iter().collect();
        let revocations = Revocations::new(self.realm.dir().clone());
        for fingerprint in revocations.revoke_ssh_keys(&keys, self.now)? {
            output::line(format_args!("{}: SSH key {fingerprint} revoked", self.id));
        }
        Ok(())
    }

    /// The proxy's own directory of keys, if there is one on this computer.
    fn key_directory(&self) -> Result<Option<KeyDirectory>, Failure> {
        let (dir, file) = (self.realm.dir(), self.realm.file());
        if !key_path(dir, file)?.is_dir() {
            return Ok(None);
        }
        own_directory(dir, file)
    }
}

fn tell_unreadable(unreadable: &[Unreadable]) -> Result<u8, Failure> {
    let Some(first) = unreadable.first() else {
        return Ok(exit::OK);
    };
    let faults: Vec<_> = unreadable.iter().map(|one| one.fault.as_str()).collect();
    Err(Failure::text(
        format!(
            "not everything that was signed can be read: {}",
            faults.join("; ")
        ),
        first.hint.as_deref(),
        exit::FAILURE,
    ))
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
