//! The check of an uploaded SSH public key.

use protocol::DeviceId;
use russh::keys::PublicKey;
use russh::keys::ssh_key::{self, public::KeyData};

use crate::Kind;

/// A device's SSH public key that passed the check. Only [`DeviceKey::parse`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    id: DeviceId,
    key: PublicKey,
}

/// Why an uploaded key is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefusal {
    /// The comment names somebody else than the title does.
    #[error("its comment is {found:?} where `{expected}` is the only one allowed")]
    Comment {
        /// The comment, cut to a readable length.
        found: String,
        /// Whose key it should be.
        expected: DeviceId,
    },
    /// A tab, an escape, a NUL.
    #[error("it contains the control character {found:?}")]
    ControlCharacter {
        /// The first one.
        found: char,
    },
    /// There is nothing.
    #[error("there is no key in it")]
    Empty,
    /// The base64 does not hold a key of the named type.
    #[error("the key is damaged")]
    Malformed(#[source] ssh_key::Error),
    /// Something stands before the key, such as `command="…"`.
    #[error("there are options before the key")]
    Options,
    /// More than one line.
    #[error("there are {lines} lines where one key is expected")]
    SeveralKeys {
        /// How many.
        lines: usize,
    },
    /// An RSA key which the proxy cannot verify in reasonable time.
    #[error("an RSA key of {bits} bits is larger than {MAX_RSA_BITS}")]
    Strong {
        /// Its size.
        bits: usize,
    },
    /// Longer than a key can be.
    #[error("it is longer than {limit} bytes", limit = Kind::SshPublicKey.max_body())]
    TooLong,
    /// Not a type that we allow: DSA, certificates, keys on a hardware token, which needs a finger.
    #[error("the key type {found:?} is not allowed")]
    Type {
        /// What stands there, cut to a readable length.
        found: String,
    },
    /// An RSA key that can be factored in reach of a rich adversary.
    #[error("an RSA key of {bits} bits is smaller than {MIN_RSA_BITS}")]
    Weak {
        /// Its size.
        bits: usize,
    },
}

impl DeviceKey {
    /// Checks the body of an upload under this device's title: exactly one line, `TYPE BASE64 ID`. The name
    /// stands in the line because a title can be changed by others than its author, by renaming a file or an issue.
    pub fn parse(id: &DeviceId, body: &str) -> Result<Self, KeyRefusal> {
        if body.len() > Kind::SshPublicKey.max_body() {
            return Err(KeyRefusal::TooLong);
        }
        let line = only_line(body)?;
        if let Some(found) = line.chars().find(|c| c.is_control()) {
            return Err(KeyRefusal::ControlCharacter { found });
        }
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let kind = words.next().ok_or(KeyRefusal::Empty)?;
        if !ALLOWED_TYPES.contains(&kind) {
            return Err(if words.any(|word| ALLOWED_TYPES.contains(&word)) {
                KeyRefusal::Options
            } else {
                KeyRefusal::Type {
                    found: excerpt(kind),
                }
            });
        }
        let base64 = words.next().ok_or(KeyRefusal::Empty)?;
        let comment = words.collect::<Vec<_>>().join(" ");
        let mut key =
            PublicKey::from_openssh(&format!("{kind} {base64}")).map_err(KeyRefusal::Malformed)?;
        check_strength(&key)?;
        if comment != id.to_string() {
            return Err(KeyRefusal::Comment {
                found: excerpt(&comment),
                expected: id.clone(),
            });
        }
        key.set_comment(id.to_string());
        Ok(Self {
            id: id.clone(),
            key,
        })
    }

    /// Whose key it is.
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// The key, with the id as its comment.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl KeyRefusal {
    /// What the uploader can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Strong { .. } | Self::Type { .. } | Self::Weak { .. } => {
                "make an Ed25519 key with `tunnel enroll`, or with `ssh-keygen -t ed25519`"
            }
            Self::Comment { .. }
            | Self::ControlCharacter { .. }
            | Self::Empty
            | Self::Malformed(_)
            | Self::Options
            | Self::SeveralKeys { .. }
            | Self::TooLong => "upload the one line of the `.sshkey.pub` file, unchanged",
        }
    }
}

fn only_line(body: &str) -> Result<&str, KeyRefusal> {
    let text = body.trim_matches(['\r', '\n', ' ']);
    match text.split('\n').count() {
        // A lone carriage return splits no line here, and is then refused as a control character.
        1 => Ok(text),
        lines => Err(KeyRefusal::SeveralKeys { lines }),
    }
}

fn check_strength(key: &PublicKey) -> Result<(), KeyRefusal> {
    let KeyData::Rsa(rsa) = key.key_data() else {
        // The other allowed types have one size each.
        return Ok(());
    };
    let modulus = rsa.n().as_positive_bytes().unwrap_or_default();
    let leading = modulus
        .first()
        .map_or(0, |byte| byte.leading_zeros() as usize);
    match (modulus.len() * 8).saturating_sub(leading) {
        bits if bits < MIN_RSA_BITS => Err(KeyRefusal::Weak { bits }),
        bits if bits > MAX_RSA_BITS => Err(KeyRefusal::Strong { bits }),
        _ => Ok(()),
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(MAX_EXCERPT).collect()
}

/// The types that may be uploaded. Not `ssh-dss` (1024 bits), not certificates (they would carry somebody else's
/// authority), not `sk-…` (a device has nobody to touch the token).
const ALLOWED_TYPES: [&str; 5] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
];

/// The smallest RSA modulus, in bits (NIST SP 800-131A revision 2, section 3).
pub const MIN_RSA_BITS: usize = 2048;

