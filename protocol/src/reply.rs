//! What a device answers to a controller.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::envelope::{self, ObjectOnly, bounded_list, bounded_text, check_text};
use crate::limits::{MAX_ADDRESS, MAX_HOST_KEY, MAX_HOST_KEYS, MAX_SERVICES, MAX_TEXT};
use crate::{DecodeError, Label, LeaseId, VERSION};

/// A reply, published on [`Topic::Reply`](crate::Topic::Reply). A tunnel that had to be opened anew is told in a new
/// [`ReplyBody::Opened`] of the same lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The lease of the order that is answered; `None` only when the order could not be read so far.
    pub lease: Option<LeaseId>,
    /// The answer.
    pub body: ReplyBody,
}

/// The answer in a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// The remote forwards are granted: a stream can be opened now.
    Opened {
        /// The proxy that granted them, `HOST:PORT`.
        proxy: String,
        /// One for each service asked for.
        forwards: Vec<Forward>,
        /// The host keys of the device's own sshd, as in `known_hosts` without the host: `TYPE BASE64`. May be empty.
        host_keys: Vec<String>,
    },
    /// The order is not carried out.
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, and what to do, for people; one line.
        text: String,
    },
    /// The lease is given up.
    Closed,
}

/// A service and the port at which the proxy forwards to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WireForward")]
pub struct Forward {
    /// The service.
    pub service: Label,
    /// The port that the proxy allocated, in the system's own space of ports; never 0.
    pub port: u16,
}

/// Why an order is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// Version, order or field unknown: the text names the versions spoken.
    Unsupported,
    /// The order is older than its lifetime, or the clocks of the two differ too much.
    Stale,
    /// The device does not offer a service of that name.
    UnknownService,
    /// The device holds as many leases as it may.
    Busy,
    /// The device could not reach or log in to the proxy, or the proxy did not grant the forward.
    ProxyUnavailable,
    /// The agent is about to stop.
    ShuttingDown,
    /// A code of a newer agent.
    #[serde(other)]
    Other,
}

impl Reply {
    /// The JSON of the reply.
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self.body.clone() {
            ReplyBody::Opened {
                proxy,
                forwards,
                host_keys,
            } => Wire::Opened {
                proxy,
                forwards,
                host_keys,
            },
            ReplyBody::Refused { code, text } => Wire::Refused { code, text },
            ReplyBody::Closed => Wire::Closed {},
        };
        // Serialising plain structs into memory cannot fail; an empty payload would be refused by every reader.
        serde_json::to_vec(&Versioned {
            v: VERSION,
            lease: self.lease,
            wire,
        })
        .unwrap_or_default()
    }

    /// Reads a reply; unknown fields are ignored.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let Versioned { lease, wire, .. } =
            envelope::decode(payload, &["opened", "refused", "closed"])?;
        let body = match wire {
            Wire::Opened {
                proxy,
                forwards,
                host_keys,
            } => ReplyBody::Opened {
                proxy,
                forwards,
                host_keys,
            },
            Wire::Refused { code, text } => ReplyBody::Refused { code, text },
            Wire::Closed {} => ReplyBody::Closed,
        };
        Ok(Self { lease, body })
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<LeaseId>,
    #[serde(flatten)]
    wire: Wire,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "lowercase")]
enum Wire {
    Opened {
        #[serde(deserialize_with = "bounded_text::<MAX_ADDRESS, _>")]
        proxy: String,
        #[serde(deserialize_with = "bounded_list::<MAX_SERVICES, _, _>")]
        forwards: Vec<Forward>,
        #[serde(default, deserialize_with = "host_keys")]
        host_keys: Vec<String>,
    },
    Refused {
        code: RefusalCode,
        #[serde(deserialize_with = "bounded_text::<MAX_TEXT, _>")]
        text: String,
    },
    Closed {},
}

#[derive(Deserialize)]
struct WireForward {
    service: Label,
    port: NonZeroU16,
    #[serde(flatten)]
    _object: ObjectOnly,
}

impl From<WireForward> for Forward {
    fn from(wire: WireForward) -> Self {
        Self {
            service: wire.service,
            port: wire.port.get(),
        }
    }
}

fn host_keys<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let keys: Vec<String> = bounded_list::<MAX_HOST_KEYS, _, _>(deserializer)?;
    keys.iter()
        .try_for_each(|key| check_text::<MAX_HOST_KEY>(key))
        .map_err(serde::de::Error::custom)?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_newer_agent_is_still_a_refusal() {
        let text = r#"{"v":1,"reply":"refused","code":"on-fire","text":"call somebody"}"#;
        let reply = Reply::decode(text.as_bytes()).unwrap();
        assert_eq!(
            reply.body,
            ReplyBody::Refused {
                code: RefusalCode::Other,
                text: "call somebody".into()
            }
        );
    }

    #[test]
    fn what_could_hurt_a_terminal_or_a_file_is_refused() {
        for text in [
            r#"{"v":1,"reply":"refused","code":"busy","text":"\u001b[2J"}"#,
            r#"{"v":1,"reply":"opened","proxy":"p:22","forwards":[],"host_keys":["ssh-ed25519 AAAA\nevil ssh-rsa"]}"#,
            r#"{"v":1,"reply":"opened","proxy":"p:22\n","forwards":[]}"#,
        ] {
            assert!(
                matches!(
                    Reply::decode(text.as_bytes()),
                    Err(DecodeError::Field { .. })
                ),
                "{text}"
            );
        }
    }
}
