//! The names of what a registry holds: `DEVICE.SYSTEM.REALM.(sshkey.pub|x509.csr|x509.cert)`.

use std::fmt;
use std::str::FromStr;

use protocol::limits::MAX_NAME;
use protocol::{DeviceId, NameError};

/// The title of an issue, which is also a file's name. It cannot hold a slash, a fourth name or anything else that
/// would make two readers disagree on whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Title {
    id: DeviceId,
    kind: Kind,
}

/// What lies under a title.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `.x509.cert`: the signer's answer.
    Certificate,
    /// `.x509.csr`: a request to the signer.
    CertificateRequest,
    /// `.sshkey.pub`: the key for the proxy and for the remote computers.
    SshPublicKey,
}

/// Why a text is no title.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TitleError {
    /// It ends in none of the three ways.
    #[error("a title ends in `.sshkey.pub`, `.x509.csr` or `.x509.cert`")]
    Kind,
    /// What comes before is no device id.
    #[error("a title begins with a device id")]
    Id(#[source] NameError),
    /// It is longer than the longest id with the longest ending.
    #[error("a title of {length} characters is longer than {MAX_TITLE}")]
    TooLong {
        /// Its length in octets.
        length: usize,
    },
}

impl Title {
    /// The title of this kind for this device.
    pub fn new(id: DeviceId, kind: Kind) -> Self {
        Self { id, kind }
    }

    /// Whose it is.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// What lies under it.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [
        Self::Certificate,
        Self::CertificateRequest,
        Self::SshPublicKey,
    ];

    /// The end of its titles, with the leading dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Certificate => ".x509.cert",
            Self::CertificateRequest => ".x509.csr",
            Self::SshPublicKey => ".sshkey.pub",
        }
    }

    /// The largest body, in bytes.
    ///
    /// A request or a key line for RSA-4096 has less than 2 KiB, a certificate less than 3 KiB; the rest is room for
    /// extensions of other authorities. Small enough that a full registry can be read into memory.
    pub fn max_body(self) -> usize {
        match self {
            Self::Certificate => 16 * 1024,
            Self::CertificateRequest | Self::SshPublicKey => 8 * 1024,
        }
    }
}

impl FromStr for Title {
    type Err = TitleError;

    fn from_str(text: &str) -> Result<Self, TitleError> {
        if text.len() > MAX_TITLE {
            return Err(TitleError::TooLong { length: text.len() });
        }
        let (id, kind) = Kind::ALL
            .into_iter()
            .find_map(|kind| Some((text.strip_suffix(kind.suffix())?, kind)))
            .ok_or(TitleError::Kind)?;
        Ok(Self::new(id.parse().map_err(TitleError::Id)?, kind))
    }
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.id, self.kind.suffix())
    }
}

/// The longest title, in octets: the longest id and `.sshkey.pub`.
pub const MAX_TITLE: usize = MAX_NAME + 11;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_title_is_an_id_and_a_kind() {
        for kind in Kind::ALL {
            let text = format!("333.hula.atlas{}", kind.suffix());
            let title: Title = text.parse().unwrap();
            assert_eq!(
                (title.id().to_string().as_str(), title.kind()),
                ("333.hula.atlas", kind)
            );
            assert_eq!(title.to_string(), text);
            assert!(kind.suffix().len() <= MAX_TITLE - MAX_NAME);
        }
    }

    #[test]
    fn hostile_titles_are_refused() {
        let names = [
            // The original asks for the permission of `evil` and installs for `hula`.
            "controller-x.evil.hula.atlas.sshkey.pub",
            "../../root/.ssh/333.hula.atlas.sshkey.pub",
            "333.hula/../x.atlas.sshkey.pub",
            "333.hula.atlas.sshkey.pub/",
            "333..atlas.sshkey.pub",
            ".hula.atlas.x509.csr",
            "hula.atlas.x509.csr",
            "333.hula.atlas..x509.csr",
            "333.hula.atlas.x509.csr.x509.csr",
            "333.HULA.atlas.x509.csr",
            "333.hula.atlas.x509.csr ",
            "333.hula.atlas.x509.csr\n",
            "333.hula.atlas.x509.csr\0",
            "333.hu\u{202e}la.atlas.x509.csr",
        ];
        for name in names {
            let error = name.parse::<Title>().unwrap_err();
            assert!(
                matches!(error, TitleError::Id(_) | TitleError::Kind),
                "{name}: {error:?}"
            );
        }
        assert_eq!("333.hula.atlas".parse::<Title>(), Err(TitleError::Kind));
        assert_eq!(
            "333.hula.atlas.x509.csr.refused".parse::<Title>(),
            Err(TitleError::Kind)
        );
        let long = format!("{}.x509.csr", "a".repeat(MAX_TITLE));
        assert!(matches!(
            long.parse::<Title>(),
            Err(TitleError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "\\PC{0,80}(\\.x509\\.csr|\\.sshkey\\.pub)?") {
            if let Ok(title) = text.parse::<Title>() {
                prop_assert_eq!(title.to_string(), text);
            }
        }
    }
}
