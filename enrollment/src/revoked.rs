//! What a realm has revoked: certificates for ever, and devices until they are readmitted.

use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use protocol::DeviceId;
use russh::keys::{HashAlg, PublicKey};
use serde::{Deserialize, Serialize};

use crate::DeviceKey;

/// The content of `revoked.toml`. The certificate revocation list is made of it, the signer refuses what it names, and
/// key sync leaves the keys of its devices out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// The version of the file's form: 1.
    pub version: u32,
    /// Devices that may not enroll, nor log in to the proxy.
    #[serde(default, rename = "device")]
    pub devices: Vec<RevokedDevice>,
    /// Certificates that are not valid any more, whatever they say.
    #[serde(default, rename = "certificate")]
    pub certificates: Vec<RevokedCertificate>,
    /// SSH keys that admit nobody to their systems any more, whoever brings them under whatever name.
    #[serde(default, rename = "ssh_key")]
    pub ssh_keys: Vec<RevokedSshKey>,
}

/// A device that is shut out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedDevice {
    /// Its name.
    pub id: DeviceId,
    /// Since when, in seconds since 1970.
    pub since: i64,
}

/// A certificate that is not valid any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedCertificate {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Whose it was.
    pub id: DeviceId,
    /// Since when, in seconds since 1970.
    pub since: i64,
    /// When it would have ended by itself, in seconds since 1970.
    pub not_after: i64,
    /// The SHA-256 of its public key (the DER of `SubjectPublicKeyInfo`), hexadecimal: the key gets no other one.
    pub key: String,
}

/// An SSH key that admits nobody to its system any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedSshKey {
    /// Its fingerprint, as `ssh-keygen -l` shows it: `SHA256:…`.
    pub fingerprint: String,
    /// Whose it was.
    pub id: DeviceId,
    /// Since when, in seconds since 1970.
    pub since: i64,
}

/// Why it is not known what is revoked. Nobody may be let in then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what such a file is.
    #[error("`{}` is no list of what is revoked", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: toml::de::Error,
    },
    /// It cannot be put into words.
    #[error("cannot write down what is revoked")]
    Serialize(#[source] toml::ser::Error),
    /// It is of a form that a newer version writes.
    #[error("`{}` is of version {found}, and this program knows version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl Revoked {
    /// Reads the list of a realm's directory; nothing is revoked where there is none.
    pub fn load(directory: &Path) -> Result<Self, RevokedError> {
        let path = directory.join(REVOKED_FILE);
        let text = match files::read_text(&path, MAX_FILE) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => {
                return Ok(Self {
                    version: VERSION,
                    ..Self::default()
                });
            }
            Err(error) => return Err(error.into()),
        };
        let revoked: Self = toml::from_str(&text).map_err(|source| RevokedError::Parse {
            path: path.clone(),
            source,
        })?;
        if revoked.version != VERSION {
            return Err(RevokedError::Version {
                path,
                found: revoked.version,
            });
        }
        Ok(revoked)
    }

    /// Writes the list into a realm's directory, in place of the one that was there.
    pub fn save(&self, directory: &Path) -> Result<(), RevokedError> {
        let text = toml::to_string(self).map_err(RevokedError::Serialize)?;
        Ok(files::write_public(
            &directory.join(REVOKED_FILE),
            text.as_bytes(),
        )?)
    }

    /// Whether a device is shut out.
    pub fn shuts_out(&self, id: &DeviceId) -> bool {
        self.devices.iter().any(|device| device.id == *id)
    }

    /// Whether the certificate with this serial number is revoked.
    pub fn has_serial(&self, serial: &str) -> bool {
        self.certificates
            .iter()
            .any(|certificate| certificate.serial == serial)
    }

    /// Whether a key, by the SHA-256 of its DER in hexadecimal, is that of a revoked certificate.
    pub fn has_key(&self, key: &str) -> bool {
        self.certificates
            .iter()
            .any(|certificate| certificate.key == key)
    }
}

