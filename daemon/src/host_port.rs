//! Where something listens, as people write it: `HOST:PORT`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host name or IP address and a port, e.g. `proxy.example.org:2222` or `[::1]:2222`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: Box<str>,
    port: u16,
}

/// Why a text is not `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not `HOST:PORT` with a port from 1 to 65535")]
pub struct HostPortError {
    text: String,
}

impl HostPort {
    /// Puts an address together from a host that is not in brackets; fails on what cannot be a host.
    pub fn new(host: &str, port: u16) -> Result<Self, HostPortError> {
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
        if host.is_empty()
            || host.len() > 253
            || port == 0
            || host.starts_with('-')
            || !host.chars().all(allowed)
        {
            return Err(HostPortError {
                text: format!("{}:{port}", host.escape_default()),
            });
        }
        Ok(Self {
            host: host.into(),
            port,
        })
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let fail = || HostPortError {
            text: text
                .chars()
                .take(300)
                .flat_map(char::escape_default)
                .collect(),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        // A colon in a host without brackets is an IPv6 address whose last group would be read as the port.
        if bracketed.is_none() && host.contains(':') {
            return Err(fail());
        }
        Self::new(bracketed.unwrap_or(host), port.parse().map_err(|_| fail())?).map_err(|_| fail())
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, HostPortError> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in ["proxy.example.org:2222", "127.0.0.1:22", "[::1]:8883"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("[::1]:22".parse::<HostPort>().unwrap().host(), "::1");
    }

    #[test]
    fn what_could_become_an_option_or_a_second_word_is_refused() {
        for text in [
            "host",
            "host:",
            "host:0",
            "host:65536",
            "::1:22",
            "-oProxyCommand=x:22",
            "a b:22",
            "a\n:22",
            ":22",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }
}
