//! What revoked devices have in the registry: it is taken out, and taken out again when somebody brings it back.
//!
//! Remote computers read their controllers' keys in the registry, and not in the realm's directory, where it stands what is
//! revoked. So what is not to count must not lie there.

use std::collections::BTreeSet;

use daemon::report::one_line;
use enrollment::registry::within_limit;
use enrollment::{DeviceKey, Entry, Kind, Registry, RegistryError, Revoked, Title};
use protocol::DeviceId;

/// Takes everything of this device out of the registry: its SSH keys and its certificates, whoever of those who may has
/// brought them. Returns how many entries there were under which title.
pub async fn withdraw(
    registry: &impl Registry,
    id: &DeviceId,
) -> Result<Vec<(Title, usize)>, RegistryError> {
    let mut withdrawn = Vec::new();
    for kind in [Kind::SshPublicKey, Kind::Certificate] {
        let title = Title::new(id.clone(), kind);
        let count = close(registry, &title, |_| true, MAX_ENTRIES).await?;
        if count > 0 {
            withdrawn.push((title, count));
        }
    }
    Ok(withdrawn)
}

/// Takes out what has been brought again of devices that are shut out, and the revoked keys of those that were readmitted.
/// One entry a title: a stranger who brings more than that has the rest taken out later, and keeps nobody waiting.
pub(crate) async fn sweep(registry: &impl Registry, revoked: &Revoked) {
    if let Err(error) = try_sweep(registry, revoked).await {
        let error = one_line(&error);
        tracing::warn!(
            error,
            "cannot take the keys of revoked devices out of the registry"
        );
    }
}

async fn try_sweep(registry: &impl Registry, revoked: &Revoked) -> Result<(), RegistryError> {
    let mut titles: BTreeSet<Title> = BTreeSet::new();
    for device in &revoked.devices {
        for kind in [Kind::SshPublicKey, Kind::Certificate] {
            titles.insert(Title::new(device.id.clone(), kind));
        }
    }
    for key in &revoked.ssh_keys {
        titles.insert(Title::new(key.id.clone(), Kind::SshPublicKey));
    }
    for title in titles {
        let is_revoked = |entry: &Entry| {
            let key = || DeviceKey::parse(title.id(), entry.body.as_deref().unwrap_or_default());
            revoked.shuts_out(title.id())
                || key().is_ok_and(|key| revoked.has_ssh_key(title.id(), key.key()))
        };
        if close(registry, &title, is_revoked, 1).await? > 0 {
            tracing::warn!(%title, "taken out of the registry: it is revoked");
        }
    }
    Ok(())
}

async fn close(
    registry: &impl Registry,
    title: &Title,
    which: impl Fn(&Entry) -> bool,
    limit: usize,
) -> Result<usize, RegistryError> {
    let mut closed = BTreeSet::new();
    while closed.len() < limit {
        let found = within_limit(registry.get(title)).await?;
        let Some(entry) = found.filter(&which) else {
            break;
        };
        // Somebody else may be changing it: it is not fought for.
        if !closed.insert(entry.revision.to_string()) {
            break;
        }
        within_limit(registry.close(title, &entry.revision)).await?;
    }
    Ok(closed.len())
}

/// The most entries of one title that are taken out at once. Those that count come first, and of their authors there are a
/// few: what is left beyond that is of strangers.
const MAX_ENTRIES: usize = 32;
