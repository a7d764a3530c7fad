//! As much of GraphQL as one query needs, checked field by field against an excerpt of GitHub's schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::repository::{Issue, Repository};

/// Answers a query, and tells what in it is not as GitHub's schema says.
pub(super) fn answer(repository: &Repository, body: Option<&Value>) -> (Value, Vec<String>) {
    match run(repository, body.unwrap_or(&Value::Null)) {
        Ok(answer) => (answer, Vec::new()),
        Err(violation) => {
            let answer = json!({ "errors": [{ "message": violation }] });
            (answer, vec![format!("GraphQL: {violation}")])
        }
    }
}

fn run(repository: &Repository, body: &Value) -> Result<Value, String> {
    let query = body.get("query").and_then(Value::as_str);
    let mut tokens = tokens(query.ok_or("a query is missing")?)
        .into_iter()
        .peekable();
    // `query($ids: [ID!]!)`: the only form that is spoken here.
    for expected in ["query", "(", "$", "ids", ":", "[", "ID", "!", "]", "!", ")"] {
        let found = tokens.next();
        if found.as_deref() != Some(expected) {
            return Err(format!("`{expected}` expected, found {found:?}"));
        }
    }
    let selection = selection(&mut tokens)?;
    if tokens.next().is_some() {
        return Err("text after the query".to_owned());
    }
    let schema = excerpt();
    check(&schema, "Query", &selection)?;
    let ids: Vec<&str> = body
        .pointer("/variables/ids")
        .and_then(Value::as_array)
        .ok_or("the variable `ids` is missing")?
        .iter()
        .map(|id| id.as_str().ok_or("an id is no text"))
        .collect::<Result<_, _>>()?;
    if ids.len() > 100 {
        // https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
        return Err(format!(
            "{} nodes are asked for, and 100 is the limit",
            ids.len()
        ));
    }
    let nodes = selection
        .iter()
        .find(|field| field.name == "nodes")
        .ok_or("`nodes` is not asked for")?;
    let found: Vec<Value> = ids
        .iter()
        .map(|id| {
            let issue = repository.issues().find(|issue| issue.node_id() == *id);
            issue.map_or(Value::Null, |issue| evaluate(&nodes.inner, issue))
        })
        .collect();
    let mut answer = json!({ "data": { "nodes": found } });
    let errors: Vec<Value> = ids
        .iter()
        .zip(&found)
        .filter(|(_, node)| node.is_null())
        .map(|(id, _)| {
            let message = format!("Could not resolve to a node with the global id of '{id}'");
            json!({ "type": "NOT_FOUND", "path": ["nodes"], "message": message })
        })
        .collect();
    if !errors.is_empty()
        && let Some(object) = answer.as_object_mut()
    {
        object.insert("errors".to_owned(), json!(errors));
    }
    Ok(answer)
}

