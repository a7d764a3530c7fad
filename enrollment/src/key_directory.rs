//! The proxy's own directory of keys, kept like the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use protocol::DeviceId;

use crate::folder::Folder;
use crate::{DeviceKey, Kind, PermittedKeys, Title};

/// A directory with one `DEVICE.SYSTEM.REALM.sshkey.pub` a device, which the proxy watches.
#[derive(Debug)]
pub struct KeyDirectory {
    path: PathBuf,
    folder: Folder,
}

/// What a synchronisation has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Keys that are new, or other than before.
    pub written: Vec<Title>,
    /// Keys that are gone.
    pub removed: Vec<Title>,
}

/// Why the directory could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyDirectoryError {
    /// The file system failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// There is more in it than a realm can need, so it is not only ours.
    #[error("`{}` holds more than {MAX_FILES} files", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
    },
}

impl KeyDirectory {
    /// Opens the directory; makes it, with mode 0755, if there is none.
    pub fn create(path: &Path) -> Result<Self, KeyDirectoryError> {
        let fail = |action| {
            move |source| KeyDirectoryError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        std::fs::create_dir_all(path).map_err(fail("make"))?;
        Ok(Self {
            path: path.to_owned(),
            folder: Folder::open(path).map_err(fail("open"))?,
        })
    }

    /// Whether it is the directory at this path, whatever ways lead there.
    pub fn is_at(&self, path: &Path) -> Result<bool, KeyDirectoryError> {
        let same = self.folder.is_at(path);
        same.map_err(|source| KeyDirectoryError::Io {
            action: "look at",
            path: path.to_owned(),
            source,
        })
    }

    /// The keys that it holds now, by device.
    pub fn keys(&self) -> Result<BTreeMap<DeviceId, DeviceKey>, KeyDirectoryError> {
        let mut keys = BTreeMap::new();
        for title in self.titles()? {
            if let Some(key) = self.key(title.id())? {
                keys.insert(title.id().clone(), key);
            }
        }
        Ok(keys)
    }

    /// The key that it holds for this device.
    pub fn key(&self, id: &DeviceId) -> Result<Option<DeviceKey>, KeyDirectoryError> {
        let name = Title::new(id.clone(), Kind::SshPublicKey).to_string();
        let found = self.folder.read(&name, Kind::SshPublicKey.max_body());
        let found = found.map_err(|source| KeyDirectoryError::Io {
            action: "read",
            path: self.path.join(&name),
            source,
        })?;
        let body = found.and_then(|found| found.body.ok());
        Ok(body.and_then(|body| DeviceKey::parse(id, &body).ok()))
    }

    fn titles(&self) -> Result<BTreeSet<Title>, KeyDirectoryError> {
        let path = || self.path.clone();
        let names = self.folder.names(MAX_FILES);
        let names = names.map_err(|source| KeyDirectoryError::Io {
            action: "list",
            path: path(),
            source,
        })?;
        let names = names.ok_or_else(|| KeyDirectoryError::TooMany { path: path() })?;
        Ok(names
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|title: &Title| title.kind() == Kind::SshPublicKey)
            .collect())
    }

    /// Makes the directory hold these keys and no other. Each file is the old one or the new one at any moment; what
    /// is not named like a key stays.
    pub fn sync(&self, permitted: &PermittedKeys) -> Result<KeyChanges, KeyDirectoryError> {
        let fail = |action, name: &str| {
            let path = self.path.join(name);
            move |source| KeyDirectoryError::Io {
                action,
                path,
                source,
            }
        };
        let mut surplus = self.titles()?;
        let mut changes = KeyChanges::default();
        let mut missing = Vec::new();
        for (id, key) in permitted.keys() {
            let title = Title::new(id.clone(), Kind::SshPublicKey);
            let was_there = surplus.remove(&title);
            let Ok(line) = key.key().to_openssh() else {
                continue;
            };
            let (name, line) = (title.to_string(), line + "\n");
            let found = self.folder.read(&name, Kind::SshPublicKey.max_body());
            let found = found.map_err(fail("read", &name))?;
            if !was_there || found.and_then(|found| found.body.ok()) != Some(line.clone()) {
                missing.push((title, line));
            }
        }
        // First, so that a key which has moved to another device is never there for both.
        for title in surplus {
            let name = title.to_string();
            self.folder.remove(&name).map_err(fail("remove", &name))?;
            changes.removed.push(title);
        }
        for (title, line) in missing {
            let name = title.to_string();
            let written = self.folder.write(&name, line.as_bytes());
            written.map_err(fail("write", &name))?;
            changes.written.push(title);
        }
        Ok(changes)
    }
}