/// The largest RSA modulus, in bits: what `ring` and russh's `rsa` verify.
pub const MAX_RSA_BITS: usize = 8192;

/// How much of a stranger's text is repeated in a message, in characters.
const MAX_EXCERPT: usize = 64;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn id() -> DeviceId {
        "333.hula.atlas".parse().unwrap()
    }

    fn refusal(body: &str) -> KeyRefusal {
        DeviceKey::parse(&id(), body).unwrap_err()
    }

    fn made_by_ssh_keygen(arguments: &[&str]) -> String {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("key");
        let output = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "333.hula.atlas"])
            .args(arguments)
            .arg("-f")
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read_to_string(path.with_extension("pub")).unwrap()
    }

    #[test]
    fn one_line_is_a_key_with_or_without_its_comment() {
        for body in [
            format!("{KEY} 333.hula.atlas"),
            format!("{KEY}  333.hula.atlas \n"),
            format!("\n{KEY} 333.hula.atlas\r\n\r\n"),
        ] {
            let key = DeviceKey::parse(&id(), &body).unwrap();
            assert_eq!(
                key.key().to_openssh().unwrap(),
                format!("{KEY} 333.hula.atlas")
            );
        }
    }

    #[test]
    fn each_allowed_type_of_ssh_keygen_is_taken() {
        for arguments in [
            ["-t", "ed25519", "-b", "256"],
            ["-t", "ecdsa", "-b", "256"],
            ["-t", "ecdsa", "-b", "384"],
            ["-t", "ecdsa", "-b", "521"],
            ["-t", "rsa", "-b", "2048"],
        ] {
            let line = made_by_ssh_keygen(&arguments);
            let key = DeviceKey::parse(&id(), &line).unwrap();
            assert_eq!(key.key().to_openssh().unwrap(), line.trim_end());
        }
    }

    #[test]
    fn hostile_uploads_are_each_refused_for_their_reason() {
        assert!(matches!(refusal(""), KeyRefusal::Empty));
        assert!(matches!(refusal("ssh-ed25519"), KeyRefusal::Empty));
        assert!(matches!(
            refusal(&format!("{KEY}\n{KEY}")),
            KeyRefusal::SeveralKeys { lines: 2 }
        ));
        assert!(matches!(
            refusal(&format!("{KEY}\r{KEY}")),
            KeyRefusal::ControlCharacter { found: '\r' }
        ));
        assert!(matches!(
            refusal(&format!("{KEY}\t333.hula.atlas")),
            KeyRefusal::ControlCharacter { .. }
        ));
        assert!(matches!(
            refusal(&format!("{KEY} \u{1b}[2J")),
            KeyRefusal::ControlCharacter { .. }
        ));
        assert!(matches!(
            refusal(&format!("{KEY}\0")),
            KeyRefusal::ControlCharacter { .. }
        ));
        assert!(matches!(
            refusal(&format!("command=\"sh\" {KEY}")),
            KeyRefusal::Options
        ));
        assert!(matches!(
            refusal(&format!("permitopen=\"*:*\",pty {KEY}")),
            KeyRefusal::Options
        ));
        assert!(
            matches!(refusal(KEY), KeyRefusal::Comment { .. }),
            "nobody's: whoever changes the title makes it anybody's"
        );
        assert!(matches!(
            refusal(&format!("{KEY} 334.hula.atlas")),
            KeyRefusal::Comment { .. }
        ));
        assert!(matches!(
            refusal(&format!("{KEY} 333.hula.atlas x")),
            KeyRefusal::Comment { .. }
        ));
        assert!(matches!(
            refusal(&format!("{KEY}{}", " ".repeat(9000))),
            KeyRefusal::TooLong
        ));
        assert!(matches!(refusal(&KEY[..60]), KeyRefusal::Malformed(_)));
        assert!(matches!(
            refusal(&format!("{KEY}AAAA")),
            KeyRefusal::Malformed(_)
        ));
        assert!(matches!(
            refusal(&KEY.replace("ssh-ed25519", "ssh-rsa")),
            KeyRefusal::Malformed(_)
        ));
        assert!(matches!(
            refusal("ssh-dss AAAAB3NzaC1kc3MAAACBAO"),
            KeyRefusal::Type { .. }
        ));
        assert!(matches!(
            refusal("ssh-ed25519-cert-v01@openssh.com AAAA"),
            KeyRefusal::Type { .. }
        ));
        assert!(matches!(
            refusal("sk-ssh-ed25519@openssh.com AAAA"),
            KeyRefusal::Type { .. }
        ));
        assert!(matches!(
            refusal("-----BEGIN OPENSSH PRIVATE KEY-----"),
            KeyRefusal::Type { .. }
        ));
        let weak = made_by_ssh_keygen(&["-t", "rsa", "-b", "1024"]);
        assert!(matches!(refusal(&weak), KeyRefusal::Weak { bits: 1024 }));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), typed: bool) {
            let noise = String::from_utf8_lossy(&bytes);
            let body = if typed { format!("ssh-rsa {noise}") } else { noise.into_owned() };
            let _ = DeviceKey::parse(&id(), &body);
        }

        #[test]
        fn what_passes_is_one_line_with_the_id(at in 0..KEY.len(), with in any::<char>()) {
            let mut body: Vec<char> = format!("{KEY} 333.hula.atlas").chars().collect();
            body[at] = with;
            if let Ok(key) = DeviceKey::parse(&id(), &body.into_iter().collect::<String>()) {
                let line = key.key().to_openssh().unwrap();
                prop_assert!(line.ends_with(" 333.hula.atlas") && !line.contains('\n'));
            }
        }
    }
}
