//! What a broker has to be told.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use daemon::realm_file::{RealmFile, RealmFileError};
use protocol::{ClientIdSuffix, Label};
use zeroize::Zeroizing;

use crate::limits::{Limits, MAX_PEM};

/// Everything that [`Broker::bind`](crate::Broker::bind) needs.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The realm whose devices may connect.
    pub realm: Label,
    /// What the realm's client ids have behind the device id.
    pub client_id_suffix: ClientIdSuffix,
    /// The broker's certificate and those behind it, leaf first.
    pub certificates: Pem,
    /// The certificate's private key.
    pub key: Pem,
    /// The certificates of the authorities that sign for devices; every one in it counts.
    pub client_authorities: Pem,
    /// The file with the authorities' revocation lists (PEM), read again whenever it changes; `None`: nothing is revoked.
    pub revocations: Option<PathBuf>,
    /// The directory of the realm's own policies, `tunnel.target.json` and `tunnel.controller.json`, in place of those that
    /// come with the program; `None`, or a document that is not there: those.
    pub policies: Option<PathBuf>,
    /// The directory of what outlives the broker; it is made if it is missing. `None`: all is forgotten at the end.
    pub store: Option<PathBuf>,
    /// What peers are granted.
    pub limits: Limits,
}

/// PEM text, or the file that has it. Neither its `Display` nor its `Debug` shows the text: it may be a key.
#[derive(Clone)]
pub enum Pem {
    /// In this file, of at most 1 MiB.
    File(PathBuf),
    /// The authorities of the devices in this `realm.toml`.
    RealmFile(PathBuf),
    /// This.
    Text(Vec<u8>),
}

/// Why PEM text cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The `realm.toml` that it should be in.
    #[error(transparent)]
    RealmFile(#[from] RealmFileError),
}

impl PemError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) | Self::RealmFile(RealmFileError::File(error)) => error.hint(),
            Self::RealmFile(_) => None,
        }
    }
}

impl Pem {
    /// The file that it is in.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) | Self::RealmFile(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    /// The text.
    pub(crate) fn load(&self) -> Result<Vec<u8>, PemError> {
        match self {
            Self::File(path) => Ok(files::read_bounded(path, MAX_PEM)?),
            Self::RealmFile(path) => Ok(RealmFile::load(path)?.ca.into_bytes()),
            Self::Text(text) => Ok(text.clone()),
        }
    }

    /// The private key's text; a file that others may read is refused.
    pub(crate) fn load_private(&self) -> Result<Zeroizing<Vec<u8>>, PemError> {
        let text = match self {
            Self::File(path) | Self::RealmFile(path) => {
                files::read_private(path, MAX_PEM)?.into_bytes()
            }
            Self::Text(text) => text.clone(),
        };
        Ok(Zeroizing::new(text))
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::RealmFile(path) => write!(f, "`{}`", path.display()),
            Self::Text(_) => f.write_str("its configuration"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::RealmFile(path) => f.debug_tuple("RealmFile").field(path).finish(),
            Self::Text(_) => f.write_str("Text(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", Pem::Text(b"secret".to_vec())), "Text(..)");
    }
}
