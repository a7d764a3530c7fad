//! What an answer of GitHub means: content, a refusal, or a wish to be left alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{ETAG, HeaderName, LINK, RETRY_AFTER};
use http::{HeaderMap, StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::GitHubError;

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Its content.
    pub(super) fn content<T: DeserializeOwned>(&self) -> Result<T, GitHubError> {
        serde_json::from_slice(&self.body).map_err(GitHubError::Answer)
    }

    /// By which the same page can be asked for again.
    pub(super) fn etag(&self) -> Option<String> {
        header(&self.headers, &ETAG).map(str::to_owned)
    }

    /// The query of the next page.
    pub(super) fn next(&self) -> Option<String> {
        header(&self.headers, &LINK).and_then(next_query)
    }
}

/// What is wrong with an answer, if something is.
pub(super) fn refused(answer: &Answer) -> Option<GitHubError> {
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

/// A query that was asked once too often is answered with 200 and an error of this type:
/// <https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api>, "Exceeding the rate limit".
pub(super) fn refused_query(answer: &Answer) -> Option<GitHubError> {
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let errors = value.get("errors").and_then(Value::as_array)?;
    let text = |error: &Value, name| {
        let text = error.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let limited = errors.iter().any(|error| {
        text(error, "type") == "RATE_LIMITED"
            || text(error, "message").contains("secondary rate limit")
    });
    limited.then(|| GitHubError::Limited {
        wait: told_wait(answer, SystemTime::now())
            .unwrap_or(SECONDARY_WAIT)
            .clamp(Duration::from_secs(1), LONGEST_WAIT),
    })
}

/// How long to wait, if the answer says that there were too many calls:
/// <https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api>, "Handle rate limit errors".
fn limit(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let status = answer.status;
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    if let Some(wait) = told_wait(answer, now) {
        return Some(wait);
    }
    let secondary = message(&answer.body).contains("secondary rate limit");
    (secondary || status == StatusCode::TOO_MANY_REQUESTS).then_some(SECONDARY_WAIT)
}

/// The wait that the answer's headers ask for.
fn told_wait(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let number = |name: &HeaderName| header(&answer.headers, name)?.trim().parse::<u64>().ok();
    if let Some(seconds) = number(&RETRY_AFTER) {
        return Some(Duration::from_secs(seconds));
    }
    if number(&REMAINING)? > 0 {
        return None;
    }
    // As it came from a stranger, it may be no time at all.
    let reset = UNIX_EPOCH.checked_add(Duration::from_secs(number(&RESET)?))?;
    Some(reset.duration_since(now).unwrap_or_default())
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

const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// How long to wait after a secondary limit that does not say: "at least one minute" (best practices, as above).
const SECONDARY_WAIT: Duration = Duration::from_mins(1);

/// The longest time for which GitHub is left alone. The primary limit is renewed each hour; to ask four times in an hour
/// costs nothing, and a wrong clock must not stop a realm for a day.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

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
    fn a_query_too_many_closes_the_door_though_its_status_is_good() {
        let refused =
            |headers: &[(&'static str, &str)], body| refused_query(&answer(200, headers, body));
        let limited = r#"{"data":null,"errors":[{"type":"RATE_LIMITED","message":"x"}]}"#;
        let none = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")];
        let wait = |error| match error {
            Some(GitHubError::Limited { wait }) => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(refused(&none, limited)), 1);
        assert_eq!(wait(refused(&[("retry-after", "7")], limited)), 7);
        assert_eq!(wait(refused(&[], limited)), 60);
        let secondary = r#"{"errors":[{"message":"You have exceeded a secondary rate limit."}]}"#;
        assert_eq!(wait(refused(&[], secondary)), 60);
        for fine in [
            r#"{"data":{"nodes":[]}}"#,
            r#"{"data":{"nodes":[null]},"errors":[{"type":"NOT_FOUND","message":"x"}]}"#,
        ] {
            assert!(refused(&none, fine).is_none(), "{fine}");
        }
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
