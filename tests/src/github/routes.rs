//! What the stand-in does when it is called.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::answers;
use super::faults::Trouble;
use super::graphql;
use super::repository::Issue;
use super::schema::Operation;
use super::{Call, REPOSITORY, Shared, State};
use crate::http::{Reply, Request, Response};

/// Where the REST interface is, as on a GitHub Enterprise server.
pub(super) const ROOT: &str = "/api/v3";

/// Answers a call, and holds it and the answer against GitHub's description.
pub(super) fn answer(shared: &Shared, request: &Request) -> Reply {
    let mut state = shared.state();
    let path = request
        .path
        .strip_prefix(ROOT)
        .unwrap_or(&request.path)
        .to_owned();
    let trouble = state.faults.strike(&request.method, &path);
    let body = (!request.body.is_empty()).then(|| serde_json::from_slice::<Value>(&request.body));
    let body = match body.transpose() {
        Ok(body) => body,
        Err(error) => {
            let violation = format!("{} {path}: the body is not JSON: {error}", request.method);
            state.violations.push(violation);
            return Reply::Cut;
        }
    };
    let carried_out = trouble.is_none_or(Trouble::is_carried_out);
    let mut answer = if carried_out {
        carry_out(shared, &mut state, request, &path, body.as_ref())
    } else {
        Answer::error(500, "not carried out")
    };
    if path == "/api/graphql" {
        state.violations.append(&mut answer.violations);
    } else if let Some(operation) = operation(&request.method, &path) {
        let query = parameters(&request.query);
        let faults = shared.schema.request(operation, &query, body.as_ref());
        state.violations.extend(faults);
    } else {
        let violation = format!("{} {path}: not among the operations", request.method);
        state.violations.push(violation);
    }
    match trouble {
        None => {}
        Some(Trouble::Before(status) | Trouble::After(status)) => {
            answer = Answer::error(
                status,
                "We had issues producing the response to your request.",
            );
        }
        Some(Trouble::RetryAfter { status, seconds }) => {
            answer = Answer::error(status, "You have exceeded a secondary rate limit.");
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        Some(Trouble::NoneRemaining { seconds }) => {
            answer = Answer::error(403, "API rate limit exceeded for user ID 1.");
            let reset = SystemTime::now() + Duration::from_secs(seconds);
            let reset = reset.duration_since(UNIX_EPOCH).unwrap_or_default();
            answer
                .headers
                .push(("x-ratelimit-remaining", "0".to_owned()));
            let reset = reset.as_secs().to_string();
            answer.headers.push(("x-ratelimit-reset", reset));
        }
        Some(Trouble::CutAfter | Trouble::SilenceBefore | Trouble::SilenceAfter) => {
            answer.status = 0;
        }
    }
    state.calls.push(Call {
        method: request.method.clone(),
        path: path.clone(),
        query: request.query.clone(),
        status: answer.status,
    });
    match trouble {
        Some(Trouble::CutAfter) => return Reply::Cut,
        Some(Trouble::SilenceBefore | Trouble::SilenceAfter) => return Reply::Silence,
        None
        | Some(
            Trouble::Before(_)
            | Trouble::After(_)
            | Trouble::RetryAfter { .. }
            | Trouble::NoneRemaining { .. },
        ) => {}
    }
    let mut body = answer.body.to_string().into_bytes();
    if request.method == "GET" && answer.status == 200 {
        let etag = etag(&body);
        if request.headers.get("if-none-match") == Some(&etag) {
            answer.status = 304;
            body.clear();
            if let Some(call) = state.calls.last_mut() {
                call.status = 304;
            }
        }
        answer.headers.push(("etag", etag));
    }
    if let Some(operation) = operation(&request.method, &path) {
        let faults = shared.schema.response(operation, answer.status, &body);
        state.violations.extend(faults);
    }
    Reply::Answer(Response {
        status: answer.status,
        headers: answer.headers,
        body,
    })
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Value,
    violations: Vec<String>,
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
            violations: Vec::new(),
        }
    }

    fn error(status: u16, message: &str) -> Self {
        Self::new(status, answers::error(status, message))
    }
}

