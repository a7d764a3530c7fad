//! What of a proxy may change while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use daemon::rate::Rate;
use daemon::ssh::server_config;
use protocol::Label;
use russh::keys::PrivateKey;
use russh::server::Config;

use crate::hub::Hub;
use crate::listener::BindError;

/// Changes a proxy's settings. Clones are of the same proxy.
#[derive(Clone, Debug)]
pub struct Settings {
    ssh: SshSettings,
    hub: Arc<Hub>,
}

/// How SSH connections that come are met. Clones are the same settings.
#[derive(Clone, Debug)]
pub(crate) struct SshSettings(Arc<RwLock<Arc<Config>>>);

impl Settings {
    pub(crate) fn new(ssh: SshSettings, hub: Arc<Hub>) -> Self {
        Self { ssh, hub }
    }

    /// Shows these host keys, one at least, to whoever connects from now on.
    pub fn show_host_keys(&self, keys: Vec<PrivateKey>) -> Result<(), BindError> {
        if keys.is_empty() {
            return Err(BindError::NoHostKey);
        }
        let config = server_config(keys);
        *self.ssh.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Holds the streams that begin from now on to these rates.
    pub fn limit_bandwidth(&self, rates: impl IntoIterator<Item = (Label, Rate)>) {
        self.hub.repace(rates);
    }
}

impl SshSettings {
    pub(crate) fn new(host_keys: Vec<PrivateKey>) -> Self {
        Self(Arc::new(RwLock::new(server_config(host_keys))))
    }

    pub(crate) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
