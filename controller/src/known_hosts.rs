//! The host keys of the devices that this controller has met, in a `known_hosts` file of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::files::{self, FileError};
use daemon::lock::FileLock;
use protocol::DeviceId;
use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{HashAlg, PublicKey};
use tokio::time::{Instant, sleep};

use crate::ssh_words::plain_shell_word;

/// Why a device's host keys are not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KnownHostsError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The device reports other keys than before.
    #[error(
        "the host keys of `{device}` have changed: it had {}, and now reports {}",
        fingerprints(known),
        fingerprints(reported)
    )]
    Changed {
        /// The device.
        device: DeviceId,
        /// Where the keys known before are.
        path: PathBuf,
        /// Those keys.
        known: Vec<PublicKey>,
        /// What it reports in their place.
        reported: Vec<PublicKey>,
    },
    /// Another command of this controller keeps the file.
    #[error("another command has been writing `{}` for {} s", path.display(), PATIENCE.as_secs())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The file has a line for the device that cannot be read.
    #[error("`{}` cannot be read as known hosts", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: russh::keys::Error,
    },
    /// What the device reports is no public key.
    #[error("`{device}` reports a host key that is none")]
    NotAKey {
        /// The device.
        device: DeviceId,
        /// What the parser found.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
}

impl KnownHostsError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Changed { device, path, .. } => Some(format!(
                "either it was installed anew, or somebody answers in its place: ask whoever looks after it which fingerprints are its own. If the new ones are, \
                 forget the old with `ssh-keygen -R {device} -f {}` and connect again",
                plain_shell_word(&path.to_string_lossy())
            )),
            Self::File(error) => error.hint(),
            Self::Unreadable { path, .. } => Some(format!(
                "take the line of this computer out of it by hand; it is written again when you connect, from what the computer reports: `{}`",
                path.display()
            )),
            Self::NotAKey { .. } => Some(
                "its agent reads it beside its sshd, or in `host_keys` of its `device.toml`: look there".to_owned(),
            ),
            Self::Busy { .. } => {
                Some("a command of `tunnel` hangs: end it (`ps -C tunnel`), and connect again".to_owned())
            }
        }
    }
}

/// Notes the host keys that a device reported through the broker, under its full name. A device met for the first time
/// is taken at its word, which its certificate and the broker's policy vouch for; a device that reports none of the keys
/// known before is refused. Returns whether any key of the device is known now.
pub async fn learn(
    path: &Path,
    device: &DeviceId,
    reported: &[String],
) -> Result<bool, KnownHostsError> {
    // Two that meet their devices for the first time at once would write over each other's.
    let _lock = lock(path).await?;
    learn_alone(path, device, reported)
}

/// What the host keys that a device reports are to this controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquaintance {
    /// Those of the device are known, and it reports no others.
    Known,
    /// None of the device is known, and it reports some.
    New,
    /// None is known, and it reports none.
    Untold,
}

/// Compares the host keys that a device reports with those in the file, which stays as it is.
pub fn compare(
    path: &Path,
    device: &DeviceId,
    reported: &[String],
) -> Result<Acquaintance, KnownHostsError> {
    let reported = reported
        .iter()
        .map(|key| PublicKey::from_openssh(key))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| KnownHostsError::NotAKey {
            device: device.clone(),
            source,
        })?;
    let known = known_keys(path, device)?;
    let is_known = |key: &PublicKey| known.iter().any(|other| other.key_data() == key.key_data());
    match (known.is_empty(), reported.is_empty()) {
        (true, true) => Ok(Acquaintance::Untold),
        (true, false) => Ok(Acquaintance::New),
        (false, true) => Ok(Acquaintance::Known),
        (false, false) if reported.iter().any(is_known) => Ok(Acquaintance::Known),
        (false, false) => Err(KnownHostsError::Changed {
            device: device.clone(),
            path: path.to_owned(),
            known,
            reported,
        }),
    }
}

/// The host keys of a device that stand in the file.
pub fn known_keys(path: &Path, device: &DeviceId) -> Result<Vec<PublicKey>, KnownHostsError> {
    // ssh writes to this file too, and may hash the names in it.
    let known = known_host_keys_path(&device.to_string(), SSH_PORT, path).map_err(|source| {
        KnownHostsError::Unreadable {
            path: path.to_owned(),
            source,
        }
    })?;
    Ok(known.into_iter().map(|(_, key)| key).collect())
}

