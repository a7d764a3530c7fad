//! GitHub's description of itself, and whether a call agrees with it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The `OpenAPI` description of the operations that the program may use: `fixtures/github/openapi.json`.
pub(super) struct Schema {
    document: Value,
    compiled: Mutex<HashMap<String, Arc<Validator>>>,
}

/// An operation of the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// With its parameters in braces.
    pub(super) path: &'static str,
}

impl Schema {
    pub(super) fn load() -> Self {
        let document = serde_json::from_str(OPENAPI).expect("openapi.json is JSON");
        Self {
            document,
            compiled: Mutex::default(),
        }
    }

    /// One of GitHub's own examples.
    pub(super) fn example(&self, name: &str) -> &Value {
        self.document
            .pointer(&format!("/components/examples/{name}"))
            .unwrap_or_else(|| panic!("no example `{name}`"))
    }

    /// What is wrong with a request.
    pub(super) fn request(
        &self,
        operation: Operation,
        query: &[(String, String)],
        body: Option<&Value>,
    ) -> Vec<String> {
        let pointer = pointer(operation);
        let mut faults = Vec::new();
        let parameters = self.at(&format!("{pointer}/parameters")).cloned();
        let parameters: Vec<&Value> = parameters
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|parameter| self.resolved(parameter))
            .collect();
        for (name, text) in query {
            let declared = parameters.iter().find(|parameter| {
                parameter.get("in") == Some(&json!("query"))
                    && parameter.get("name") == Some(&json!(name))
            });
            let Some(schema) = declared.and_then(|parameter| parameter.get("schema")) else {
                faults.push(format!("{operation}: the parameter `{name}` is unknown"));
                continue;
            };
            let is_number = schema.get("type") == Some(&json!("integer"));
            let value = match text.parse::<i64>() {
                Ok(number) if is_number => json!(number),
                Ok(_) | Err(_) => json!(text),
            };
            let key = format!("{operation} parameter {name}");
            faults.extend(self.judge(&key, schema, &value));
        }
        let schema = format!("{pointer}/requestBody/content/application~1json/schema");
        match (self.at(&schema), body) {
            (Some(schema), Some(body)) => {
                faults.extend(self.judge(&format!("{operation} request"), schema, body));
                // Unknown fields are legal, and always a typing error of ours.
                let known = schema.get("properties").and_then(Value::as_object);
                let fields = body.as_object().into_iter().flatten();
                faults.extend(
                    fields
                        .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)))
                        .map(|(name, _)| format!("{operation}: the field `{name}` is unknown")),
                );
            }
            (Some(_), None) => faults.push(format!("{operation}: a body is missing")),
            (None, Some(_)) => faults.push(format!("{operation}: a body is not described")),
            (None, None) => {}
        }
        faults
    }

    /// What is wrong with an answer.
    pub(super) fn response(&self, operation: Operation, status: u16, body: &[u8]) -> Vec<String> {
        if status == 304 {
            let fault = format!("{operation}: a body with status 304");
            return if body.is_empty() {
                Vec::new()
            } else {
                vec![fault]
            };
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return vec![format!(
                "{operation}: the body with status {status} is not JSON"
            )];
        };
        let described = self.at(&format!("{}/responses/{status}", pointer(operation)));
        let schema = match described.map(|response| self.resolved(response)) {
            Some(response) => response.pointer("/content/application~1json/schema"),
            // Described for the interface as a whole, not for each operation.
            None if GENERAL_ERRORS.contains(&status) => self.at("/components/schemas/basic-error"),
            None => None,
        };
        match schema {
            Some(schema) => self.judge(&format!("{operation} response {status}"), schema, &body),
            None => vec![format!("{operation}: status {status} is not described")],
        }
    }

    fn at(&self, pointer: &str) -> Option<&Value> {
        self.document.pointer(pointer)
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let reference = value.get("$ref").and_then(Value::as_str);
        reference
            .and_then(|reference| self.at(reference.strip_prefix('#')?))
            .unwrap_or(value)
    }

    fn judge(&self, key: &str, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self.compiled(key, schema);
        validator
            .iter_errors(value)
            .map(|error| format!("{key}: {error} at `{}`", error.instance_path()))
            .collect()
    }

    fn compiled(&self, key: &str, schema: &Value) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = compiled.entry(key.to_owned()).or_insert_with(|| {
            // References are to `#/components`, so the components go along.
            let whole = json!({ "allOf": [schema], "components": self.document.get("components") });
            let validator = jsonschema::options()
                .with_draft(jsonschema::Draft::Draft202012)
                .should_validate_formats(true)
                .build(&whole)
                .unwrap_or_else(|error| panic!("{key}: {error}"));
            Arc::new(validator)
        });
        Arc::clone(validator)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema(..)")
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

