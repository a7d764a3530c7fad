//! Where the parts of an installed agent lie.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// A system: this one, or one in a folder that does not run.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: Option<PathBuf>,
}

impl Place {
    pub(super) fn of(root: Option<PathBuf>) -> Self {
        Self { root }
    }

    /// The folder of a system that does not run.
    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Whether a service can be made there, by whoever runs this.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::text(
                "only root can install or remove a service",
                Some("run the same command with `sudo`"),
                exit::REFUSED,
            ));
        }
        if self.root.is_none() && !Path::new(RUNS_SYSTEMD).exists() {
            return Err(Failure::text(
                "systemd does not run this computer",
                Some(
                    "enroll with `tunnel enroll SYSTEM DEVICE --realm realm.toml`, and have `tunnel agent` started by what runs \
                     this computer's services; or prepare the folder of another system with `--root DIR`",
                ),
                exit::CONFIG,
            ));
        }
        Ok(())
    }

    /// Whether a package has brought program and unit.
    pub(super) fn is_packaged(&self) -> bool {
        ["usr/lib/systemd/system", "lib/systemd/system"]
            .iter()
            .any(|folder| self.at(folder).join(UNIT_NAME).exists())
    }

    pub(super) fn program(&self) -> PathBuf {
        self.at("usr/local/bin/tunnel")
    }

    pub(super) fn unit(&self) -> PathBuf {
        self.at("etc/systemd/system").join(UNIT_NAME)
    }

    pub(super) fn users(&self) -> PathBuf {
        self.at("etc/sysusers.d/tunnel-agent.conf")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.at("etc/tunnel")
    }

    /// The numbers of the agent's user and group, once it has been made.
    pub(super) fn agent(&self) -> Result<Option<(u32, u32)>, Failure> {
        let path = self.at("etc/passwd");
        match fs::read_to_string(&path) {
            Ok(users) => Ok(numbers(&users)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot(&format!("read `{}`", path.display()), error)),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.as_deref().unwrap_or(Path::new("/")).join(path)
    }
}

/// From the lines of `passwd(5)`. A service's user is always among them, whatever directory has the people.
fn numbers(users: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let mut fields = line.strip_prefix(AGENT)?.strip_prefix(':')?.split(':');
        let _password = fields.next()?;
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// The agent's user.
pub(super) const AGENT: &str = "tunnel-agent";

pub(super) const UNIT_NAME: &str = "tunnel-agent.service";

/// What `sd_booted(3)` looks at.
const RUNS_SYSTEMD: &str = "/run/systemd/system";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_numbers_are_those_of_its_own_line() {
        let users = "root:x:0:0:root:/root:/bin/bash\ntunnel-agents:x:7:8::/:/bin/sh\n\
                     tunnel-agent:!*:995:994:tunnel agent:/etc/tunnel:/usr/sbin/nologin\n";
        assert_eq!(numbers(users), Some((995, 994)));
        assert_eq!(numbers("root:x:0:0:root:/root:/bin/bash\n"), None);
    }

    #[test]
    fn everything_of_another_system_is_below_its_folder() {
        let place = Place::of(Some(PathBuf::from("/image")));
        for path in [place.program(), place.unit(), place.users(), place.keys()] {
            assert!(path.starts_with("/image"), "{path:?}");
        }
        assert_eq!(Place::of(None).keys(), Path::new("/etc/tunnel"));
    }
}
