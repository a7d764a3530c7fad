//! SSH key pairs in files, as `ssh` and `ssh-keygen` read them.

use std::path::{Path, PathBuf};

use daemon::files::{self, FileError};
use daemon::identity::{self, IdentityError};
use russh::keys::ssh_key::private::{KeypairData, RsaKeypair};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

/// Why there is no usable SSH key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshKeyError {
    /// The key could not be encoded.
    #[error("cannot encode an SSH key for `{comment}`")]
    Encode {
        /// Whose.
        comment: String,
        /// Why.
        #[source]
        source: ssh_key::Error,
    },
    /// It could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It could not be read, others may read it, or it is not one that a daemon can use.
    #[error(transparent)]
    Load(#[from] IdentityError),
}

impl SshKeyError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Load(IdentityError::SshKey {
                path,
                source: ssh_key::Error::Encrypted,
            }) => Some(format!("run `ssh-keygen -p -N '' -f {}`", path.display())),
            Self::Load(IdentityError::File(source)) | Self::File(source) => source.hint(),
            Self::Encode { .. } | Self::Load(_) => None,
        }
    }
}

/// What a key is made of. All but the first are for host keys, and there for clients that know no better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA on the curve P-256.
    Ecdsa,
    /// RSA with 3072 bits.
    Rsa,
}

impl KeyKind {
    fn generate(self) -> Result<PrivateKey, ssh_key::Error> {
        let mut random = rand::rng();
        match self {
            Self::Ed25519 => PrivateKey::random(&mut random, Algorithm::Ed25519),
            Self::Ecdsa => {
                let curve = EcdsaCurve::NistP256;
                PrivateKey::random(&mut random, Algorithm::Ecdsa { curve })
            }
            Self::Rsa => {
                let pair = RsaKeypair::random(&mut random, RSA_BITS)?;
                PrivateKey::new(KeypairData::Rsa(pair), "")
            }
        }
    }
}

/// Makes an Ed25519 key pair: the private key at `path` with mode 0600, the public key beside it at `path.pub`.
pub fn create(path: &Path, comment: &str) -> Result<PrivateKey, SshKeyError> {
    create_of(KeyKind::Ed25519, path, comment)
}

/// Makes a key pair of this kind.
pub fn create_of(kind: KeyKind, path: &Path, comment: &str) -> Result<PrivateKey, SshKeyError> {
    let encode = |source| SshKeyError::Encode {
        comment: comment.to_owned(),
        source,
    };
    let mut key = kind.generate().map_err(encode)?;
    key.set_comment(comment);
    let text = key.to_openssh(LineEnding::LF).map_err(encode)?;
    files::write_private(path, text.as_bytes())?;
    write_public(path, &key, comment)?;
    Ok(key)
}

/// Reads the key pair of this path, or makes it if there is none. A missing public half is written again.
///
/// The host key of a proxy is made so too, with the proxy's name as its comment.
pub fn load_or_create(path: &Path, comment: &str) -> Result<PrivateKey, SshKeyError> {
    let mut key = match identity::ssh_key(path) {
        Ok(key) => key,
        Err(IdentityError::File(error)) if error.is_not_found() => return create(path, comment),
        Err(error) => return Err(error.into()),
    };
    // A key that `ssh-keygen` made elsewhere has another comment; in the registry it has to be the id.
    key.set_comment(comment);
    if !public_path(path).exists() {
        write_public(path, &key, comment)?;
    }
    Ok(key)
}

/// Reads the private key of this path, or makes one that is written nowhere: for who only looks whether all is well.
pub fn load_or_make_up(path: &Path) -> Result<PrivateKey, SshKeyError> {
    match identity::ssh_key(path) {
        Err(IdentityError::File(error)) if error.is_not_found() => KeyKind::Ed25519
            .generate()
            .map_err(|source| SshKeyError::Encode {
                comment: path.display().to_string(),
                source,
            }),
        read => Ok(read?),
    }
}

/// The public half as one line with a line end.
pub fn public_line(key: &PrivateKey) -> Result<String, SshKeyError> {
    let public = key.public_key();
    public
        .to_openssh()
        .map(|line| line + "\n")
        .map_err(|source| SshKeyError::Encode {
            comment: public.comment().as_str_lossy().to_owned(),
            source,
        })
}

