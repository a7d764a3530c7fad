//! What a proxy is started with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use daemon::rate::Rate;
use protocol::Label;
use russh::keys::PrivateKey;

use crate::keys::KeyPermission;
use crate::limits::Limits;

/// What a proxy is started with. No field has a hidden default: files and command lines are read elsewhere.
#[derive(Clone)]
pub struct ProxyConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The realm whose devices are admitted.
    pub realm: Label,
    /// The host keys; at least one.
    pub host_keys: Vec<PrivateKey>,
    /// The directory with the devices' public keys, `DEVICE.SYSTEM.REALM.sshkey.pub`.
    pub keys: PathBuf,
    /// Whose files in it count for which devices.
    pub permits: KeyPermission,
    /// How often that directory is looked at. A key that is withdrawn loses its connections within this time.
    pub reload: Duration,
    /// What is put up with.
    pub limits: Limits,
    /// How fast the streams of a system may be together, in both directions; others are as fast as they can.
    pub bandwidth: BTreeMap<Label, Rate>,
}

impl std::fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The host keys are secret.
        f.debug_struct("ProxyConfig")
            .field("listen", &self.listen)
            .field("realm", &self.realm)
            .field("keys", &self.keys)
            .field("permits", &self.permits)
            .field("reload", &self.reload)
            .field("limits", &self.limits)
            .field("bandwidth", &self.bandwidth)
            .finish_non_exhaustive()
    }
}

/// The default of [`ProxyConfig::reload`]: one look at 10,000 unchanged files takes some 20 ms.
pub const RELOAD: Duration = Duration::from_secs(3);
