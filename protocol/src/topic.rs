//! The topics of a realm. All other topics are nobody's.

use std::fmt;
use std::str::FromStr;

use crate::limits::MAX_TOPIC;
use crate::{DeviceId, Label, NameError};

/// A topic on which something is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `R/S/D/tunnel/control/C`: an order of controller C to device D. Only C may publish here.
    Order {
        /// The device that is asked.
        device: DeviceId,
        /// The controller that asks, of the same system.
        controller: Label,
    },
    /// `R/S/C/tunnel/reply/D`: device D's answer to controller C. Only D may publish here.
    Reply {
        /// The controller that is answered.
        controller: DeviceId,
        /// The device that answers, of the same system.
        device: Label,
    },
    /// `R/S/D/tunnel/presence`: device D's retained presence.
    Presence(DeviceId),
    /// `R/S/D/tunnel/control`: the original's orders, in its plain grammar.
    PlainControl(DeviceId),
    /// `R/S/D/tunnel/state`: the original's answers, in its plain grammar.
    PlainState(DeviceId),
}

/// Why a text is not one of the realm's topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// Longer than any of ours can be.
    #[error("a topic of {length} bytes is longer than {MAX_TOPIC}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// One of its names is not one.
    #[error("the topic names no device")]
    Name(#[source] NameError),
    /// Not one of the five forms.
    #[error("the topic is none of this protocol's")]
    Unknown,
}

/// The filters that agents and controllers subscribe to.
pub mod filter {
    use crate::{DeviceId, Label};

    /// Orders of every controller to this device.
    pub fn orders(device: &DeviceId) -> String {
        format!("{}/tunnel/control/+", super::base(device))
    }

    /// Replies of every device to this controller.
    pub fn replies(controller: &DeviceId) -> String {
        format!("{}/tunnel/reply/+", super::base(controller))
    }

    /// The presence of every device of a system.
    pub fn presences(realm: &Label, system: &Label) -> String {
        format!("{realm}/{system}/+/tunnel/presence")
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order { device, controller } => {
                write!(f, "{}/tunnel/control/{controller}", base(device))
            }
            Self::Reply { controller, device } => {
                write!(f, "{}/tunnel/reply/{device}", base(controller))
            }
            Self::Presence(device) => write!(f, "{}/tunnel/presence", base(device)),
            Self::PlainControl(device) => write!(f, "{}/tunnel/control", base(device)),
            Self::PlainState(device) => write!(f, "{}/tunnel/state", base(device)),
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        if text.len() > MAX_TOPIC {
            return Err(TopicError::TooLong { length: text.len() });
        }
        let mut levels = text.split('/');
        let (Some(realm), Some(system), Some(device), Some("tunnel"), Some(word)) = (
            levels.next(),
            levels.next(),
            levels.next(),
            levels.next(),
            levels.next(),
        ) else {
            return Err(TopicError::Unknown);
        };
        let (peer, None) = (levels.next(), levels.next()) else {
            return Err(TopicError::Unknown);
        };
        let name = |text: &str| text.parse::<Label>().map_err(TopicError::Name);
        let id =
            DeviceId::new(name(device)?, name(system)?, name(realm)?).map_err(TopicError::Name)?;
        match (word, peer) {
            ("control", Some(controller)) => Ok(Self::Order {
                device: id,
                controller: name(controller)?,
            }),
            ("reply", Some(device)) => Ok(Self::Reply {
                controller: id,
                device: name(device)?,
            }),
            ("presence", None) => Ok(Self::Presence(id)),
            ("control", None) => Ok(Self::PlainControl(id)),
            ("state", None) => Ok(Self::PlainState(id)),
            (_, _) => Err(TopicError::Unknown),
        }
    }
}

/// `R/S/D`, the first levels of every topic of a device.
fn base(id: &DeviceId) -> String {
    format!("{}/{}/{}", id.realm(), id.system(), id.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_refused() {
        for text in [
            "",
            "atlas/hula/333/tunnel",
            "atlas/hula/333/tunnel/",
            "atlas/hula/333/tunnel/control/",
            "atlas/hula/333/tunnel/control/c/d",
            "atlas/hula/333/tunnel/presence/x",
            "atlas/hula/333/tunnel/reply",
            "atlas/hula/+/tunnel/state",
            "/atlas/hula/333/tunnel/state",
            "é/hula/333/tunnel/state",
            "$aws/hula/333/tunnel/state",
        ] {
            assert!(text.parse::<Topic>().is_err(), "{text:?}");
        }
        assert_eq!(
            "a".repeat(MAX_TOPIC + 1).parse::<Topic>(),
            Err(TopicError::TooLong {
                length: MAX_TOPIC + 1
            })
        );
    }
}
