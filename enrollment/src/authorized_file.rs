//! Writing `authorized_keys` in the folder of the user who runs this.
//!
//! Whoever owns that folder can change everything in it at any moment. So this never runs with more rights than the owner has:
//! the caller is a process of that user. What remains is to do nothing by accident, such as following a link.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::authorized_keys::{Marker, Merged};
use crate::replace::replace;

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizedFileError {
    /// The file system failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A link, a pipe, a device: who knows where it leads.
    #[error("`{}` is not a {expected}", path.display())]
    Kind {
        /// What was looked at.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// It is somebody else's.
    #[error("`{}` does not belong to the user", path.display())]
    Owner {
        /// What was looked at.
        path: PathBuf,
    },
    /// No file of keys is so large.
    #[error("`{}` is larger than {MAX_READ} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// Its new content, and how it differs from the old.
    pub merged: Merged,
    /// How many lines were left out, because with them it would be larger than [`MAX_FILE`].
    pub left_out: usize,
}

/// Makes the folder `HOME/.ssh`, with mode 0700, if there is none, and changes nothing else.
pub fn make_folder(home: &Path) -> Result<(), AuthorizedFileError> {
    Place::open(home).map(drop)
}

/// Puts these lines in the place of ours in `HOME/.ssh/authorized_keys`. The folder is made, with mode 0700, if there is none.
/// The file is the old or the new one at any moment, and a new one has mode 0600. Lines that are not among these go in any
/// case; of these, as many as there is room for come.
pub fn update(
    home: &Path,
    marker: &Marker,
    lines: &[String],
) -> Result<Updated, AuthorizedFileError> {
    let place = Place::open(home)?;
    let present = place.read()?;
    let before = present.as_deref().unwrap_or_default();
    // What stays with none of ours, and the line end that it may lack.
    let others = marker.merge(before, &[]).content.len() + 1;
    let fitting = fitting(lines, MAX_FILE.saturating_sub(others));
    let merged = marker.merge(before, fitting);
    if before != merged.content {
        place.write(&merged.content)?;
    }
    Ok(Updated {
        merged,
        left_out: lines.len() - fitting.len(),
    })
}

/// The first of these lines, as many as fit into so many bytes with their line ends.
pub fn fitting(lines: &[String], bytes: usize) -> &[String] {
    let mut left = bytes;
    let too_much = |line: &String| {
        let rest = left.checked_sub(line.len() + 1);
        left = rest.unwrap_or_default();
        rest.is_none()
    };
    let count = lines.iter().position(too_much).unwrap_or(lines.len());
    lines.get(..count).unwrap_or_default()
}

/// The folder `.ssh`, open and locked.
struct Place {
    folder: OwnedFd,
    path: PathBuf,
}

impl Place {
    fn open(home: &Path) -> Result<Self, AuthorizedFileError> {
        let path = home.join(FOLDER);
        let fail = |action| fail(action, &path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = open(home, flags, Mode::empty()).map_err(fail("open"))?;
        match mkdirat(&above, FOLDER, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail("make")(error)),
        }
        let folder = match openat(&above, FOLDER, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let expected = "directory";
                return Err(AuthorizedFileError::Kind { path, expected });
            }
            Err(error) => return Err(fail("open")(error)),
        };
        if fstat(&folder).map_err(fail("look at"))?.st_uid != geteuid().as_raw() {
            return Err(AuthorizedFileError::Owner { path });
        }
        // Two synchronisations at once would lose lines to each other.
        flock(&folder, FlockOperation::LockExclusive).map_err(fail("lock"))?;
        Ok(Self { folder, path })
    }

    /// The file's content; `None` if there is none.
    fn read(&self) -> Result<Option<Vec<u8>>, AuthorizedFileError> {
        let path = self.path.join(FILE);
        let expected = "regular file";
        // NONBLOCK: a pipe in its place would hold us for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, FILE, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => {
                return Err(AuthorizedFileError::Kind { path, expected });
            }
            Err(error) => return Err(fail("open", &path)(error)),
        };
        let status = fstat(&file).map_err(fail("look at", &path))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err(AuthorizedFileError::Kind { path, expected });
        }
        let mut content = Vec::new();
        let read = file.take(MAX_READ + 1).read_to_end(&mut content);
        read.map_err(|source| AuthorizedFileError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        if content.len() as u64 > MAX_READ {
            return Err(AuthorizedFileError::TooLarge { path });
        }
        Ok(Some(content))
    }

    fn write(&self, content: &[u8]) -> Result<(), AuthorizedFileError> {
        let path = self.path.join(FILE);
        let written = replace(&self.folder, FILE, content, Mode::from_raw_mode(0o600));
        written.map_err(|source| AuthorizedFileError::Io {
            action: "write",
            path,
            source,
        })
    }
}

