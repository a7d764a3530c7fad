//! The public keys that are admitted: what stands in a directory now, brought by those who may.

mod file;
mod permission;
mod store;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use protocol::{DeviceId, Label};
use russh::keys::PublicKey;

pub use self::permission::KeyPermission;
pub use self::store::{KeyStore, KeyStoreError};

/// The keys at one moment. Each counts within the system of its device only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    owners: HashMap<(Label, Vec<u8>), DeviceId>,
}

impl Keys {
    /// These keys. One that two devices of a system have belongs to the first of them: whoever copies somebody's public
    /// key under another name gains nothing by it, and takes nothing away.
    pub fn of(pairs: impl IntoIterator<Item = (PublicKey, DeviceId)>) -> Self {
        let mut owners = HashMap::new();
        for (key, id) in pairs {
            let Ok(blob) = key.to_bytes() else { continue };
            if let Entry::Vacant(vacant) = owners.entry((id.system().clone(), blob)) {
                vacant.insert(id);
            }
        }
        Self { owners }
    }

    /// The device of a system that a key belongs to.
    pub fn owner(&self, system: &Label, key: &PublicKey) -> Option<&DeviceId> {
        self.owner_of(system, &key.to_bytes().ok()?)
    }

    /// The device of a system that a key belongs to, as the key stands on the wire (RFC 4253, section 6.6).
    pub(crate) fn owner_of(&self, system: &Label, key: &[u8]) -> Option<&DeviceId> {
        self.owners.get(&(system.clone(), key.to_vec()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether nobody is admitted.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

#[cfg(test)]
mod tests;
