//! By what to see that a file has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Inode, size, and the times of the last change of content and of status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp(u64, u64, [i64; 4]);

impl FileStamp {
    /// The present one; `None` if there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let status = fs::metadata(path).ok()?;
        let times = [
            status.mtime(),
            status.mtime_nsec(),
            status.ctime(),
            status.ctime_nsec(),
        ];
        Some(Self(status.ino(), status.size(), times))
    }
}
