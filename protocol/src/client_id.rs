//! The MQTT client id, which is also the certificate's common name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_NAME;
use crate::{DeviceId, Label, NameError};

/// What a realm puts behind a device id to make its client ids, e.g. `.example.org`; may be empty.
///
/// The original has it so that several realms can share one AWS account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientIdSuffix(String);

impl ClientIdSuffix {
    /// The client id and common name of this device. It may be longer than a DNS name when the suffix is long;
    /// [`Self::device_id`] then refuses it.
    pub fn client_id(&self, id: &DeviceId) -> String {
        format!("{id}{}", self.0)
    }

    /// The device whose client id this is.
    pub fn device_id(&self, client_id: &str) -> Result<DeviceId, NameError> {
        if client_id.len() > MAX_NAME {
            return Err(NameError::IdTooLong {
                length: client_id.len(),
            });
        }
        client_id
            .strip_suffix(&self.0)
            .ok_or_else(|| NameError::Suffix {
                suffix: self.0.clone(),
            })?
            .parse()
    }

    /// The suffix as text, with its leading dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientIdSuffix {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_NAME {
            return Err(NameError::IdTooLong { length: text.len() });
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let names = text.strip_prefix('.').ok_or(NameError::Empty)?;
        names
            .split('.')
            .try_for_each(|name| name.parse::<Label>().map(drop))?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ClientIdSuffix {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ClientIdSuffix> for String {
    fn from(suffix: ClientIdSuffix) -> Self {
        suffix.0
    }
}

impl fmt::Display for ClientIdSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_device_ids_with_the_suffix() {
        let id: DeviceId = "333.hula.atlas".parse().unwrap();
        for (suffix, text) in [
            ("", "333.hula.atlas"),
            (".example.org", "333.hula.atlas.example.org"),
        ] {
            let suffix: ClientIdSuffix = suffix.parse().unwrap();
            assert_eq!(suffix.client_id(&id), text);
            assert_eq!(suffix.device_id(text), Ok(id.clone()));
        }
    }

    #[test]
    fn foreign_suffixes_are_refused() {
        let suffix: ClientIdSuffix = ".example.org".parse().unwrap();
        assert!(matches!(
            suffix.device_id("333.hula.atlas"),
            Err(NameError::Suffix { .. })
        ));
        assert!(matches!(
            suffix.device_id("333.hula.atlas.example.com"),
            Err(NameError::Suffix { .. })
        ));
        for bad in ["example", ".", "..", ".a/b", ".A"] {
            assert!(bad.parse::<ClientIdSuffix>().is_err(), "{bad}");
        }
    }
}
