//! What can go wrong with a call to GitHub.

use std::time::Duration;

use super::api::ANSWER_LIMIT;

/// Why GitHub did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitHubError {
    /// What it answered is not what its documentation says.
    #[error("the answer cannot be understood")]
    Answer(#[source] serde_json::Error),
    /// The client could not be made.
    #[error("the HTTP client cannot be set up")]
    Client(#[source] Box<octocrab::Error>),
    /// The token does not allow it.
    #[error("it is not permitted: {message}")]
    Forbidden {
        /// GitHub's words.
        message: String,
    },
    /// It is not there any more.
    #[error("it has been deleted, or issues are switched off")]
    Gone,
    /// It has been asked too often.
    #[error("too many calls; it may be asked again in {}s", wait.as_secs())]
    Limited {
        /// How long to leave it alone.
        wait: Duration,
    },
    /// There is no such thing, or the token may not see it.
    #[error("there is no such repository or issue, or the token may not see it")]
    NotFound,
    /// The query for edits was answered with an error.
    #[error("the query was refused: {message}")]
    Query {
        /// GitHub's words.
        message: String,
    },
    /// It does not accept what it was given.
    #[error("it was not accepted: {message}")]
    Rejected {
        /// GitHub's words.
        message: String,
    },
    /// There was no answer in time.
    #[error("there was no answer within {ANSWER_LIMIT:?}")]
    TimedOut,
    /// The connection failed, or was cut, or the answer was longer than can be.
    #[error("the call failed")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The token is not valid.
    #[error("the token is not valid")]
    Unauthorized,
    /// It has a trouble of its own.
    #[error("it answered with status {status}")]
    Unavailable {
        /// The status.
        status: u16,
    },
    /// It answered with something else.
    #[error("it answered with status {status}")]
    Unexpected {
        /// The status.
        status: u16,
    },
}

impl GitHubError {
    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Limited { .. }
            | Self::TimedOut
            | Self::Transport(_)
            | Self::Unavailable { .. } => true,
            Self::Answer(_)
            | Self::Client(_)
            | Self::Forbidden { .. }
            | Self::Gone
            | Self::NotFound
            | Self::Query { .. }
            | Self::Rejected { .. }
            | Self::Unauthorized
            | Self::Unexpected { .. } => false,
        }
    }

    /// Whether the call may have been carried out nevertheless.
    pub(super) fn leaves_doubt(&self) -> bool {
        match self {
            Self::Answer(_)
            | Self::TimedOut
            | Self::Transport(_)
            | Self::Unavailable { .. }
            | Self::Unexpected { .. } => true,
            Self::Client(_)
            | Self::Forbidden { .. }
            | Self::Gone
            | Self::Limited { .. }
            | Self::NotFound
            | Self::Query { .. }
            | Self::Rejected { .. }
            | Self::Unauthorized => false,
        }
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Forbidden { .. } => Some(
                "the token needs the permission to read and write issues of the repository (classic: scope `repo`)",
            ),
            Self::Unauthorized => {
                Some("make a new token and hand it over with `tunnel registry login`")
            }
            Self::Gone | Self::NotFound => Some(
                "check `github` in `realm.toml`, and that the token's user has been added to the repository",
            ),
            Self::TimedOut | Self::Transport(_) => {
                Some("check this computer's network and its way to GitHub, and try again")
            }
            Self::Unavailable { .. } => Some(
                "GitHub has a trouble of its own (https://www.githubstatus.com): try again later",
            ),
            Self::Answer(_) | Self::Unexpected { .. } => Some(
                "something else than GitHub may have answered: check `base_uri` in `realm.toml`, and a proxy on the way",
            ),
            // It says itself when, or GitHub what.
            Self::Client(_) | Self::Limited { .. } | Self::Query { .. } | Self::Rejected { .. } => {
                None
            }
        }
    }
}
