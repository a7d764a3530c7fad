//! The secret that GitHub knows us by.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use daemon::files::{self, FileError};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// A personal access token. It is never printed, and leaves the process only for the registry's own host.
#[derive(Clone)]
pub struct Token(Arc<Zeroizing<String>>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The one that is kept is for another host, and is told to no other.
    #[error("the token in `{}` is for `{kept}`, and the registry is at `{host}`", path.display())]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        kept: String,
        /// Who would get it.
        host: String,
    },
    /// What was found is not one.
    #[error("what {from} holds is not a token")]
    Malformed {
        /// Where it was found.
        from: String,
    },
    /// It was found nowhere.
    #[error("there is no token for GitHub")]
    Missing,
}

impl Token {
    /// Reads a token as it was typed or stored; `from` names the place in the error.
    pub fn parse(text: &str, from: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_TOKEN || !text.chars().all(|c| c.is_ascii_graphic())
        {
            return Err(TokenError::Malformed {
                from: from.to_owned(),
            });
        }
        Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
    }

    /// Looks into the environment, then into [`TOKEN_FILE`] of this directory, then asks GitHub's own program.
    ///
    /// Each for the token of this host: where the registry is says a file that somebody else has written, and whom the
    /// person's token is told does not.
    pub async fn find(directory: &Path, host: &str) -> Result<Self, TokenError> {
        let variable = |name: &str| {
            let text = std::env::var(name).ok();
            text.filter(|text| !text.trim().is_empty())
        };
        let named = if host == GITHUB {
            variable(TOKEN_VARIABLE).map(|text| (text, TOKEN_VARIABLE))
        } else {
            variable(HOST_VARIABLE)
                .filter(|named| named == host)
                .and_then(|_| variable(ENTERPRISE_TOKEN_VARIABLE))
                .map(|text| (text, ENTERPRISE_TOKEN_VARIABLE))
        };
        if let Some((text, name)) = named {
            return Self::parse(&text, &format!("the environment's {name}"));
        }
        let path = directory.join(TOKEN_FILE);
        match files::read_private(&path, MAX_FILE) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let (token, kept) = text.trim().split_once('\n').unwrap_or((&text, GITHUB));
                let kept = kept.trim();
                if kept != host {
                    return Err(TokenError::OtherHost {
                        kept: kept.chars().take(MAX_HOST).collect(),
                        host: host.to_owned(),
                        path,
                    });
                }
                return Self::parse(token, &format!("`{}`", path.display()));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Self::of_gh(host).await.ok_or(TokenError::Missing)
    }

    /// Keeps it in a directory, for its owner alone: in a line, and behind it the host that it is for, if that is not
    /// github.com. The original knows no other, and reads the one line.
    pub fn save(&self, directory: &Path, host: &str) -> Result<(), TokenError> {
        let mut text = Zeroizing::new(format!("{}\n", self.expose()));
        if host != GITHUB {
            text.push_str(host);
            text.push('\n');
        }
        Ok(files::write_private(
            &directory.join(TOKEN_FILE),
            text.as_bytes(),
        )?)
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    async fn of_gh(host: &str) -> Option<Self> {
        let output = Command::new("gh")
            .args(["auth", "token", "--hostname", host])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(GH_LIMIT, output).await.ok()?.ok()?;
        if !output.status.success() || output.stdout.len() > MAX_FILE {
            return None;
        }
        let text = Zeroizing::new(String::from_utf8(output.stdout).ok()?);
        Self::parse(&text, "`gh auth token`").ok()
    }
}

impl TokenError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File(source) => source.hint(),
            Self::Malformed { .. } => {
                Some("a token is one word, as GitHub shows it when it is made".to_owned())
            }
            Self::OtherHost { .. } => Some(
                "if that is the right host, keep a token for it with `tunnel registry login`"
                    .to_owned(),
            ),
            Self::Missing => Some(format!(
                "`tunnel registry login` keeps one; GitHub's own `gh auth login` does too, and so does the environment: \
                 {TOKEN_VARIABLE} for {GITHUB}, {ENTERPRISE_TOKEN_VARIABLE} for the host that {HOST_VARIABLE} names"
            )),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The environment variable that a token for github.com is looked for in.
pub const TOKEN_VARIABLE: &str = "GITHUB_TOKEN";

/// The environment variable that a token for another host is looked for in, as GitHub's own program does.
pub const ENTERPRISE_TOKEN_VARIABLE: &str = "GITHUB_ENTERPRISE_TOKEN";

/// The environment variable that says which other host.
pub const HOST_VARIABLE: &str = "GH_HOST";

/// The host that is meant where none is named.
const GITHUB: &str = "github.com";

/// The longest name of a host with its port, in characters.
const MAX_HOST: usize = 260;

/// The file with a token, in a device's or a realm's directory; the original's name.
pub const TOKEN_FILE: &str = "gh-token.txt";

/// The longest token: GitHub's have 40 to 93 characters and are announced to grow to 255.
const MAX_TOKEN: usize = 512;

/// The largest token file, in bytes.
const MAX_FILE: usize = 4096;

/// How long GitHub's program may take: it reads a file, or a key ring which may want to be unlocked.
const GH_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_does_not_print_itself() {
        let token = Token::parse(" ghp_canary\n", "x").unwrap();
        assert_eq!(token.expose(), "ghp_canary");
        assert_eq!(format!("{token:?}"), "Token(..)");
        let error = Token::parse("two words", "`x`").unwrap_err().to_string();
        assert_eq!(error, "what `x` holds is not a token");
    }

    #[tokio::test]
    async fn a_token_is_kept_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        Token::parse("ghp_x", "x")
            .unwrap()
            .save(home.path(), GITHUB)
            .unwrap();
        let path = home.path().join(TOKEN_FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "ghp_x\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        if std::env::var_os(TOKEN_VARIABLE).is_none() {
            let error = Token::find(home.path(), "github.com").await.unwrap_err();
            assert!(matches!(error, TokenError::File(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_kept_token_is_for_one_host() {
        let home = tempfile::tempdir().unwrap();
        let token = Token::parse("ghp_x", "x").unwrap();
        let found = async |host: &str| Token::find(home.path(), host).await;
        token.save(home.path(), GITHUB).unwrap();
        for host in [
            "evil.example",
            "github.com.evil.example",
            "github.com:8443",
            "",
        ] {
            let error = found(host).await.unwrap_err();
            assert!(
                matches!(error, TokenError::OtherHost { .. }),
                "{host}: {error}"
            );
        }
        token.save(home.path(), "ghe.example.org").unwrap();
        assert_eq!(found("ghe.example.org").await.unwrap().expose(), "ghp_x");
        if std::env::var_os(TOKEN_VARIABLE).is_none() {
            let error = found(GITHUB).await.unwrap_err();
            assert!(matches!(error, TokenError::OtherHost { .. }), "{error}");
        }
    }
}