fn pointer(operation: Operation) -> String {
    let path = operation.path.replace('~', "~0").replace('/', "~1");
    format!("/paths/{path}/{}", operation.method.to_ascii_lowercase())
}

const OPENAPI: &str = include_str!("../../fixtures/github/openapi.json");

/// Statuses that any call can get: a bad token, limits, and troubles of GitHub itself.
const GENERAL_ERRORS: &[u16] = &[401, 403, 429, 500, 502, 503, 504];

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: Operation = Operation {
        method: "POST",
        path: "/repos/{owner}/{repo}/issues",
    };
    const LIST: Operation = Operation {
        method: "GET",
        path: "/repos/{owner}/{repo}/issues",
    };

    /// Whether the description is used at all: what must be refused is.
    #[test]
    fn what_github_would_not_say_is_found() {
        let schema = Schema::load();
        let issue = schema.example("issue").clone();
        let told = |value: &Value| schema.response(LIST, 200, value.to_string().as_bytes());
        assert_eq!(told(&json!([issue])), Vec::<String>::new());
        for (field, wrong) in [
            ("number", json!("1")),
            ("title", Value::Null),
            ("user", json!({ "login": "x" })),
            ("created_at", json!("yesterday")),
            ("comments", Value::Null),
            ("author_association", json!("FRIEND")),
        ] {
            let mut broken = issue.clone();
            broken[field] = wrong;
            assert!(!told(&json!([broken])).is_empty(), "{field}");
            let mut short = issue.clone();
            short.as_object_mut().unwrap().remove(field);
            let required = field != "author_association";
            assert_eq!(!told(&json!([short])).is_empty(), required, "{field}");
        }
        // Nulls are allowed exactly where they are.
        let mut nulls = issue;
        for field in ["body", "milestone", "assignee", "closed_at", "user"] {
            nulls[field] = Value::Null;
        }
        assert_eq!(told(&json!([nulls])), Vec::<String>::new());
        assert!(!told(&json!({})).is_empty());
        assert!(!schema.response(LIST, 418, b"{}").is_empty());
        assert!(!schema.response(LIST, 304, b"{}").is_empty());
        assert!(!schema.response(CREATE, 200, b"{}").is_empty());
    }

    #[test]
    fn what_github_would_not_take_is_found() {
        let schema = Schema::load();
        let request = |body: Value| schema.request(CREATE, &[], Some(&body));
        assert_eq!(
            request(json!({ "title": "x", "body": "y" })),
            Vec::<String>::new()
        );
        assert!(!request(json!({ "body": "y" })).is_empty());
        assert!(!request(json!({ "title": ["x"] })).is_empty());
        assert!(!request(json!({ "title": "x", "boddy": "y" })).is_empty());
        assert!(!schema.request(CREATE, &[], None).is_empty());
        let query = |name: &str, value: &str| {
            schema.request(LIST, &[(name.to_owned(), value.to_owned())], None)
        };
        assert_eq!(query("per_page", "100"), Vec::<String>::new());
        assert!(!query("per_page", "many").is_empty());
        assert!(!query("state", "ajar").is_empty());
        assert!(!query("pages", "1").is_empty());
        assert!(!schema.request(LIST, &[], Some(&json!({}))).is_empty());
    }

    #[test]
    fn nothing_is_left_that_validators_do_not_know() {
        assert!(!OPENAPI.contains("\"nullable\":"));
    }
}
