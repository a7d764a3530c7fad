//! What a device says of itself, retained at the broker.

use serde::{Deserialize, Serialize};

use crate::envelope::{self, bounded_text};
use crate::limits::MAX_VERSION;
use crate::{DecodeError, VERSION};

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

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(flatten)]
    presence: Presence,
}
