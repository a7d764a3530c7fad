//! One directory held open, and file operations in it that never follow a link or leave it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, fstat, linkat, open, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::replace::{is_temporary, replace, temporary_name};
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
    /// When its status last changed, in nanoseconds since 1970: its owner cannot set this back.
    pub(crate) changed: u64,
}

impl Folder {
    /// Opens an existing directory.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = Self {
            directory: open(path, flags, Mode::empty())?,
        };
        // Whoever cannot list it may still use it.
        let _ = folder.collect_leftovers();
        Ok(folder)
    }

    /// Whether this path leads to it too. Nothing leads to what is not there.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = fstat(&self.directory)?;
        match std::fs::metadata(path) {
            Ok(other) => Ok((own.st_dev, own.st_ino) == (other.dev(), other.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
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
                changed: changed(&status),
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
                changed: changed(&status),
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
        replace(&self.directory, name, content, Mode::from_raw_mode(0o644))
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
        let found = self.read(&aside, limit);
        let is_it = matches!(&found, Ok(found) if found.as_ref().is_none_or(|found| found.revision == *revision));
        if is_it {
            return self.remove(&aside);
        }
        // What could not be looked at is put back too.
        self.put_back(&aside, name)?;
        found.map(|_| ())
    }

    /// Gives a file its name back, unless a newer one has it: that is the one that counts.
    fn put_back(&self, aside: &str, name: &str) -> io::Result<()> {
        let back = renameat_with(
            &self.directory,
            aside,
            &self.directory,
            name,
            RenameFlags::NOREPLACE,
        );
        match back {
            Ok(()) => self.sync(),
            Err(Errno::EXIST) => self.remove(aside),
            // A network file system need not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link_back(aside, name),
            Err(error) => Err(error.into()),
        }
    }

    fn link_back(&self, aside: &str, name: &str) -> io::Result<()> {
        let (from, to) = (&self.directory, &self.directory);
        match linkat(from, aside, to, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => self.remove(aside),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what interrupted runs have left behind, as far as it is ours to remove.
    fn collect_leftovers(&self) -> io::Result<()> {
        let oldest = SystemTime::now()
            .checked_sub(LEFTOVER_AGE)
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |at| at.as_nanos());
        self.collect(oldest)
    }

    fn collect(&self, oldest: u128) -> io::Result<()> {
        for entry in Dir::read_from(&self.directory)?.take(MAX_LEFTOVERS) {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().filter(|n| is_temporary(n)) else {
                continue;
            };
            let status = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            if status.is_ok_and(|status| u128::from(changed(&status)) < oldest) {
                // Another's is another's to remove.
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

fn stamp(status: &rustix::fs::Stat) -> Revision {
    Revision::named(format!(
        "file-{:x}-{:x}-{:x}-{:x}",
        status.st_ino, status.st_size, status.st_mtime, status.st_mtime_nsec
    ))
}

fn changed(status: &rustix::fs::Stat) -> u64 {
    let seconds = u64::try_from(status.st_ctime).unwrap_or_default();
    let nanoseconds = status.st_ctime_nsec;
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// How old a leftover is: no write takes as long.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// How many names are looked through for leftovers: as many as are ever listed, and some more.
const MAX_LEFTOVERS: usize = 200_000;

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
    fn what_was_taken_aside_comes_back_on_file_systems_without_the_flag() {
        let (home, folder) = folder();
        folder.write("aside", b"newer").unwrap();
        folder.link_back("aside", "a").unwrap();
        let body = |name| folder.read(name, 10).unwrap().unwrap().body;
        assert_eq!(body("a").as_deref(), Ok("newer"));
        // Not over a still newer one.
        folder.write("aside", b"old").unwrap();
        folder.link_back("aside", "a").unwrap();
        assert_eq!(body("a").as_deref(), Ok("newer"));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_old_leftovers_of_ours_are_collected() {
        let names = [temporary_name(), temporary_name()];
        assert!(names.iter().all(|name| is_temporary(name)));
        for other in ["a.tmp", ".tmp", ".0123.tmp", "333.hula.atlas.x509.csr"] {
            assert!(!is_temporary(other), "{other}");
        }
        // The time of change cannot be set back, so that these are all young.
        let (home, folder) = folder();
        folder.write(&names[0], b"").unwrap();
        Folder::open(home.path()).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        folder.collect(u128::MAX).unwrap();
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
