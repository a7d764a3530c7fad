//! What revoked devices have in the registry: it is taken out, and taken out again when somebody brings it back.
//!
//! Remote computers read their controllers' keys in the registry, and not in the realm's directory, where it stands what is
//! revoked. So what is not to count must not lie there.

use std::collections::BTreeSet;
use std::sync::Arc;

use daemon::report::one_line;
use enrollment::registry::within_limit;
use enrollment::{Decision, DeviceKey, Entry, Kind, Registry, RegistryError, Revoked, Title};
use protocol::DeviceId;
use tokio::task::spawn_blocking;

use crate::Rules;
use crate::turn::Courtesy;

/// Takes everything of this device out of the registry: its SSH keys and its certificates, whoever of those who may has
/// brought them. Returns how many entries there were under which title.
pub async fn withdraw(
    registry: &impl Registry,
    id: &DeviceId,
) -> Result<Vec<(Title, usize)>, RegistryError> {
    let mut withdrawn = Vec::new();
    for kind in KINDS {
        let title = Title::new(id.clone(), kind);
        let count = close_all(registry, &title).await?;
        if count > 0 {
            withdrawn.push((title, count));
        }
    }
    Ok(withdrawn)
}

/// Takes out what has been brought again of devices that are shut out, and the revoked keys of those that were readmitted.
/// One entry a title: who brings more than that has the rest taken out later, and keeps nobody waiting. What cannot be taken
/// out does not keep the others in.
pub(crate) async fn sweep(
    registry: &impl Registry,
    rules: &Arc<Rules>,
    revoked: &Revoked,
    courtesy: &mut Courtesy,
) {
    for title in titles(revoked) {
        match take_out(registry, rules, revoked, &title, courtesy).await {
            Ok(true) => tracing::warn!(%title, "taken out of the registry: it is revoked"),
            Ok(false) => {}
            Err(error) => {
                let reason = one_line(&error);
                tracing::warn!(%title, error = reason, "cannot take out of the registry what is revoked");
                // The others would fail in the same way.
                if error.is_passing() {
                    return;
                }
            }
        }
    }
}

/// Under which titles there may be something that is revoked.
fn titles(revoked: &Revoked) -> BTreeSet<Title> {
    let devices = revoked.devices.iter();
    let shut_out = devices.flat_map(|device| KINDS.map(|kind| Title::new(device.id.clone(), kind)));
    let keys = revoked.ssh_keys.iter();
    let keys = keys.map(|key| Title::new(key.id.clone(), Kind::SshPublicKey));
    shut_out.chain(keys).collect()
}

/// Takes out the entry of this title if it is revoked. Those of strangers count nowhere; they can bring as many as they
/// like, and are served like other strangers.
async fn take_out(
    registry: &impl Registry,
    rules: &Arc<Rules>,
    revoked: &Revoked,
    title: &Title,
    courtesy: &mut Courtesy,
) -> Result<bool, RegistryError> {
    let found = within_limit(registry.get(title)).await?;
    let Some(entry) = found.filter(|entry| is_revoked(revoked, entry)) else {
        return Ok(false);
    };
    // Certificates are the signer's own.
    if title.kind() == Kind::SshPublicKey {
        let (rules, author, id) = (Arc::clone(rules), entry.author, title.id().clone());
        let decided = spawn_blocking(move || rules.permission.decided(&author, &id)).await;
        if decided.map_err(|_| RegistryError::Cut)? != Decision::Permitted {
            if courtesy.is_over() {
                return Ok(false);
            }
            courtesy.spend();
        }
    }
    within_limit(registry.close(title, &entry.revision)).await?;
    Ok(true)
}

fn is_revoked(revoked: &Revoked, entry: &Entry) -> bool {
    let id = entry.title.id();
    let key = || DeviceKey::parse(id, entry.body.as_deref().unwrap_or_default());
    revoked.shuts_out(id) || key().is_ok_and(|key| revoked.has_ssh_key(id, key.key()))
}

/// Closes the entries of a title, one after the other. Returns how many there were.
async fn close_all(registry: &impl Registry, title: &Title) -> Result<usize, RegistryError> {
    let mut closed = BTreeSet::new();
    while closed.len() < MAX_ENTRIES {
        let Some(entry) = within_limit(registry.get(title)).await? else {
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

/// What a device has in the registry beside its requests.
const KINDS: [Kind; 2] = [Kind::SshPublicKey, Kind::Certificate];

/// The most entries of one title that are taken out at once. Those that count come first, and of their authors there are a
/// few: what is left beyond that is of strangers.
const MAX_ENTRIES: usize = 32;