/// The public half as a realm file has it: `TYPE BASE64`, without a comment.
pub fn bare_line(key: &PrivateKey) -> Result<String, SshKeyError> {
    let line = public_line(key)?;
    let words: Vec<&str> = line.split_ascii_whitespace().take(2).collect();
    Ok(words.join(" "))
}

fn write_public(path: &Path, key: &PrivateKey, comment: &str) -> Result<(), SshKeyError> {
    let mut key = key.clone();
    key.set_comment(comment);
    files::write_public(&public_path(path), public_line(&key)?.as_bytes())?;
    Ok(())
}

/// Where the public half of the key at this path is.
pub fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// As strong as 128 bits (NIST SP 800-57); 2048 bits are on their way out.
const RSA_BITS: usize = 3072;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn ssh_keygen(arguments: &[&str], path: &Path) -> String {
        let output = Command::new("ssh-keygen")
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

    #[test]
    fn ssh_keygen_reads_what_we_make() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys/333.hula.atlas.sshkey");
        let key = create(&path, "333.hula.atlas").unwrap();
        let public = public_path(&path);
        assert_eq!((mode(&path), mode(&public)), (0o600, 0o644));
        // `-y` derives the public key from the private one, `-l` reads the public file.
        let derived = ssh_keygen(&["-y", "-f"], &path);
        assert_eq!(derived, fs::read_to_string(&public).unwrap());
        assert_eq!(derived, public_line(&key).unwrap());
        assert!(derived.starts_with("ssh-ed25519 ") && derived.ends_with(" 333.hula.atlas\n"));
        let listed = ssh_keygen(&["-l", "-f"], &public);
        assert!(listed.starts_with("256 SHA256:"), "{listed}");
        assert!(
            listed.trim_end().ends_with("333.hula.atlas (ED25519)"),
            "{listed}"
        );
        assert_eq!(identity::ssh_key(&path).unwrap(), key);
    }

    #[test]
    fn host_keys_for_old_clients_are_what_ssh_keygen_expects() {
        let home = tempfile::tempdir().unwrap();
        for (kind, shown) in [
            (KeyKind::Ecdsa, ["256 ", "(ECDSA)"]),
            (KeyKind::Rsa, ["3072 ", "(RSA)"]),
        ] {
            let path = home.path().join(shown[0].trim());
            let key = create_of(kind, &path, "proxy").unwrap();
            let listed = ssh_keygen(&["-l", "-f"], &path);
            assert!(shown.iter().all(|part| listed.contains(part)), "{listed}");
            assert_eq!(identity::ssh_key(&path).unwrap(), key);
            assert_eq!(bare_line(&key).unwrap().split(' ').count(), 2);
        }
    }

    #[test]
    fn a_key_is_made_once_and_its_public_half_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("host.key");
        let first = load_or_create(&path, "proxy").unwrap();
        fs::remove_file(public_path(&path)).unwrap();
        let second = load_or_create(&path, "proxy").unwrap();
        assert_eq!(first.public_key(), second.public_key());
        assert_eq!(
            fs::read_to_string(public_path(&path)).unwrap(),
            public_line(&first).unwrap()
        );
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sshkey");
        create(&path, "a").unwrap();
        for open in [0o640, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
            let error = load_or_create(&path, "a").unwrap_err();
            assert!(
                error.hint().unwrap().starts_with("run `chmod 600 "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_with_a_passphrase_is_refused_with_the_remedy() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sshkey");
        ssh_keygen(&["-q", "-t", "ed25519", "-N", "secret", "-f"], &path);
        let error = load_or_create(&path, "a").unwrap_err();
        assert!(error.hint().unwrap().starts_with("run `ssh-keygen -p "));
    }

    #[test]
    fn a_key_of_the_original_is_taken_over() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.sshkey");
        ssh_keygen(
            &[
                "-q",
                "-t",
                "rsa",
                "-b",
                "3072",
                "-N",
                "",
                "-C",
                "333.hula.atlas",
                "-f",
            ],
            &path,
        );
        let key = load_or_create(&path, "333.hula.atlas").unwrap();
        assert_eq!(
            public_line(&key).unwrap(),
            fs::read_to_string(public_path(&path)).unwrap()
        );
    }
}
