//! The secret that GitHub knows us by.

use std::fmt;
use std::path::Path;
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

    /// Looks into the environment ([`TOKEN_VARIABLE`]), then into [`TOKEN_FILE`] of this directory, then asks GitHub's
    /// own program for the token of this host.
    pub async fn find(directory: &Path, host: &str) -> Result<Self, TokenError> {
        if let Ok(text) = std::env::var(TOKEN_VARIABLE) {
            return Self::parse(&text, &format!("the environment's {TOKEN_VARIABLE}"));
        }
        let path = directory.join(TOKEN_FILE);
        match files::read_private(&path, MAX_FILE) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                return Self::parse(&text, &format!("`{}`", path.display()));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Self::of_gh(host).await.ok_or(TokenError::Missing)
    }

    /// Keeps it in a directory, for its owner alone.
    pub fn save(&self, directory: &Path) -> Result<(), TokenError> {
        let text = Zeroizing::new(format!("{}\n", self.expose()));
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
            Self::Malformed { .. } => None,
            Self::Missing => Some(format!(
                "`tunnel registry login` keeps one; {TOKEN_VARIABLE} and GitHub's own `gh auth login` do too"
            )),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The environment variable that a token is looked for in.
pub const TOKEN_VARIABLE: &str = "GITHUB_TOKEN";

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
            .save(home.path())
            .unwrap();
        let path = home.path().join(TOKEN_FILE);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        if std::env::var_os(TOKEN_VARIABLE).is_none() {
            let error = Token::find(home.path(), "github.com").await.unwrap_err();
            assert!(matches!(error, TokenError::File(_)), "{error}");
        }
    }
}
