//! Which SSH keys of a registry count: those of permitted uploads, one a device.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{DeviceId, Label};

use crate::public_key::KeyRefusal;
use crate::registry::within_limit;
use crate::{
    Author, BodyFault, DeviceKey, Entry, Kind, Registry, RegistryError, Title, UploadPermission,
};

/// The keys of a realm's devices at one moment.
#[derive(Debug, Default)]
pub struct PermittedKeys {
    keys: BTreeMap<DeviceId, DeviceKey>,
    left_out: Vec<LeftOut>,
}

/// An upload that does not count.
#[derive(Debug)]
pub struct LeftOut {
    /// Its title.
    pub title: Title,
    /// Who uploaded it.
    pub author: Author,
    /// Why it does not count.
    pub reason: LeftOutReason,
}

/// Why an uploaded key does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeftOutReason {
    /// Its text cannot be used.
    #[error("its text cannot be used: {0}")]
    Body(BodyFault),
    /// It is no key, or not one that is allowed.
    #[error("{0}")]
    Key(KeyRefusal),
    /// Its author may not upload for this device.
    #[error("its author may not upload for this device")]
    NotPermitted,
}

/// Reads the keys that count from the registry.
///
/// An author who may not upload for a device cannot take its key away either: such an upload is as good as none. Of
/// several permitted ones under a title the first that the registry names counts, which is the newest; when that one is
/// no good, the device has no key, because an older one may have been given up for a reason.
pub async fn permitted_keys(
    registry: &impl Registry,
    realm: &Label,
    permission: &UploadPermission,
) -> Result<PermittedKeys, RegistryError> {
    let entries = within_limit(registry.list(Kind::SshPublicKey)).await?;
    Ok(PermittedKeys::of(entries, realm, permission))
}

impl PermittedKeys {
    /// The keys that count among these uploads.
    pub fn of(entries: Vec<Entry>, realm: &Label, permission: &UploadPermission) -> Self {
        let mut found = Self::default();
        let mut decided = BTreeSet::new();
        for entry in entries {
            let id = entry.title.id().clone();
            if id.realm() != realm || decided.contains(&id) {
                continue;
            }
            let key = if permission.permits(&entry.author, &id) {
                decided.insert(id.clone());
                usable(&id, entry.body)
            } else {
                Err(LeftOutReason::NotPermitted)
            };
            match key {
                Ok(key) => drop(found.keys.insert(id, key)),
                Err(reason) => found.left_out.push(LeftOut {
                    title: entry.title,
                    author: entry.author,
                    reason,
                }),
            }
        }
        found.leave_out_shared();
        found
    }

    /// Leaves out the devices for which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(&DeviceId) -> bool) {
        self.keys.retain(|id, _| keep(id));
    }

    /// The keys, by device.
    pub fn keys(&self) -> &BTreeMap<DeviceId, DeviceKey> {
        &self.keys
    }

    /// The devices of one system with their keys.
    pub fn of_system<'a>(&'a self, system: &'a Label) -> impl Iterator<Item = &'a DeviceKey> {
        self.keys
            .values()
            .filter(move |key| key.id().system() == system)
    }

    /// The systems that have a device.
    pub fn systems(&self) -> BTreeSet<Label> {
        self.keys.keys().map(|id| id.system().clone()).collect()
    }

    /// What does not count.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    fn leave_out_shared(&mut self) {
        let mut owners: BTreeMap<Vec<u8>, Vec<DeviceId>> = BTreeMap::new();
        for (id, key) in &self.keys {
            if let Ok(blob) = key.key().to_bytes() {
                owners.entry(blob).or_default().push(id.clone());
            }
        }
        // Whoever holds such a key could be either.
        for id in owners.into_values().filter(|ids| ids.len() > 1).flatten() {
            self.keys.remove(&id);
            tracing::warn!(device = %id, "its key does not count: another device has the same one");
        }
    }
}

fn usable(id: &DeviceId, body: Result<String, BodyFault>) -> Result<DeviceKey, LeftOutReason> {
    let body = body.map_err(LeftOutReason::Body)?;
    DeviceKey::parse(id, &body).map_err(LeftOutReason::Key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decision, Revision};

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn entry(id: &str, uid: u32, body: &str) -> Entry {
        Entry {
            title: Title::new(id.parse().unwrap(), Kind::SshPublicKey),
            author: Author::LocalUser { uid },
            revision: Revision::of_body(body),
            body: Ok(body.to_owned()),
        }
    }

    fn permitted(entries: Vec<Entry>) -> PermittedKeys {
        let only_seven = UploadPermission::new(|author, _| {
            Decision::of(*author == Author::LocalUser { uid: 7 })
        });
        PermittedKeys::of(entries, &"atlas".parse().unwrap(), &only_seven)
    }

    fn ids(keys: &PermittedKeys) -> Vec<String> {
        keys.keys().keys().map(ToString::to_string).collect()
    }

    #[test]
    fn only_permitted_uploads_of_the_realm_count() {
        let keys = permitted(vec![
            entry("333.hula.atlas", 7, KEY),
            entry("334.hula.atlas", 8, OTHER),
            entry("335.hula.other", 7, OTHER),
        ]);
        assert_eq!(ids(&keys), ["333.hula.atlas"]);
        assert_eq!(keys.left_out().len(), 1);
        assert!(matches!(
            keys.left_out().first().unwrap().reason,
            LeftOutReason::NotPermitted
        ));
    }

    #[test]
    fn a_stranger_takes_no_key_away_and_the_newest_permitted_counts() {
        let keys = permitted(vec![
            entry("333.hula.atlas", 8, OTHER),
            entry("333.hula.atlas", 7, KEY),
            entry("333.hula.atlas", 7, OTHER),
        ]);
        let key = keys.keys().values().next().unwrap();
        assert!(key.key().to_openssh().unwrap().starts_with(KEY));
        let broken = permitted(vec![
            entry("333.hula.atlas", 7, "restrict ssh-ed25519 AAAA"),
            entry("333.hula.atlas", 7, KEY),
        ]);
        assert!(broken.keys().is_empty(), "no older key comes back to life");
    }

    #[test]
    fn a_key_of_two_devices_counts_for_neither() {
        let keys = permitted(vec![
            entry("333.hula.atlas", 7, KEY),
            entry("controller-a.hula.atlas", 7, KEY),
            entry("334.hula.atlas", 7, OTHER),
        ]);
        assert_eq!(ids(&keys), ["334.hula.atlas"]);
    }
}
