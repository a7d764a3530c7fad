//! The registry: where requests, public keys and certificates are exchanged.

use std::fmt::{self, Write};
use std::future::Future;
use std::io;
use std::time::Duration;

use russh::keys::ssh_key::sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

#[cfg(feature = "github")]
use crate::github::{GitHubError, TokenError};
use crate::{Kind, Misnamed, Title};

/// A place that everybody of a realm can read and permitted people can write: a directory, or a repository's issues.
///
/// Nothing in it is trusted. Under one title there is at most one open entry as far as this trait is concerned: where
/// the place can hold several, the newest of an author who may upload it is the one.
pub trait Registry: Send + Sync {
    /// All open entries of a kind. An entry whose body cannot be used is listed with its fault, so that its author can
    /// be told.
    fn list(&self, kind: Kind) -> impl Future<Output = Result<Vec<Entry>, RegistryError>> + Send;

    /// The open entry under a title.
    fn get(
        &self,
        title: &Title,
    ) -> impl Future<Output = Result<Option<Entry>, RegistryError>> + Send;

    /// Makes this the open entry under its title, in place of any other, and takes back what was said about that one.
    fn put(
        &self,
        title: &Title,
        body: &str,
    ) -> impl Future<Output = Result<Revision, RegistryError>> + Send;

    /// Closes an entry, unless there is another revision of it by now.
    fn close(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Tells the author of this revision why it is not served.
    fn refuse(
        &self,
        title: &Title,
        revision: &Revision,
        refusal: &Refusal,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// What was told to the author of this revision.
    fn refusal(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> impl Future<Output = Result<Option<Refusal>, RegistryError>> + Send;

    /// Shows the author of this revision that it has been taken up, though there is no answer yet. To show it twice is to
    /// show it once.
    fn mark_seen(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> impl Future<Output = Result<(), RegistryError>> + Send;

    /// Whether this revision has been marked so.
    fn is_seen(
        &self,
        title: &Title,
        revision: &Revision,
    ) -> impl Future<Output = Result<bool, RegistryError>> + Send;

    /// What lies there under a name that is meant as a title and is none.
    fn misnamed(&self) -> impl Future<Output = Result<Vec<Misnamed>, RegistryError>> + Send;

    /// Tells its author so. Returns whether they had not been told before.
    fn refuse_misnamed(
        &self,
        misnamed: &Misnamed,
    ) -> impl Future<Output = Result<bool, RegistryError>> + Send;

    /// Whether an entry of ours takes the place of this one, and does not merely stand beside it.
    fn replaces(&self, entry: &Entry) -> impl Future<Output = Result<bool, RegistryError>> + Send;

    /// How often the place may be asked for news.
    fn poll_interval(&self) -> Duration;
}

/// What lies under a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its title.
    pub title: Title,
    /// Who put it there, as the place knows them.
    pub author: Author,
    /// Which state of it this is.
    pub revision: Revision,
    /// Its text, within the limit of its kind, or why there is none.
    pub body: Result<String, BodyFault>,
    /// When it came, in the place's own count: what came later has a higher number.
    pub arrived: u64,
}

/// Who wrote an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Author {
    /// The author of an issue.
    GitHub {
        /// The login name, in lower case: GitHub does not tell cases apart.
        login: String,
    },
    /// The owner of a file.
    LocalUser {
        /// The numeric user id.
        uid: u32,
    },
}

/// One state of an entry: it changes when the body does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

/// Why the body of an entry cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyFault {
    /// Somebody had a hand in it whose word is not its author's.
    #[error("GitHub user `{editor}` has edited it, who is not its author")]
    EditedByAnother {
        /// The last editor.
        editor: String,
    },
    /// A link, a directory, a pipe, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// The reader is not allowed to read it.
    #[error("it cannot be read")]
    NotReadable,
    /// Not UTF-8.
    #[error("it is not text")]
    NotText,
    /// Longer than its kind can need.
    #[error("it is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// What an author is told: a reason, and what to do about it. Both are one line of printable text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: String,
    remedy: String,
}

/// Why the registry could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// What should be put there is larger than its readers accept.
    #[error("`{title}` would be longer than {limit} bytes")]
    BodyTooLarge {
        /// What was to be put.
        title: Title,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The call was given up because its task died.
    #[error("a call to the registry was cut short")]
    Cut,
    /// GitHub did not do what it was asked.
    #[cfg(feature = "github")]
    #[error("cannot {action} the issues of {repository}")]
    GitHub {
        /// What was attempted.
        action: &'static str,
        /// `OWNER/REPO`.
        repository: String,
        /// Why it failed.
        #[source]
        source: GitHubError,
    },
    /// It is a repository, and this build cannot ask one.
    #[error("the registry is {place}, and this build of `tunnel` cannot ask GitHub")]
    GitHubLeftOut {
        /// Which repository.
        place: String,
    },
    /// The file system failed.
    #[error("cannot {action} `{place}`")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// With which file.
        place: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Nobody would take its certificates.
    #[error("`{login}`, whose token this is, is none of the realm's signers ({signers})")]
    NotASigner {
        /// Whose token it is.
        login: String,
        /// Whom the realm's file names.
        signers: String,
    },
    /// There is no token to ask GitHub with.
    #[cfg(feature = "github")]
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It did not answer.
    #[error("the registry did not answer within {limit:?}")]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
    },
    /// There is more in it than a realm can need; to read a part of it would serve some and not others.
    #[error("the registry `{place}` holds more than {limit} entries")]
    TooMany {
        /// Where.
        place: String,
        /// The limit.
        limit: usize,
    },
}

