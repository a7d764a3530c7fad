//! An enrolled device: its directory and the files in it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Sshd;

/// A device of the realm `atlas`.
#[derive(Clone, Debug)]
pub struct Device {
    dir: PathBuf,
    system: String,
    name: String,
}

impl Device {
    /// A device whose directory is, or will be, one of those in `devices`.
    pub fn new(devices: &Path, system: &str, device: &str) -> Self {
        Self {
            dir: devices.join(format!("{device}.{system}")),
            system: system.to_owned(),
            name: device.to_owned(),
        }
    }

    /// The device's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The system's name.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The device's name in its system.
    pub fn device(&self) -> &str {
        &self.name
    }

    /// `DEVICE.SYSTEM.atlas`
    pub fn id(&self) -> String {
        format!("{}.{}.atlas", self.name, self.system)
    }

    /// The SSH private key.
    pub fn ssh_key(&self) -> PathBuf {
        self.file("sshkey")
    }

    /// The SSH public key.
    pub fn ssh_public_key(&self) -> PathBuf {
        self.file("sshkey.pub")
    }

    /// The X.509 private key.
    pub fn tls_key(&self) -> PathBuf {
        self.file("x509.key")
    }

    /// The X.509 certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("x509.cert")
    }

    /// Writes the device's settings: the sshd it offers as `ssh`, more services as (name, address), and how long a
    /// tunnel outlives its last lease.
    ///
    /// # Panics
    /// When the file cannot be written.
    #[track_caller]
    pub fn configure(&self, sshd: &Sshd, services: &[(&str, &str)], grace_period: &str) {
        let mut text = format!(
            "system = \"{}\"\ndevice = \"{}\"\ngrace_period = \"{grace_period}\"\nhost_keys = [\"{}\"]\n\n\
             [services]\nssh = \"{}\"\n",
            self.system,
            self.name,
            sshd.host_key().display(),
            sshd.address()
        );
        for (name, address) in services {
            let _ = writeln!(text, "{name} = \"{address}\"");
        }
        fs::write(self.dir.join("device.toml"), text).expect("the device's directory is writable");
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", self.id()))
    }
}
