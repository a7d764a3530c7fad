//! The private key behind a device's certificate.

use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use zeroize::Zeroizing;

/// Why there is no usable X.509 private key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum X509KeyError {
    /// It could not be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The operating system gave no random numbers.
    #[error("cannot make a private key")]
    Generate(#[source] rcgen::Error),
    /// It is in no form that we read.
    #[error("`{}` is not an unencrypted private key in PKCS#8 form", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// It is a key of a type that no broker takes.
    #[error("the key in `{}` is neither ECDSA P-256 or P-384 nor RSA", path.display())]
    Type {
        /// The file.
        path: PathBuf,
    },
}

impl X509KeyError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(source) => source.hint(),
            Self::Parse { path, .. } => Some(format!(
                "convert it: `openssl pkcs8 -topk8 -nocrypt -in {} -out NEW`, mode 0600",
                path.display()
            )),
            Self::Type { .. } => {
                Some("move it away and run the command again to have a new one made".to_owned())
            }
            Self::Generate(_) => None,
        }
    }
}

/// Makes an ECDSA P-256 key and writes it as PKCS#8 PEM (`BEGIN PRIVATE KEY`) with mode 0600.
pub fn create(path: &Path) -> Result<KeyPair, X509KeyError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(X509KeyError::Generate)?;
    files::write_private(path, Zeroizing::new(key.serialize_pem()).as_bytes())?;
    Ok(key)
}

/// Reads a key: ECDSA P-256 or P-384, or RSA of 2048 to 4096 bits.
///
/// RSA keys are read, so that an original's can be taken over, and not made: `ring` cannot.
pub fn load(path: &Path) -> Result<KeyPair, X509KeyError> {
    let text = Zeroizing::new(files::read_private(path, MAX_KEY_FILE)?);
    let key = KeyPair::from_pem(&text).map_err(|source| X509KeyError::Parse {
        path: path.to_owned(),
        source,
    })?;
    let allowed = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_RSA_SHA256,
    ];
    if !allowed.contains(&key.algorithm()) {
        return Err(X509KeyError::Type {
            path: path.to_owned(),
        });
    }
    Ok(key)
}

/// Reads the key of this path, or makes it if there is none.
pub fn load_or_create(path: &Path) -> Result<KeyPair, X509KeyError> {
    match load(path) {
        Err(X509KeyError::File(error)) if error.is_not_found() => create(path),
        result => result,
    }
}

/// The largest private key file, in bytes: RSA-4096, the largest that `ring` signs with, has 3.3 KiB.
const MAX_KEY_FILE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use rcgen::PublicKeyData;

    use super::*;

    fn openssl(arguments: &[&str], path: &Path) -> String {
        let output = Command::new("openssl")
            .args(arguments)
            .arg(path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn make_private(path: &Path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn openssl_reads_what_we_make() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys/a.x509.key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("-----BEGIN PRIVATE KEY-----\n")
        );
        let text = openssl(&["pkey", "-noout", "-text", "-in"], &path);
        assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
        assert_eq!(
            openssl(&["pkey", "-pubout", "-in"], &path),
            key.public_key_pem()
        );
        let again = load_or_create(&path).unwrap();
        assert_eq!(
            again.subject_public_key_info(),
            key.subject_public_key_info()
        );
    }

    #[test]
    fn keys_of_the_original_are_read_and_others_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.x509.key");
        openssl(
            &[
                "genpkey",
                "-quiet",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-out",
            ],
            &path,
        );
        make_private(&path);
        assert_eq!(
            load(&path).unwrap().public_key_pem(),
            openssl(&["pkey", "-pubout", "-in"], &path)
        );

        openssl(&["genpkey", "-algorithm", "ED25519", "-out"], &path);
        make_private(&path);
        assert!(matches!(load(&path), Err(X509KeyError::Type { .. })));

        openssl(
            &[
                "ecparam",
                "-genkey",
                "-noout",
                "-name",
                "prime256v1",
                "-out",
            ],
            &path,
        );
        make_private(&path);
        let error = load(&path).unwrap_err();
        assert!(matches!(error, X509KeyError::Parse { .. }));
        assert!(error.hint().unwrap().contains("openssl pkcs8 -topk8"));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.x509.key");
        create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            load_or_create(&path)
                .unwrap_err()
                .hint()
                .unwrap()
                .starts_with("run `chmod 600 ")
        );
    }
}
