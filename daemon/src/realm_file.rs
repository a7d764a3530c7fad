//! `realm.toml`: what everybody in a realm has to know. It holds no secret, and is handed to every computer.

use std::path::{Path, PathBuf};

use protocol::{ClientIdSuffix, Label};
use russh::keys::{PublicKey, ssh_key};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::host_port::HostPort;
use crate::ports::Ports;
pub use crate::registry_place::RegistryPlace;

/// The content of `realm.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealmFile {
    /// The version of this file's form: 1.
    pub version: u32,
    /// The realm's name.
    pub realm: Label,
    /// What stands behind a device id in client ids; default: nothing.
    #[serde(default)]
    pub client_id_suffix: ClientIdSuffix,
    /// The certificate of the authority that signs the realm's devices, and its broker unless `[broker]` names
    /// another; PEM.
    pub ca: String,
    /// Who signs the realm's devices; default: the authority in `ca`.
    #[serde(default, skip_serializing_if = "SignedBy::is_default")]
    pub signed_by: SignedBy,
    /// The broker.
    pub broker: BrokerAddress,
    /// The proxies; one at least. Agents and controllers use the first.
    #[serde(rename = "proxy")]
    pub proxies: Vec<ProxyAddress>,
    /// Where keys, requests and certificates are exchanged.
    pub registry: RegistryPlace,
    /// The ports of the systems whose proxy is a stock sshd; default: none.
    #[serde(default, skip_serializing_if = "Ports::is_empty")]
    pub ports: Ports,
}

/// Who signs a realm's devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignedBy {
    /// The authority in `ca`.
    #[default]
    Realm,
    /// AWS IoT Core, which does not publish the certificate that it signs with: a device can check that a certificate is
    /// for its key and its name, and AWS alone who issued it. `ca` is that of the broker then.
    AwsIot,
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerAddress {
    /// `HOST:PORT`; MQTT over TLS usually has port 8883.
    pub address: HostPort,
    /// The other computers of a broker that is a cluster, `HOST:PORT` each; default: none. Each device begins with
    /// another one, and goes on to the next when one does not take it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_addresses: Vec<HostPort>,
    /// With which `QoS` agents and controllers subscribe, 0 or 1; default: 1. A session of theirs ends with its
    /// connection, so that 0 loses nothing that 1 would keep; and a broker may do much less for it.
    #[serde(default, skip_serializing_if = "SubscribeQos::is_default")]
    pub subscribe_qos: SubscribeQos,
    /// The authorities that the broker's own certificate is signed by, PEM; default: the realm's. A broker that
    /// somebody else runs has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// The `QoS` of subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum SubscribeQos {
    /// 0: a message is sent once and not acknowledged.
    AtMostOnce,
    /// 1: a message is acknowledged.
    #[default]
    AtLeastOnce,
}

/// MQTT has a third, which not every broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} is no QoS that is used here: 0 or 1")]
pub struct SubscribeQosError {
    found: u8,
}

impl SubscribeQos {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<u8> for SubscribeQos {
    type Error = SubscribeQosError;

    fn try_from(found: u8) -> Result<Self, SubscribeQosError> {
        match found {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            _ => Err(SubscribeQosError { found }),
        }
    }
}

impl From<SubscribeQos> for u8 {
    fn from(qos: SubscribeQos) -> Self {
        match qos {
            SubscribeQos::AtMostOnce => 0,
            SubscribeQos::AtLeastOnce => 1,
        }
    }
}

/// Where a proxy is, and how to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyAddress {
    /// `HOST:PORT`.
    pub address: HostPort,
    /// Its host keys, `TYPE BASE64`; one at least. No other is accepted.
    pub host_keys: Vec<String>,
}

impl ProxyAddress {
    /// Its host keys, parsed.
    pub fn public_keys(&self) -> Result<Vec<PublicKey>, ssh_key::Error> {
        let keys = self.host_keys.iter();
        keys.map(|key| PublicKey::from_openssh(key)).collect()
    }
}

/// Why `realm.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RealmFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what a realm file is.
    #[error("`{}` is not a realm file", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: toml::de::Error,
    },
    /// It is of a form that a newer version writes.
    #[error("`{}` is of version {found}, and this program knows version {REALM_FILE_VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// It names no proxy, or one without a host key.
    #[error("`{}` names no proxy with a host key", path.display())]
    NoProxy {
        /// The file.
        path: PathBuf,
    },
}

impl RealmFileError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Version { .. } => {
                Some("a newer `tunnel` has written it: install that one here too".to_owned())
            }
            Self::NoProxy { .. } => {
                Some("ask the realm's admin for the present `realm.toml`".to_owned())
            }
            // The parser says where, and what it wants there.
            Self::Parse { .. } => None,
        }
    }
}

