//! The list of what is revoked, read again when it changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::report::one_line;

use crate::Revoked;
use crate::file_stamp::FileStamp;
use crate::revoked::{REVOKED_FILE, RevokedError};

/// `revoked.toml` of one directory, which need not be there. It is looked at whenever it is asked for, so that a running
/// service knows a revocation at once.
#[derive(Debug)]
pub struct RevokedStore {
    directory: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    stamp: Option<FileStamp>,
    revoked: Arc<Revoked>,
    edition: u64,
}

impl RevokedStore {
    /// Reads the list of a realm's directory. One that cannot be read lets nobody begin.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, RevokedError> {
        let directory = directory.into();
        // Before the reading: a change meanwhile is then seen by the next look.
        let stamp = FileStamp::of(&directory.join(REVOKED_FILE));
        let revoked = Arc::new(Revoked::load(&directory)?);
        Ok(Self {
            directory,
            known: Mutex::new(Known {
                stamp,
                revoked,
                edition: 0,
            }),
        })
    }

    /// What is revoked now. While the list cannot be read, or is gone, the last one stays: whoever is shut out is not let in
    /// by a damaged file.
    pub fn current(&self) -> Arc<Revoked> {
        self.looked().0
    }

    /// Another number than before whenever the list is another.
    pub fn edition(&self) -> u64 {
        self.looked().1
    }

    fn looked(&self) -> (Arc<Revoked>, u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = FileStamp::of(&self.directory.join(REVOKED_FILE));
        if stamp != known.stamp {
            // Said once for every change.
            known.stamp = stamp;
            if stamp.is_none() {
                tracing::error!("the list of what is revoked is gone; the last one stays in force");
            } else {
                match Revoked::load(&self.directory) {
                    Ok(revoked) => {
                        known.revoked = Arc::new(revoked);
                        known.edition += 1;
                    }
                    Err(error) => {
                        let error = one_line(&error);
                        tracing::error!(error, "the list of what is revoked stays as it was");
                    }
                }
            }
        }
        (Arc::clone(&known.revoked), known.edition)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use protocol::DeviceId;

    use super::*;
    use crate::revoked::RevokedDevice;

    #[test]
    fn a_change_is_known_at_once_and_a_damaged_list_changes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let id: DeviceId = "333.hula.atlas".parse().unwrap();
        let store = RevokedStore::open(home.path()).unwrap();
        let first = store.edition();
        assert!(!store.current().shuts_out(&id));
        assert_eq!(store.edition(), first);
        let mut revoked = Revoked::load(home.path()).unwrap();
        let device = RevokedDevice {
            id: id.clone(),
            since: 7,
        };
        revoked.devices.push(device);
        revoked.save(home.path()).unwrap();
        assert!(store.current().shuts_out(&id));
        let second = store.edition();
        assert_ne!(second, first);
        let file = home.path().join(REVOKED_FILE);
        fs::write(&file, "version = 1\n[[devices]]").unwrap();
        assert!(store.current().shuts_out(&id));
        fs::remove_file(&file).unwrap();
        assert!(store.current().shuts_out(&id));
        assert_eq!(store.edition(), second);
        fs::write(&file, "version = 1\n").unwrap();
        assert!(!store.current().shuts_out(&id));
        fs::write(&file, "version = 2\n").unwrap();
        assert!(RevokedStore::open(home.path()).is_err());
    }
}
