//! `server.toml`: what a realm's server listens on.

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
    /// The broker.
    pub broker: Listen,
    /// The proxy.
    pub proxy: ProxyRules,
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

/// Where a part listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// An IP address and a port, e.g. `0.0.0.0:8883` or `[::]:8883`.
    pub listen: SocketAddr,
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
            broker: Listen { listen: broker },
            proxy: ProxyRules {
                listen: proxy,
                keys: None,
                bandwidth: BTreeMap::new(),
            },
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

fn grace_period() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
