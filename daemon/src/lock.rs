//! A lock on a file, for what only one process of a directory may do at a time.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::files::FileError;

/// A lock that is held until it is dropped, or the process ends, however it ends.
#[derive(Debug)]
pub struct FileLock {
    // Closing the file gives the lock back.
    _file: File,
}

impl FileLock {
    /// Takes the lock of this file, which is made if it is missing; `None` if another process has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, FileError> {
        let fail = |source| FileError::Write {
            path: path.to_owned(),
            source,
        };
        // Its content is nothing.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(fail(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_holders_until_it_is_dropped() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("lock");
        let first = FileLock::try_take(&path).unwrap();
        assert!(first.is_some() && FileLock::try_take(&path).unwrap().is_none());
        drop(first);
        assert!(FileLock::try_take(&path).unwrap().is_some());
        assert!(FileLock::try_take(&home.path().join("none/lock")).is_err());
    }
}
