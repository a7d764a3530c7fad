//! Whom a realm trusts: who may upload for which of its systems, and who for controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use protocol::{DeviceId, Label, Role};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::permission::Decision;
use crate::{Author, properties};

/// The rules of one realm: those of `trust.toml`, those of the original's `permissions.txt`, and the users of this
/// machine who own the realm. What no rule speaks of is undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    owners: BTreeSet<u32>,
    rules: Vec<Rule>,
    original: BTreeMap<(String, String), bool>,
}

/// One `[[upload]]` of `trust.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Of whom it speaks.
    pub who: Who,
    /// For which systems.
    pub systems: Vec<System>,
    /// For which devices of them.
    #[serde(default)]
    pub what: What,
    /// Whether they may; default: yes. A no stands above every yes.
    #[serde(default = "yes")]
    pub allow: bool,
}

/// Of whom a rule speaks: `github:LOGIN`, `uid:NUMBER`, or `uid:*` for every user of this machine who can write to the
/// registry. There is nothing like it for GitHub, where everybody can open an issue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The author of an issue; in lower case.
    GitHub(String),
    /// The owner of a file.
    LocalUser(u32),
    /// The owner of any file.
    AnyLocalUser,
}

/// Of which system a rule speaks: its name, or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum System {
    /// All of the realm's.
    Any,
    /// This one.
    Named(Label),
}

/// Of which devices a rule speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Remote computers only.
    #[default]
    Targets,
    /// Controllers only, which may log in to the system's remote computers.
    Controllers,
    /// Both.
    All,
}

/// Why a text names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of `github:LOGIN`, `uid:NUMBER` and `uid:*`")]
pub struct WhoError(String);

/// Why a text is no `permissions.txt`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermissionsError {
    /// The key is not `SYSTEM+LOGIN`.
    #[error("the key {0:?} is not `SYSTEM+LOGIN`")]
    Key(String),
    /// The value is neither yes nor no.
    #[error("the value of `{key}` is neither `allow` nor `deny`")]
    Value {
        /// Its key.
        key: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    version: u32,
    #[serde(default)]
    upload: Vec<Rule>,
}

impl Trust {
    /// Nobody but these users of this machine.
    pub fn of_owners(owners: BTreeSet<u32>) -> Self {
        Self {
            owners,
            ..Self::default()
        }
    }

    /// Adds the rules of a `trust.toml`.
    pub fn with_file(mut self, text: &str) -> Result<Self, toml::de::Error> {
        let file: TrustFile = toml::from_str(text)?;
        if file.version != VERSION {
            let text = format!("this program knows version {VERSION}, not {}", file.version);
            return Err(toml::de::Error::custom(text));
        }
        self.rules.extend(file.upload);
        Ok(self)
    }

    /// Adds the rules of an original's `permissions.txt`: `SYSTEM+LOGIN=allow` or `=deny`. As there, they speak of a
    /// system's targets and controllers alike; a rule of `trust.toml` about the same upload stands above them.
    pub fn with_permissions(mut self, text: &str) -> Result<Self, PermissionsError> {
        for (key, value) in properties::parse(text) {
            let (system, login) = key
                .split_once('+')
                .filter(|(system, login)| !system.is_empty() && is_login(login))
                .ok_or_else(|| PermissionsError::Key(key.clone()))?;
            let allow = match value.trim() {
                "allow" => true,
                "deny" => false,
                _ => return Err(PermissionsError::Value { key: key.clone() }),
            };
            let pair = (system.to_owned(), login.to_ascii_lowercase());
            self.original.insert(pair, allow);
        }
        Ok(self)
    }

    /// Whether this author's uploads for this device are served.
    pub fn decide(&self, author: &Author, id: &DeviceId) -> Decision {
        if let Author::LocalUser { uid } = author
            && self.owners.contains(uid)
        {
            return Decision::Permitted;
        }
        let mut said = self
            .rules
            .iter()
            .filter(|rule| rule.is_about(author, id))
            .map(|rule| rule.allow)
            .peekable();
        if said.peek().is_some() {
            return Decision::of(said.all(|allow| allow));
        }
        let Author::GitHub { login } = author else {
            return Decision::Undecided;
        };
        let pair = (id.system().to_string(), login.to_ascii_lowercase());
        self.original
            .get(&pair)
            .map_or(Decision::Undecided, |allow| Decision::of(*allow))
    }
}

