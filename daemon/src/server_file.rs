//! `server.toml`: what a realm's server listens on.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
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
    pub proxy: Listen,
    /// The signer.
    #[serde(default)]
    pub signer: SignerRules,
}

/// Whose requests the signer serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerRules {
    /// The users, by numeric id, who may hand in requests for controllers, besides root and the signer's own user. A
    /// target's request may come from whoever can write to the registry.
    #[serde(default)]
    pub controller_uids: Vec<u32>,
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
            proxy: Listen { listen: proxy },
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
        assert!(
            toml::from_str::<ServerFile>(
                "broker = { listen = 'host:1' }\nproxy = { listen = '[::]:1' }"
            )
            .is_err()
        );
    }
}
