//! One directory held open, and file operations in it that never follow a link or leave it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, open, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::{BodyFault, Revision};

/// An open directory. Names are one component each: the callers make them of titles.
#[derive(Debug)]
pub(crate) struct Folder {
    directory: OwnedFd,
}

/// A file found in a folder.
#[derive(Debug)]
pub(crate) struct Found {
    /// The numeric id of its owner.
    pub(crate) owner: u32,
    /// Which state of it this is: the digest of its text, or its place and time if it has none.
    pub(crate) revision: Revision,
    /// Its text, or why there is none.
    pub(crate) body: Result<String, BodyFault>,
}

impl Folder {
    /// Opens an existing directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            directory: open(path, flags, Mode::empty())?,
        })
    }

    /// The names in it, at most `limit`; `None` if there are more. Names that are not UTF-8 are none of ours.
    pub(crate) fn names(&self, limit: usize) -> io::Result<Option<Vec<String>>> {
        let mut names = Vec::new();
        let mut seen = 0;
        for entry in Dir::read_from(&self.directory)? {
            seen += 1;
            if seen > limit {
                return Ok(None);
            }
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    /// Reads a regular file of at most `limit` bytes; `None` if there is nothing of this name.
    pub(crate) fn read(&self, name: &str, limit: usize) -> io::Result<Option<Found>> {
        let status = match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => status,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let faulty = |fault| {
            Ok(Some(Found {
                owner: status.st_uid,
                revision: stamp(&status),
                body: Err(fault),
            }))
        };
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return faulty(BodyFault::NotAFile);
        }
        // NONBLOCK: a pipe that has taken the file's place since would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return faulty(BodyFault::NotAFile),
            Err(Errno::ACCESS | Errno::PERM) => return faulty(BodyFault::NotReadable),
            Err(error) => return Err(error.into()),
        };
        // What was opened need not be what was looked at: only this status counts.
        let status = fstat(&file)?;
        let found = |revision, body| {
            Ok(Some(Found {
                owner: status.st_uid,
                revision,
                body,
            }))
        };
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return found(stamp(&status), Err(BodyFault::NotAFile));
        }
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return found(stamp(&status), Err(BodyFault::TooLarge { limit }));
        }
        match String::from_utf8(bytes) {
            Ok(text) => found(Revision::of_body(&text), Ok(text)),
            Err(_) => found(stamp(&status), Err(BodyFault::NotText)),
        }
    }

    /// Makes this the content of the file of this name: the old one or the new one is there at any moment. Mode 0644.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = temporary_name();
        let written = self.write_new(&temporary, content).and_then(|()| {
            Ok(renameat(
                &self.directory,
                &temporary,
                &self.directory,
                name,
            )?)
        });
        if written.is_err() {
            // The failure itself is what matters; the leftover would only add to it.
            let _ = unlinkat(&self.directory, &temporary, AtFlags::empty());
        }
        written.and_then(|()| self.sync())
    }

    /// Removes the file of this name; it is fine if there is none.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => self.sync(),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the file of this name if it is this revision of it, and never another that was put there meanwhile.
    pub(crate) fn remove_revision(
        &self,
        name: &str,
        revision: &Revision,
        limit: usize,
    ) -> io::Result<()> {
        // The file is taken aside first: what is then looked at is what is removed.
        let aside = temporary_name();
        match renameat(&self.directory, name, &self.directory, &aside) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let is_it = self
            .read(&aside, limit)?
            .is_none_or(|found| found.revision == *revision);
        if !is_it {
            let back = renameat_with(
                &self.directory,
                &aside,
                &self.directory,
                name,
                RenameFlags::NOREPLACE,
            );
            match back {
                Ok(()) => return self.sync(),
                // A still newer one is there: it is the one that counts.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.remove(&aside)
    }

    fn write_new(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(
            &self.directory,
            name,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        file.write_all(content)?;
        // Whatever the umask says: an entry is there to be read.
        fchmod(&file, Mode::from_raw_mode(0o644))?;
        file.sync_all()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

fn temporary_name() -> String {
    format!(".{:032x}.tmp", rand::random::<u128>())
}

fn stamp(status: &rustix::fs::Stat) -> Revision {
    Revision::named(format!(
        "file-{:x}-{:x}-{:x}-{:x}",
        status.st_ino, status.st_size, status.st_mtime, status.st_mtime_nsec
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        (home, folder)
    }

    fn fault(folder: &Folder, name: &str) -> BodyFault {
        folder.read(name, 10).unwrap().unwrap().body.unwrap_err()
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_stays() {
        let (home, folder) = folder();
        folder.write("a", b"one").unwrap();
        folder.write("a", b"2").unwrap();
        let found = folder.read("a", 10).unwrap().unwrap();
        assert_eq!(found.body.as_deref(), Ok("2"));
        let status = fs::metadata(home.path().join("a")).unwrap();
        assert_eq!((status.mode() & 0o7777, found.owner), (0o644, status.uid()));
        assert!(folder.read("b", 10).unwrap().is_none());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_regular_text_file_has_its_fault() {
        let (home, folder) = folder();
        let at = |name: &str| home.path().join(name);
        fs::write(at("secret"), "s").unwrap();
        symlink(at("secret"), at("link")).unwrap();
        symlink("/nowhere", at("dangling")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        rustix::fs::mknodat(&folder.directory, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::write(at("large"), "12345678901").unwrap();
        fs::write(at("binary"), [0xff, 0xfe]).unwrap();
        for name in ["link", "dangling", "directory", "pipe"] {
            assert_eq!(fault(&folder, name), BodyFault::NotAFile, "{name}");
        }
        assert_eq!(fault(&folder, "large"), BodyFault::TooLarge { limit: 10 });
        assert_eq!(fault(&folder, "binary"), BodyFault::NotText);
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let (home, folder) = folder();
        let target = home.path().join("target");
        fs::write(&target, "old").unwrap();
        symlink(&target, home.path().join("link")).unwrap();
        folder.write("link", b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(
            folder.read("link", 10).unwrap().unwrap().body.as_deref(),
            Ok("new")
        );
    }

    #[test]
    fn only_the_revision_that_is_meant_is_removed() {
        let (home, folder) = folder();
        folder.write("a", b"old").unwrap();
        let old = folder.read("a", 10).unwrap().unwrap().revision;
        folder.write("a", b"new").unwrap();
        folder.remove_revision("a", &old, 10).unwrap();
        assert_eq!(
            folder.read("a", 10).unwrap().unwrap().body.as_deref(),
            Ok("new")
        );
        let new = folder.read("a", 10).unwrap().unwrap().revision;
        folder.remove_revision("a", &new, 10).unwrap();
        folder.remove_revision("a", &new, 10).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_folder_is_not_read_in_part() {
        let (_home, folder) = folder();
        for name in ["a", "b", "c"] {
            folder.write(name, b"").unwrap();
        }
        // `.` and `..` count.
        assert_eq!(
            folder.names(5).unwrap().unwrap(),
            [".", "..", "a", "b", "c"]
        );
        assert!(folder.names(4).unwrap().is_none());
    }
}
