//! The host keys of this computer's own sshd, which controllers are told.

use std::path::{Path, PathBuf};

use daemon::files;
use protocol::limits::{MAX_HOST_KEY, MAX_HOST_KEYS, MAX_PAYLOAD};
use russh::keys::PublicKey;

/// Reads the public keys as `TYPE BASE64`, no more than half of what a reply may hold. Without a configuration they are sshd's usual ones; a file that cannot be
/// read is left out with a warning, since a controller can also ask a person.
pub(crate) fn read(configured: Option<&[PathBuf]>) -> Vec<String> {
    let paths = configured.map_or_else(usual, <[PathBuf]>::to_vec);
    let mut room = MAX_PAYLOAD / 2;
    let fits = |key: &String| {
        let fits = key.len() <= room;
        room -= if fits { key.len() } else { 0 };
        fits
    };
    paths
        .iter()
        .filter_map(|path| read_one(path))
        .filter(fits)
        .take(MAX_HOST_KEYS)
        .collect()
}

fn read_one(path: &Path) -> Option<String> {
    let key = files::read_text(path, MAX_HOST_KEY)
        .map_err(|error| error.to_string())
        .and_then(|text| PublicKey::from_openssh(text.trim()).map_err(|error| error.to_string()))
        // The comment often names a user and a computer, which is nobody's business.
        .and_then(|mut key| {
            key.set_comment("");
            key.to_openssh().map_err(|error| error.to_string())
        });
    match key {
        Ok(key) => Some(key),
        Err(error) => {
            tracing::warn!(path = %path.display(), error, "a host key of this computer's sshd cannot be read");
            None
        }
    }
}

fn usual() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/etc/ssh") else {
        return Vec::new();
    };
    let is_host_key = |name: &str| name.starts_with("ssh_host_") && name.ends_with("_key.pub");
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_host_key)
        })
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn comments_stay_at_home_and_unreadable_files_are_left_out() {
        let home = tempfile::tempdir().unwrap();
        let (good, bad) = (home.path().join("a.pub"), home.path().join("b.pub"));
        std::fs::write(&good, format!("{KEY} root@secret-name\n")).unwrap();
        std::fs::write(&bad, "no key").unwrap();
        assert_eq!(read(Some(&[good, bad, home.path().join("none")])), [KEY]);
    }
}
