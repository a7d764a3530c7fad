//! The public keys that are admitted: what stands in a directory now.

mod file;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::shutdown::Shutdown;
use protocol::{DeviceId, Label};
use russh::keys::PublicKey;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::file::{SUFFIX, read_key};

/// The keys at one moment.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    owners: HashMap<Vec<u8>, DeviceId>,
}

impl Keys {
    /// These keys. One that is given for two devices belongs to neither: whoever holds it could be either.
    pub fn of(pairs: impl IntoIterator<Item = (PublicKey, DeviceId)>) -> Self {
        let mut owners: HashMap<Vec<u8>, Option<DeviceId>> = HashMap::new();
        for (key, id) in pairs {
            let Ok(blob) = key.to_bytes() else { continue };
            match owners.entry(blob) {
                Entry::Vacant(vacant) => drop(vacant.insert(Some(id))),
                Entry::Occupied(mut known) if known.get().as_ref() != Some(&id) => {
                    tracing::warn!(device = %id, "key refused: another device has the same one");
                    known.insert(None);
                }
                Entry::Occupied(_) => {}
            }
        }
        let owners = owners
            .into_iter()
            .filter_map(|(blob, id)| Some((blob, id?)));
        Self {
            owners: owners.collect(),
        }
    }

    /// The device that a key belongs to.
    pub fn owner(&self, key: &PublicKey) -> Option<&DeviceId> {
        self.owners.get(&key.to_bytes().ok()?)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether nobody is admitted.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

/// Why a directory of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// It cannot be listed.
    #[error("cannot list the keys in `{}`", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds more files than keys are admitted.
    #[error("more than {limit} keys in `{}`", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// What is allowed.
        limit: usize,
    },
    /// The task that reads it was stopped: the process is ending.
    #[error("reading the keys was interrupted")]
    Interrupted {
        /// How.
        #[source]
        source: JoinError,
    },
}

/// Watches a directory of keys. Clones are the same store.
///
/// A file counts if its name is `DEVICE.SYSTEM.REALM.sshkey.pub` and it holds one plain key line. Files should be
/// replaced by renaming: one that is half written has no key, and so its device loses its connections.
#[derive(Clone, Debug)]
pub struct KeyStore {
    directory: Arc<Path>,
    realm: Label,
    limit: usize,
    known: Arc<Mutex<HashMap<OsString, Known>>>,
    current: Arc<watch::Sender<Arc<Keys>>>,
    looked: Arc<tokio::sync::Mutex<Instant>>,
}

impl KeyStore {
    /// Reads the directory for the first time.
    pub async fn open(directory: &Path, realm: Label, limit: usize) -> Result<Self, KeyStoreError> {
        let store = Self {
            directory: directory.into(),
            realm,
            limit,
            known: Arc::default(),
            current: Arc::new(watch::Sender::new(Arc::default())),
            looked: Arc::new(tokio::sync::Mutex::new(Instant::now())),
        };
        store.reload().await?;
        Ok(store)
    }

    /// The keys as they were when last looked at.
    pub fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells of every change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Keys>> {
        self.current.subscribe()
    }

    /// Looks again for a key that is not known. Strangers may cause this, so there is a shortest time between two looks,
    /// and all who ask meanwhile wait for the same one.
    pub async fn refresh(&self) {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        if *looked > asked {
            return;
        }
        sleep_until(*looked + REFRESH_INTERVAL).await;
        // The time when the look began: a file that came during it may have been missed.
        *looked = Instant::now();
        self.reload_or_keep().await;
    }