/// The most files in the directory: ten times what a realm of the size that this was made for has.
const MAX_FILES: usize = 200_000;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{Author, Entry, Revision, UploadPermission};

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn permitted(pairs: &[(&str, &str)]) -> PermittedKeys {
        let entries = pairs.iter().map(|(id, key)| Entry {
            title: Title::new(id.parse().unwrap(), Kind::SshPublicKey),
            author: Author::LocalUser { uid: 0 },
            revision: Revision::of_body(key),
            body: Ok(format!("{key} {id}")),
            arrived: 0,
        });
        PermittedKeys::of(
            entries.collect(),
            &"atlas".parse().unwrap(),
            &UploadPermission::everyone_with_write_access(),
            |_| false,
        )
    }

    #[test]
    fn keys_come_change_and_go_and_nothing_else_does() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys");
        let directory = KeyDirectory::create(&path).unwrap();
        fs::write(path.join("README"), "mine").unwrap();
        let first = directory
            .sync(&permitted(&[("333.hula.atlas", KEY)]))
            .unwrap();
        assert_eq!((first.written.len(), first.removed.len()), (1, 0));
        let file = path.join("333.hula.atlas.sshkey.pub");
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("{KEY} 333.hula.atlas\n")
        );
        let same = directory
            .sync(&permitted(&[("333.hula.atlas", KEY)]))
            .unwrap();
        assert_eq!(same, KeyChanges::default());
        let moved = directory
            .sync(&permitted(&[("334.hula.atlas", KEY)]))
            .unwrap();
        assert_eq!((moved.written.len(), moved.removed.len()), (1, 1));
        assert!(!file.exists());
        let other = directory
            .sync(&permitted(&[("334.hula.atlas", OTHER)]))
            .unwrap();
        assert_eq!((other.written.len(), other.removed.len()), (1, 0));
        directory.sync(&permitted(&[])).unwrap();
        let left: Vec<_> = fs::read_dir(&path).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(fs::read_to_string(path.join("README")).unwrap(), "mine");
    }

    #[test]
    fn it_knows_what_it_holds_and_where_it_is() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys");
        let directory = KeyDirectory::create(&path).unwrap();
        directory
            .sync(&permitted(&[("333.hula.atlas", KEY)]))
            .unwrap();
        fs::write(path.join("334.hula.atlas.sshkey.pub"), "half").unwrap();
        let keys = directory.keys().unwrap();
        assert_eq!(keys.len(), 1);
        let id: DeviceId = "333.hula.atlas".parse().unwrap();
        assert_eq!(directory.key(&id).unwrap().as_ref(), keys.get(&id));
        // Other words for the same place.
        symlink(&path, home.path().join("link")).unwrap();
        for same in ["keys", "./keys", "keys/../keys", "link"] {
            assert!(directory.is_at(&home.path().join(same)).unwrap(), "{same}");
        }
        assert!(!directory.is_at(home.path()).unwrap());
        assert!(!directory.is_at(&home.path().join("none")).unwrap());
    }

    #[test]
    fn a_link_in_a_keys_place_is_replaced_and_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (path, target) = (home.path().join("keys"), home.path().join("target"));
        let directory = KeyDirectory::create(&path).unwrap();
        fs::write(&target, format!("{KEY} 333.hula.atlas\n")).unwrap();
        let file = path.join("333.hula.atlas.sshkey.pub");
        symlink(&target, &file).unwrap();
        let changes = directory
            .sync(&permitted(&[("333.hula.atlas", KEY)]))
            .unwrap();
        assert_eq!(changes.written.len(), 1);
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
    }
}
