//! The authority's key, encrypted with a passphrase: PKCS#8 with PBES2 (RFC 8018), scrypt and AES-256, which OpenSSL
//! reads too.

use std::fmt;

use enrollment::pem_block;
use pkcs8::der::pem::LineEnding;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

/// What only the realm's administrator knows. It is overwritten when it is dropped, and never shown.
pub struct Passphrase(Zeroizing<String>);

/// Why a text is no passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a passphrase has at least {MIN_PASSPHRASE} characters")]
pub struct PassphraseTooShort;

/// Why a key can be neither encrypted nor decrypted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptionError {
    /// It is not one PEM block of an encrypted key.
    #[error("the encrypted key is damaged")]
    Pem(#[source] pem_block::PemBlockError),
    /// The passphrase is wrong, or the key is not what it should be.
    #[error("the passphrase is wrong, or the key is damaged")]
    Pkcs8(#[source] pkcs8::Error),
}

impl Passphrase {
    /// This text, without the line break of a file or a terminal at its end.
    pub fn new(text: &str) -> Result<Self, PassphraseTooShort> {
        let line = Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned());
        if line.chars().count() < MIN_PASSPHRASE {
            return Err(PassphraseTooShort);
        }
        Ok(Self(line))
    }

    /// Encrypts a key (PKCS#8, DER) into PEM.
    pub(crate) fn encrypt(&self, key: &[u8]) -> Result<Zeroizing<String>, EncryptionError> {
        let encrypted = PrivateKeyInfoRef::try_from(key)
            .map_err(EncryptionError::Pkcs8)?
            .encrypt_with_rng(&mut rand::rng(), self.0.as_bytes())
            .map_err(EncryptionError::Pkcs8)?;
        encrypted
            .to_pem(ENCRYPTED_KEY, LineEnding::LF)
            .map_err(|source| EncryptionError::Pkcs8(source.into()))
    }

    /// Decrypts a key (PEM) into PKCS#8, DER.
    pub(crate) fn decrypt(&self, text: &str) -> Result<Zeroizing<Vec<u8>>, EncryptionError> {
        let der = pem_block::single(text, ENCRYPTED_KEY).map_err(EncryptionError::Pem)?;
        let key = EncryptedPrivateKeyInfoRef::try_from(der.as_slice())
            .map_err(EncryptionError::Pkcs8)?
            .decrypt(self.0.as_bytes())
            .map_err(EncryptionError::Pkcs8)?;
        Ok(Zeroizing::new(key.as_bytes().to_vec()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Whether a key's file has to be decrypted.
pub(crate) fn is_encrypted(text: &str) -> bool {
    text.trim_start()
        .starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

const ENCRYPTED_KEY: &str = "ENCRYPTED PRIVATE KEY";

/// The shortest passphrase, in characters (NIST SP 800-63B, section 5.1.1.1).
pub const MIN_PASSPHRASE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_not_short_and_not_shown() {
        let passphrase = |text: &str| Passphrase::new(text);
        assert_eq!(passphrase("1234567\n").unwrap_err(), PassphraseTooShort);
        let good = passphrase("12345678\r\n").unwrap();
        assert_eq!(good.0.as_str(), "12345678");
        assert_eq!(format!("{good:?}"), "Passphrase(..)");
    }
}