    /// Looks at the directory every so often, until the shutdown.
    pub async fn watch(&self, every: Duration, shutdown: &Shutdown) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = ticks.tick() => {}
            }
            let mut looked = self.looked.lock().await;
            *looked = Instant::now();
            self.reload_or_keep().await;
        }
    }

    /// A directory that cannot be read for the moment, on a network disk perhaps, should not cut everybody off.
    async fn reload_or_keep(&self) {
        if let Err(error) = self.reload().await {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(cause, "{error}; the keys stay as they were");
        }
    }

    async fn reload(&self) -> Result<(), KeyStoreError> {
        let store = self.clone();
        let changed = spawn_blocking(move || store.scan())
            .await
            .map_err(|source| KeyStoreError::Interrupted { source })??;
        if let Some(keys) = changed {
            tracing::info!(keys = keys.len(), directory = %self.directory.display(), "keys read");
            self.current.send_replace(Arc::new(keys));
        }
        Ok(())
    }

    /// Reads what has changed. Returns the keys if any did, or it is the first time.
    fn scan(&self) -> Result<Option<Keys>, KeyStoreError> {
        let fail = |source| KeyStoreError::List {
            path: self.directory.to_path_buf(),
            source,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = HashMap::new();
        let mut changed = known.is_empty();
        for file in fs::read_dir(&self.directory).map_err(fail)? {
            let file = file.map_err(fail)?;
            let name = file.file_name();
            // A link is not followed: what it leads to is under somebody else's control.
            let Ok(metadata) = fs::symlink_metadata(file.path()) else {
                continue;
            };
            if !metadata.is_file() || !name.to_string_lossy().ends_with(SUFFIX) {
                continue;
            }
            if found.len() >= self.limit {
                return Err(KeyStoreError::TooMany {
                    path: self.directory.to_path_buf(),
                    limit: self.limit,
                });
            }
            let stamp = Stamp::of(&metadata);
            let entry = match known.remove(&name) {
                Some(before) if before.stamp == stamp => before,
                _ => {
                    changed = true;
                    let key = read_key(&file.path(), &name.to_string_lossy(), &self.realm);
                    Known { stamp, key }
                }
            };
            found.insert(name, entry);
        }
        // What is left was deleted.
        changed |= !known.is_empty();
        let keys = changed.then(|| Keys::of(found.values().filter_map(|known| known.key.clone())));
        *known = found;
        Ok(keys)
    }
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    key: Option<(PublicKey, DeviceId)>,
}

/// What changes when a file does, even when it keeps its size within one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The shortest time between two looks that strangers can cause.
const REFRESH_INTERVAL: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_KEY_FILE;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn key(text: &str) -> PublicKey {
        text.parse().unwrap()
    }

    async fn store(directory: &Path) -> KeyStore {
        KeyStore::open(directory, "atlas".parse().unwrap(), 100)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn keys_come_change_and_go_with_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("333.hula.atlas.sshkey.pub");
        let store = store(directory.path()).await;
        assert!(store.current().is_empty());
        fs::write(&path, format!("{KEY} 333.hula.atlas\n")).unwrap();
        store.reload().await.unwrap();
        let owner = store.current().owner(&key(KEY)).map(ToString::to_string);
        assert_eq!(owner.as_deref(), Some("333.hula.atlas"));
        fs::write(&path, OTHER).unwrap();
        store.reload().await.unwrap();
        assert!(store.current().owner(&key(KEY)).is_none());
        assert!(store.current().owner(&key(OTHER)).is_some());
        let mut changes = store.subscribe();
        store.reload().await.unwrap();
        assert!(!changes.has_changed().unwrap(), "nothing new");
        fs::remove_file(&path).unwrap();
        store.reload().await.unwrap();
        assert!(changes.borrow_and_update().is_empty());
    }

    #[tokio::test]
    async fn a_key_of_two_devices_belongs_to_neither() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "333.hula.atlas.sshkey.pub",
            "controller.hula.atlas.sshkey.pub",
        ] {
            fs::write(directory.path().join(name), KEY).unwrap();
        }
        assert!(
            store(directory.path())
                .await
                .current()
                .owner(&key(KEY))
                .is_none()
        );
    }

    #[tokio::test]
    async fn files_that_are_no_key_of_the_realm_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("333.hula.other.sshkey.pub"), KEY).unwrap();
        fs::write(at("333.hula.sshkey.pub"), KEY).unwrap();
        fs::write(at("334.hula.atlas.sshkey"), KEY).unwrap();
        fs::write(at("335.hula.atlas.sshkey.pub"), format!("{KEY}\n{OTHER}\n")).unwrap();
        fs::write(at("336.hula.atlas.sshkey.pub"), format!("restrict {KEY}")).unwrap();
        fs::write(
            at("337.hula.atlas.sshkey.pub"),
            "x".repeat(MAX_KEY_FILE + 1),
        )
        .unwrap();
        fs::write(at("338.hula.atlas.sshkey.pub"), b"\xff\xfe").unwrap();
        std::os::unix::fs::symlink(at("334.hula.atlas.sshkey"), at("339.hula.atlas.sshkey.pub"))
            .unwrap();
        assert!(store(directory.path()).await.current().is_empty());
    }

    #[tokio::test]
    async fn too_many_files_change_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = KeyStore::open(directory.path(), "atlas".parse().unwrap(), 1)
            .await
            .unwrap();
        fs::write(directory.path().join("1.hula.atlas.sshkey.pub"), KEY).unwrap();
        store.reload().await.unwrap();
        fs::write(directory.path().join("2.hula.atlas.sshkey.pub"), OTHER).unwrap();
        assert!(matches!(
            store.reload().await,
            Err(KeyStoreError::TooMany { limit: 1, .. })
        ));
        assert_eq!(store.current().len(), 1);
    }
}
