//! What the connections of a device to the proxy are to do, as its files say.

use std::num::{NonZeroU8, NonZeroU16};
use std::sync::Arc;

use daemon::device_dir::Membership;
use daemon::device_file::SSH_SERVICE;
use daemon::host_port::HostPort;
use daemon::service::Service;
use protocol::limits::MAX_SERVICES;
use protocol::{DeviceId, Label, Role};
use russh::keys::{PrivateKey, PublicKey};

use crate::agent::AgentError;
use crate::builtin::Builtin;

/// What every member of a device does.
pub(crate) struct Plan {
    pub(crate) device: DeviceId,
    pub(crate) proxy: HostPort,
    pub(crate) host_keys: Vec<PublicKey>,
    pub(crate) key: Arc<PrivateKey>,
    /// The port that the first service is to have; 0 for any.
    pub(crate) port: u16,
    /// The services, `ssh` first: a name without a port means the first.
    pub(crate) services: Vec<(Label, Service)>,
    /// The ssh server in this process, where one is configured.
    pub(crate) builtin: Option<Arc<dyn Builtin>>,
    /// How many connections there are for ever, where nobody orders tunnels. Then only the first service has a port, since
    /// nobody is told of others; they are reached by name.
    pub(crate) always_on: Option<NonZeroU8>,
}

impl Plan {
    /// Whether connections by this plan forward the same, to the same proxy and with the same key. Its host keys matter only
    /// when a connection is made.
    pub(crate) fn forwards_as(&self, other: &Self) -> bool {
        self.proxy == other.proxy
            && self.key.public_key().key_data() == other.key.public_key().key_data()
            && self.port == other.port
            && self.services == other.services
    }

    /// Checks that everything is there and fits together.
    pub(crate) fn new(
        membership: &Membership,
        key: Arc<PrivateKey>,
        builtin: Option<Arc<dyn Builtin>>,
    ) -> Result<Self, AgentError> {
        let Membership { realm, device, id } = membership;
        if id.role() == Role::Controller {
            return Err(AgentError::Controller { id: id.clone() });
        }
        let proxy = realm.proxy().ok_or(AgentError::NoProxy)?;
        let mut services: Vec<_> = device.services.clone().into_iter().collect();
        if services.len() > MAX_SERVICES {
            return Err(AgentError::TooManyServices {
                count: services.len(),
            });
        }
        let builtin = builtin.filter(|_| device.serves_ssh());
        if device.serves_ssh() && builtin.is_none() {
            return Err(AgentError::NoBuiltin);
        }
        // What is reached by the device's name alone comes first.
        services.sort_by_key(|(name, _)| name.as_str() != SSH_SERVICE);
        let always_on = realm
            .ports
            .is_always_on(id.system())
            .then_some(device.links);
        let port = device
            .port
            .map(NonZeroU16::get)
            .or_else(|| realm.ports.of(id));
        if always_on.is_some() && port.is_none() {
            return Err(AgentError::NoPort { id: id.clone() });
        }
        Ok(Self {
            device: id.clone(),
            proxy: proxy.address.clone(),
            host_keys: proxy.public_keys().map_err(AgentError::ProxyHostKey)?,
            key,
            port: port.unwrap_or(0),
            services,
            builtin,
            always_on,
        })
    }
}