/// A field, or with a name of dots an inline fragment on a type.
#[derive(Debug)]
struct Field {
    name: String,
    on: Option<String>,
    inner: Vec<Field>,
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

fn selection(tokens: &mut Tokens) -> Result<Vec<Field>, String> {
    if tokens.next_if_eq("{").is_none() {
        return Err("`{` expected".to_owned());
    }
    let mut fields = Vec::new();
    loop {
        let name = tokens.next().ok_or("the query ends too early")?;
        if name == "}" {
            return Ok(fields);
        }
        let on = if name == "..." {
            tokens.next_if_eq("on").ok_or("`on` expected")?;
            Some(tokens.next().ok_or("a type expected")?)
        } else {
            None
        };
        if tokens.peek().is_some_and(|token| token == "(") {
            let arguments: Vec<String> = tokens.by_ref().take_while(|token| token != ")").collect();
            if arguments != ["(", "ids", ":", "$", "ids"] || name != "nodes" {
                return Err(format!("arguments {arguments:?} of `{name}`"));
            }
        }
        let has_inner = tokens.peek().is_some_and(|token| token == "{");
        let inner = if has_inner {
            selection(tokens)?
        } else {
            Vec::new()
        };
        fields.push(Field { name, on, inner });
    }
}

/// Whether each field is one of its type, and has fields of its own exactly if it is an object.
fn check(
    schema: &BTreeMap<String, BTreeMap<String, String>>,
    of: &str,
    fields: &[Field],
) -> Result<(), String> {
    for field in fields {
        if let Some(on) = &field.on {
            check(schema, on, &field.inner)?;
            continue;
        }
        if field.name == "__typename" {
            continue;
        }
        let known = schema.get(of).and_then(|fields| fields.get(&field.name));
        let inner = known.ok_or_else(|| format!("`{of}` has no field `{}`", field.name))?;
        // `Node` is known by its fragments only.
        let is_object = schema.contains_key(inner) || inner == "Node";
        if is_object == field.inner.is_empty() {
            return Err(format!("the fields of `{}` of `{of}`", field.name));
        }
        check(schema, inner, &field.inner)?;
    }
    Ok(())
}

fn evaluate(fields: &[Field], issue: &Issue) -> Value {
    let mut object = Map::new();
    for field in fields {
        if field.on.as_deref() == Some("Issue") && !issue.pull_request {
            if let Value::Object(inner) = evaluate(&field.inner, issue) {
                object.extend(inner);
            }
            continue;
        }
        let actor = |login: &str| json!({ "login": login });
        let value = match field.name.as_str() {
            "__typename" if issue.pull_request => json!("PullRequest"),
            "__typename" => json!("Issue"),
            "id" => json!(issue.node_id()),
            "body" => json!(issue.body),
            "lastEditedAt" => json!(issue.edited.as_ref().map(|(_, at)| at)),
            "author" => actor(&issue.author),
            "editor" => issue
                .edited
                .as_ref()
                .map_or(Value::Null, |(editor, _)| actor(editor)),
            _ => continue,
        };
        object.insert(field.name.clone(), value);
    }
    Value::Object(object)
}

/// The types of the excerpt, their fields, and the fields' types without their marks.
fn excerpt() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut types: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut current = String::new();
    for line in EXCERPT.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["type" | "interface", name, ..] => (*name).clone_into(&mut current),
            ["#", ..] | ["}"] | [] => {}
            [first, .., last] => {
                let end = first.find([':', '(']).unwrap_or(first.len());
                let name = first.get(..end).unwrap_or_default().to_owned();
                let of = last.trim_matches(['[', ']', '!']).to_owned();
                types.entry(current.clone()).or_default().insert(name, of);
            }
            [_] => panic!("a line of the excerpt: {line}"),
        }
    }
    types
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("...") {
            3
        } else if first.is_ascii_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            end.unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(length);
        if token != "," {
            tokens.push(token.to_owned());
        }
        rest = tail.trim_start();
    }
    tokens
}

const EXCERPT: &str = include_str!("../../fixtures/github/schema.graphql");

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &str) -> Vec<String> {
        let mut repository = Repository::default();
        repository.open("octo", "title", "body");
        let query = format!("query($ids: [ID!]!) {{ nodes(ids: $ids) {{ {fields} }} }}");
        let body = json!({ "query": query, "variables": { "ids": ["I_1"] } });
        answer(&repository, Some(&body)).1
    }

    #[test]
    fn what_the_schema_does_not_have_is_found() {
        assert_eq!(
            asked("__typename ... on Issue { id editor { login } }"),
            Vec::<String>::new()
        );
        for wrong in [
            "... on Issue { edited }",
            "... on Issue { editor }",
            "... on Issue { body { text } }",
            "... on Issue { editor { email } }",
            "id",
            "... on Issues { id }",
            "... on Issue { id",
        ] {
            assert_eq!(asked(wrong).len(), 1, "{wrong}");
        }
    }
}
