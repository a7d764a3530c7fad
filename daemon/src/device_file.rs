//! `device.toml`: which device a computer is, and what it offers.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::{DeviceId, Label, NameError};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::host_port::HostPort;
use crate::realm_file::MAX_CONFIG;

/// The content of `device.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFile {
    /// The system that the device belongs to.
    pub system: Label,
    /// Its name in the system; a controller's begins with `controller`.
    pub device: Label,
    /// How long a tunnel outlives its last lease and stream; default 30 s. Long enough for the next command of a
    /// script, short enough that nothing is left open.
    #[serde(default = "grace_period", with = "humantime_serde")]
    pub grace_period: Duration,
    /// The port at the proxy; default: the one that `[ports]` of `realm.toml` gives, or any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// The public host keys of this computer's own sshd, which controllers are told; default: `/etc/ssh/ssh_host_*_key.pub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_keys: Option<Vec<PathBuf>>,
    /// What can be reached through the tunnel; default: `ssh = "127.0.0.1:22"`.
    #[serde(default = "services")]
    pub services: BTreeMap<Label, HostPort>,
}

/// Why `device.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFileError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what a device file is.
    #[error("`{}` is not a device file", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: toml::de::Error,
    },
    /// The whole id is longer than a DNS name.
    #[error("`{}` names a device that cannot be", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// What is wrong with the name.
        #[source]
        source: NameError,
    },
}

impl DeviceFile {
    /// The file of a device with all defaults.
    pub fn new(system: Label, device: Label) -> Self {
        Self {
            system,
            device,
            grace_period: grace_period(),
            port: None,
            host_keys: None,
            services: services(),
        }
    }

    /// Reads and checks a device file.
    pub fn load(path: &Path) -> Result<Self, DeviceFileError> {
        let text = files::read_text(path, MAX_CONFIG)?;
        toml::from_str(&text).map_err(|source| DeviceFileError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// The device's id in its realm.
    pub fn id(&self, realm: &Label, path: &Path) -> Result<DeviceId, DeviceFileError> {
        DeviceId::new(self.device.clone(), self.system.clone(), realm.clone()).map_err(|source| {
            DeviceFileError::Name {
                path: path.to_owned(),
                source,
            }
        })
    }
}

/// The service that every device offers unless it is configured otherwise.
pub const SSH_SERVICE: &str = "ssh";

/// The file's name in a device's directory.
pub const DEVICE_FILE: &str = "device.toml";

fn grace_period() -> Duration {
    Duration::from_secs(30)
}

fn services() -> BTreeMap<Label, HostPort> {
    let ssh = SSH_SERVICE
        .parse()
        .ok()
        .zip(HostPort::new("127.0.0.1", 22).ok());
    ssh.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_enough() {
        let file: DeviceFile = toml::from_str("system = 'hula'\ndevice = '333'").unwrap();
        assert_eq!(
            file,
            DeviceFile::new("hula".parse().unwrap(), "333".parse().unwrap())
        );
        assert_eq!(file.services.len(), 1);
        assert_eq!(
            file.services.values().next().unwrap().to_string(),
            "127.0.0.1:22"
        );
    }

    #[test]
    fn durations_have_units_and_names_are_checked() {
        let parse = |more: &str| {
            toml::from_str::<DeviceFile>(&format!("system = 'hula'\ndevice = '333'\n{more}"))
        };
        assert_eq!(
            parse("grace_period = '2m'").unwrap().grace_period,
            Duration::from_mins(2)
        );
        assert!(parse("grace_period = 30").is_err());
        assert!(parse("services = { 'Bad Name' = '127.0.0.1:22' }").is_err());
        assert!(
            parse("graceperiod = '30s'")
                .unwrap_err()
                .to_string()
                .contains("unknown field")
        );
    }
}
