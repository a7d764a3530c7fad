//! The private key behind a device's certificate.

use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};
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
    let key = key_pair(&text).map_err(|source| X509KeyError::Parse {
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

/// Reads a key in PKCS#8 or, as older OpenSSL writes RSA keys, in PKCS#1 form (RFC 8017, appendix A.1.2).
fn key_pair(text: &str) -> Result<KeyPair, rcgen::Error> {
    if !text.contains(PKCS1) {
        return KeyPair::from_pem(text);
    }
    let key = PrivatePkcs1KeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    let wrapped = Zeroizing::new(pkcs8(key.secret_pkcs1_der()));
    KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(wrapped.as_slice()),
        &PKCS_RSA_SHA256,
    )
}

/// The same key in PKCS#8 (RFC 5208, section 5): version 0, the algorithm, and the PKCS#1 form as octets.
fn pkcs8(pkcs1: &[u8]) -> Vec<u8> {
    let content = [VERSION_AND_RSA, &der(OCTET_STRING, pkcs1)].concat();
    der(SEQUENCE, &content)
}

/// One value of DER (X.690, section 8.1): tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let bytes = content.len().to_be_bytes();
    let significant: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut value = vec![tag];
    match (significant.as_slice(), u8::try_from(significant.len())) {
        ([short], _) if *short < 0x80 => value.push(*short),
        (long, Ok(count)) => {
            value.push(0x80 | count);
            value.extend_from_slice(long);
        }
        (_, Err(_)) => {}
    }
    value.extend_from_slice(content);
    value
}

/// Reads the key of this path, or makes it if there is none.
pub fn load_or_create(path: &Path) -> Result<KeyPair, X509KeyError> {
    match load(path) {
        Err(X509KeyError::File(error)) if error.is_not_found() => create(path),
        result => result,
    }
}

const PKCS1: &str = "-----BEGIN RSA PRIVATE KEY-----";

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;

/// INTEGER 0, and the algorithm identifier `rsaEncryption` with NULL parameters (RFC 8017, appendix A.1).
const VERSION_AND_RSA: &[u8] = &[
    0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00,
];

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

        let modern = load(&path).unwrap().public_key_pem();
        let old = home.path().join("old.x509.key");
        let convert = ["rsa", "-traditional", "-in", path.to_str().unwrap(), "-out"];
        openssl(&convert, &old);
        make_private(&old);
        assert!(fs::read_to_string(&old).unwrap().starts_with(PKCS1));
        assert_eq!(load(&old).unwrap().public_key_pem(), modern);

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
