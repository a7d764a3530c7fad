//! `device.toml`: which device a computer is, and what it offers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::{DeviceId, Label, NameError};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::host_port::HostPort;
use crate::realm_file::MAX_CONFIG;
use crate::service::{BuiltinFile, Service};

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
    /// How many connections to the proxy the agent of an always-on system keeps, at least; default 1.
    #[serde(default = "one_link", skip_serializing_if = "is_one")]
    pub links: NonZeroU8,
    /// Where the agent answers `/healthz`, `/readyz` and `/metrics`, e.g. `127.0.0.1:9464`; default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether that address may be one which other computers can reach; default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics_public: bool,
    /// What can be reached through the tunnel; default: `ssh = "127.0.0.1:22"`. With `ssh = "builtin"` the agent itself is
    /// the ssh server.
    #[serde(default = "services")]
    pub services: BTreeMap<Label, Service>,
    /// What the agent's own ssh may do.
    #[serde(default, skip_serializing_if = "BuiltinFile::is_default")]
    pub builtin: BuiltinFile,
    /// What is run when the tunnel comes and goes; default: nothing.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

/// `[hooks]`: commands, each a program and its arguments. No shell reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// After the tunnel has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<HookCommand>,
    /// After it has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<HookCommand>,
    /// How long one of them may run before it is killed, with what it has started; default 10 s.
    #[serde(
        default,
        with = "humantime_serde::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub time_limit: Option<Duration>,
}

/// A program by its absolute path, and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct HookCommand {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Why a hook cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hook is a list of a program, by its absolute path, and its arguments")]
pub struct HookError;

impl Hooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl TryFrom<Vec<String>> for HookCommand {
    type Error = HookError;

    fn try_from(words: Vec<String>) -> Result<Self, HookError> {
        let mut words = words.into_iter();
        let program = words.next().ok_or(HookError)?;
        let arguments: Vec<String> = words.collect();
        // A path that depends on the agent's directory would be found on one day and not on another.
        if !program.starts_with('/')
            || arguments
                .iter()
                .chain([&program])
                .any(|word| word.contains('\0'))
        {
            return Err(HookError);
        }
        Ok(Self { program, arguments })
    }
}

impl From<HookCommand> for Vec<String> {
    fn from(command: HookCommand) -> Self {
        [command.program]
            .into_iter()
            .chain(command.arguments)
            .collect()
    }
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
    /// Only one service can be the agent's own.
    #[error("`{}` says that service `{service}` is built in, and only `{SSH_SERVICE}` can be", path.display())]
    Builtin {
        /// The file.
        path: PathBuf,
        /// The service.
        service: Label,
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
            links: one_link(),
            metrics: None,
            metrics_public: false,
            services: services(),
            builtin: BuiltinFile::default(),
            hooks: Hooks::default(),
        }
    }

    /// Reads and checks a device file.
    pub fn load(path: &Path) -> Result<Self, DeviceFileError> {
        let text = files::read_text(path, MAX_CONFIG)?;
        let file: Self = toml::from_str(&text).map_err(|source| DeviceFileError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let mut services = file.services.iter();
        let other = services
            .find(|(name, service)| **service == Service::Builtin && name.as_str() != SSH_SERVICE);
        match other {
            Some((service, _)) => Err(DeviceFileError::Builtin {
                path: path.to_owned(),
                service: service.clone(),
            }),
            None => Ok(file),
        }
    }

    /// Whether the agent itself is the ssh server.
    pub fn serves_ssh(&self) -> bool {
        self.services
            .values()
            .any(|service| *service == Service::Builtin)
    }

    /// The settings that a running agent does not take over from the next file, and which differ there.
    pub fn restart_for(&self, next: &Self) -> Vec<&'static str> {
        let monitor = |file: &Self| (file.metrics, file.metrics_public);
        let differs = [
            ("`[hooks]`", self.hooks != next.hooks),
            ("`metrics`", monitor(self) != monitor(next)),
            ("`[builtin]`", self.builtin != next.builtin),
        ];
        let late = differs.into_iter().filter(|(_, differs)| *differs);
        late.map(|(setting, _)| setting).collect()
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

fn one_link() -> NonZeroU8 {
    NonZeroU8::MIN
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out a reference"
)]
fn is_one(links: &NonZeroU8) -> bool {
    *links == NonZeroU8::MIN
}

fn services() -> BTreeMap<Label, Service> {
    let ssh = SSH_SERVICE
        .parse()
        .ok()
        .zip(HostPort::new("127.0.0.1", 22).ok().map(Service::At));
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

    #[test]
    fn only_ssh_can_be_built_in() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("device.toml");
        let load = |services: &str| {
            let text = format!("system = 'hula'\ndevice = '333'\n[services]\n{services}");
            std::fs::write(&path, text).unwrap();
            DeviceFile::load(&path)
        };
        let file = load("ssh = 'builtin'\nweb = '127.0.0.1:80'").unwrap();
        assert!(file.serves_ssh());
        assert!(!load("ssh = '127.0.0.1:22'").unwrap().serves_ssh());
        let error = load("web = 'builtin'").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("service `web` is built in, and only `ssh` can be")
        );
    }

    #[test]
    fn a_hook_is_a_program_and_its_arguments_and_never_a_shell_s_line() {
        let parse = |hooks: &str| {
            let text = format!("system = 'hula'\ndevice = '333'\n[hooks]\n{hooks}");
            toml::from_str::<DeviceFile>(&text)
        };
        let file = parse("up = ['/bin/route', 'add', '$(x); y']\ntime_limit = '3s'").unwrap();
        let up = file.hooks.up.clone().unwrap();
        assert_eq!(up.program, "/bin/route");
        assert_eq!(up.arguments, ["add", "$(x); y"]);
        assert_eq!(file.hooks.time_limit, Some(Duration::from_secs(3)));
        let written = toml::to_string(&file).unwrap();
        assert_eq!(toml::from_str::<DeviceFile>(&written).unwrap(), file);
        for bad in [
            "up = '/bin/route add'",
            "up = []",
            "up = ['route']",
            "on = ['/bin/x']",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
