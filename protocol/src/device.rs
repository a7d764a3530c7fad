//! The identity of a device: `DEVICE.SYSTEM.REALM`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_NAME;
use crate::{Label, NameError, Role};

/// The full name of a remote computer or a controller, e.g. `333.hula.atlas`; at most 253 octets. Clones share it: a server
/// keeps a device's name in many places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(Arc<Names>);

impl DeviceId {
    /// Puts an id together; fails only when the whole is too long.
    pub fn new(device: Label, system: Label, realm: Label) -> Result<Self, NameError> {
        let length = device.as_str().len() + system.as_str().len() + realm.as_str().len() + 2;
        if length > MAX_NAME {
            return Err(NameError::IdTooLong { length });
        }
        Ok(Self(Arc::new(Names {
            device,
            system,
            realm,
        })))
    }

    /// The device's name within its system.
    pub fn device(&self) -> &Label {
        &self.0.device
    }

    /// The system it belongs to.
    pub fn system(&self) -> &Label {
        &self.0.system
    }

    /// The realm that its system belongs to.
    pub fn realm(&self) -> &Label {
        &self.0.realm
    }

    /// Whether it may order or only serve.
    pub fn role(&self) -> Role {
        Role::of(self.device())
    }

    /// Whether the other device is of the same system of the same realm, and so may know of this one.
    pub fn same_system(&self, other: &Self) -> bool {
        self.system() == other.system() && self.realm() == other.realm()
    }
}

impl FromStr for DeviceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        // The cap goes before the split, so that hostile text costs nothing.
        if text.len() > MAX_NAME {
            return Err(NameError::IdTooLong { length: text.len() });
        }
        let mut parts = text.split('.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(device), Some(system), Some(realm), None) => {
                Self::new(device.parse()?, system.parse()?, realm.parse()?)
            }
            (..) => Err(NameError::Parts {
                parts: text.split('.').count(),
            }),
        }
    }
}

impl TryFrom<String> for DeviceId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.device(), self.system(), self.realm())
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Names {
    device: Label,
    system: Label,
    realm: Label,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_three_names() {
        let id: DeviceId = "333.hula.atlas".parse().unwrap();
        assert_eq!(
            (
                id.device().as_str(),
                id.system().as_str(),
                id.realm().as_str()
            ),
            ("333", "hula", "atlas")
        );
        assert_eq!(id.to_string(), "333.hula.atlas");
        for (text, parts) in [("333", 1), ("333.hula", 2), ("a.b.c.d", 4)] {
            assert_eq!(text.parse::<DeviceId>(), Err(NameError::Parts { parts }));
        }
        assert_eq!("a..c".parse::<DeviceId>(), Err(NameError::Empty));
    }

    #[test]
    fn an_id_ends_at_253() {
        let part = "a".repeat(63);
        assert!(format!("{part}.{part}.{part}").parse::<DeviceId>().is_ok());
        assert!(matches!(
            "a".repeat(254).parse::<DeviceId>(),
            Err(NameError::IdTooLong { length: 254 })
        ));
    }
}
