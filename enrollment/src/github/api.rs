//! GitHub's HTTP interface: one call at a time, bounded, and never more often than GitHub allows.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::registry_place::GitHubPlace;
use http::header::{ETAG, HeaderName, IF_NONE_MATCH, LINK, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::token::Token;

/// A repository's part of the interface. What it is asked goes to the registry's own host and nowhere else.
#[derive(Debug)]
pub(super) struct Api {
    client: Octocrab,
    /// The path of the REST interface, without a slash at the end.
    root: String,
    graphql: String,
    /// Until when GitHub wants to be left alone.
    closed_until: Mutex<Option<Instant>>,
}

/// What a conditional call brought.
#[derive(Debug)]
pub(super) enum News<T> {
    /// It is as it was.
    Same,
    /// There is something new.
    New(Page<T>),
}

/// One page of an answer.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) content: T,
    /// By which it can be asked for again.
    pub(super) etag: Option<String>,
    /// The query of the next page.
    pub(super) next: Option<String>,
}

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
            Self::Answer(_)
            | Self::Client(_)
            | Self::Limited { .. }
            | Self::Query { .. }
            | Self::Rejected { .. }
            | Self::TimedOut
            | Self::Transport(_)
            | Self::Unavailable { .. }
            | Self::Unexpected { .. } => None,
        }
    }
}

impl Api {
    /// A client for this place. Has to be made where tokio runs.
    pub(super) fn new(place: &GitHubPlace, token: &Token) -> Result<Self, GitHubError> {
        let fail = |error| GitHubError::Client(Box::new(error));
        let (scheme, rest) = place
            .base_uri
            .split_once("://")
            .unwrap_or(("https", &place.base_uri));
        let (authority, root) = rest.split_once('/').map_or((rest, String::new()), |parts| {
            (parts.0, format!("/{}", parts.1))
        });
        let client = Octocrab::builder()
            .base_uri(format!("{scheme}://{authority}"))
            .map_err(fail)?
            .personal_token(token.expose().to_owned())
            .set_connect_timeout(Some(CONNECT_LIMIT))
            .set_read_timeout(Some(ANSWER_LIMIT))
            .set_write_timeout(Some(ANSWER_LIMIT))
            .build()
            .map_err(fail)?;
        // GitHub Enterprise: https://docs.github.com/en/enterprise-server/graphql/guides/forming-calls-with-graphql
        let graphql = match root.strip_suffix("/v3") {
            Some(parent) => format!("{parent}/graphql"),
            None => format!("{root}/graphql"),
        };
        Ok(Self {
            client,
            root,
            graphql,
            closed_until: Mutex::new(None),
        })
    }

    /// How long GitHub wants to be left alone.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let until = *self
            .closed_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        until
            .map(|until| until.saturating_duration_since(Instant::now()))
            .filter(|wait| !wait.is_zero())
    }

    /// Reads a page, unless it is the one that has this tag.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        etag: Option<&str>,
    ) -> Result<News<T>, GitHubError> {
        let uri = format!("{}{path}", self.root);
        let answer = self.patiently(&Method::GET, &uri, etag, None).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(News::Same);
        }
        Ok(News::New(Page {
            content: parse(&answer.body)?,
            etag: header(&answer.headers, &ETAG).map(str::to_owned),
            next: header(&answer.headers, &LINK).and_then(next_query),
        }))
    }

    /// Reads a page.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Page<T>, GitHubError> {
        match self.get(path, None).await? {
            News::New(page) => Ok(page),
            News::Same => Err(GitHubError::Unexpected { status: 304 }),
        }
    }

    /// Makes something. Sent once, whatever happens: a call without an answer may have been carried out.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, GitHubError> {
        let uri = format!("{}{path}", self.root);
        let answer = self.call(&Method::POST, &uri, None, Some(body)).await?;
        parse(&answer.body)
    }

    /// Changes something. To do it twice is to do it once.
    pub(super) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<T, GitHubError> {
        let uri = format!("{}{path}", self.root);
        let answer = self
            .patiently(&Method::PATCH, &uri, None, Some(body))
            .await?;
        parse(&answer.body)
    }

    /// Asks a query that changes nothing.
    pub(super) async fn graphql<T: DeserializeOwned>(
        &self,
        body: &Value,
    ) -> Result<T, GitHubError> {
        let answer = self
            .patiently(&Method::POST, &self.graphql, None, Some(body))
            .await?;
        parse(&answer.body)
    }

    /// A call that may be repeated.
    async fn patiently(
        &self,
        method: &Method,
        uri: &str,
        etag: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, GitHubError> {
        let mut pauses = REPEATS.into_iter();
        loop {
            let error = match self.call(method, uri, etag, body).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let waits_long = matches!(error, GitHubError::Limited { wait } if wait > SHORT_WAIT);
            let Some(pause) = pauses.next().filter(|_| error.is_passing() && !waits_long) else {
                return Err(error);
            };
            tracing::debug!(%method, path = uri, %error, "a call to GitHub is repeated");
            sleep(pause).await;
        }
    }

    async fn call(
        &self,
        method: &Method,
        uri: &str,
        etag: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, GitHubError> {
        if let Some(wait) = self.closed_for() {
            if wait > SHORT_WAIT {
                return Err(GitHubError::Limited { wait });
            }
            sleep(wait).await;
        }
        let answer = timeout(ANSWER_LIMIT, self.send(method, uri, etag, body))
            .await
            .map_err(|_| GitHubError::TimedOut)??;
        tracing::trace!(%method, path = uri, status = answer.status.as_u16(), "GitHub answered");
        let Some(error) = refused(&answer) else {
            return Ok(answer);
        };
        if let GitHubError::Limited { wait } = &error {
            let mut closed = self
                .closed_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *closed = Some(Instant::now() + *wait);
        }
        Err(error)
    }

    async fn send(
        &self,
        method: &Method,
        uri: &str,
        etag: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, GitHubError> {
        let transport = |error: octocrab::Error| GitHubError::Transport(Box::new(error));
        let mut request = Request::builder()
            .method(method.clone())
            .uri(uri)
            .header(http::header::ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION);
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request = self
            .client
            .build_request(request, body)
            .map_err(transport)?;
        let response = self.client.execute(request).await.map_err(transport)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(GitHubError::Transport)?;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.to_bytes().to_vec(),
        })
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What is wrong with an answer, if something is.
fn refused(answer: &Answer) -> Option<GitHubError> {
    let status = answer.status;
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return None;
    }
    if let Some(wait) = limit(answer, SystemTime::now()) {
        return Some(GitHubError::Limited {
            wait: wait.clamp(Duration::from_secs(1), LONGEST_WAIT),
        });
    }
    let message = message(&answer.body);
    Some(match status {
        StatusCode::UNAUTHORIZED => GitHubError::Unauthorized,
        StatusCode::FORBIDDEN => GitHubError::Forbidden { message },
        StatusCode::NOT_FOUND => GitHubError::NotFound,
        StatusCode::GONE => GitHubError::Gone,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            GitHubError::Rejected { message }
        }
        status if status.is_server_error() => GitHubError::Unavailable {
            status: status.as_u16(),
        },
        status => GitHubError::Unexpected {
            status: status.as_u16(),
        },
    })
}