/// Why `realm.toml` cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// It has a form in memory that a file cannot have.
    #[error("cannot write the realm as text")]
    Form {
        /// What is wrong.
        #[source]
        source: toml::ser::Error,
    },
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
}

impl RealmFile {
    /// Reads and checks a realm file.
    pub fn load(path: &Path) -> Result<Self, RealmFileError> {
        let text = files::read_text(path, MAX_CONFIG)?;
        let file: Self = toml::from_str(&text).map_err(|source| RealmFileError::Parse {
            path: path.to_owned(),
            source,
        })?;
        if file.version != REALM_FILE_VERSION {
            return Err(RealmFileError::Version {
                path: path.to_owned(),
                found: file.version,
            });
        }
        if file.proxies.is_empty() || file.proxies.iter().any(|proxy| proxy.host_keys.is_empty()) {
            return Err(RealmFileError::NoProxy {
                path: path.to_owned(),
            });
        }
        Ok(file)
    }

    /// Writes it, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        let text = toml::to_string(self).map_err(|source| SaveError::Form { source })?;
        Ok(files::write_public(path, text.as_bytes())?)
    }

    /// The proxy that agents and controllers use. `None` cannot be after [`load`](Self::load).
    pub fn proxy(&self) -> Option<&ProxyAddress> {
        self.proxies.first()
    }

    /// The certificate of the authority that signs devices, PEM, where it is known.
    pub fn device_ca(&self) -> Option<&str> {
        match self.signed_by {
            SignedBy::Realm => Some(&self.ca),
            SignedBy::AwsIot => None,
        }
    }

    /// Where the broker is: one address at least.
    pub fn brokers(&self) -> Vec<HostPort> {
        let more = self.broker.more_addresses.iter().cloned();
        std::iter::once(self.broker.address.clone())
            .chain(more)
            .collect()
    }

    /// The authorities that the broker's certificate must be signed by, PEM.
    pub fn broker_ca(&self) -> &str {
        self.broker.ca.as_deref().unwrap_or(&self.ca)
    }
}

impl SignedBy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The version of the file's form that this program writes and reads.
pub const REALM_FILE_VERSION: u32 = 1;

/// The largest configuration file, in bytes: a bundle of fifty CA certificates is 100 KiB.
pub const MAX_CONFIG: usize = 256 * 1024;

/// The file's name in a device's and in a realm's directory.
pub const REALM_FILE: &str = "realm.toml";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
version = 1
realm = "atlas"
ca = "PEM"
[broker]
address = "broker.example.org:8883"
[[proxy]]
address = "proxy.example.org:2222"
host_keys = ["ssh-ed25519 AAAA"]
[registry]
directory = "/srv/atlas/registry"
"#;

    fn load(text: &str) -> Result<RealmFile, RealmFileError> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(REALM_FILE);
        files::write_public(&path, text.as_bytes()).unwrap();
        RealmFile::load(&path)
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let file = load(GOOD).unwrap();
        assert_eq!(file.broker_ca(), "PEM");
        assert_eq!(file.brokers().len(), 1);
        assert_eq!(load(&toml::to_string(&file).unwrap()).unwrap(), file);
    }

    #[test]
    fn a_cluster_has_more_addresses() {
        let more = "[broker]\nmore_addresses = [\"b:8883\", \"c:8883\"]";
        let file = load(&GOOD.replace("[broker]", more)).unwrap();
        let brokers = file
            .brokers()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        assert_eq!(brokers, ["broker.example.org:8883", "b:8883", "c:8883"]);
        assert_eq!(load(&toml::to_string(&file).unwrap()).unwrap(), file);
        assert!(load(&GOOD.replace("[broker]", "[broker]\nmore_addresses = [\"b\"]")).is_err());
    }

    #[test]
    fn a_subscription_has_one_of_two_qualities() {
        let with = |qos: &str| {
            load(&GOOD.replace("[broker]", &format!("[broker]\nsubscribe_qos = {qos}")))
        };
        let file = with("0").unwrap();
        assert_eq!(file.broker.subscribe_qos, SubscribeQos::AtMostOnce);
        assert_eq!(load(&toml::to_string(&file).unwrap()).unwrap(), file);
        assert_eq!(with("1").unwrap(), load(GOOD).unwrap());
        assert!(with("2").is_err());
    }

    #[test]
    fn a_typing_error_is_an_error_and_not_a_default() {
        let error = load(&GOOD.replace("host_keys", "hostkeys")).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("unknown field `hostkeys`"), "{source}");
        assert!(matches!(
            load(&GOOD.replace("version = 1", "version = 2")),
            Err(RealmFileError::Version { .. })
        ));
        assert!(matches!(
            load(&GOOD.replace(r#"["ssh-ed25519 AAAA"]"#, "[]")),
            Err(RealmFileError::NoProxy { .. })
        ));
    }
}