fn fail(action: &'static str, path: &Path) -> impl Fn(Errno) -> AuthorizedFileError + use<> {
    let path = path.to_owned();
    move |source| AuthorizedFileError::Io {
        action,
        path: path.clone(),
        source: source.into(),
    }
}

const FOLDER: &str = ".ssh";
const FILE: &str = "authorized_keys";

/// The largest file that is made, in bytes: a controller's line has 28 for each target that it may reach, so this is room
/// for a hundred controllers of a thousand targets. sshd reads it from its begin at every login.
pub const MAX_FILE: usize = 4 * 1024 * 1024;

/// The largest file that is read, in bytes: one that has become too large by other hands must not keep withdrawn keys.
const MAX_READ: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn marker() -> Marker {
        Marker::parse("tunnel-sync:hula.atlas").unwrap()
    }

    fn line() -> String {
        "ssh-ed25519 AAAA controller.hula.atlas tunnel-sync:hula.atlas".to_owned()
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folder_and_file_are_made_private_and_updated() {
        let home = tempfile::tempdir().unwrap();
        let (folder, file) = (
            home.path().join(".ssh"),
            home.path().join(".ssh/authorized_keys"),
        );
        update(home.path(), &marker(), &[]).unwrap();
        assert_eq!((mode(&folder), file.exists()), (0o700, false));
        update(home.path(), &marker(), &[line()]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), line() + "\n");
        assert_eq!(mode(&file), 0o600);
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        update(home.path(), &marker(), &[line()]).unwrap();
        assert_eq!(
            fs::metadata(&file).unwrap().modified().unwrap(),
            before,
            "nothing to write"
        );
        let removed = update(home.path(), &marker(), &[]).unwrap().merged.removed;
        assert_eq!(removed, 1);
        assert_eq!(fs::read(&file).unwrap(), b"");
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn what_would_be_too_large_is_left_out_and_withdrawn_keys_go_all_the_same() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".ssh/authorized_keys");
        let long = |name: &str| format!("{} {name} {}", "x".repeat(MAX_FILE / 3), marker());
        let update = |lines: &[String]| update(home.path(), &marker(), lines).unwrap();
        let first = update(&[long("a"), long("b")]);
        assert_eq!((first.left_out, first.merged.added), (0, 2));
        let second = update(&[long("b"), long("c"), long("d"), long("e")]);
        assert_eq!((second.left_out, second.merged.removed), (2, 1));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.len() <= MAX_FILE && !text.contains(" a ") && text.contains(" c "));
        // What another hand has made too large is read, and mended.
        let foreign = "ssh-ed25519 AAAA me\n";
        fs::write(
            &file,
            foreign.repeat(1000) + &format!("{}\n", long("a")).repeat(4),
        )
        .unwrap();
        let third = update(&[line()]);
        assert_eq!((third.left_out, third.merged.removed), (0, 4));
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, foreign.repeat(1000) + &line() + "\n");
        // Where others leave no room, ours go.
        fs::write(
            &file,
            foreign.repeat(MAX_FILE / foreign.len() + 1) + &line() + "\n",
        )
        .unwrap();
        let fourth = update(&[line()]);
        assert_eq!((fourth.left_out, fourth.merged.removed), (1, 1));
        assert!(!fs::read_to_string(&file).unwrap().contains("tunnel-sync"));
    }

    #[test]
    fn the_folder_alone_can_be_made() {
        let home = tempfile::tempdir().unwrap();
        update(home.path(), &marker(), &[line()]).unwrap();
        make_folder(home.path()).unwrap();
        let file = home.path().join(".ssh/authorized_keys");
        assert_eq!(fs::read_to_string(file).unwrap(), line() + "\n");
        let fresh = tempfile::tempdir().unwrap();
        make_folder(fresh.path()).unwrap();
        assert_eq!(mode(&fresh.path().join(".ssh")), 0o700);
    }

    #[test]
    fn links_and_pipes_are_refused_and_nothing_changes() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("target");
        fs::write(&target, "old\n").unwrap();
        let folder = home.path().join(".ssh");
        symlink("/nowhere", &folder).unwrap();
        let refused = || update(home.path(), &marker(), &[line()]).unwrap_err();
        assert!(matches!(
            refused(),
            AuthorizedFileError::Kind {
                expected: "directory",
                ..
            }
        ));
        fs::remove_file(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        let file = folder.join("authorized_keys");
        symlink(&target, &file).unwrap();
        assert!(matches!(
            refused(),
            AuthorizedFileError::Kind {
                expected: "regular file",
                ..
            }
        ));
        assert_eq!(fs::read_to_string(&target).unwrap(), "old\n");
        fs::remove_file(&file).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(
            refused(),
            AuthorizedFileError::Kind {
                expected: "regular file",
                ..
            }
        ));
    }
}
