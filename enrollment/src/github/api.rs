//! GitHub's HTTP interface: one call at a time, bounded, and never more often than GitHub allows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemon::registry_place::GitHubPlace;
use http::header::IF_NONE_MATCH;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use octocrab::Octocrab;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, refused, refused_query};
use super::error::GitHubError;
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
            content: answer.content()?,
            etag: answer.etag(),
            next: answer.next(),
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
        answer.content()
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
        answer.content()
    }

    /// Asks a query that changes nothing.
    pub(super) async fn graphql<T: DeserializeOwned>(
        &self,
        body: &Value,
    ) -> Result<T, GitHubError> {
        let answer = self
            .patiently(&Method::POST, &self.graphql, None, Some(body))
            .await?;
        answer.content()
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
        let in_query = || (uri == self.graphql).then(|| refused_query(&answer))?;
        let Some(error) = refused(&answer).or_else(in_query) else {
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

/// The interface's version, as it is asked for: <https://docs.github.com/en/rest/about-the-rest-api/api-versions>.
const API_VERSION: &str = "2022-11-28";

/// A wait that is sat out within a call; whoever waits longer is told.
const SHORT_WAIT: Duration = Duration::from_secs(3);

/// The pauses before a call that may be repeated is.
const REPEATS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long an answer may take: GitHub itself gives up after ten seconds.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(12);

/// The largest answer, in bytes: 100 issues with bodies of 65,536 characters of up to four bytes, and what stands around.
const MAX_ANSWER: usize = 32 * 1024 * 1024;
