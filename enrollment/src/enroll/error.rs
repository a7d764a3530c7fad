//! Why a device is not enrolled, and what to do about it.

use std::time::Duration;

use daemon::files::FileError;

use crate::certificate_check::CertificateError;
use crate::csr::CsrError;
use crate::ssh_key::SshKeyError;
use crate::x509_key::X509KeyError;
use crate::{Refusal, RegistryError, Title};

/// Why a device is not enrolled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrollError {
    /// The certificate that the registry holds for our key cannot be used.
    #[error("`{title}` in the registry cannot be used")]
    Certificate {
        /// Its title.
        title: Title,
        /// Why.
        #[source]
        source: CertificateError,
    },
    /// The request could not be made.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The certificate could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another computer has enrolled under this name.
    #[error("`{title}` in the registry holds the key of another computer")]
    NameTaken {
        /// The title of its key.
        title: Title,
    },
    /// The signer said no.
    #[error("the signer refused `{title}`: {}", refusal.reason())]
    Refused {
        /// The title of the request.
        title: Title,
        /// The signer's words.
        refusal: Refusal,
    },
    /// The registry could not be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The SSH key cannot be used.
    #[error(transparent)]
    SshKey(#[from] SshKeyError),
    /// The signer has not answered.
    #[error("`{title}` was not signed within {limit:?}")]
    TimedOut {
        /// The title of the request.
        title: Title,
        /// How long was waited.
        limit: Duration,
    },
    /// The X.509 key cannot be used.
    #[error(transparent)]
    X509Key(#[from] X509KeyError),
}

impl EnrollError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Certificate { source, .. } => Some(source.hint().to_owned()),
            Self::File(source) => source.hint(),
            Self::NameTaken { .. } => Some(
                "choose another name, or pass `--replace` if this computer takes the other's place"
                    .to_owned(),
            ),
            Self::Refused { refusal, .. } => Some(refusal.remedy().to_owned()),
            Self::SshKey(source) => source.hint(),
            Self::TimedOut { .. } => Some(
                "the request stays in the registry: run the command again when the signer is running"
                    .to_owned(),
            ),
            Self::X509Key(source) => source.hint(),
            Self::Registry(source) => source.hint(),
            Self::Csr(_) => None,
        }
    }
}
