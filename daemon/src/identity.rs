//! A device's keys and certificate, as they are on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::DeviceId;
use russh::keys::PrivateKey;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::device_dir::{DeviceDir, Membership};
use crate::files::{self, FileError};

/// What a device proves itself with. It has no `Debug`: nothing of it belongs into a log.
pub struct Identity {
    /// The certificate, and any intermediates behind it.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The certificate's key.
    pub key: PrivateKeyDer<'static>,
    /// The key for the proxy.
    pub ssh_key: Arc<PrivateKey>,
}

/// Why a device's keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file is missing, unreadable or open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what its name says.
    #[error("`{}` holds no {expected} in PEM form", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What the parser found.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The SSH key is not one, or has a passphrase.
    #[error("`{}` holds no OpenSSH private key without passphrase", path.display())]
    SshKey {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        #[source]
        source: russh::keys::ssh_key::Error,
    },
}

impl IdentityError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) if error.is_not_found() => Some(
                "this computer is not enrolled, or its certificate has not been signed yet: run `tunnel enroll` again".to_owned(),
            ),
            Self::File(error) => error.hint(),
            Self::Pem { .. } | Self::SshKey { .. } => None,
        }
    }
}

impl Identity {
    /// Loads the keys and the certificate of the directory's device.
    pub fn load(dir: &DeviceDir, membership: &Membership) -> Result<Self, IdentityError> {
        let id = &membership.id;
        let certificates = certificates(&dir.x509_certificate(id))?;
        Ok(Self {
            key: certified_key(dir, id, &certificates)?,
            certificates,
            ssh_key: Arc::new(ssh_key(&dir.ssh_key(id))?),
        })
    }
}

/// Loads the key that these certificates are for, or the present one if none is.
pub fn certified_key(
    dir: &DeviceDir,
    id: &DeviceId,
    certificates: &[CertificateDer<'static>],
) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let key = private_key(&dir.x509_key(id))?;
    if is_for(certificates, &key) {
        Ok(key)
    } else {
        renewed_key(dir, id, certificates)
    }
}

/// Whether a certificate, the first of these, is for this key.
pub fn is_for(certificates: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> bool {
    any_supported_type(key).is_ok_and(|key| {
        CertifiedKey::new(certificates.to_vec(), key)
            .keys_match()
            .is_ok()
    })
}

/// The public half of a certificate's key, as a DER `SubjectPublicKeyInfo`; `None` for a kind of key that is not known.
pub fn public_key(key: &PrivateKeyDer<'static>) -> Option<Vec<u8>> {
    let key = any_supported_type(key).ok()?;
    Some(key.public_key()?.as_ref().to_vec())
}

/// The key of a certificate that has just been renewed. A renewal writes the certificate first and moves its key after it,
/// so for a moment, which a power cut can make long, the key has its other name.
fn renewed_key(
    dir: &DeviceDir,
    id: &DeviceId,
    certificates: &[CertificateDer<'static>],
) -> Result<PrivateKeyDer<'static>, IdentityError> {
    match private_key(&dir.next_x509_key(id)) {
        Ok(next) if is_for(certificates, &next) => Ok(next),
        // It was moved while we looked; or the two do not fit, which whoever uses them will say.
        Ok(_) | Err(_) => private_key(&dir.x509_key(id)),
    }
}

/// Loads an OpenSSH private key, and refuses one that others may read.
pub fn ssh_key(path: &Path) -> Result<PrivateKey, IdentityError> {
    let fail = |source| IdentityError::SshKey {
        path: path.to_owned(),
        source,
    };
    let text = Zeroizing::new(files::read_private(path, MAX_KEY)?);
    let key = PrivateKey::from_openssh(text.as_str()).map_err(fail)?;
    if key.is_encrypted() {
        return Err(fail(russh::keys::ssh_key::Error::Encrypted));
    }
    Ok(key)
}

/// Loads the certificates of a PEM file; one at least.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let text = files::read_bounded(path, MAX_CHAIN)?;
    let fail = |source| IdentityError::Pem {
        path: path.to_owned(),
        expected: "certificate",
        source,
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(fail)?;
    if found.is_empty() {
        return Err(fail(rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// Loads the private key of a PEM file, and refuses one that others may read.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let text = Zeroizing::new(files::read_private(path, MAX_KEY)?);
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|source| IdentityError::Pem {
        path: path.to_owned(),
        expected: "private key",
        source,
    })
}

/// The largest private key file, in bytes: RSA-16384 in PEM is 12.6 KiB.
const MAX_KEY: usize = 16 * 1024;

/// The largest certificate file, in bytes: a chain of a few certificates of 2 KiB each.
const MAX_CHAIN: usize = 64 * 1024;
