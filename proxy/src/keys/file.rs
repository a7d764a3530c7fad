//! One key file: its name says whose, its one line which.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use protocol::{DeviceId, Label};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, PublicKey};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::KeyPermission;
use crate::limits::{MAX_KEY_FILE, MIN_RSA_BITS};

/// What a key file turned out to be.
#[derive(Debug)]
pub(super) enum Reading {
    /// A device's key, in a file of this state.
    Key(Stamp, PublicKey, DeviceId),
    /// No key that counts, and why.
    Refused(Stamp, String),
    /// No file, or none any more. A link is not followed: what it leads to is under somebody else's control.
    Nothing,
}

/// What changes when a file does, even when it keeps its size within one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the file was last changed in any way, in seconds and nanoseconds: its owner cannot set this time.
    pub(super) fn changed(&self) -> (i64, i64) {
        self.changed
    }
}

/// Reads one key file. Everything that is said of it is said of the file that was opened, whatever its name means since.
pub(super) fn read_key(
    path: &Path,
    name: &str,
    realm: &Label,
    permits: &KeyPermission,
) -> io::Result<Reading> {
    // Without waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Reading::Nothing),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Reading::Nothing);
    }
    let stamp = Stamp::of(&metadata);
    let key = parse_name(name, realm).and_then(|id| {
        if !permits.permits(&id, metadata.uid()) {
            return Err(format!("user {} may not bring it", metadata.uid()));
        }
        let key = parse_key(&read_bounded(file)?)?;
        check_comment(&key, &id)?;
        permits.accepts(&id, &key)?;
        Ok((key, id))
    });
    Ok(match key {
        Ok((key, id)) => Reading::Key(stamp, key, id),
        Err(reason) => Reading::Refused(stamp, reason),
    })
}

fn read_bounded(file: File) -> Result<Vec<u8>, String> {
    let (mut content, max) = (Vec::new(), MAX_KEY_FILE);
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit)
        .read_to_end(&mut content)
        .map_err(|error| error.to_string())?;
    if content.len() > max {
        return Err(format!("it is larger than {max} bytes"));
    }
    Ok(content)
}

/// Renamed, a file still has its owner: so a key that says whose it is cannot be made another device's.
fn check_comment(key: &PublicKey, id: &DeviceId) -> Result<(), String> {
    match key.comment().to_string().parse::<DeviceId>() {
        Ok(named) if named.realm() == id.realm() && named != *id => {
            Err(format!("it says that it is the key of `{named}`"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn parse_name(name: &str, realm: &Label) -> Result<DeviceId, String> {
    let id = name.strip_suffix(SUFFIX).unwrap_or(name);
    let id: DeviceId = id.parse().map_err(|error| format!("its name: {error}"))?;
    if id.realm() != realm {
        return Err(format!("it is of another realm than `{realm}`"));
    }
    Ok(id)
}

/// One line, as `ssh-keygen` writes it: algorithm, key, comment. Whatever stands before the algorithm would be options.
fn parse_key(content: &[u8]) -> Result<PublicKey, String> {
    let text = str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err("it does not hold exactly one line".to_owned());
    };
    let key = PublicKey::from_openssh(line.trim()).map_err(|error| format!("its key: {error}"))?;
    if let KeyData::Rsa(rsa) = key.key_data()
        && rsa.key_size() < MIN_RSA_BITS
    {
        return Err(format!("its key is shorter than {MIN_RSA_BITS} bits"));
    }
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(key),
        // A security key needs somebody to touch it; the rest is old or unknown.
        other @ (Algorithm::Dsa
        | Algorithm::SkEcdsaSha2NistP256
        | Algorithm::SkEd25519
        | Algorithm::Other(_)
        | _) => Err(format!("its key is of the kind `{other}`")),
    }
}

/// What a key file's name ends in, after the device id.
pub(super) const SUFFIX: &str = ".sshkey.pub";
