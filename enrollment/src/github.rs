//! The registry that is a repository's issues: a title is a file's name, a body its content.
//!
//! [`GitHub`] is the registry. `api` speaks HTTP, `mirror` remembers what it said, so that a look costs two calls which
//! are answered with 304, and the rest turns issues and comments into values.

mod access;
mod answer;
mod answers;
mod api;
mod edits;
mod error;
mod issue;
mod mirror;
mod refusal_comment;
mod session;
mod token;

pub use access::{GitHub, Listed};
pub use edits::QUERY as EDITS_QUERY;
pub use error::GitHubError;
pub use token::{
    ENTERPRISE_TOKEN_VARIABLE, HOST_VARIABLE, TOKEN_FILE, TOKEN_VARIABLE, Token, TokenError,
};
