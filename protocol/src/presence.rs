//! What a device says of itself, retained at the broker.

use serde::{Deserialize, Serialize};

use crate::envelope::{self, bounded_list, bounded_text, check_text};
use crate::limits::{MAX_ADDRESS, MAX_CONTROLLERS, MAX_VERSION};
use crate::{DecodeError, Label, VERSION};

/// The retained state of a device, published on [`Topic::Presence`](crate::Topic::Presence).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether the agent has a session with the broker.
    pub online: bool,
    /// When this state began, by the device's clock, in seconds since 1970. In a last will, which is written in advance,
    /// it is when the session began.
    pub since: u64,
    /// Whether the broker published this as the last will: the session was lost rather than ended.
    #[serde(default)]
    pub lost: bool,
    /// The agent's version; at most 64 bytes.
    #[serde(deserialize_with = "bounded_text::<MAX_VERSION, _>")]
    pub version: String,
    /// Which session this is about.
    pub epoch: Epoch,
    /// The proxy that its tunnels go through, `HOST:PORT`; an older agent does not tell.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "address"
    )]
    pub proxy: Option<String>,
    /// The controllers that hold a lease or have a stream open. An older agent tells of none, and one whose proxy does not say
    /// whose a stream is knows of leases only.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded_list::<MAX_CONTROLLERS, _, _>"
    )]
    pub controllers: Vec<Label>,
}

/// When the agent's session began, in milliseconds since 1970: a later session has a larger one, so that a late last
/// will of an earlier session can be told from the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Presence {
    /// The JSON of the presence.
    pub fn encode(&self) -> Vec<u8> {
        // Serialising plain structs into memory cannot fail; an empty payload would be refused by every reader.
        serde_json::to_vec(&Versioned {
            v: VERSION,
            presence: self.clone(),
        })
        .unwrap_or_default()
    }

    /// Reads a presence; unknown fields are ignored.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        envelope::decode(payload, &[]).map(|Versioned { presence, .. }| presence)
    }
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let address = Option::<String>::deserialize(deserializer)?;
    if let Some(address) = &address {
        check_text::<MAX_ADDRESS>(address).map_err(serde::de::Error::custom)?;
    }
    Ok(address)
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(flatten)]
    presence: Presence,
}