impl Revoked {
    /// Whether an SSH key is revoked for a device: it was that of a revoked one of the same system. In another system somebody
    /// may have copied it, and what becomes of the copy is nothing to its owner.
    pub fn has_ssh_key(&self, id: &DeviceId, key: &PublicKey) -> bool {
        if self.ssh_keys.is_empty() {
            return false;
        }
        let fingerprint = fingerprint(key);
        self.ssh_keys
            .iter()
            .filter(|revoked| revoked.id.system() == id.system())
            .any(|revoked| revoked.fingerprint == fingerprint)
    }

    /// Whether a key lets its device in: neither is revoked.
    pub fn admits(&self, key: &DeviceKey) -> bool {
        !self.shuts_out(key.id()) && !self.has_ssh_key(key.id(), key.key())
    }

    /// Adds the keys of a device that are not on the list yet. Returns the fingerprints of those.
    pub fn add_ssh_keys(&mut self, keys: &[DeviceKey], since: i64) -> Vec<String> {
        let mut added = Vec::new();
        for key in keys {
            if self.has_ssh_key(key.id(), key.key()) {
                continue;
            }
            let fingerprint = fingerprint(key.key());
            added.push(fingerprint.clone());
            self.ssh_keys.push(RevokedSshKey {
                fingerprint,
                id: key.id().clone(),
                since,
            });
        }
        added
    }
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

impl RevokedError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(source) => source.hint(),
            Self::Parse { path, .. } => Some(format!(
                "mend `{}`, or put it back from a copy; without it nobody knows who was shut out",
                path.display()
            )),
            Self::Version { .. } => {
                Some("a newer `tunnel` has written it: use that one".to_owned())
            }
            Self::Serialize(_) => None,
        }
    }
}

/// The file's name in a realm's directory.
pub const REVOKED_FILE: &str = "revoked.toml";

const VERSION: u32 = 1;

/// The largest list, in bytes: 250 for each certificate, of which a realm of 4,000 devices may revoke every single one
/// four times.
const MAX_FILE: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let home = tempfile::tempdir().unwrap();
        let id: DeviceId = "333.hula.atlas".parse().unwrap();
        let mut revoked = Revoked::load(home.path()).unwrap();
        assert!(!revoked.shuts_out(&id));
        revoked.devices.push(RevokedDevice {
            id: id.clone(),
            since: 7,
        });
        revoked.certificates.push(RevokedCertificate {
            serial: "4A".to_owned(),
            id: id.clone(),
            since: 7,
            not_after: 8,
            key: "ab".to_owned(),
        });
        revoked.save(home.path()).unwrap();
        let loaded = Revoked::load(home.path()).unwrap();
        assert_eq!(loaded, revoked);
        assert!(loaded.shuts_out(&id) && loaded.has_serial("4A") && loaded.has_key("ab"));
        assert!(!loaded.shuts_out(&"334.hula.atlas".parse().unwrap()));
    }

    #[test]
    fn a_revoked_ssh_key_lets_nobody_in_under_any_name() {
        let home = tempfile::tempdir().unwrap();
        let key = |text: &str, id: &str| {
            DeviceKey::parse(&id.parse().unwrap(), &format!("{text} {id}")).unwrap()
        };
        let one =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";
        let two =
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        let mut revoked = Revoked::load(home.path()).unwrap();
        let stolen = key(one, "333.hula.atlas");
        assert!(revoked.admits(&stolen));
        let added = revoked.add_ssh_keys(std::slice::from_ref(&stolen), 7);
        assert!(added[0].starts_with("SHA256:"), "{added:?}");
        assert!(revoked.add_ssh_keys(&[stolen], 8).is_empty());
        revoked.save(home.path()).unwrap();
        let loaded = Revoked::load(home.path()).unwrap();
        assert!(!loaded.admits(&key(one, "333.hula.atlas")));
        assert!(!loaded.admits(&key(one, "controller-x.hula.atlas")));
        assert!(loaded.admits(&key(two, "333.hula.atlas")));
        assert!(
            loaded.admits(&key(one, "333.kiwi.atlas")),
            "what is revoked may have been a copy"
        );
    }

    #[test]
    fn a_damaged_list_is_an_error_and_not_an_empty_one() {
        let home = tempfile::tempdir().unwrap();
        for text in ["version = 1\n[[devices]]", "", "version = 2"] {
            std::fs::write(home.path().join(REVOKED_FILE), text).unwrap();
            assert!(Revoked::load(home.path()).is_err(), "{text}");
        }
    }
}
