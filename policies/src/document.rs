//! A whole policy document.

use crate::BoundPolicy;
use crate::json::{KeyError, Node};
use crate::name;
use crate::statement::Statement;
use crate::{NameError, StatementError};

/// A parsed policy document, not yet for any realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Longer than [`MAX_DOCUMENT`]; it has not been looked into.
    #[error("a policy document of {length} bytes is longer than {MAX_DOCUMENT}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not JSON.
    #[error("the policy document is not JSON")]
    Json(#[source] serde_json::Error),
    /// JSON, but not an object.
    #[error("a policy document is a JSON object")]
    Form,
    /// A key beside `Version` and `Statement`.
    #[error("`{key}` is not a key of a policy document")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The same key twice.
    #[error("`{key}` stands twice in the policy document")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// Another policy language; in the older one variables are text.
    #[error("the policy document's `Version` is not `{VERSION}`")]
    Version,
    /// No `Statement`, or an empty list of them.
    #[error("the policy document has no statement")]
    NoStatement,
    /// Two statements of one name; an audit line could not say which.
    #[error("two statements have the `Sid` `{sid}`")]
    DuplicateSid {
        /// The name.
        sid: String,
    },
    /// One of its statements.
    #[error("statement {statement} of the policy document is refused")]
    Statement {
        /// Its `Sid`, or its place, counted from 1.
        statement: String,
        /// What is wrong with it.
        #[source]
        source: StatementError,
    },
}

/// Why a realm's name cannot be put into a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the realm's name cannot be a level of a topic")]
pub struct RealmError(#[source] pub NameError);

/// The largest document that is parsed, in bytes: four times what AWS IoT takes without white space, so that the
/// longest allowed one may be indented.
pub const MAX_DOCUMENT: usize = 8 * 1024;

/// The policy language (AWS IAM reference, "Version"): the only one with variables.
pub(crate) const VERSION: &str = "2012-10-17";

/// Reads a policy document, and refuses it when anything in it is not understood.
pub fn parse(bytes: &[u8]) -> Result<Policy, ParseError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(ParseError::TooLong {
            length: bytes.len(),
        });
    }
    let node: Node = serde_json::from_slice(bytes).map_err(ParseError::Json)?;
    let Node::Object(entries) = node else {
        return Err(ParseError::Form);
    };
    let [version, statements] =
        Node::fields(entries, ["Version", "Statement"]).map_err(|error| match error {
            KeyError::Unknown(key) => ParseError::UnknownKey { key },
            KeyError::Duplicate(key) => ParseError::DuplicateKey { key },
        })?;
    if version != Some(Node::Text(VERSION.to_owned())) {
        return Err(ParseError::Version);
    }
    let nodes = match statements {
        Some(Node::List(nodes)) => nodes,
        // AWS takes one statement without the list around it.
        Some(single @ (Node::Object(_) | Node::Text(_) | Node::Other)) => vec![single],
        None => Vec::new(),
    };
    if nodes.is_empty() {
        return Err(ParseError::NoStatement);
    }
    let statements = nodes
        .into_iter()
        .zip(1..)
        .map(read_statement)
        .collect::<Result<Vec<_>, _>>()?;
    check_sids(&statements)?;
    Ok(Policy { statements })
}

impl Policy {
    /// Reads a policy document; the same as [`parse`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        parse(bytes)
    }

    /// Puts the realm's name where the document says `REALM`, and prepares it for decisions.
    pub fn bind(&self, realm: &str) -> Result<BoundPolicy, RealmError> {
        name::check(realm).map_err(RealmError)?;
        Ok(BoundPolicy::new(self, realm))
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

fn read_statement((node, place): (Node, usize)) -> Result<Statement, ParseError> {
    let name = statement_name(Statement::sid_of(&node), place);
    Statement::read(node).map_err(|source| ParseError::Statement {
        statement: name,
        source,
    })
}

/// What a statement is called in errors and audit lines; places count from 1.
pub(crate) fn statement_name(sid: Option<&str>, place: usize) -> String {
    sid.map_or_else(|| format!("#{place}"), str::to_owned)
}

fn check_sids(statements: &[Statement]) -> Result<(), ParseError> {
    let mut seen = std::collections::HashSet::new();
    match statements
        .iter()
        .filter_map(|statement| statement.sid.as_ref())
        .find(|sid| !seen.insert(*sid))
    {
        Some(sid) => Err(ParseError::DuplicateSid { sid: sid.clone() }),
        None => Ok(()),
    }
}
