//! The realm's certificate authority.

use std::fmt;
use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use enrollment::pem_block;
use protocol::Label;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::passphrase::{self, EncryptionError, Passphrase};
use crate::validity::{self, Serial};

/// The authority of one realm: its key and its certificate, `CN=REALM realm CA`. It signs devices and servers itself,
/// and no other authority can be made of it.
pub struct Authority {
    realm: Label,
    certificate_pem: String,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// There is one already, and its devices would lose their way.
    #[error("there is a certificate authority in `{}` already", directory.display())]
    Exists {
        /// Where.
        directory: PathBuf,
    },
    /// A file could not be read or written, or others may read the key.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key or the certificate could not be made.
    #[error("cannot make the certificate authority of `{realm}`")]
    Make {
        /// For which realm.
        realm: Label,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The key file does not hold an unencrypted PKCS#8 key.
    #[error("`{}` is not a private key in PKCS#8 form", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The key is encrypted, and nobody has the passphrase.
    #[error("the key in `{}` is encrypted", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key cannot be encrypted or decrypted.
    #[error("cannot use the key in `{}`", path.display())]
    Encryption {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: EncryptionError,
    },
    /// The certificate is not one of a realm's authority, or not for this key.
    #[error("`{}` is not the certificate of a realm's authority: {fault}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
}

impl Authority {
    /// Makes the authority of a new realm: ECDSA P-256, valid for [`CA_DAYS`] days.
    pub fn create(realm: &Label) -> Result<Self, AuthorityError> {
        let make = |source| AuthorityError::Make {
            realm: realm.clone(),
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name(realm));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(Serial::random().into());
        validity::set(&mut params, CA_DAYS, OffsetDateTime::now_utc(), None);
        let certificate = params.self_signed(&key).map_err(make)?;
        Ok(Self {
            realm: realm.clone(),
            certificate_pem: certificate.pem(),
            not_after: params.not_after,
            issuer: Issuer::new(params, key),
        })
    }

    /// Whether the key of the authority in this directory is encrypted.
    pub fn is_encrypted(directory: &Path) -> Result<bool, AuthorityError> {
        let text = Zeroizing::new(files::read_private(&key_file(directory), MAX_FILE)?);
        Ok(passphrase::is_encrypted(&text))
    }

    /// Reads the authority that [`save`](Self::save) wrote.
    pub fn load(directory: &Path) -> Result<Self, AuthorityError> {
        Self::load_with(directory, None)
    }

    /// Reads the authority that [`save_encrypted`](Self::save_encrypted) wrote, or, if its key is not encrypted, the
    /// one that [`save`](Self::save) wrote.
    pub fn load_with(
        directory: &Path,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, AuthorityError> {
        let (key_path, path) = (key_file(directory), certificate_file(directory));
        let text = Zeroizing::new(files::read_private(&key_path, MAX_FILE)?);
        let key = read_key(&text, key_path, passphrase)?;
        let certificate_pem = files::read_text(&path, MAX_FILE)?;
        let fail = |fault| AuthorityError::Certificate {
            path: path.clone(),
            fault,
        };

        let der = pem_block::single(&certificate_pem, pem_block::CERTIFICATE)
            .map_err(|_| fail("it is not one PEM block"))?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| fail("it cannot be parsed"))?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(fail("it is for another key"));
        }
        if !certificate.is_ca() {
            return Err(fail("it may not sign"));
        }
        let realm = realm_of(&certificate).ok_or_else(|| fail("it names no realm"))?;
        let not_after = certificate.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|_| fail("it cannot be parsed"))?;
        Ok(Self {
            realm,
            certificate_pem,
            not_after,
            issuer,
        })
    }

    /// Writes the key (`ca.key`, mode 0600) and the certificate (`ca.cert`) into a directory that has neither.
    pub fn save(&self, directory: &Path) -> Result<(), AuthorityError> {
        self.write(
            directory,
            &Zeroizing::new(self.issuer.key().serialize_pem()),
        )
    }

    /// Does the same with the key encrypted.
    pub fn save_encrypted(
        &self,
        directory: &Path,
        passphrase: &Passphrase,
    ) -> Result<(), AuthorityError> {
        let key = Zeroizing::new(self.issuer.key().serialize_der());
        let text = passphrase
            .encrypt(&key)
            .map_err(|source| AuthorityError::Encryption {
                path: key_file(directory),
                source,
            })?;
        self.write(directory, &text)
    }

    fn write(&self, directory: &Path, key: &str) -> Result<(), AuthorityError> {
        let (key_path, path) = (key_file(directory), certificate_file(directory));
        if key_path.exists() || path.exists() {
            return Err(AuthorityError::Exists {
                directory: directory.to_owned(),
            });
        }
        files::write_private(&key_path, key.as_bytes())?;
        files::write_public(&path, self.certificate_pem.as_bytes())?;
        Ok(())
    }

    /// Whose authority it is.
    pub fn realm(&self) -> &Label {
        &self.realm
    }

    /// Its certificate, which everybody in the realm gets.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The end of its certificate. Nothing that it signs is valid longer.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

