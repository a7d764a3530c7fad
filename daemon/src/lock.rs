//! A lock on a file, for what only one process of a directory may do at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::files::FileError;

/// A lock that is held until it is dropped, or the process ends, however it ends.
#[derive(Debug)]
pub struct FileLock {
    // Closing the file gives the lock back.
    file: File,
}

impl FileLock {
    /// Takes the lock of this file, which is made if it is missing; `None` if another process has it.
    pub fn try_take(path: &Path) -> Result<Option<Self>, FileError> {
        let fail = |source| FileError::Write {
            path: path.to_owned(),
            source,
        };
        // Its content is the holders' business.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    /// Replaces what the file says. Whoever reads it without the lock may see the half of it.
    pub fn say(&self, content: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(content, 0)
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
        let held = first.unwrap();
        held.say(b"a long one").unwrap();
        held.say(b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        drop(held);
        assert!(FileLock::try_take(&path).unwrap().is_some());
        assert!(FileLock::try_take(&home.path().join("none/lock")).is_err());
    }
}
