//! The directory of keys, and what is remembered of its files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::shutdown::Shutdown;
use protocol::{DeviceId, Label};
use russh::keys::PublicKey;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::file::{Reading, SUFFIX, Stamp, read_key};
use super::{KeyPermission, Keys};

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
///
/// Of two files of a system with the same key, the one counts that was there first. Since no more than a fixed number
/// of keys is admitted, and of other files remembered, what comes beyond that is left out until there is room.
#[derive(Clone, Debug)]
pub struct KeyStore {
    directory: Arc<Path>,
    realm: Label,
    permits: KeyPermission,
    limit: usize,
    memory: Arc<Mutex<Memory>>,
    current: Arc<watch::Sender<Arc<Keys>>>,
    looked: Arc<tokio::sync::Mutex<Instant>>,
    stale: Arc<AtomicBool>,
}

impl KeyStore {
    /// Reads the directory for the first time. At most `limit` keys are admitted.
    pub async fn open(
        directory: &Path,
        realm: Label,
        permits: KeyPermission,
        limit: usize,
    ) -> Result<Self, KeyStoreError> {
        let store = Self {
            directory: directory.into(),
            realm,
            permits,
            limit,
            memory: Arc::default(),
            current: Arc::new(watch::Sender::new(Arc::default())),
            looked: Arc::new(tokio::sync::Mutex::new(Instant::now())),
            stale: Arc::default(),
        };
        store.reload().await?;
        Ok(store)
    }

    /// The keys as they were when last looked at.
    pub fn current(&self) -> Arc<Keys> {
        Arc::clone(&self.current.borrow())
    }

    /// Whether the directory could not be read when it was last looked at.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
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
        let reloaded = self.reload().await;
        self.stale.store(reloaded.is_err(), Ordering::Relaxed);
        if let Err(error) = reloaded {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(cause, "{error}; the keys stay as they were");
        }
    }

    pub(super) async fn reload(&self) -> Result<(), KeyStoreError> {
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

    /// Reads what has changed. Returns the keys if they did.
    fn scan(&self) -> Result<Option<Keys>, KeyStoreError> {
        let listing = list(&self.directory).map_err(|source| KeyStoreError::List {
            path: self.directory.to_path_buf(),
            source,
        })?;
        // Before the rule is asked: a change meanwhile is then seen by the next look.
        let edition = self.permits.edition();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let same_rule = std::mem::replace(&mut memory.edition, edition) == edition;
        let mut before = std::mem::take(&mut memory.files);
        let mut fresh = Vec::new();
        for (name, stamp) in listing {
            match before.remove(&name) {
                Some(known) if same_rule && known.stamp == stamp => {
                    memory.files.insert(name, known);
                }
                replaced => fresh.push((name, stamp, replaced)),
            }
        }
        // What is left was deleted.
        if fresh.is_empty() && before.is_empty() {
            return Ok(None);
        }
        fresh.sort_by(|(one, this, _), (other, that, _)| {
            (this.changed(), one).cmp(&(that.changed(), other))
        });
        let mut room = memory.room(self.limit);
        let mut left_out = 0_usize;
        for (name, stamp, replaced) in fresh {
            if !self.take_in(&mut memory, &mut room, name, stamp, replaced) {
                left_out += 1;
            }
        }
        if left_out > 0 && memory.left_out == 0 {
            let (directory, limit) = (self.directory.display(), self.limit);
            tracing::error!(left_out, limit, %directory, "too many key files: some are left out");
        }
        memory.left_out = left_out;
        let keys = memory.keys();
        memory.tell_shadowed(&keys);
        Ok((keys != **self.current.borrow()).then_some(keys))
    }

    /// Reads one file that is new or has changed. Returns whether there was room for what it is.
    fn take_in(
        &self,
        memory: &mut Memory,
        room: &mut Room,
        name: OsString,
        listed: Stamp,
        replaced: Option<Known>,
    ) -> bool {
        if room.keys == 0 && room.refused == 0 {
            return false;
        }
        let path = self.directory.join(&name);
        let reading = read_key(&path, &name.to_string_lossy(), &self.realm, &self.permits)
            .unwrap_or_else(|error| Reading::Refused(listed, error.to_string()));
        let (stamp, key, left) = match reading {
            Reading::Nothing => return true,
            Reading::Key(stamp, key, id) => (stamp, Some((key, id)), &mut room.keys),
            Reading::Refused(stamp, reason) => {
                // Of those that are not remembered nothing is said, or it would be said again and again.
                if room.refused > 0 {
                    tracing::warn!(file = %path.display(), reason, "key file refused");
                }
                (stamp, None, &mut room.refused)
            }
        };
        if *left == 0 {
            return false;
        }
        *left -= 1;
        // The same key under the same name again is as old as it was.
        let since = replaced
            .filter(|before| before.is_of(key.as_ref()))
            .map(|before| before.since);
        memory.insert(name, stamp, key, since);
        true
    }
}

