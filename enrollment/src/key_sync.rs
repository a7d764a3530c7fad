//! Which SSH keys of a registry count: those of permitted uploads, one a device.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet, HashMap};

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
    /// Another device of the system has the same key, and had it first.
    #[error("it is the key of `{holder}`, which had it first")]
    Shared {
        /// Whose it is.
        holder: DeviceId,
    },
}

/// A key that may count.
struct Candidate {
    key: DeviceKey,
    title: Title,
    author: Author,
    arrived: u64,
}

/// Reads the keys that count from the registry.
///
/// An author who may not upload for a device cannot take its key away either: such an upload is as good as none. Of
/// several permitted ones under a title the first that the registry names counts, which is the newest; when that one is
/// no good, the device has no key, because an older one may have been given up for a reason.
///
/// Public keys are no secret, and whoever uploads one need not have the private half. So of devices of one system with
/// the same key it stays with the one that `holds` it now, or else with the one for which it came first.
pub async fn permitted_keys(
    registry: &impl Registry,
    realm: &Label,
    permission: &UploadPermission,
    holds: impl Fn(&DeviceKey) -> bool,
) -> Result<PermittedKeys, RegistryError> {
    let entries = within_limit(registry.list(Kind::SshPublicKey)).await?;
    Ok(PermittedKeys::of(entries, realm, permission, holds))
}

impl PermittedKeys {
    /// The keys that count among these uploads.
    pub fn of(
        entries: Vec<Entry>,
        realm: &Label,
        permission: &UploadPermission,
        holds: impl Fn(&DeviceKey) -> bool,
    ) -> Self {
        let mut found = Self::default();
        let (mut decided, mut candidates) = (BTreeSet::new(), Vec::new());
        for entry in entries {
            let id = entry.title.id().clone();
            if id.realm() != realm || decided.contains(&id) {
                continue;
            }
            let (title, author, arrived) = (entry.title, entry.author, entry.arrived);
            let key = if permission.permits(&author, &id) {
                decided.insert(id.clone());
                usable(&id, entry.body)
            } else {
                Err(LeftOutReason::NotPermitted)
            };
            match key {
                Ok(key) => candidates.push(Candidate {
                    key,
                    title,
                    author,
                    arrived,
                }),
                Err(reason) => found.left_out.push(LeftOut {
                    title,
                    author,
                    reason,
                }),
            }
        }
        candidates.sort_by_key(|candidate| (!holds(&candidate.key), candidate.arrived));
        found.take(candidates);
        found
    }

    /// Leaves out the keys to which `keep` says no.
    pub fn retain(&mut self, keep: impl Fn(&DeviceKey) -> bool) {
        self.keys.retain(|_, key| keep(key));
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

    /// Takes these in their order; of equal ones within a system the first.
    fn take(&mut self, candidates: Vec<Candidate>) {
        let mut holders: HashMap<(Label, Vec<u8>), DeviceId> = HashMap::new();
        for Candidate {
            key, title, author, ..
        } in candidates
        {
            // What was parsed can be written again.
            let Ok(blob) = key.key().to_bytes() else {
                continue;
            };
            let id = key.id().clone();
            match holders.entry((id.system().clone(), blob)) {
                Place::Vacant(vacant) => {
                    vacant.insert(id.clone());
                    self.keys.insert(id, key);
                }
                Place::Occupied(held) => self.left_out.push(LeftOut {
                    title,
                    author,
                    reason: LeftOutReason::Shared {
                        holder: held.get().clone(),
                    },
                }),
            }
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

    /// The owner's own line, which names the device.
    fn entry(id: &str, uid: u32, key: &str) -> Entry {
        let body = format!("{key} {id}");
        Entry {
            title: Title::new(id.parse().unwrap(), Kind::SshPublicKey),
            author: Author::LocalUser { uid },
            revision: Revision::of_body(&body),
            body: Ok(body),
            arrived: 1,
        }
    }

    fn permitted(entries: Vec<Entry>) -> PermittedKeys {
        permitted_holding(entries, |_| false)
    }

    fn permitted_holding(entries: Vec<Entry>, holds: impl Fn(&DeviceKey) -> bool) -> PermittedKeys {
        let only_seven = UploadPermission::new(|author, _| {
            Decision::of(*author == Author::LocalUser { uid: 7 })
        });
        PermittedKeys::of(entries, &"atlas".parse().unwrap(), &only_seven, holds)
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
    fn a_copied_key_stays_with_whom_it_was_and_the_copy_is_told() {
        let uploads = || {
            let copy = entry("1.hula.atlas", 7, KEY);
            let own = entry("controller-v.hula.atlas", 7, KEY);
            vec![
                Entry { arrived: 9, ..copy },
                Entry { arrived: 5, ..own },
                entry("334.hula.atlas", 7, OTHER),
            ]
        };
        let keys = permitted(uploads());
        assert_eq!(ids(&keys), ["334.hula.atlas", "controller-v.hula.atlas"]);
        let [left_out] = keys.left_out() else {
            panic!("{:?}", keys.left_out())
        };
        assert_eq!(left_out.title.to_string(), "1.hula.atlas.sshkey.pub");
        assert_eq!(
            left_out.reason.to_string(),
            "it is the key of `controller-v.hula.atlas`, which had it first"
        );
        // Whoever uploads his own anew does not lose it to an older copy.
        let holder: DeviceId = "1.hula.atlas".parse().unwrap();
        let keys = permitted_holding(uploads(), |key| *key.id() == holder);
        assert_eq!(ids(&keys), ["1.hula.atlas", "334.hula.atlas"]);
    }

    #[test]
    fn a_copy_in_another_system_is_its_own() {
        let keys = permitted(vec![
            entry("5.kiwi.atlas", 7, KEY),
            entry("controller-v.hula.atlas", 7, KEY),
        ]);
        assert_eq!(ids(&keys), ["5.kiwi.atlas", "controller-v.hula.atlas"]);
        assert!(keys.left_out().is_empty());
    }
}