impl Rule {
    /// The rule that remembers an answer about this author, and all devices of this device's role and system.
    pub fn answer(author: &Author, id: &DeviceId, allow: bool) -> Self {
        Self {
            who: Who::of(author),
            systems: vec![System::Named(id.system().clone())],
            what: match id.role() {
                Role::Target => What::Targets,
                Role::Controller => What::Controllers,
            },
            allow,
        }
    }

    fn is_about(&self, author: &Author, id: &DeviceId) -> bool {
        let role = match self.what {
            What::All => true,
            What::Targets => id.role() == Role::Target,
            What::Controllers => id.role() == Role::Controller,
        };
        let system = self.systems.iter().any(|system| match system {
            System::Any => true,
            System::Named(name) => name == id.system(),
        });
        role && system && self.who.is(author)
    }
}

impl Who {
    /// A rule's name for an author.
    pub fn of(author: &Author) -> Self {
        match author {
            Author::GitHub { login } => Self::GitHub(login.to_ascii_lowercase()),
            Author::LocalUser { uid } => Self::LocalUser(*uid),
        }
    }

    /// Whether a rule about these speaks of this author.
    pub fn is(&self, author: &Author) -> bool {
        match (self, author) {
            (Self::GitHub(login), Author::GitHub { login: found }) => {
                login.eq_ignore_ascii_case(found)
            }
            (Self::LocalUser(uid), Author::LocalUser { uid: found }) => uid == found,
            (Self::AnyLocalUser, Author::LocalUser { .. }) => true,
            (Self::GitHub(_), Author::LocalUser { .. })
            | (Self::LocalUser(_) | Self::AnyLocalUser, Author::GitHub { .. }) => false,
        }
    }
}

impl FromStr for Who {
    type Err = WhoError;