impl AuthorityError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some(
                "a new authority would shut out every device: move the old one away if you mean it"
                    .to_owned(),
            ),
            Self::File(source) if source.is_not_found() => Some(
                "put it back from a copy of the realm's directory, or name that directory with `--dir`".to_owned(),
            ),
            Self::File(source) => source.hint(),
            Self::Encrypted { .. } => Some(
                "name a file of mode 0600 with the passphrase in `TUNNEL_CA_PASSPHRASE_FILE`, or run this at a terminal"
                    .to_owned(),
            ),
            Self::Key { path, .. } | Self::Certificate { path, .. } => Some(format!(
                "put `{}` back from a copy: with another authority every device would have to enroll again",
                path.display()
            )),
            Self::Encryption { .. } => Some(
                "the passphrase is the one with which the key was encrypted; a key that is damaged comes back from a copy only"
                    .to_owned(),
            ),
            Self::Make { .. } => None,
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

fn read_key(
    text: &str,
    path: PathBuf,
    passphrase: Option<&Passphrase>,
) -> Result<KeyPair, AuthorityError> {
    if !passphrase::is_encrypted(text) {
        return KeyPair::from_pem(text).map_err(|source| AuthorityError::Key { path, source });
    }
    let Some(passphrase) = passphrase else {
        return Err(AuthorityError::Encrypted { path });
    };
    match passphrase.decrypt(text) {
        Ok(key) => {
            KeyPair::try_from(key.as_slice()).map_err(|source| AuthorityError::Key { path, source })
        }
        Err(source) => Err(AuthorityError::Encryption { path, source }),
    }
}

/// The file of an authority's private key.
pub(crate) fn key_file(directory: &Path) -> PathBuf {
    directory.join("ca.key")
}

/// The file of an authority's certificate.
pub(crate) fn certificate_file(directory: &Path) -> PathBuf {
    directory.join("ca.cert")
}

fn common_name(realm: &Label) -> String {
    format!("{realm}{COMMON_NAME_END}")
}

fn realm_of(certificate: &X509Certificate<'_>) -> Option<Label> {
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    name.strip_suffix(COMMON_NAME_END)?.parse().ok()
}

const COMMON_NAME_END: &str = " realm CA";

/// The life of an authority, in days: ten years, as long as the hardware of a field station lasts. Its end means a
/// visit to every device.
pub const CA_DAYS: u16 = 3650;

/// The largest of its two files, in bytes: an RSA-4096 key, which somebody may bring along, has 3.3 KiB.
const MAX_FILE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn atlas() -> Authority {
        Authority::create(&"atlas".parse().unwrap()).unwrap()
    }

    #[test]
    fn it_is_the_same_after_it_was_saved() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("ca");
        let authority = atlas();
        authority.save(&directory).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(
            (mode(&directory), mode(&key_file(&directory))),
            (0o700, 0o600)
        );
        let loaded = Authority::load(&directory).unwrap();
        assert_eq!(loaded.realm(), authority.realm());
        assert_eq!(loaded.certificate_pem(), authority.certificate_pem());
        assert_eq!(
            loaded.not_after(),
            authority.not_after().replace_nanosecond(0).unwrap()
        );
        assert!(!format!("{loaded:?}").contains("key"));
    }

    #[test]
    fn an_authority_is_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        atlas().save(home.path()).unwrap();
        let before = fs::read(key_file(home.path())).unwrap();
        assert!(matches!(
            atlas().save(home.path()),
            Err(AuthorityError::Exists { .. })
        ));
        assert_eq!(fs::read(key_file(home.path())).unwrap(), before);
    }

    #[test]
    fn an_encrypted_key_needs_its_passphrase_and_openssl_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let passphrase = |text: &str| Passphrase::new(text).unwrap();
        let authority = atlas();
        let good = passphrase("correct horse");
        authority.save_encrypted(home.path(), &good).unwrap();
        assert!(Authority::is_encrypted(home.path()).unwrap());
        let loaded = Authority::load_with(home.path(), Some(&good)).unwrap();
        assert_eq!(
            loaded.issuer.key().serialize_der(),
            authority.issuer.key().serialize_der()
        );
        let error = Authority::load(home.path()).unwrap_err();
        assert!(error.hint().unwrap().contains("TUNNEL_CA_PASSPHRASE_FILE"));
        let wrong = Authority::load_with(home.path(), Some(&passphrase("wrong horse")));
        assert!(matches!(
            wrong.unwrap_err(),
            AuthorityError::Encryption { .. }
        ));
        let openssl = |pass: &str| {
            std::process::Command::new("openssl")
                .args(["pkey", "-noout", "-check", "-passin", pass, "-in"])
                .arg(key_file(home.path()))
                .output()
                .unwrap()
        };
        let read = openssl("pass:correct horse");
        assert!(read.status.success(), "{read:?}");
        assert!(!openssl("pass:wrong horse").status.success());
    }

    #[test]
    fn a_key_and_a_certificate_of_two_authorities_are_refused() {
        let home = tempfile::tempdir().unwrap();
        atlas().save(home.path()).unwrap();
        fs::write(certificate_file(home.path()), atlas().certificate_pem()).unwrap();
        let error = Authority::load(home.path()).unwrap_err();
        assert!(
            error.to_string().ends_with("it is for another key"),
            "{error}"
        );
        fs::set_permissions(key_file(home.path()), fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::load(home.path()).unwrap_err();
        assert!(
            error.hint().unwrap().starts_with("run `chmod 600 "),
            "{error}"
        );
    }
}
