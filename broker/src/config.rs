//! What a broker has to be told.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use daemon::files::{self, FileError};
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
    /// What peers are granted.
    pub limits: Limits,
}

/// PEM text, or the file that has it. Its `Debug` shows no text: it may be a key.
#[derive(Clone)]
pub enum Pem {
    /// In this file, of at most 1 MiB.
    File(PathBuf),
    /// This.
    Text(Vec<u8>),
}

impl Pem {
    /// The text.
    pub(crate) fn load(&self) -> Result<Vec<u8>, FileError> {
        match self {
            Self::File(path) => files::read_bounded(path, MAX_PEM),
            Self::Text(text) => Ok(text.clone()),
        }
    }

    /// The private key's text; a file that others may read is refused.
    pub(crate) fn load_private(&self) -> Result<Zeroizing<Vec<u8>>, FileError> {
        let text = match self {
            Self::File(path) => files::read_private(path, MAX_PEM)?.into_bytes(),
            Self::Text(text) => text.clone(),
        };
        Ok(Zeroizing::new(text))
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
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
