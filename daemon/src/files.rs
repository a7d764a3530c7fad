//! Files: read with a limit, written so that a crash leaves the old or the new, never half.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It could not be opened or read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It or its directory could not be made, written or renamed.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is larger than anything that belongs there.
    #[error("`{}` is larger than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is allowed, in bytes.
        max: usize,
    },
    /// It should be text.
    #[error("`{}` is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It is secret, and others may read it.
    #[error("`{}` can be read by others (mode {mode:04o})", path.display())]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl FileError {
    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotPrivate { path, .. } => Some(format!("run `chmod 600 {}`", path.display())),
            Self::Read { source, .. } | Self::Write { source, .. } => {
                let known = HINTS.iter().find(|(kind, _)| *kind == source.kind());
                known.map(|(_, hint)| (*hint).to_owned())
            }
            Self::TooLarge { .. } | Self::NotText { .. } => None,
        }
    }
}

/// Reads a file of at most `max` bytes.
pub fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let fail = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    read_open(&File::open(path).map_err(fail)?, path, max)
}

/// Reads a text of at most `max` bytes.
pub fn read_text(path: &Path, max: usize) -> Result<String, FileError> {
    String::from_utf8(read_bounded(path, max)?).map_err(|_| FileError::NotText {
        path: path.to_owned(),
    })
}

/// Reads a secret of at most `max` bytes, and refuses one that group or others may read: it has to be thought leaked.
pub fn read_private(path: &Path, max: usize) -> Result<String, FileError> {
    let fail = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::NotPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    String::from_utf8(read_open(&file, path, max)?).map_err(|_| FileError::NotText {
        path: path.to_owned(),
    })
}

/// Writes a secret: mode 0600, in a directory that is made with mode 0700 if it is missing.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write(path, content, 0o600, 0o700)
}

/// Writes a file that everybody may read: mode 0644, in a directory that is made with mode 0755 if it is missing.
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write(path, content, 0o644, 0o755)
}

/// Replaces what is in a file and keeps its mode; one that is not there yet is made with mode 0600.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let fail = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    let kept = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(fail(source)),
    };
    write_with(path, content, 0o600, 0o700, kept)
}

/// What to do about what the operating system says most often.
const HINTS: [(io::ErrorKind, &str); 4] = [
    (
        io::ErrorKind::PermissionDenied,
        "it is another user's: run the command as that one, or let this one have it",
    ),
    (io::ErrorKind::StorageFull, NO_ROOM),
    (io::ErrorKind::QuotaExceeded, NO_ROOM),
    (
        io::ErrorKind::ReadOnlyFilesystem,
        "its disk cannot be written to: `dmesg` may tell why, or name a directory elsewhere",
    ),
];

const NO_ROOM: &str = "there is no room left on its disk: make some, and run the command again";

fn read_open(file: &File, path: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut content)
        .map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
    if content.len() > max {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            max,
        });
    }
    Ok(content)
}

fn write(path: &Path, content: &[u8], mode: u32, directory_mode: u32) -> Result<(), FileError> {
    write_with(path, content, mode, directory_mode, None)
}

/// `exactly` are the permissions that the file gets whatever the umask is.
fn write_with(
    path: &Path,
    content: &[u8],
    mode: u32,
    directory_mode: u32,
    exactly: Option<Permissions>,
) -> Result<(), FileError> {
    let fail = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(directory, directory_mode).map_err(fail)?;
    let name = path
        .file_name()
        .ok_or_else(|| fail(io::ErrorKind::InvalidFilename.into()))?;
    // The random part keeps two writers apart; `create_new` never follows a link that somebody has put there.
    let temporary = directory.join(format!(
        ".{}.{:016x}.tmp",
        name.to_string_lossy(),
        rand::random::<u64>()
    ));
    let written = write_new(&temporary, content, mode, directory)
        .and_then(|()| exactly.map_or(Ok(()), |exactly| fs::set_permissions(&temporary, exactly)))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The failure itself is what matters; the leftover would only add to it.
        let _ = fs::remove_file(&temporary);
        return Err(fail(source));
    }
    // The rename is durable only when the directory is.
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(fail)
}

fn write_new(path: &Path, content: &[u8], mode: u32, directory: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    give_to_owner_of(directory, &file)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Makes a directory and those above it, like `mkdir -p`.
fn make_directory(directory: &Path, mode: u32) -> io::Result<()> {
    let above = match directory.parent() {
        Some(above) if above.as_os_str().is_empty() => Path::new("."),
        Some(above) => above,
        // The root.
        None => return Ok(()),
    };
    if directory.is_dir() {
        return Ok(());
    }
    make_directory(above, mode)?;
    match DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => give_to_owner_of(above, &File::open(directory)?),
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// What root writes into a service's directory has to be the service's, which could not read it otherwise.
fn give_to_owner_of(directory: &Path, file: &File) -> io::Result<()> {
    let owner = fs::metadata(directory)?;
    let made = file.metadata()?;
    if made.uid() != 0 || owner.uid() == 0 {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_secret_and_its_directory_are_private() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys").join("a.key");
        write_private(&path, b"secret").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(read_private(&path, 6).unwrap(), "secret");
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.key");
        write_public(&path, b"secret").unwrap();
        let error = read_private(&path, 100).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("can be read by others (mode 0644)"),
            "{error}"
        );
        assert_eq!(
            error.hint().unwrap(),
            format!("run `chmod 600 {}`", path.display())
        );
    }

    #[test]
    fn what_root_writes_into_a_services_directory_is_the_services() {
        let home = tempfile::tempdir().unwrap();
        let owner = if rustix::process::geteuid().is_root() {
            4711
        } else {
            rustix::process::geteuid().as_raw()
        };
        std::os::unix::fs::chown(home.path(), Some(owner), None).unwrap();
        let path = home.path().join("keys").join("a.key");
        write_private(&path, b"secret").unwrap();
        for made in [path.as_path(), path.parent().unwrap()] {
            assert_eq!(fs::metadata(made).unwrap().uid(), owner, "{made:?}");
        }
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let (target, link) = (home.path().join("target"), home.path().join("link"));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        write_public(&link, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn the_limit_is_the_last_size_that_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a");
        write_public(&path, b"1234").unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap(), b"1234");
        assert!(matches!(
            read_bounded(&path, 3),
            Err(FileError::TooLarge { max: 3, .. })
        ));
        assert!(
            read_bounded(&home.path().join("none"), 3)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let error = write_public(&file.join("below"), b"").unwrap_err();
        assert!(error.to_string().starts_with("cannot write `"), "{error}");
    }
}
