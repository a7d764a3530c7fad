//! One rule of trust: of whom it speaks, and for which devices of which systems.

use std::fmt;
use std::str::FromStr;

use daemon::registry_place;
use protocol::{DeviceId, Label, Role};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Author;

/// One `[[upload]]` of `trust.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Rule {
    /// Of whom it speaks.
    pub who: Who,
    /// For which systems.
    pub systems: Vec<System>,
    /// For which devices of them; default: targets, and all of them where it says no.
    pub what: What,
    /// Whether they may; default: yes. A no stands above every yes.
    pub allow: bool,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    who: Who,
    systems: Vec<System>,
    what: Option<What>,
    #[serde(default = "yes")]
    allow: bool,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Remote computers only.
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

    /// Whether it speaks of this upload.
    pub(crate) fn is_about(&self, author: &Author, id: &DeviceId) -> bool {
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

impl From<Written> for Rule {
    fn from(written: Written) -> Self {
        // A yes gives as little as it can be meant to, a no takes as much.
        let default = if written.allow {
            What::Targets
        } else {
            What::All
        };
        Self {
            who: written.who,
            systems: written.systems,
            what: written.what.unwrap_or(default),
            allow: written.allow,
        }
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
            Some(("github", login)) => {
                let login = registry_place::login(login);
                login.map(Self::GitHub).map_err(|_| nobody())
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

fn yes() -> bool {
    true
}
