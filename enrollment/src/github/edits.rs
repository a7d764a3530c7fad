//! Who edited a body: the REST interface does not say, so GraphQL is asked, for a hundred issues at once.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::error::GitHubError;
use super::issue::content;
use crate::{BodyFault, Kind};

/// What is asked. The body comes from the same answer, so that it is the one whose editor is named.
pub const QUERY: &str = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename ... on Issue { id body lastEditedAt author { login } editor { login } } } }";

/// Issues in one query: the most that `nodes` takes.
pub(super) const AT_ONCE: usize = 100;

/// The body of the query for these issues.
pub(super) fn question(ids: &[String]) -> Value {
    json!({ "query": QUERY, "variables": { "ids": ids } })
}

/// GitHub's answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    data: Option<Data>,
    #[serde(default)]
    errors: Vec<QueryError>,
}

#[derive(Debug, Deserialize)]
struct Data {
    nodes: Vec<Option<Node>>,
}

#[derive(Debug, Deserialize)]
struct QueryError {
    #[serde(default)]
    message: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: Option<String>,
    body: Option<String>,
    last_edited_at: Option<String>,
    author: Option<Actor>,
    editor: Option<Actor>,
}

#[derive(Debug, Deserialize)]
struct Actor {
    login: String,
}

impl Answer {
    /// The bodies by node id. An issue that was deleted meanwhile has none.
    pub(super) fn bodies(self) -> Result<HashMap<String, Checked>, GitHubError> {
        let refused = |error: &QueryError| error.kind.as_deref() != Some("NOT_FOUND");
        if let Some(error) = self.errors.iter().find(|error| refused(error)) {
            return Err(GitHubError::Query {
                message: crate::Refusal::new(&error.message, "").reason().to_owned(),
            });
        }
        let nodes = self.data.map(|data| data.nodes).unwrap_or_default();
        Ok(nodes
            .into_iter()
            .flatten()
            .filter_map(|node| Some((node.id.clone()?, Checked(node))))
            .collect())
    }
}

/// One issue's body with its history.
#[derive(Debug)]
pub(super) struct Checked(Node);

impl Checked {
    /// The body, if nobody but its author has had a hand in it.
    pub(super) fn content(&self, kind: Kind) -> Result<String, BodyFault> {
        let node = &self.0;
        let edited = node.last_edited_at.is_some() || node.editor.is_some();
        let login = |actor: &Option<Actor>| Some(actor.as_ref()?.login.to_ascii_lowercase());
        // An editor whose account is gone is nobody's author.
        if edited && (node.editor.is_none() || login(&node.editor) != login(&node.author)) {
            return Err(BodyFault::EditedByAnother {
                editor: login(&node.editor).unwrap_or_else(|| "ghost".to_owned()),
            });
        }
        content(node.body.as_deref().unwrap_or_default(), kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(node: &str) -> Result<String, BodyFault> {
        let text = format!(r#"{{"data":{{"nodes":[null,{node}]}}}}"#);
        let answer: Answer = serde_json::from_str(&text).unwrap();
        let bodies = answer.bodies().unwrap();
        assert_eq!(bodies.len(), 1);
        bodies["I_1"].content(Kind::SshPublicKey)
    }

    #[test]
    fn only_the_author_may_edit() {
        let issue =
            |rest: &str| format!(r#"{{"__typename":"Issue","id":"I_1","body":"key",{rest}}}"#);
        let at = r#""lastEditedAt":"2026-01-01T00:00:00Z""#;
        let good = [
            r#""lastEditedAt":null,"author":{"login":"Octo"},"editor":null"#.to_owned(),
            format!(r#"{at},"author":{{"login":"Octo"}},"editor":{{"login":"octo"}}"#),
        ];
        for rest in good {
            assert_eq!(judged(&issue(&rest)), Ok("key\n".to_owned()));
        }
        let by = |editor: &str| {
            Err(BodyFault::EditedByAnother {
                editor: editor.to_owned(),
            })
        };
        let other = format!(r#"{at},"author":{{"login":"octo"}},"editor":{{"login":"Mallory"}}"#);
        assert_eq!(judged(&issue(&other)), by("mallory"));
        let ghost = format!(r#"{at},"author":{{"login":"octo"}},"editor":null"#);
        assert_eq!(judged(&issue(&ghost)), by("ghost"));
        let ghosts = format!(r#"{at},"author":null,"editor":null"#);
        assert_eq!(judged(&issue(&ghosts)), by("ghost"));
    }

    #[test]
    fn a_refused_query_is_an_error_and_no_answer() {
        let refused = |text: &str| {
            let answer: Answer = serde_json::from_str(text).unwrap();
            answer.bodies().is_err()
        };
        assert!(refused(
            r#"{"data":null,"errors":[{"type":"FORBIDDEN","message":"x"}]}"#
        ));
        assert!(!refused(
            r#"{"data":{"nodes":[null]},"errors":[{"type":"NOT_FOUND","message":"x"}]}"#
        ));
    }
}
