//! The devices that a controller has last heard of: what a shell completes with, at once and without a network.

use std::path::PathBuf;

use controller::Listed;
use daemon::clock;
use daemon::device_dir::DeviceDir;
use daemon::files;
use protocol::DeviceId;
use serde::{Deserialize, Serialize};

/// The content of the file. It is made anew from what the broker says, so whoever cannot read it does without.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct SeenDevices {
    /// When the broker was last asked, in seconds since 1970.
    asked: u64,
    devices: Vec<SeenDevice>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenDevice {
    /// Its full name.
    pub(crate) device: DeviceId,
    /// Whether it was online then.
    pub(crate) online: bool,
}

impl SeenDevices {
    /// What the directory's controller has last heard; `None` when it has never asked.
    pub(crate) fn load(dir: &DeviceDir) -> Option<Self> {
        let text = files::read_text(&path(dir), MAX_FILE).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Keeps what the broker has said.
    pub(crate) fn keep(dir: &DeviceDir, devices: &[Listed]) {
        let devices = devices.iter().take(MAX_DEVICES);
        let devices = devices.map(|listed| SeenDevice {
            device: listed.device.clone(),
            online: listed.online,
        });
        Self {
            asked: clock::unix_seconds(),
            devices: devices.collect(),
        }
        .save(dir);
    }

    /// Keeps a device that was met otherwise: one without a presence is in no list.
    pub(crate) fn keep_one(dir: &DeviceDir, device: &DeviceId) {
        let mut seen = Self::load(dir).unwrap_or_default();
        let is_new = seen.devices.iter().all(|known| known.device != *device);
        if is_new && seen.devices.len() < MAX_DEVICES {
            seen.devices.push(SeenDevice {
                device: device.clone(),
                online: true,
            });
            seen.save(dir);
        }
    }

    /// Keeps what was known after the broker could not be asked, so that not every key press asks it again.
    pub(crate) fn keep_waiting(dir: &DeviceDir) {
        let mut seen = Self::load(dir).unwrap_or_default();
        seen.asked = clock::unix_seconds();
        seen.save(dir);
    }

    /// The devices, in their order.
    pub(crate) fn devices(&self) -> &[SeenDevice] {
        &self.devices
    }

    /// Whether it is time to ask again. A clock that was set back makes it so, too.
    pub(crate) fn is_old(&self) -> bool {
        clock::unix_seconds().abs_diff(self.asked) > FRESH
    }

    fn save(&self, dir: &DeviceDir) {
        let written = serde_json::to_vec(self)
            .map_err(|error| error.to_string())
            .and_then(|json| {
                files::write_private(&path(dir), &json).map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            // A directory of root's, for instance: only the completion misses it.
            tracing::debug!(error, "the seen devices were not kept");
        }
    }
}

fn path(dir: &DeviceDir) -> PathBuf {
    dir.path().join(".devices.json")
}

/// For how many seconds a list is good enough to complete with.
const FRESH: u64 = 30;

/// How many devices are kept: more than anybody completes by hand.
const MAX_DEVICES: usize = 4096;

/// The largest file, in bytes: as many devices with names of the longest kind.
const MAX_FILE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_can_be_read_again() {
        let home = tempfile::tempdir().unwrap();
        let dir = DeviceDir::new(home.path());
        let label = "x".repeat(63);
        let listed = |number: usize| Listed {
            device: format!("{number:0>63}.{label}.{label}").parse().unwrap(),
            online: false,
            since: 0,
            lost: false,
            version: String::new(),
            proxy: None,
            controllers: Vec::new(),
        };
        let devices: Vec<_> = (0..=MAX_DEVICES).map(listed).collect();
        SeenDevices::keep(&dir, &devices);
        assert_eq!(
            SeenDevices::load(&dir).unwrap().devices().len(),
            MAX_DEVICES
        );
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_nothing() {
        let home = tempfile::tempdir().unwrap();
        let dir = DeviceDir::new(home.path());
        assert!(SeenDevices::load(&dir).is_none());
        std::fs::write(path(&dir), "{\"asked\":1,\"devices\":[{\"device\":\"#\"}]}").unwrap();
        assert!(SeenDevices::load(&dir).is_none());
        SeenDevices::keep_one(&dir, &"333.hula.atlas".parse().unwrap());
        SeenDevices::keep_one(&dir, &"333.hula.atlas".parse().unwrap());
        let seen = SeenDevices::load(&dir).unwrap();
        assert_eq!(seen.devices().len(), 1);
        assert!(seen.is_old(), "the broker was never asked");
        SeenDevices::keep_waiting(&dir);
        let seen = SeenDevices::load(&dir).unwrap();
        assert_eq!(seen.devices().len(), 1);
        assert!(!seen.is_old());
    }
}
