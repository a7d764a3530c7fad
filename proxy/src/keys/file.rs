//! One key file: its name says whose, its one line which.

use std::path::Path;

use daemon::files::read_bounded;
use protocol::{DeviceId, Label};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, PublicKey};

use crate::limits::{MAX_KEY_FILE, MIN_RSA_BITS};

/// Reads one key file; a file that is no good is told of once, when it appears.
pub(super) fn read_key(path: &Path, name: &str, realm: &Label) -> Option<(PublicKey, DeviceId)> {
    let result = parse_name(name, realm).and_then(|id| {
        let content = read_bounded(path, MAX_KEY_FILE).map_err(|error| error.to_string())?;
        Ok((parse_key(&content)?, id))
    });
    match result {
        Ok(pair) => Some(pair),
        Err(reason) => {
            tracing::warn!(file = %path.display(), reason, "key file refused");
            None
        }
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
