//! One statement of a document: these actions on these resources are allowed, or denied.

use std::fmt;

use crate::arn::Arn;
use crate::json::{KeyError, Node};
use crate::{Action, ArnError, ResourceKind, Variable};

/// Whether a statement gives or takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// What the statement names is allowed, unless another one denies it.
    Allow,
    /// What the statement names is denied, whatever another one allows.
    Deny,
}

/// A parsed statement; every one of its actions is decided on the kind of every one of its resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) actions: Vec<Action>,
    pub(crate) resources: Vec<Arn>,
}

/// Why a statement, and with it its document, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not a JSON object.
    #[error("a statement is a JSON object")]
    Form,
    /// A key that every statement has is not there.
    #[error("it has no `{key}`")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key that means nothing here.
    #[error("`{key}` is not a key of a statement")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The same key twice.
    #[error("`{key}` stands there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// `Condition`: to ignore one would allow more than the document says.
    #[error("conditions are not supported")]
    Condition,
    /// `NotAction` or `NotResource`: "everything but" allows what is not invented yet.
    #[error("`{key}` is not supported: name what is meant instead")]
    Negated {
        /// The key.
        key: String,
    },
    /// A `Sid` that is not letters and digits.
    #[error("a `Sid` is 1 to {MAX_SID} letters and digits")]
    Sid,
    /// Neither `Allow` nor `Deny`.
    #[error("`Effect` is `Allow` or `Deny`")]
    Effect,
    /// Neither a text nor a list of texts.
    #[error("`{key}` is a text or a list of texts")]
    List {
        /// `Action` or `Resource`.
        key: &'static str,
    },
    /// A list with nothing in it.
    #[error("`{key}` is empty")]
    Empty {
        /// `Action` or `Resource`.
        key: &'static str,
    },
    /// An action that is not one of [`Action`], wildcards included.
    #[error("`{found}` is not a known action")]
    Action {
        /// What stands there.
        found: String,
    },
    /// A resource that cannot be read.
    #[error("resource `{found}` is refused")]
    Resource {
        /// What stands there.
        found: String,
        /// What is wrong with it.
        #[source]
        source: ArnError,
    },
    /// An action on a kind of resource on which it is never decided: the statement would say nothing.
    #[error("`{action}` is decided on a `{wanted}`, not on `{found}`")]
    Kind {
        /// The action.
        action: Action,
        /// The kind that it wants.
        wanted: ResourceKind,
        /// The resource.
        found: String,
    },
    /// A Deny that would not hold for a certificate without this value.
    #[error("a client may be without `{variable}`, and then `{found}` would deny nothing")]
    OptionalInDeny {
        /// The variable.
        variable: Variable,
        /// The resource.
        found: String,
    },
}

/// The longest `Sid`, in bytes. AWS names no bound for IoT policies; this keeps audit lines short.
const MAX_SID: usize = 64;

impl Statement {
    /// The `Sid` of a statement that has a usable one, to name it in errors.
    pub(crate) fn sid_of(node: &Node) -> Option<&str> {
        let Node::Object(entries) = node else {
            return None;
        };
        entries.iter().find_map(|(key, node)| match node {
            Node::Text(sid) if key == "Sid" && is_sid(sid) => Some(sid.as_str()),
            Node::Text(_) | Node::List(_) | Node::Object(_) | Node::Other => None,
        })
    }

    pub(crate) fn read(node: Node) -> Result<Self, StatementError> {
        let Node::Object(entries) = node else {
            return Err(StatementError::Form);
        };
        let [sid, effect, action, resource] =
            Node::fields(entries, ["Sid", "Effect", "Action", "Resource"]).map_err(|error| {
                match error {
                    KeyError::Unknown(key) => match key.as_str() {
                        "Condition" => StatementError::Condition,
                        "NotAction" | "NotResource" => StatementError::Negated { key },
                        _ => StatementError::UnknownKey { key },
                    },
                    KeyError::Duplicate(key) => StatementError::DuplicateKey { key },
                }
            })?;
        let statement = Self {
            sid: sid.map(read_sid).transpose()?,
            effect: read_effect(effect)?,
            actions: read_actions(action)?,
            resources: read_resources(resource)?,
        };
        statement.check_kinds()?;
        statement.check_deny()?;
        Ok(statement)
    }

    fn check_kinds(&self) -> Result<(), StatementError> {
        for action in &self.actions {
            let wanted = action.resource_kind();
            if let Some(arn) = self.resources.iter().find(|arn| arn.kind() != wanted) {
                return Err(StatementError::Kind {
                    action: *action,
                    wanted,
                    found: arn.to_string(),
                });
            }
        }
        Ok(())
    }

    fn check_deny(&self) -> Result<(), StatementError> {
        if self.effect == Effect::Allow {
            return Ok(());
        }
        for arn in &self.resources {
            if let Some(variable) = arn
                .pattern()
                .variables()
                .find(|variable| variable.may_be_missing())
            {
                return Err(StatementError::OptionalInDeny {
                    variable,
                    found: arn.to_string(),
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
        })
    }
}

fn is_sid(text: &str) -> bool {
    (1..=MAX_SID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn read_sid(node: Node) -> Result<String, StatementError> {
    match node {
        Node::Text(sid) if is_sid(&sid) => Ok(sid),
        Node::Text(_) | Node::List(_) | Node::Object(_) | Node::Other => Err(StatementError::Sid),
    }
}

fn read_effect(node: Option<Node>) -> Result<Effect, StatementError> {
    let node = node.ok_or(StatementError::Missing { key: "Effect" })?;
    [Effect::Allow, Effect::Deny]
        .into_iter()
        .find(|effect| node == Node::Text(effect.to_string()))
        .ok_or(StatementError::Effect)
}

fn read_actions(node: Option<Node>) -> Result<Vec<Action>, StatementError> {
    let mut actions = Vec::new();
    for found in read_texts("Action", node)? {
        let action = Action::from_name(&found).ok_or(StatementError::Action { found })?;
        if !actions.contains(&action) {
            actions.push(action);
        }
    }
    Ok(actions)
}

fn read_resources(node: Option<Node>) -> Result<Vec<Arn>, StatementError> {
    let texts = read_texts("Resource", node)?;
    let read = |found: String| match Arn::parse(&found) {
        Ok(arn) => Ok(arn),
        Err(source) => Err(StatementError::Resource { found, source }),
    };
    texts.into_iter().map(read).collect()
}

/// One text or a list of them, which AWS takes alike.
fn read_texts(key: &'static str, node: Option<Node>) -> Result<Vec<String>, StatementError> {
    let nodes = match node.ok_or(StatementError::Missing { key })? {
        Node::List(nodes) if nodes.is_empty() => return Err(StatementError::Empty { key }),
        Node::List(nodes) => nodes,
        single @ (Node::Text(_) | Node::Object(_) | Node::Other) => vec![single],
    };
    let text = |node| match node {
        Node::Text(text) => Ok(text),
        Node::List(_) | Node::Object(_) | Node::Other => Err(StatementError::List { key }),
    };
    nodes.into_iter().map(text).collect()
}
