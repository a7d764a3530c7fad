//! What GitHub sends: its own examples, with the fields that matter here filled in.

use serde_json::{Value, json};

use super::REPOSITORY;
use super::repository::{Comment, Issue};
use super::schema::Schema;

pub(super) fn user(schema: &Schema, login: &str) -> Value {
    let text = schema.example("user").to_string();
    // Every address in it holds the login.
    let mut user: Value = serde_json::from_str(&text.replace("octocat", login)).unwrap_or_default();
    fill(
        &mut user,
        &[("login", json!(login)), ("id", json!(id(login)))],
    );
    user
}

pub(super) fn repository(schema: &Schema, open: u64) -> Value {
    let text = schema.example("repository").to_string();
    let text = text.replace("octocat/Hello-World", REPOSITORY);
    let mut repository: Value = serde_json::from_str(&text).unwrap_or_default();
    // GitHub's description demands what its example has left out.
    for place in ["", "/parent", "/source", "/template_repository"] {
        if let Some(inner) = repository.pointer_mut(place) {
            fill(inner, &[("language", Value::Null)]);
        }
    }
    fill(
        &mut repository,
        &[
            ("open_issues_count", json!(open)),
            ("open_issues", json!(open)),
        ],
    );
    repository
}

pub(super) fn issue(schema: &Schema, issue: &Issue) -> Value {
    let mut value = addressed(schema.example("issue"), issue.number);
    let closed_at = if issue.open {
        Value::Null
    } else {
        json!(issue.updated_at)
    };
    fill(
        &mut value,
        &[
            ("id", json!(1000 + issue.number)),
            ("node_id", json!(issue.node_id())),
            ("number", json!(issue.number)),
            ("title", json!(issue.title)),
            (
                "body",
                if issue.body.is_empty() {
                    Value::Null
                } else {
                    json!(issue.body)
                },
            ),
            ("user", author(schema, &issue.author)),
            ("state", json!(if issue.open { "open" } else { "closed" })),
            ("comments", json!(issue.comments.len())),
            ("reactions", rollup(issue)),
            ("created_at", json!(issue.created_at)),
            ("updated_at", json!(issue.updated_at)),
            ("closed_at", closed_at),
            ("closed_by", Value::Null),
            ("labels", json!([])),
            ("assignee", Value::Null),
            ("assignees", json!([])),
            ("milestone", Value::Null),
            ("locked", json!(false)),
        ],
    );
    if !issue.pull_request
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("pull_request");
    }
    value
}

pub(super) fn comment(schema: &Schema, number: u64, comment: &Comment) -> Value {
    let mut value = addressed(schema.example("comment"), number);
    fill(
        &mut value,
        &[
            ("id", json!(comment.id)),
            ("body", json!(comment.body)),
            ("user", author(schema, &comment.author)),
            ("created_at", json!(comment.created_at)),
            ("updated_at", json!(comment.created_at)),
        ],
    );
    value
}

pub(super) fn reaction(schema: &Schema, login: &str, content: &str) -> Value {
    let mut value = schema
        .example("reactions")
        .get(0)
        .cloned()
        .unwrap_or_default();
    fill(
        &mut value,
        &[("user", author(schema, login)), ("content", json!(content))],
    );
    value
}

/// How often there is each reaction.
fn rollup(issue: &Issue) -> Value {
    let number = issue.number;
    let mut value = json!({
        "url": format!("https://api.github.com/repos/{REPOSITORY}/issues/{number}/reactions"),
        "total_count": issue.reactions.len(),
    });
    for content in REACTIONS {
        let given = issue.reactions.iter().filter(|(_, other)| other == content);
        fill(&mut value, &[(content, json!(given.count()))]);
    }
    value
}

/// An error's body.
pub(super) fn error(status: u16, message: &str) -> Value {
    json!({
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": status.to_string(),
    })
}

/// The short form of a user, which stands in issues and comments.
fn author(schema: &Schema, login: &str) -> Value {
    let full = user(schema, login);
    let example = schema.example("issue");
    let names = example.get("user").and_then(Value::as_object);
    let short = names.into_iter().flatten().map(|(name, _)| {
        let value = full.get(name).cloned().unwrap_or_default();
        (name.clone(), value)
    });
    Value::Object(short.collect())
}

fn addressed(example: &Value, number: u64) -> Value {
    let text = example.to_string();
    let text = text
        .replace("octocat/Hello-World", REPOSITORY)
        .replace("/1347", &format!("/{number}"));
    serde_json::from_str(&text).unwrap_or_default()
}

fn fill(value: &mut Value, fields: &[(&str, Value)]) {
    let Some(object) = value.as_object_mut() else {
        return;
    };
    for (name, value) in fields {
        object.insert((*name).to_owned(), value.clone());
    }
}

const REACTIONS: [&str; 8] = [
    "+1", "-1", "laugh", "confused", "heart", "hooray", "eyes", "rocket",
];

fn id(login: &str) -> u64 {
    login
        .bytes()
        .fold(7, |id, byte| (id * 31 + u64::from(byte)) % 100_000_000)
}
