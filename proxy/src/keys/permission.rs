//! Whose key files count.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use protocol::{DeviceId, Role};
use russh::keys::PublicKey;

/// The rule that says whose file may make a key that of a device. It is asked with the user id that owns the file. A
/// realm should give the same answers here as for requests to its signer, or one way goes round the other.
#[derive(Clone)]
pub struct KeyPermission {
    rule: Arc<Rule>,
    key_rule: Arc<KeyRule>,
    edition: Arc<Edition>,
}

type Edition = dyn Fn() -> u64 + Send + Sync;
type KeyRule = dyn Fn(&DeviceId, &PublicKey) -> Result<(), &'static str> + Send + Sync;
type Rule = dyn Fn(&DeviceId, u32) -> bool + Send + Sync;

impl KeyPermission {
    /// A rule of the realm's own.
    pub fn new(rule: impl Fn(&DeviceId, u32) -> bool + Send + Sync + 'static) -> Self {
        Self {
            rule: Arc::new(rule),
            key_rule: Arc::new(|_, _| Ok(())),
            edition: Arc::new(|| 0),
        }
    }

    /// Asks this about each key too, with its comment, and refuses it for the reason that it gives.
    #[must_use]
    pub fn with_key_rule(
        self,
        rule: impl Fn(&DeviceId, &PublicKey) -> Result<(), &'static str> + Send + Sync + 'static,
    ) -> Self {
        Self {
            key_rule: Arc::new(rule),
            ..self
        }
    }

    /// Whenever this number is another than before, the rule may give other answers, and is asked again about every file.
    #[must_use]
    pub fn with_edition(self, edition: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self {
            edition: Arc::new(edition),
            ..self
        }
    }

    /// Whoever can write to the directory may bring keys of all devices, controllers too.
    pub fn everyone_with_write_access() -> Self {
        Self::new(|_, _| true)
    }

    /// Whoever can write to the directory may bring keys of targets, and only these users of the machine those of
    /// controllers.
    pub fn controllers_only_from(uids: BTreeSet<u32>) -> Self {
        Self::new(move |id, owner_uid| match id.role() {
            Role::Target => true,
            Role::Controller => uids.contains(&owner_uid),
        })
    }

    /// Whether a file of this user counts for this device.
    pub fn permits(&self, id: &DeviceId, owner_uid: u32) -> bool {
        (self.rule)(id, owner_uid)
    }

    /// Whether this key counts for this device, or why not.
    pub fn accepts(&self, id: &DeviceId, key: &PublicKey) -> Result<(), &'static str> {
        (self.key_rule)(id, key)
    }

    /// Which edition of the rule is in force.
    pub(super) fn edition(&self) -> u64 {
        (self.edition)()
    }
}

impl fmt::Debug for KeyPermission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPermission(..)")
    }
}