async fn lock(path: &Path) -> Result<FileLock, KnownHostsError> {
    let file = path.with_file_name(".known_hosts.lock");
    let latest = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = FileLock::try_take(&file)? {
            return Ok(lock);
        }
        if Instant::now() >= latest {
            return Err(KnownHostsError::Busy {
                path: path.to_owned(),
            });
        }
        sleep(POLL).await;
    }
}

fn learn_alone(
    path: &Path,
    device: &DeviceId,
    reported: &[String],
) -> Result<bool, KnownHostsError> {
    let existing = match files::read_text(path, MAX_KNOWN_HOSTS) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => String::new(),
        Err(error) => return Err(error.into()),
    };
    match compare(path, device, reported)? {
        Acquaintance::Known => return Ok(true),
        Acquaintance::Untold => return Ok(false),
        Acquaintance::New => {}
    }
    let mut text = existing;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for key in reported {
        text.extend([device.to_string().as_str(), " ", key, "\n"]);
    }
    files::write_private(path, text.as_bytes())?;
    Ok(true)
}

fn fingerprints(keys: &[PublicKey]) -> String {
    let all = keys.iter().map(|key| {
        let (kind, print) = (key.algorithm(), key.fingerprint(HashAlg::Sha256));
        format!("{kind} {print}")
    });
    all.collect::<Vec<_>>().join(" and ")
}

/// The port under which a name stands alone in the file.
const SSH_PORT: u16 = 22;

/// The largest file of known hosts, in bytes: 10,000 devices with a key of 100 bytes each.
const MAX_KNOWN_HOSTS: usize = 4 * 1024 * 1024;

/// How long another command may have the file: reading and writing it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the lock is tried.
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const SECOND: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    #[test]
    fn a_changed_key_is_refused_and_the_file_stays_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_hosts");
        let device: DeviceId = "333.hula.atlas".parse().unwrap();
        let other: DeviceId = "3333.hula.atlas".parse().unwrap();
        assert!(!learn_alone(&path, &device, &[]).unwrap());
        assert!(learn_alone(&path, &device, &[FIRST.into()]).unwrap());
        assert!(learn_alone(&path, &other, &[SECOND.into()]).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            format!("333.hula.atlas {FIRST}\n3333.hula.atlas {SECOND}\n")
        );

        assert!(
            learn_alone(&path, &device, &[SECOND.into(), FIRST.into()]).unwrap(),
            "one known key is enough"
        );
        assert!(learn_alone(&path, &device, &[]).unwrap());
        let error = learn_alone(&path, &device, &[SECOND.into()]).unwrap_err();
        let print = |key: &str| {
            let mut keygen = std::process::Command::new("ssh-keygen");
            let file = home.path().join("one.pub");
            std::fs::write(&file, key).unwrap();
            let output = keygen.arg("-lf").arg(&file).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(
            error.to_string(),
            format!(
                "the host keys of `333.hula.atlas` have changed: it had ssh-ed25519 {}, and now reports ssh-ed25519 {}",
                print(FIRST),
                print(SECOND)
            )
        );
        let command = format!("`ssh-keygen -R 333.hula.atlas -f '{}'`", path.display());
        let hint = error.hint().unwrap();
        assert!(hint.contains(&command), "{hint}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let hashed = std::process::Command::new("ssh-keygen")
            .arg("-H")
            .arg("-f")
            .arg(&path)
            .output()
            .unwrap();
        assert!(hashed.status.success(), "{hashed:?}");
        assert!(
            std::fs::read_to_string(&path).unwrap().starts_with("|1|"),
            "ssh-keygen has hashed the names"
        );
        assert!(matches!(
            learn_alone(&path, &device, &[SECOND.into()]),
            Err(KnownHostsError::Changed { .. })
        ));
        assert!(learn_alone(&path, &device, &[FIRST.into()]).unwrap());
        assert!(matches!(
            learn_alone(&path, &device, &["ssh-rsa @@".into()]),
            Err(KnownHostsError::NotAKey { .. })
        ));
    }

    #[tokio::test]
    async fn devices_met_at_once_are_all_known() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("known_hosts");
        let devices: Vec<DeviceId> = (0..8)
            .map(|number| format!("{number}.hula.atlas").parse().unwrap())
            .collect();
        let mut tasks = tokio::task::JoinSet::new();
        for device in devices.clone() {
            let path = path.clone();
            tasks.spawn(async move { learn(&path, &device, &[FIRST.into()]).await });
        }
        for known in tasks.join_all().await {
            assert!(known.unwrap());
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for device in devices {
            assert_eq!(text.matches(&format!("{device} {FIRST}\n")).count(), 1);
        }
    }
}
