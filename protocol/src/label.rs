//! A name of one part: a realm, a system, a device, a service.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_LABEL, MAX_NAME};

/// A DNS label in lower case: 1 to 63 of `a-z`, `0-9` and inner `-` (RFC 1123, section 2.1, without upper case).
///
/// Nothing is repaired: a name that is not one is refused where it enters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing before, between or behind the dots.
    #[error("a name is empty")]
    Empty,
    /// A label is longer than DNS allows.
    #[error("a name of {length} characters is longer than {MAX_LABEL}")]
    LabelTooLong {
        /// Its length in octets.
        length: usize,
    },
    /// A whole id is longer than DNS allows.
    #[error("an id of {length} characters is longer than {MAX_NAME}")]
    IdTooLong {
        /// Its length in octets.
        length: usize,
    },
    /// A character that no name may have; upper case is one.
    #[error("a name may have only a-z, 0-9 and inner `-`, not {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
    /// A hyphen at either end.
    #[error("a name may not begin or end with `-`")]
    Hyphen,
    /// Not `DEVICE.SYSTEM.REALM`.
    #[error("an id is `DEVICE.SYSTEM.REALM`: three names, not {parts}")]
    Parts {
        /// How many there were.
        parts: usize,
    },
    /// A client id that does not end as this realm's do.
    #[error("a client id of this realm ends in `{suffix}`")]
    Suffix {
        /// The realm's suffix.
        suffix: String,
    },
}

impl Label {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_LABEL {
            return Err(NameError::LabelTooLong { length: text.len() });
        }
        let foreign = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '-');
        if let Some(found) = text.chars().find(foreign) {
            return Err(NameError::Character { found });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Hyphen);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Label {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl AsRef<str> for Label {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_bad_name_has_its_own_reason() {
        let cases = [
            ("", NameError::Empty),
            ("-a", NameError::Hyphen),
            ("a-", NameError::Hyphen),
            ("A", NameError::Character { found: 'A' }),
            ("a.b", NameError::Character { found: '.' }),
            ("a/b", NameError::Character { found: '/' }),
            ("a+", NameError::Character { found: '+' }),
            ("é", NameError::Character { found: 'é' }),
            ("a\n", NameError::Character { found: '\n' }),
        ];
        for (text, reason) in cases {
            assert_eq!(text.parse::<Label>(), Err(reason), "{text:?}");
        }
        let long = "a".repeat(64);
        assert_eq!(
            long.parse::<Label>(),
            Err(NameError::LabelTooLong { length: 64 })
        );
    }

    #[test]
    fn good_names_print_as_they_were() {
        for text in ["333", "a", "controller-sivanlap", "x--y", &"z".repeat(63)] {
            assert_eq!(text.parse::<Label>().unwrap().to_string(), text);
        }
    }
}