#[expect(clippy::too_many_lines, reason = "a table of routes")]
fn carry_out(
    shared: &Shared,
    state: &mut State,
    request: &Request,
    path: &str,
    body: Option<&Value>,
) -> Answer {
    let schema = &shared.schema;
    let token = request
        .headers
        .get("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(login) = token.and_then(|token| state.repository.login(token)) else {
        return Answer::error(401, "Bad credentials");
    };
    let login = login.to_owned();
    let repository = &mut state.repository;
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let text = |name: &str| body.and_then(|body| body.get(name)).and_then(Value::as_str);
    match (request.method.as_str(), segments.as_slice()) {
        ("GET", ["user"]) => Answer::new(200, answers::user(schema, &login)),
        ("POST", ["api", "graphql"]) => {
            let (answer, violations) = graphql::answer(repository, body);
            Answer {
                violations,
                ..Answer::new(200, answer)
            }
        }
        (_, ["repos", owner, name, ..]) if format!("{owner}/{name}") != REPOSITORY => {
            Answer::error(404, "Not Found")
        }
        ("GET", ["repos", _, _]) => {
            let open = repository.issues().filter(|issue| issue.open).count();
            Answer::new(200, answers::repository(schema, open as u64))
        }
        ("GET", ["repos", _, _, "issues"]) => {
            let query = parameters(&request.query);
            let issues = chosen(repository.issues().collect(), &query);
            let values = issues.into_iter();
            page(&query, request, values, |issue| {
                answers::issue(schema, issue)
            })
        }
        ("POST", ["repos", _, _, "issues"]) => {
            let number = repository.open(
                &login,
                text("title").unwrap_or_default(),
                text("body").unwrap_or_default(),
            );
            let issue = repository.issue(number).expect("it was just made");
            Answer::new(201, answers::issue(schema, issue))
        }
        (method, ["repos", _, _, "issues", number, rest @ ..]) => {
            let number = number.parse().unwrap_or_default();
            let Some(issue) = repository.issue(number).cloned() else {
                return Answer::error(404, "Not Found");
            };
            match (method, rest) {
                ("GET", []) => Answer::new(200, answers::issue(schema, &issue)),
                ("PATCH", []) => {
                    if !repository.may_change(&login, &issue) {
                        return Answer::error(403, "Must have admin rights to Repository.");
                    }
                    if let Some(state) = text("state") {
                        repository.set_open(number, state == "open");
                    }
                    if let Some(title) = text("title") {
                        repository.rename(number, title);
                    }
                    if let Some(body) = text("body") {
                        repository.edit(number, &login, body);
                    }
                    let issue = repository.issue(number).unwrap_or(&issue);
                    Answer::new(200, answers::issue(schema, issue))
                }
                ("GET", ["comments"]) => {
                    let query = parameters(&request.query);
                    let comments = issue.comments.iter();
                    page(&query, request, comments, |comment| {
                        answers::comment(schema, number, comment)
                    })
                }
                ("POST", ["comments"]) => {
                    let body = text("body").unwrap_or_default();
                    let comment = repository.comment(number, &login, body);
                    let comment = comment.expect("the issue is there");
                    Answer::new(201, answers::comment(schema, number, &comment))
                }
                ("GET", ["reactions"]) => {
                    let query = parameters(&request.query);
                    let content = value(&query, "content");
                    let mut given = issue.reactions.clone();
                    given.retain(|(_, other)| content.is_none_or(|content| content == other));
                    page(&query, request, given.into_iter(), |(login, content)| {
                        answers::reaction(schema, &login, &content)
                    })
                }
                ("POST", ["reactions"]) => {
                    let content = text("content").unwrap_or_default();
                    let new = repository.react(number, &login, content);
                    let status = if new { 201 } else { 200 };
                    Answer::new(status, answers::reaction(schema, &login, content))
                }
                (_, _) => Answer::error(404, "Not Found"),
            }
        }
        (_, _) => Answer::error(404, "Not Found"),
    }
}

/// The operation that a path belongs to.
fn operation(method: &str, path: &str) -> Option<Operation> {
    const OPERATIONS: &[(&str, &str)] = &[
        ("GET", "/user"),
        ("GET", "/repos/{owner}/{repo}"),
        ("GET", "/repos/{owner}/{repo}/issues"),
        ("POST", "/repos/{owner}/{repo}/issues"),
        ("GET", "/repos/{owner}/{repo}/issues/{issue_number}"),
        ("PATCH", "/repos/{owner}/{repo}/issues/{issue_number}"),
        (
            "GET",
            "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        ),
        (
            "POST",
            "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        ),
        (
            "GET",
            "/repos/{owner}/{repo}/issues/{issue_number}/reactions",
        ),
        (
            "POST",
            "/repos/{owner}/{repo}/issues/{issue_number}/reactions",
        ),
    ];
    let fits = |pattern: &str| {
        pattern.split('/').count() == path.split('/').count()
            && pattern
                .split('/')
                .zip(path.split('/'))
                .all(|(pattern, part)| pattern.starts_with('{') || pattern == part)
    };
    let (method, path) = OPERATIONS
        .iter()
        .find(|(known, pattern)| *known == method && fits(pattern))?;
    Some(Operation { method, path })
}

/// The issues that a query asks for, in its order.
fn chosen<'a>(mut issues: Vec<&'a Issue>, query: &[(String, String)]) -> Vec<&'a Issue> {
    let state = value(query, "state").unwrap_or("open");
    issues.retain(|issue| state == "all" || issue.open == (state == "open"));
    match value(query, "sort").unwrap_or("created") {
        "updated" => issues.sort_by_key(|issue| (issue.updated_at.clone(), issue.changed)),
        _ => issues.sort_by_key(|issue| issue.number),
    }
    if value(query, "direction").unwrap_or("desc") == "desc" {
        issues.reverse();
    }
    issues
}

/// One page, with a `Link` to the next as GitHub writes it: by the repository's number, at its own host.
fn page<T>(
    query: &[(String, String)],
    request: &Request,
    items: impl ExactSizeIterator<Item = T>,
    render: impl Fn(T) -> Value,
) -> Answer {
    let number = |name, default| {
        value(query, name)
            .and_then(|text| text.parse::<usize>().ok())
            .unwrap_or(default)
    };
    let (size, page) = (
        number("per_page", 30).clamp(1, 100),
        number("page", 1).max(1),
    );
    let last = items.len().div_ceil(size);
    let shown: Vec<Value> = items
        .skip((page - 1) * size)
        .take(size)
        .map(render)
        .collect();
    let mut answer = Answer::new(200, json!(shown));
    if page < last {
        let rest: Vec<String> = query
            .iter()
            .filter(|(name, _)| name != "page")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let path = request
            .path
            .rsplit("/octo/tunnels")
            .next()
            .unwrap_or_default();
        let link = |page: usize, relation: &str| {
            let rest = rest.join("&");
            format!(
                "<https://api.github.com/repositories/1{path}?{rest}&page={page}>; rel=\"{relation}\""
            )
        };
        let links = format!("{}, {}", link(page + 1, "next"), link(last, "last"));
        answer.headers.push(("link", links));
    }
    answer
}

fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

fn etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}
