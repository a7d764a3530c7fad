//! `server.toml`: what a realm's server listens on, and what it keeps where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::Label;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::rate::Rate;
use crate::realm_file::MAX_CONFIG;

/// The content of `server.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerFile {
    /// How long connections may take to end at a shutdown; default 10 s, well within the 90 s after which systemd kills.
    #[serde(default = "grace_period", with = "humantime_serde")]
    pub grace_period: Duration,
    /// Where `/healthz`, `/readyz` and `/metrics` are answered, e.g. `127.0.0.1:9464`; default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether that address may be one which other computers can reach; default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics_public: bool,
    /// The broker.
    pub broker: BrokerRules,
    /// The proxy.
    pub proxy: ProxyRules,
    /// The signer; default: the realm's own authority signs.
    #[serde(default, skip_serializing_if = "SignerRules::is_default")]
    pub signer: SignerRules,
}

/// Who signs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerRules {
    /// AWS IoT Core does; default: the realm's own authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsRules>,
}

/// How certificates come from AWS IoT Core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsRules {
    /// The region, e.g. `eu-central-1`; default: the one that `AWS_REGION`, the profile or the instance names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The policy that remote computers get; default: `tunnel.target`.
    #[serde(default = "target_policy")]
    pub target_policy: String,
    /// The policy that controllers get; default: `tunnel.controller`.
    #[serde(default = "controller_policy")]
    pub controller_policy: String,
    /// Where AWS IoT Core's control plane is, such as a VPC endpoint; default: `https://iot.REGION.amazonaws.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

/// Where the proxy listens, and where its keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyRules {
    /// An IP address and a port.
    pub listen: SocketAddr,
    /// The directory of the devices' public keys, from the realm's directory on; default: the registry if it is a directory, else
    /// `proxy/keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
    /// How fast the streams of a system may be together, in both directions, e.g. `hula = "20 MB/s"`; default: as fast as
    /// they can.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bandwidth: BTreeMap<Label, Rate>,
}

/// Where the broker listens, and what it remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerRules {
    /// An IP address and a port, e.g. `0.0.0.0:8883` or `[::]:8883`.
    pub listen: SocketAddr,
    /// The directory of what outlives the broker, from the realm's directory on; default `broker/store`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<PathBuf>,
    /// How long devices have to come back after the broker was restarted, before they are told to be lost; default 2 min.
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    pub reconnect_window: Option<Duration>,
}

/// Why `server.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what a server file is.
    #[error("`{}` is not a server file", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: toml::de::Error,
    },
}

impl ServerFile {
    /// The file for these two addresses.
    pub fn new(broker: SocketAddr, proxy: SocketAddr) -> Self {
        Self {
            grace_period: grace_period(),
            metrics: None,
            metrics_public: false,
            broker: BrokerRules {
                listen: broker,
                store: None,
                reconnect_window: None,
            },
            proxy: ProxyRules {
                listen: proxy,
                keys: None,
                bandwidth: BTreeMap::new(),
            },
            signer: SignerRules::default(),
        }
    }

    /// Reads and checks a server file.
    pub fn load(path: &Path) -> Result<Self, ServerFileError> {
        let text = files::read_text(path, MAX_CONFIG)?;
        toml::from_str(&text).map_err(|source| ServerFileError::Parse {
            path: path.to_owned(),
            source,
        })
    }
}

impl SignerRules {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn target_policy() -> String {
    "tunnel.target".to_owned()
}

fn controller_policy() -> String {
    "tunnel.controller".to_owned()
}

fn grace_period() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aws_signs_where_it_is_named() {
        let places = "broker = { listen = '[::]:1' }\nproxy = { listen = '[::]:1' }\n";
        let read = |rest: &str| toml::from_str::<ServerFile>(&format!("{places}{rest}"));
        assert_eq!(read("").unwrap().signer.aws, None);
        let aws = read("[signer.aws]\nregion = 'eu-central-1'")
            .unwrap()
            .signer
            .aws
            .unwrap();
        assert_eq!(aws.region.as_deref(), Some("eu-central-1"));
        assert_eq!(
            (aws.target_policy.as_str(), aws.controller_policy.as_str()),
            ("tunnel.target", "tunnel.controller")
        );
        assert!(read("[signer.aws]\npolicy = 'x'").is_err());
        assert!(read("[signer]\nazure = {}").is_err());
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let file = ServerFile::new(
            "0.0.0.0:8883".parse().unwrap(),
            "[::]:2222".parse().unwrap(),
        );
        assert_eq!(
            toml::from_str::<ServerFile>(&toml::to_string(&file).unwrap()).unwrap(),
            file
        );
        let limited = "broker = { listen = '[::]:1' }\nproxy = { listen = '[::]:2', bandwidth = { hula = '20 MB/s' } }";
        let file: ServerFile = toml::from_str(limited).unwrap();
        assert_eq!(
            file.proxy.bandwidth.get(&"hula".parse().unwrap()),
            Some(&"20 MB/s".parse().unwrap())
        );
        let wrong = toml::from_str::<ServerFile>(&limited.replace("MB/s", "mbit")).unwrap_err();
        assert!(
            wrong.to_string().contains("write a number and `kB/s`"),
            "{wrong}"
        );
        assert!(
            toml::from_str::<ServerFile>(
                "broker = { listen = 'host:1' }\nproxy = { listen = '[::]:1' }"
            )
            .is_err()
        );
    }

    #[test]
    fn what_the_broker_remembers_can_be_said() {
        let file: ServerFile = toml::from_str(
            "broker = { listen = '[::]:1', store = '/var/lib/tunnel', reconnect_window = '30s' }\nproxy = { listen = '[::]:2' }",
        )
        .unwrap();
        assert_eq!(file.broker.store, Some("/var/lib/tunnel".into()));
        assert_eq!(file.broker.reconnect_window, Some(Duration::from_secs(30)));
    }
}
