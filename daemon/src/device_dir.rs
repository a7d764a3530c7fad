//! A device's directory: where its configuration and keys lie, under the original's names.

use std::path::{Path, PathBuf};

use protocol::{DeviceId, Label};

use crate::device_file::{DEVICE_FILE, DeviceFile, DeviceFileError};
use crate::original::{OriginalError, PROPERTIES_FILE, Properties};
use crate::realm_file::{REALM_FILE, RealmFile, RealmFileError};

/// The directory of an agent or a controller.
#[derive(Clone, Debug)]
pub struct DeviceDir {
    path: PathBuf,
}

/// Who a device is and whom it talks to.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The realm.
    pub realm: RealmFile,
    /// The device.
    pub device: DeviceFile,
    /// Its full name.
    pub id: DeviceId,
}

/// Why a device's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// The realm file is missing or wrong.
    #[error(transparent)]
    Realm(#[from] RealmFileError),
    /// The device file is missing or wrong.
    #[error(transparent)]
    Device(#[from] DeviceFileError),
    /// The original's file is wrong.
    #[error(transparent)]
    Original(#[from] OriginalError),
    /// The original's file is of another realm than the realm file.
    #[error("`{}` is of realm `{found}`, and `realm.toml` of `{expected}`", path.display())]
    OtherRealm {
        /// The original's file.
        path: PathBuf,
        /// Its realm.
        found: Label,
        /// The realm file's.
        expected: Label,
    },
}

impl MembershipError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Realm(RealmFileError::File(error))
            | Self::Device(DeviceFileError::File(error))
                if error.is_not_found() =>
            {
                Some("enroll this computer with `tunnel enroll SYSTEM DEVICE --realm realm.toml`, or name its directory with `--dir`".to_owned())
            }
            Self::Realm(error) => error.hint(),
            Self::Device(DeviceFileError::File(error)) => error.hint(),
            Self::OtherRealm { .. } => Some(
                "put the `realm.toml` of its own realm there, or enroll it in this one with `tunnel enroll`"
                    .to_owned(),
            ),
            // What is wrong in it, and where, is said.
            Self::Device(_) | Self::Original(_) => None,
        }
    }
}

impl DeviceDir {
    /// The directory at this path, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `realm.toml`
    pub fn realm_file(&self) -> PathBuf {
        self.path.join(REALM_FILE)
    }

    /// `device.toml`
    pub fn device_file(&self) -> PathBuf {
        self.path.join(DEVICE_FILE)
    }

    /// The host keys of the devices that a controller has met, in OpenSSH's form.
    pub fn known_hosts(&self) -> PathBuf {
        self.path.join("known_hosts")
    }

    /// The host key of the agent's own ssh.
    pub fn builtin_host_key(&self) -> PathBuf {
        self.path.join("builtin-ssh.hostkey")
    }

    /// The keys that the agent's own ssh lets in, in the form of `authorized_keys`.
    pub fn controllers(&self) -> PathBuf {
        self.path.join("controllers")
    }

    /// `DEVICE.SYSTEM.REALM.sshkey`
    pub fn ssh_key(&self, id: &DeviceId) -> PathBuf {
        self.path.join(format!("{id}.sshkey"))
    }

    /// `DEVICE.SYSTEM.REALM.x509.key`
    pub fn x509_key(&self, id: &DeviceId) -> PathBuf {
        self.path.join(format!("{id}.x509.key"))
    }

    /// `DEVICE.SYSTEM.REALM.x509.key.new`: the key that a renewal is about.
    pub fn next_x509_key(&self, id: &DeviceId) -> PathBuf {
        self.path.join(format!("{id}.x509.key.new"))
    }

    /// `DEVICE.SYSTEM.REALM.x509.cert`
    pub fn x509_certificate(&self, id: &DeviceId) -> PathBuf {
        self.path.join(format!("{id}.x509.cert"))
    }

    /// Reads the two configuration files.
    pub fn membership(&self) -> Result<Membership, MembershipError> {
        let realm = RealmFile::load(&self.realm_file())?;
        let path = self.device_file();
        let device = self.device(&realm.realm)?;
        let id = device.id(&realm.realm, &path)?;
        Ok(Membership { realm, device, id })
    }

    /// Whether there is a file that says which device this is.
    pub fn has_device(&self) -> bool {
        self.device_file().exists() || self.path.join(PROPERTIES_FILE).exists()
    }

    /// Reads which device this is: from `device.toml`, or where there is none from an original's `properties.txt`, which must
    /// be of the same realm.
    pub fn device(&self, realm: &Label) -> Result<DeviceFile, MembershipError> {
        let original = self.path.join(PROPERTIES_FILE);
        let path = self.device_file();
        if path.exists() || !original.exists() {
            return Ok(DeviceFile::load(&path)?);
        }
        let properties = Properties::load(&original)?;
        if properties.realm != *realm {
            return Err(MembershipError::OtherRealm {
                path: original,
                found: properties.realm,
                expected: realm.clone(),
            });
        }
        Ok(properties.device)
    }
}
