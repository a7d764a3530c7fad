//! `[registry]` of `realm.toml`: where keys, requests and certificates are exchanged.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where keys, requests and certificates are exchanged: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub enum RegistryPlace {
    /// `directory = "…"`: one that everybody who enrolls can write, e.g. on a shared file system.
    Directory(PathBuf),
    /// `github = "OWNER/REPO"`: a repository's issues.
    GitHub(GitHubPlace),
}

/// A repository on GitHub, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitHubPlace {
    /// Which repository.
    pub repository: Repository,
    /// `base_uri = "…"`: where the REST interface is, without a slash at the end; default: [`GITHUB_API`]. That of a
    /// GitHub Enterprise server is `https://HOST/api/v3`.
    pub base_uri: String,
    /// `signers = ["LOGIN"]`: whose certificates are taken, in lower case; default: the repository's owner. Everybody
    /// can open an issue in a public repository.
    pub signers: BTreeSet<String>,
    /// `poll = "10s"`: how often to look for news; default [`POLL`], at least [`MIN_POLL`].
    pub poll: Duration,
}

/// `OWNER/REPO`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    owner: Box<str>,
    name: Box<str>,
}

/// Why `[registry]` cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryPlaceError {
    /// It names none or both.
    #[error("`[registry]` names either `directory` or `github`")]
    NotOne,
    /// A setting of repositories stands beside a directory.
    #[error("`{field}` belongs to `github`")]
    OnlyGitHub {
        /// Which.
        field: &'static str,
    },
    /// Not `OWNER/REPO`.
    #[error("`{text}` is not `OWNER/REPO`")]
    Repository {
        /// What was written.
        text: String,
    },
    /// The token must not be sent there.
    #[error("`{text}` is neither an `https` URI nor an `http` one of this machine")]
    BaseUri {
        /// What was written.
        text: String,
    },
    /// Not a GitHub login.
    #[error("`{text}` is not a login of GitHub")]
    Login {
        /// What was written.
        text: String,
    },
    /// GitHub would not allow to be asked so often.
    #[error("`poll` is at least {MIN_POLL:?}")]
    Poll,
}

impl GitHubPlace {
    /// A repository on github.com, used as usual.
    pub fn new(repository: Repository) -> Self {
        Self {
            signers: BTreeSet::from([repository.owner().to_ascii_lowercase()]),
            repository,
            base_uri: GITHUB_API.to_owned(),
            poll: POLL,
        }
    }
}

impl Repository {
    /// The user or organization that it belongs to.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Repository {
    type Err = RegistryPlaceError;

    fn from_str(text: &str) -> Result<Self, RegistryPlaceError> {
        let fail = || RegistryPlaceError::Repository {
            text: text.escape_default().to_string(),
        };
        let (owner, name) = text.split_once('/').ok_or_else(fail)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !is_login(owner)
            || name.is_empty()
            || name.len() > MAX_REPOSITORY
            || matches!(name, "." | "..")
            || !name.chars().all(allowed)
        {
            return Err(fail());
        }
        Ok(Self {
            owner: owner.into(),
            name: name.into(),
        })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for RegistryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::GitHub(place) => write!(f, "the issues of {}", place.repository),
        }
    }
}

/// The table as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    github: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signers: Option<Vec<String>>,
    #[serde(
        default,
        with = "humantime_serde",
        skip_serializing_if = "Option::is_none"
    )]
    poll: Option<Duration>,
}

impl TryFrom<Fields> for RegistryPlace {
    type Error = RegistryPlaceError;

    fn try_from(fields: Fields) -> Result<Self, RegistryPlaceError> {
        match (fields.directory, fields.github) {
            (Some(directory), None) => {
                let stray = [
                    ("base_uri", fields.base_uri.is_some()),
                    ("signers", fields.signers.is_some()),
                    ("poll", fields.poll.is_some()),
                ];
                match stray.into_iter().find(|(_, there)| *there) {
                    Some((field, _)) => Err(RegistryPlaceError::OnlyGitHub { field }),
                    None => Ok(Self::Directory(directory)),
                }
            }
            (None, Some(github)) => {
                let mut place = GitHubPlace::new(github.parse()?);
                if let Some(uri) = fields.base_uri {
                    place.base_uri = base_uri(&uri)?;
                }
                if let Some(signers) = fields.signers {
                    place.signers = signers
                        .iter()
                        .map(|signer| login(signer))
                        .collect::<Result<_, RegistryPlaceError>>()?;
                }
                if let Some(poll) = fields.poll {
                    place.poll = poll;
                }
                if place.poll < MIN_POLL {
                    return Err(RegistryPlaceError::Poll);
                }
                Ok(Self::GitHub(place))
            }
            (None, None) | (Some(_), Some(_)) => Err(RegistryPlaceError::NotOne),
        }
    }
}