    fn from_str(text: &str) -> Result<Self, WhoError> {
        let nobody = || WhoError(text.chars().take(80).collect());
        match text.split_once(':') {
            Some(("github", login)) if is_login(login) => {
                Ok(Self::GitHub(login.to_ascii_lowercase()))
            }
            Some(("uid", "*")) => Ok(Self::AnyLocalUser),
            Some(("uid", uid)) => uid.parse().map(Self::LocalUser).map_err(|_| nobody()),
            Some(_) | None => Err(nobody()),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GitHub(login) => write!(f, "github:{login}"),
            Self::LocalUser(uid) => write!(f, "uid:{uid}"),
            Self::AnyLocalUser => f.write_str("uid:*"),
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

impl Serialize for Who {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for System {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "*" {
            return Ok(Self::Any);
        }
        text.parse().map(Self::Named).map_err(D::Error::custom)
    }
}

/// GitHub's rule: 39 letters, digits and hyphens at most; names of apps end in `[bot]`, names of managed users have an
/// underscore.
fn is_login(text: &str) -> bool {
    let name = text.strip_suffix("[bot]").unwrap_or(text);
    (1..=MAX_LOGIN).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn yes() -> bool {
    true
}

/// The version of `trust.toml` that this program reads and writes.
pub const VERSION: u32 = 1;

/// The longest login name, in characters: GitHub has 39, and an underscore with a short code of up to 8 behind it for
/// managed users.
const MAX_LOGIN: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn octo() -> Author {
        Author::GitHub {
            login: "octo".to_owned(),
        }
    }

    fn local(uid: u32) -> Author {
        Author::LocalUser { uid }
    }

    fn decide(trust: &Trust, author: &Author, id: &str) -> Decision {
        trust.decide(author, &id.parse().unwrap())
    }

    fn trust(text: &str) -> Trust {
        Trust::of_owners([0].into())
            .with_file(&format!("version = 1\n{text}"))
            .unwrap()
    }

    #[test]
    fn without_a_rule_only_the_owners_may() {
        let trust = trust("");
        assert_eq!(
            decide(&trust, &local(0), "controller-a.hula.atlas"),
            Decision::Permitted
        );
        for author in [local(1000), octo()] {
            assert_eq!(
                decide(&trust, &author, "333.hula.atlas"),
                Decision::Undecided
            );
        }
    }

    #[test]
    fn a_rule_is_for_its_user_its_systems_and_its_devices() {
        let trust = trust("[[upload]]\nwho = \"github:Octo\"\nsystems = [\"hula\"]");
        let upper = Author::GitHub {
            login: "OCTO".to_owned(),
        };
        let other = Author::GitHub {
            login: "octo2".to_owned(),
        };
        assert_eq!(
            decide(&trust, &octo(), "333.hula.atlas"),
            Decision::Permitted
        );
        assert_eq!(
            decide(&trust, &upper, "333.hula.atlas"),
            Decision::Permitted
        );
        for (author, id) in [
            (octo(), "333.kiwi.atlas"),
            (octo(), "controller-a.hula.atlas"),
            (other, "333.hula.atlas"),
            (local(1), "333.hula.atlas"),
        ] {
            assert_eq!(
                decide(&trust, &author, id),
                Decision::Undecided,
                "{author} {id}"
            );
        }
    }

    #[test]
    fn a_no_stands_above_every_yes_but_the_owners() {
        let trust = trust(
            "[[upload]]\nwho = \"uid:*\"\nsystems = [\"*\"]\nwhat = \"all\"\n\
             [[upload]]\nwho = \"uid:7\"\nsystems = [\"hula\"]\nwhat = \"controllers\"\nallow = false\n\
             [[upload]]\nwho = \"uid:0\"\nsystems = [\"*\"]\nwhat = \"all\"\nallow = false",
        );
        let id = "controller-a.hula.atlas";
        assert_eq!(decide(&trust, &local(6), id), Decision::Permitted);
        assert_eq!(decide(&trust, &local(7), id), Decision::Refused);
        assert_eq!(
            decide(&trust, &local(7), "333.hula.atlas"),
            Decision::Permitted
        );
        assert_eq!(decide(&trust, &local(0), id), Decision::Permitted);
        assert_eq!(decide(&trust, &octo(), id), Decision::Undecided);
    }

    #[test]
    fn the_originals_permissions_count_where_no_rule_speaks() {
        let trust = trust(
            "[[upload]]\nwho = \"github:octo\"\nsystems = [\"kiwi\"]\nwhat = \"all\"\nallow = false",
        )
        .with_permissions("#modified\nhula+Octo=allow\nkiwi+octo=allow\nhula+mallory=deny\n")
        .unwrap();
        let mallory = Author::GitHub {
            login: "mallory".to_owned(),
        };
        assert_eq!(
            decide(&trust, &octo(), "controller-a.hula.atlas"),
            Decision::Permitted
        );
        assert_eq!(decide(&trust, &octo(), "333.kiwi.atlas"), Decision::Refused);
        assert_eq!(
            decide(&trust, &mallory, "333.hula.atlas"),
            Decision::Refused
        );
        assert_eq!(
            decide(&trust, &mallory, "333.kiwi.atlas"),
            Decision::Undecided
        );
        for wrong in [
            "hula=allow",
            "hula+octo=yes",
            "+octo=allow",
            "hula+a/b=allow",
        ] {
            assert!(Trust::default().with_permissions(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_typing_error_is_an_error_and_no_rule() {
        for wrong in [
            "version = 2",
            "version = 1\n[[uploads]]\nwho = \"uid:1\"",
            "version = 1\n[[upload]]\nwho = \"uid:1\"",
            "version = 1\n[[upload]]\nwho = \"github:*\"\nsystems = [\"*\"]",
            "version = 1\n[[upload]]\nwho = \"octo\"\nsystems = [\"*\"]",
            "version = 1\n[[upload]]\nwho = \"uid:1\"\nsystems = [\"hu*\"]",
            "version = 1\n[[upload]]\nwho = \"uid:1\"\nsystems = [\"hula\"]\nallow = \"no\"",
        ] {
            assert!(Trust::default().with_file(wrong).is_err(), "{wrong}");
        }
    }
}