/// Runs one call to a registry within [`CALL_LIMIT`].
pub async fn within_limit<T>(
    call: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, RegistryError> {
    timeout(CALL_LIMIT, call)
        .await
        .unwrap_or(Err(RegistryError::TimedOut { limit: CALL_LIMIT }))
}

/// Runs a call that may have much to read, again and again until this deadline: what has been read of a repository so far
/// is kept, so that each goes on where the last one stopped.
pub async fn within<T, F>(deadline: Duration, call: impl Fn() -> F) -> Result<T, RegistryError>
where
    F: Future<Output = Result<T, RegistryError>>,
{
    let start = Instant::now();
    loop {
        match within_limit(call()).await {
            Err(RegistryError::TimedOut { .. }) if start.elapsed() < deadline => {
                tracing::info!("the registry is slow, or holds much; it goes on being read");
            }
            done => return done,
        }
    }
}

impl Revision {
    /// The revision of a body: its SHA-256.
    pub fn of_body(body: &str) -> Self {
        Self::of_bytes(body.as_bytes())
    }

    /// The revision of what is no text: its SHA-256, in hexadecimal too.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut text = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// A revision as the place names it.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The revision as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Refusal {
    /// A refusal. Control characters become spaces and each part is cut at [`MAX_TEXT`], because the words may hold
    /// what a stranger wrote, and end on a terminal.
    pub fn new(reason: &str, remedy: &str) -> Self {
        Self {
            reason: printable(reason),
            remedy: printable(remedy),
        }
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl RegistryError {
    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            #[cfg(feature = "github")]
            Self::GitHub { source, .. } => source.is_passing(),
            #[cfg(feature = "github")]
            Self::Token(_) => false,
            Self::TimedOut { .. } => true,
            Self::BodyTooLarge { .. }
            | Self::Cut
            | Self::GitHubLeftOut { .. }
            | Self::Io { .. }
            | Self::NotASigner { .. }
            | Self::TooMany { .. } => false,
        }
    }

    /// Whether all further calls would fail too for some time, because there were too many.
    #[cfg(feature = "github")]
    pub fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::GitHub {
                source: GitHubError::Limited { .. },
                ..
            }
        )
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            #[cfg(feature = "github")]
            Self::GitHub { source, .. } => source.hint().map(str::to_owned),
            Self::GitHubLeftOut { .. } => Some(
                "enroll with a build of `tunnel` that has the feature `github`, and copy the directory".to_owned(),
            ),
            Self::Io { .. } => Some(
                "the registry is the directory that `realm.toml` names: is it there, and may you use it?"
                    .to_owned(),
            ),
            Self::NotASigner { login, .. } => Some(format!(
                "put `signers = [\"{login}\"]` into `[registry]` of `realm.toml`, for everybody, or keep the token of one of them with \
                 `tunnel registry login`"
            )),
            #[cfg(feature = "github")]
            Self::Token(source) => source.hint(),
            Self::TimedOut { .. } => Some(
                "it may be busy or out of reach: try again".to_owned(),
            ),
            Self::TooMany { .. } => {
                Some("remove what is not needed any more from the registry's directory".to_owned())
            }
            Self::Cut => Some("try again; if it stays so, it is a fault of this program".to_owned()),
            Self::BodyTooLarge { .. } => None,
        }
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GitHub { login } => write!(f, "GitHub user `{login}`"),
            Self::LocalUser { uid } => write!(f, "user id {uid}"),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn printable(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| {
            if c.is_control() || is_direction_mark(c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Characters that reorder a line on a terminal (Unicode Annex 9, section 2).
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How long one call may take. A directory answers in milliseconds; a network file system that hangs, or a web service
/// that is being restarted, gets time for a few tries of its own.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);

/// The longest reason or remedy, in characters: a few lines of a terminal.
pub const MAX_TEXT: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_the_digest_of_the_body() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(
            Revision::of_body("abc").as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_refusal_cannot_drive_a_terminal() {
        let refusal = Refusal::new("a\u{1b}[2Jb\u{202e}c\nd", &"x".repeat(10_000));
        assert_eq!(refusal.reason(), "a [2Jb c d");
        assert_eq!(refusal.remedy().len(), MAX_TEXT);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_gets_more_turns_until_its_deadline() {
        let turns = std::sync::atomic::AtomicU32::new(0);
        let call = || async {
            if turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 3 {
                std::future::pending::<()>().await;
            }
            Ok(7)
        };
        assert!(within(CALL_LIMIT, call).await.is_err());
        turns.store(0, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(within(CALL_LIMIT * 4, call).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up() {
        let error = within_limit::<()>(std::future::pending())
            .await
            .unwrap_err();
        assert!(matches!(
            error,
            RegistryError::TimedOut { limit: CALL_LIMIT }
        ));
    }
}
