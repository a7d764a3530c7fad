//! Who may log in: the keys of a file in the form of `authorized_keys`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use russh::keys::PublicKey;

/// The file of permitted controllers. It is read anew for each question, so that what is withdrawn is withdrawn at once.
#[derive(Clone, Debug)]
pub struct Controllers {
    path: PathBuf,
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllersError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others could write keys into it.
    #[error("`{}` can be written by others (mode {mode:04o}, owner {owner})", path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The number of its owner.
        owner: u32,
    },
}

impl Controllers {
    /// The controllers of this file, which need not be there yet: then nobody may log in.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where they stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose key this is: what the line says behind it, up to a space. `None` for a key that is not there.
    pub fn owner(&self, key: &PublicKey) -> Result<Option<String>, ControllersError> {
        let text = match self.read() {
            Ok(text) => text,
            Err(ControllersError::File(error)) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(owner_in(&text, key))
    }

    fn read(&self) -> Result<String, ControllersError> {
        let metadata = fs::metadata(&self.path).map_err(|source| FileError::Read {
            path: self.path.clone(),
            source,
        })?;
        let (mode, owner) = (metadata.mode() & 0o7777, metadata.uid());
        let ours = rustix::process::geteuid().as_raw();
        if mode & 0o022 != 0 || (owner != 0 && owner != ours) {
            return Err(ControllersError::Writable {
                path: self.path.clone(),
                mode,
                owner,
            });
        }
        Ok(files::read_text(&self.path, MAX_FILE)?)
    }
}

/// A line is a key and a comment. One with options before the key is none of ours, and lets nobody in: options restrict.
fn owner_in(text: &str, key: &PublicKey) -> Option<String> {
    text.lines()
        .filter_map(|line| PublicKey::from_openssh(line.trim()).ok())
        .find(|known| known.key_data() == key.key_data())
        .map(|known| {
            let comment = known.comment().as_str_lossy();
            let first = comment.split_ascii_whitespace().next();
            first.unwrap_or("somebody").to_owned()
        })
}

/// The most that is read, in bytes: thousands of controllers.
const MAX_FILE: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ONE: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";

    fn key(line: &str) -> PublicKey {
        line.parse().unwrap()
    }

    #[test]
    fn a_line_is_a_key_and_whose_it_is() {
        let text =
            format!("# people\n\n{ONE} controller-x.hula.atlas tunnel:hula.atlas\nnonsense\n");
        let owner = owner_in(&text, &key(ONE));
        assert_eq!(owner.as_deref(), Some("controller-x.hula.atlas"));
        assert_eq!(owner_in(&text, &key(TWO)), None);
        assert_eq!(owner_in(TWO, &key(TWO)).as_deref(), Some("somebody"));
        let restricted = format!("command=\"/bin/true\" {ONE} x");
        assert_eq!(
            owner_in(&restricted, &key(ONE)),
            None,
            "not without its restriction"
        );
        assert_eq!(owner_in(&format!("#{ONE}"), &key(ONE)), None);
    }

    #[test]
    fn what_is_withdrawn_is_withdrawn_at_once_and_without_a_file_nobody_is_let_in() {
        let home = tempfile::tempdir().unwrap();
        let controllers = Controllers::new(home.path().join("controllers"));
        assert_eq!(controllers.owner(&key(ONE)).unwrap(), None);
        fs::write(controllers.path(), ONE).unwrap();
        assert!(controllers.owner(&key(ONE)).unwrap().is_some());
        fs::write(controllers.path(), TWO).unwrap();
        assert_eq!(controllers.owner(&key(ONE)).unwrap(), None);
    }

    #[test]
    fn a_file_that_others_may_write_lets_nobody_in() {
        let home = tempfile::tempdir().unwrap();
        let controllers = Controllers::new(home.path().join("controllers"));
        fs::write(controllers.path(), ONE).unwrap();
        for mode in [0o664, 0o646] {
            let open = fs::Permissions::from_mode(mode);
            fs::set_permissions(controllers.path(), open).unwrap();
            let error = controllers.owner(&key(ONE)).unwrap_err();
            assert!(
                matches!(error, ControllersError::Writable { .. }),
                "{error}"
            );
        }
    }
}
