//! What all JSON payloads have in common: a size cap, a version, and errors that an answer can be made of.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::LeaseId;
use crate::limits::MAX_PAYLOAD;

/// The version that this crate speaks: `"v":1`.
pub const VERSION: u32 = 1;

/// Why a payload is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Over its cap; it was not looked at.
    #[error("a payload of {length} bytes is over the cap of {cap}")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// What is allowed.
        cap: usize,
    },
    /// Not a JSON object of this protocol at all.
    #[error("the payload is not a JSON object with a version `v`")]
    NotAMessage(#[source] serde_json::Error),
    /// Another version of the protocol.
    #[error("version {found} is not spoken here, only version {VERSION}")]
    Version {
        /// The version that the message has.
        found: u32,
        /// The lease that the message names, if it can be read.
        lease: Option<LeaseId>,
    },
    /// An order or a reply of a kind that this version does not know.
    #[error("`{word}` is unknown in version {VERSION}")]
    Unknown {
        /// The unknown word, at most 32 characters of it.
        word: String,
        /// The lease that the message names, if it can be read.
        lease: Option<LeaseId>,
    },
    /// The right version and kind, but a field is missing, of the wrong type or out of bounds.
    #[error("a field of the message is missing or wrong")]
    Field {
        /// What exactly.
        #[source]
        source: serde_json::Error,
        /// The lease that the message names, if it can be read.
        lease: Option<LeaseId>,
    },
}

impl DecodeError {
    /// The lease that the refused message named, so that its sender can be told.
    pub fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::TooLarge { .. } | Self::NotAMessage(_) => None,
            Self::Version { lease, .. }
            | Self::Unknown { lease, .. }
            | Self::Field { lease, .. } => *lease,
        }
    }
}

/// What every version of every message has, read before anything else.
#[derive(Deserialize)]
struct Head {
    v: u32,
    #[serde(default)]
    order: Option<String>,
    #[serde(default)]
    reply: Option<String>,
    #[serde(default)]
    lease: Option<String>,
    #[serde(flatten)]
    _object: ObjectOnly,
}

/// Flattened into a struct, it makes serde refuse a JSON array that holds the fields by position.
#[derive(Deserialize)]
pub(crate) struct ObjectOnly {}

/// Decodes a message whose kind, if it has one, is among `words`.
pub(crate) fn decode<T: DeserializeOwned>(
    payload: &[u8],
    words: &[&str],
) -> Result<T, DecodeError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(DecodeError::TooLarge {
            length: payload.len(),
            cap: MAX_PAYLOAD,
        });
    }
    let head: Head = serde_json::from_slice(payload).map_err(DecodeError::NotAMessage)?;
    let lease = head.lease.as_deref().and_then(|text| text.parse().ok());
    if head.v != VERSION {
        return Err(DecodeError::Version {
            found: head.v,
            lease,
        });
    }
    if let Some(word) = head
        .order
        .or(head.reply)
        .filter(|word| !words.contains(&word.as_str()))
    {
        return Err(DecodeError::Unknown {
            word: word.chars().take(32).collect(),
            lease,
        });
    }
    serde_json::from_slice(payload).map_err(|source| DecodeError::Field { source, lease })
}

/// A list that may not be longer than `MAX`.
pub(crate) fn bounded_list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    let list = Vec::deserialize(deserializer)?;
    if list.len() > MAX {
        return Err(serde::de::Error::custom(format_args!(
            "{} entries, at most {MAX} are allowed",
            list.len()
        )));
    }
    Ok(list)
}

/// A text without control characters that may not be longer than `MAX` bytes.
pub(crate) fn bounded_text<'de, const MAX: usize, D>(deserializer: D) -> Result<String, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    check_text::<MAX>(&text).map_err(serde::de::Error::custom)?;
    Ok(text)
}

/// As [`bounded_text`], for each text of a list.
pub(crate) fn check_text<const MAX: usize>(text: &str) -> Result<(), String> {
    if text.len() > MAX {
        return Err(format!(
            "a text of {} bytes, at most {MAX} are allowed",
            text.len()
        ));
    }
    // Such texts are printed on terminals and written to known_hosts files.
    if text.chars().any(char::is_control) {
        return Err("a control character in a text".to_owned());
    }
    Ok(())
}
