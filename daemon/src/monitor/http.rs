//! As much of HTTP/1.1 as a scraper and a health check need: one request without a body, one answer, the end. Pure.

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The path, without what is behind a `?`.
    pub(super) path: String,
    /// Whether the body is wanted too.
    pub(super) body: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: Status,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

/// The outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    HeadTooLarge,
    Unavailable,
}

/// Where the head ends, if all of it is there.
pub(super) fn is_whole(head: &[u8]) -> bool {
    let lines = |end: &[u8]| head.windows(end.len()).any(|window| window == end);
    lines(b"\r\n\r\n") || lines(b"\n\n")
}

/// Reads the first line of a head. Nothing of the others changes the answer.
pub(super) fn parse(head: &[u8]) -> Result<Request, Status> {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Status::BadRequest)?;
    let mut words = line.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Status::BadRequest);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(Status::BadRequest);
    }
    let body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(Status::MethodNotAllowed),
    };
    let path = target.split('?').next().unwrap_or(target).to_owned();
    Ok(Request { path, body })
}

impl Answer {
    /// One line for people.
    pub(super) fn text(status: Status, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into() + "\n",
        }
    }

    /// Without more to say than the status.
    pub(super) fn bare(status: Status) -> Self {
        Self::text(status, status.line())
    }

    /// The page of numbers.
    pub(super) fn numbers(body: String) -> Self {
        Self {
            status: Status::Ok,
            kind: "text/plain; version=0.0.4; charset=utf-8",
            body,
        }
    }

    /// What goes over the wire.
    pub(super) fn bytes(&self, with_body: bool) -> Vec<u8> {
        let allow = match self.status {
            Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Status::Ok
            | Status::BadRequest
            | Status::NotFound
            | Status::HeadTooLarge
            | Status::Unavailable => "",
        };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
            self.status.line(),
            self.kind,
            self.body.len()
        );
        let body = if with_body { self.body.as_str() } else { "" };
        (head + body).into_bytes()
    }
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_its_first_line() {
        let parsed = |text: &str| parse(text.as_bytes());
        assert_eq!(
            parsed("GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\n"),
            Ok(Request {
                path: "/metrics".into(),
                body: true
            })
        );
        assert_eq!(
            parsed("HEAD / HTTP/1.0\n\n"),
            Ok(Request {
                path: "/".into(),
                body: false
            })
        );
        assert_eq!(
            parsed("POST / HTTP/1.1\r\n\r\n"),
            Err(Status::MethodNotAllowed)
        );
        for bad in [
            "",
            "GET /",
            "GET  / HTTP/1.1",
            "GET x HTTP/1.1",
            "GET / HTTP/2",
            "GET / HTTP/1.1 x",
        ] {
            assert_eq!(parsed(bad), Err(Status::BadRequest), "{bad}");
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_that_it_is_the_last() {
        let answer = Answer::text(Status::Unavailable, "no");
        let bytes = String::from_utf8(answer.bytes(true)).unwrap();
        assert!(
            bytes.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
            "{bytes}"
        );
        assert!(bytes.contains("\r\nContent-Length: 3\r\n"), "{bytes}");
        assert!(bytes.contains("\r\nConnection: close\r\n"), "{bytes}");
        assert!(bytes.ends_with("\r\n\r\nno\n"), "{bytes}");
        assert!(answer.bytes(false).ends_with(b"\r\n\r\n"));
        let refused = Answer::bare(Status::MethodNotAllowed).bytes(true);
        assert!(
            String::from_utf8(refused)
                .unwrap()
                .contains("\r\nAllow: GET, HEAD\r\n")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse(&bytes), is_whole(&bytes));
        }
    }
}