impl From<RegistryPlace> for Fields {
    fn from(place: RegistryPlace) -> Self {
        match place {
            RegistryPlace::Directory(directory) => Self {
                directory: Some(directory),
                ..Self::default()
            },
            RegistryPlace::GitHub(place) => Self {
                github: Some(place.repository.to_string()),
                base_uri: (place.base_uri != GITHUB_API).then_some(place.base_uri),
                signers: Some(place.signers.into_iter().collect()),
                poll: (place.poll != POLL).then_some(place.poll),
                ..Self::default()
            },
        }
    }
}

/// A token goes there, so nobody on the way may read along.
fn base_uri(text: &str) -> Result<String, RegistryPlaceError> {
    let fail = || RegistryPlaceError::BaseUri {
        text: text.escape_default().to_string(),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]".contains(c);
    if !text.chars().all(allowed) {
        return Err(fail());
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(fail)?;
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .rsplit_once(':')
        .filter(|(_, port)| port.parse::<u16>().is_ok())
        .map_or(authority, |(host, _)| host);
    let here = matches!(host, "127.0.0.1" | "[::1]" | "localhost");
    match scheme {
        "https" if !host.is_empty() => {}
        "http" if here => {}
        _ => return Err(fail()),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A login, in lower case: GitHub does not tell cases apart.
pub fn login(text: &str) -> Result<String, RegistryPlaceError> {
    // An app's login ends in `[bot]`.
    if is_login(text.strip_suffix("[bot]").unwrap_or(text)) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(RegistryPlaceError::Login {
            text: text.escape_default().to_string(),
        })
    }
}

/// Letters, digits and hyphens; `_` occurs in the logins of managed users.
fn is_login(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    !text.is_empty() && text.len() <= MAX_LOGIN && text.chars().all(allowed)
}

/// GitHub's own REST interface.
pub const GITHUB_API: &str = "https://api.github.com";

/// How often to look for news: a person who waits does not mind, and what has not changed costs nothing of the 5,000
/// calls an hour.
pub const POLL: Duration = Duration::from_secs(20);

/// The shortest time between two looks.
pub const MIN_POLL: Duration = Duration::from_secs(1);

/// The longest login: GitHub's limit is 39, and managed users have an underscore and a short code behind it.
const MAX_LOGIN: usize = 48;

/// The longest name of a repository, GitHub's limit.
const MAX_REPOSITORY: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RegistryPlace, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let texts = [
            "directory = \"/srv/registry\"\n",
            "github = \"Octo/tunnels\"\nsigners = [\"octo\"]\n",
            "github = \"o/r\"\nbase_uri = \"https://git.example.org/api/v3\"\nsigners = [\"a\", \"b[bot]\"]\npoll = \"1m\"\n",
        ];
        for text in texts {
            assert_eq!(toml::to_string(&parse(text).unwrap()).unwrap(), text);
        }
    }

    #[test]
    fn the_owner_signs_unless_others_are_named() {
        let Ok(RegistryPlace::GitHub(place)) = parse("github = \"Octo/tunnels\"") else {
            panic!("a repository");
        };
        assert_eq!(place, GitHubPlace::new("Octo/tunnels".parse().unwrap()));
        assert_eq!(place.signers, BTreeSet::from(["octo".to_owned()]));
    }

    #[test]
    fn mistakes_are_named() {
        let mistakes = [
            ("", "`[registry]` names either `directory` or `github`"),
            (
                "directory = \"/x\"\ngithub = \"o/r\"",
                "`[registry]` names either `directory` or `github`",
            ),
            (
                "directory = \"/x\"\nbase_uri = \"https://x\"",
                "`base_uri` belongs to `github`",
            ),
            ("github = \"r\"", "`r` is not `OWNER/REPO`"),
            ("github = \"o/../x\"", "`o/../x` is not `OWNER/REPO`"),
            ("github = \"o/..\"", "`o/..` is not `OWNER/REPO`"),
            (
                "github = \"o/r\"\nbase_uri = \"http://git.example.org\"",
                "`http://git.example.org` is neither an `https` URI nor an `http` one of this machine",
            ),
            (
                "github = \"o/r\"\nbase_uri = \"http://127.0.0.1@evil.example\"",
                "`http://127.0.0.1@evil.example` is neither an `https` URI nor an `http` one of this machine",
            ),
            (
                "github = \"o/r\"\nsigners = [\"a b\"]",
                "`a b` is not a login of GitHub",
            ),
            ("github = \"o/r\"\npoll = \"10ms\"", "`poll` is at least 1s"),
        ];
        for (text, message) in mistakes {
            assert_eq!(parse(text), Err(message.to_owned()), "{text}");
        }
        assert!(
            parse("git_hub = \"o/r\"")
                .unwrap_err()
                .contains("unknown field")
        );
    }
}