/// How long to wait, if the answer says that there were too many calls:
/// <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api>, "Handle rate limit errors".
fn limit(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let status = answer.status;
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let number = |name: &HeaderName| header(&answer.headers, name)?.trim().parse::<u64>().ok();
    if let Some(seconds) = number(&RETRY_AFTER) {
        return Some(Duration::from_secs(seconds));
    }
    if number(&REMAINING) == Some(0) {
        let reset = UNIX_EPOCH + Duration::from_secs(number(&RESET)?);
        return Some(reset.duration_since(now).unwrap_or_default());
    }
    let secondary = message(&answer.body).contains("secondary rate limit");
    (secondary || status == StatusCode::TOO_MANY_REQUESTS).then_some(SECONDARY_WAIT)
}

/// GitHub's words, made harmless.
fn message(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = value
        .get("message")
        .and_then(Value::as_str)
        .unwrap_or("no reason was given");
    crate::Refusal::new(text, "").reason().to_owned()
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, GitHubError> {
    serde_json::from_slice(body).map_err(GitHubError::Answer)
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The query of the next page in a `Link` header (RFC 8288). Only the query: whoever answers must not choose the host that
/// is asked next.
fn next_query(link: &str) -> Option<String> {
    link.split(',').find_map(|part| {
        let (target, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=\"next\"" | "rel=next"));
        let uri: Uri = target.parse().ok().filter(|_| next)?;
        uri.query().map(str::to_owned)
    })
}

/// The interface's version, as it is asked for: <https://docs.github.com/en/rest/about-the-rest-api/api-versions>.
const API_VERSION: &str = "2022-11-28";

const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// How long to wait after a secondary limit that does not say: "at least one minute" (best practices, as above).
const SECONDARY_WAIT: Duration = Duration::from_mins(1);

/// The longest time for which GitHub is left alone. The primary limit is renewed each hour; to ask four times in an hour
/// costs nothing, and a wrong clock must not stop a realm for a day.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// A wait that is sat out within a call; whoever waits longer is told.
const SHORT_WAIT: Duration = Duration::from_secs(3);

/// The pauses before a call that may be repeated is.
const REPEATS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer may take: GitHub itself gives up after ten seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(12);

/// The largest answer, in bytes: 100 issues with bodies of 65,536 characters of up to four bytes, and what stands around.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn limits_are_told_from_refusals() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let wait = |status, headers: &[(&'static str, &str)], body| {
            limit(&answer(status, headers, body), now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(429, &[("retry-after", "7")], ""), Some(7));
        assert_eq!(wait(403, &[("retry-after", "7")], ""), Some(7));
        let primary = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1090"),
        ];
        assert_eq!(wait(403, &primary, ""), Some(90));
        let text = r#"{"message":"You have exceeded a secondary rate limit."}"#;
        assert_eq!(wait(403, &[], text), Some(60));
        assert_eq!(wait(429, &[], ""), Some(60));
        assert_eq!(wait(403, &[("x-ratelimit-remaining", "9")], "{}"), None);
        assert_eq!(wait(500, &[("retry-after", "7")], ""), None);
        // The longest wait is bounded, whatever a header says.
        let error = refused(&answer(403, &[("retry-after", "999999")], "")).unwrap();
        assert!(matches!(error, GitHubError::Limited { wait: LONGEST_WAIT }));
    }

    #[test]
    fn only_the_query_of_a_link_is_followed() {
        let link = "<https://evil.example/x?page=1>; rel=\"prev\", <https://evil.example/repositories/1/issues?after=abc&page=3>; rel=\"next\"";
        assert_eq!(next_query(link).as_deref(), Some("after=abc&page=3"));
        assert_eq!(next_query("<https://x/y?page=1>; rel=\"last\""), None);
        assert_eq!(next_query("nonsense"), None);
    }

    #[test]
    fn a_message_cannot_drive_a_terminal() {
        assert_eq!(message(br#"{"message":"a\u001bb"}"#), "a b");
        assert_eq!(message(b"<html>"), "no reason was given");
    }
}