/// What is known of the directory's files.
#[derive(Debug, Default)]
struct Memory {
    files: HashMap<OsString, Known>,
    sequence: u64,
    /// Of the rule by which the files were judged.
    edition: u64,
    left_out: usize,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    key: Option<(PublicKey, DeviceId)>,
    /// Its place among all that came.
    since: u64,
    /// Whether it was told that another device has this key.
    shadowed: bool,
}

impl Known {
    /// Whether it has this key, under whatever comment, for the same device.
    fn is_of(&self, key: Option<&(PublicKey, DeviceId)>) -> bool {
        match (&self.key, key) {
            (Some((ours, id)), Some((theirs, other))) => {
                ours.key_data() == theirs.key_data() && id == other
            }
            (_, None) | (None, _) => false,
        }
    }
}

/// How many more files can be remembered.
#[derive(Debug)]
struct Room {
    keys: usize,
    refused: usize,
}

impl Memory {
    fn room(&self, limit: usize) -> Room {
        let keys = self.files.values().filter(|known| known.key.is_some());
        let keys = keys.count();
        Room {
            keys: limit.saturating_sub(keys),
            refused: limit.saturating_sub(self.files.len() - keys),
        }
    }

    fn insert(
        &mut self,
        name: OsString,
        stamp: Stamp,
        key: Option<(PublicKey, DeviceId)>,
        since: Option<u64>,
    ) {
        self.sequence += 1;
        let known = Known {
            stamp,
            key,
            since: since.unwrap_or(self.sequence),
            shadowed: false,
        };
        self.files.insert(name, known);
    }

    /// The keys, those that came first before others.
    fn keys(&self) -> Keys {
        let mut known: Vec<_> = self
            .files
            .values()
            .filter_map(|known| Some((known.since, known.key.as_ref()?)))
            .collect();
        known.sort_by_key(|(since, _)| *since);
        Keys::of(known.into_iter().map(|(_, pair)| pair.clone()))
    }

    /// Says once of each file whose key another device has.
    fn tell_shadowed(&mut self, keys: &Keys) {
        for known in self.files.values_mut() {
            let Some((key, id)) = &known.key else {
                continue;
            };
            let owner = keys.owner(id.system(), key);
            let shadowed = owner != Some(id);
            if shadowed && !known.shadowed {
                let owner = owner.map(ToString::to_string);
                tracing::warn!(device = %id, owner, "key refused: another device has the same one");
            }
            known.shadowed = shadowed;
        }
    }
}

/// The key files of a directory, unread.
fn list(directory: &Path) -> io::Result<Vec<(OsString, Stamp)>> {
    let mut listing = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        let name = file.file_name();
        if !name.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        // That of a link, if it is one. A file that has gone meanwhile is not there.
        if let Ok(metadata) = file.metadata()
            && metadata.is_file()
        {
            listing.push((name, Stamp::of(&metadata)));
        }
    }
    Ok(listing)
}

/// The shortest time between two looks that strangers can cause.
const REFRESH_INTERVAL: Duration = Duration::from_millis(250);
