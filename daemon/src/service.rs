//! Where a service of a computer is: at an address, or in the agent itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host_port::{HostPort, HostPortError};

/// What a stream to a service is joined with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Service {
    /// Another program, at this address.
    At(HostPort),
    /// The agent's own ssh: `"builtin"`.
    Builtin,
}

/// `[builtin]`: what the agent's own ssh may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltinFile {
    /// Whether it may serve when the agent runs as root, and so with root's rights; default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_root: bool,
    /// Where `ssh -L` and `-D` may lead to, and whether `-R` is permitted; default: `"loopback"`.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub forwarding: ForwardingFile,
    /// How often the agent itself brings the keys of its system's controllers from the registry; default: never, for they are
    /// brought by `tunnel agent sync-keys --builtin`.
    #[serde(
        default,
        with = "humantime_serde::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub sync_keys: Option<Duration>,
}

/// Where streams may be forwarded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingFile {
    /// Nowhere.
    None,
    /// To this computer's own services.
    #[default]
    Loopback,
    /// To whatever this computer can reach.
    Anywhere,
}

impl BuiltinFile {
    /// Whether nothing is configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Service {
    /// The port by which it is known.
    pub fn port(&self) -> u16 {
        match self {
            Self::At(address) => address.port(),
            Self::Builtin => SSH_PORT,
        }
    }
}

impl FromStr for Service {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        // No address: there is no port in it.
        if text == BUILTIN {
            return Ok(Self::Builtin);
        }
        text.parse().map(Self::At)
    }
}

impl TryFrom<String> for Service {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, HostPortError> {
        text.parse()
    }
}

impl From<Service> for String {
    fn from(service: Service) -> Self {
        service.to_string()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Builtin => f.write_str(BUILTIN),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out a reference"
)]
fn is_usual(forwarding: &ForwardingFile) -> bool {
    *forwarding == ForwardingFile::default()
}

const BUILTIN: &str = "builtin";

/// RFC 4251: the port of ssh.
const SSH_PORT: u16 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_an_address_or_built_in() {
        for text in [
            "builtin",
            "127.0.0.1:22",
            "[::1]:8080",
            "nas.example.org:80",
        ] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
        assert_eq!("builtin".parse::<Service>().unwrap().port(), 22);
        for bad in ["Builtin", "builtin:22x", "", "localhost"] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_built_in_ssh_may_do_is_little_unless_it_is_said() {
        let parse = |text: &str| toml::from_str::<BuiltinFile>(text);
        let usual = parse("").unwrap();
        assert!(!usual.as_root && usual.sync_keys.is_none());
        assert_eq!(usual.forwarding, ForwardingFile::Loopback);
        let all = parse("as_root = true\nforwarding = 'anywhere'\nsync_keys = '5m'").unwrap();
        assert_eq!(toml::to_string(&all).unwrap().lines().count(), 3);
        assert_eq!(all.sync_keys, Some(Duration::from_mins(5)));
        for bad in ["forwarding = 'all'", "root = true", "sync_keys = 5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
