//! A file of our own beside somebody's `~/.ssh/config`, and the one line there that includes it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};

mod installed;

pub use installed::Installed;

/// Somebody's `~/.ssh`, with our files in `tunnel.d` there.
#[derive(Clone, Debug)]
pub struct SshInclude {
    ssh: PathBuf,
}

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The system's settings.
    pub settings: bool,
    /// The line that includes ours, with the last of them.
    pub line: bool,
}

/// Why ssh's configuration was left as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshIncludeError {
    /// Something cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be looked at, or removed.
    #[error("cannot change `{}`", path.display())]
    Change {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It, or where it really is, belongs to somebody else.
    #[error("`{}` is not this user's own", path.display())]
    NotOwn {
        /// The file or directory.
        path: PathBuf,
    },
    /// It is something else.
    #[error("`{}` is not a {expected}", path.display())]
    NotA {
        /// The path.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
}

impl SshIncludeError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotOwn { .. } | Self::NotA { .. } => Some(format!(
                "put what `tunnel ssh-config` prints into a file of your own, and `{INCLUDE}` or its like at the top of your configuration"
            )),
            Self::File(error) => error.hint(),
            Self::Change { .. } => None,
        }
    }
}

impl Removed {
    /// Whether there was anything.
    pub fn is_something(self) -> bool {
        self.settings || self.line
    }
}

impl SshInclude {
    /// In this home directory.
    pub fn of_home(home: &Path) -> Self {
        Self {
            ssh: home.join(".ssh"),
        }
    }

    /// Where the configuration is.
    pub fn config(&self) -> PathBuf {
        self.ssh.join("config")
    }

    /// Where a system's settings are, or would be.
    pub fn file(&self, name: &str) -> PathBuf {
        self.ssh.join(FOLDER).join(format!("{name}.conf"))
    }

    /// Writes a system's settings and has them included. To do it again changes nothing.
    pub fn install(&self, name: &str, block: &str) -> Result<(), SshIncludeError> {
        own_directory(&self.ssh)?;
        own_directory(&self.ssh.join(FOLDER))?;
        let (place, config) = self.read_config()?;
        files::write_private(&self.file(name), block.as_bytes())?;
        if is_included(&config) {
            return Ok(());
        }
        // At the top: further down it would belong to the `Host` above it, and the first setting that ssh finds is the one.
        let mut text = Vec::from(if place.exists() { "" } else { MADE });
        text.extend([INCLUDE.as_bytes(), b"\n", &config].concat());
        Ok(files::replace(&place, &text)?)
    }

    /// Takes a system's settings away, and the line with the last of them.
    pub fn remove(&self, name: &str) -> Result<Removed, SshIncludeError> {
        let (file, folder) = (self.file(name), self.ssh.join(FOLDER));
        if folder.exists() {
            own(&folder, |kind| kind.is_dir(), "directory")?;
        }
        let settings = match std::fs::remove_file(&file) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(SshIncludeError::Change { path: file, source }),
        };
        // It goes only when it is empty: with the last of ours.
        if std::fs::remove_dir(&folder).is_err() && folder.exists() {
            return Ok(Removed {
                settings,
                line: false,
            });
        }
        let (place, config) = self.read_config()?;
        let left: Vec<u8> = config
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !is_ours(line))
            .collect::<Vec<_>>()
            .concat();
        if left == MADE.as_bytes() {
            std::fs::remove_file(&place).map_err(|source| SshIncludeError::Change {
                path: place,
                source,
            })?;
        } else if left != config {
            files::replace(&place, &left)?;
        }
        Ok(Removed {
            settings,
            line: left != config,
        })
    }

    /// The configuration and where it really is: people keep theirs elsewhere, and link to it. A link is followed only to
    /// what is this user's own, in a directory that is too, and what it leads to is replaced there.
    fn read_config(&self) -> Result<(PathBuf, Vec<u8>), SshIncludeError> {
        let named = self.config();
        let place = match named.symlink_metadata() {
            Ok(_) => named
                .canonicalize()
                .map_err(|source| SshIncludeError::Change {
                    path: named.clone(),
                    source,
                })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((named, Vec::new()));
            }
            Err(source) => {
                return Err(SshIncludeError::Change {
                    path: named,
                    source,
                });
            }
        };
        own(&place, |kind| kind.is_file(), "file")?;
        if let Some(directory) = place.parent() {
            own(directory, |kind| kind.is_dir(), "directory")?;
        }
        let config = files::read_bounded(&place, MAX_CONFIG)?;
        Ok((place, config))
    }
}

/// Whether our line stands where it counts for every host.
fn is_included(config: &[u8]) -> bool {
    config
        .split(|byte| *byte == b'\n')
        .take_while(|line| !begins_a_block(line))
        .any(is_ours)
}

fn is_ours(line: &[u8]) -> bool {
    line.trim_ascii() == INCLUDE.as_bytes()
}

fn begins_a_block(line: &[u8]) -> bool {
    let word = line
        .trim_ascii()
        .split(|byte| byte.is_ascii_whitespace() || *byte == b'=')
        .next()
        .unwrap_or_default();
    word.eq_ignore_ascii_case(b"host") || word.eq_ignore_ascii_case(b"match")
}

/// Sees to it that there is such a directory, and that it is this user's own.
fn own_directory(path: &Path) -> Result<(), SshIncludeError> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            own(path, |kind| kind.is_dir(), "directory")
        }
        Err(source) => Err(SshIncludeError::Change {
            path: path.to_owned(),
            source,
        }),
    }
}

fn own(
    path: &Path,
    is: impl Fn(std::fs::FileType) -> bool,
    expected: &'static str,
) -> Result<(), SshIncludeError> {
    let metadata = path.metadata().map_err(|source| SshIncludeError::Change {
        path: path.to_owned(),
        source,
    })?;
    if !is(metadata.file_type()) {
        return Err(SshIncludeError::NotA {
            path: path.to_owned(),
            expected,
        });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(SshIncludeError::NotOwn {
            path: path.to_owned(),
        });
    }
    Ok(())
}

/// Where our files are, below `~/.ssh`.
const FOLDER: &str = "tunnel.d";

/// The line in `~/.ssh/config`: a path that is not absolute is one below `~/.ssh`, wherever the home directory is tomorrow.
pub const INCLUDE: &str = "Include tunnel.d/*.conf";

/// What a configuration begins with that was not there before.
const MADE: &str =
    "# Made by `tunnel ssh-config --install`; removed with it if nothing else is in here.\n";

/// The largest configuration that is changed, in bytes: many times what people have.
const MAX_CONFIG: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests;
