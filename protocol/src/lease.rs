//! The name of one controller's claim on a device's tunnel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// 128 random bits, written as 32 lower-case hexadecimal digits. Whoever opens a lease draws it, so that an order may be
/// sent again until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseId(u128);

/// Not 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lease id is 32 lower-case hexadecimal digits")]
pub struct LeaseIdError;

impl LeaseId {
    /// A lease id of these 16 bytes, which should be random.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl FromStr for LeaseId {
    type Err = LeaseIdError;

    fn from_str(text: &str) -> Result<Self, LeaseIdError> {
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(LeaseIdError);
        }
        u128::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| LeaseIdError)
    }
}

impl TryFrom<String> for LeaseId {
    type Error = LeaseIdError;

    fn try_from(text: String) -> Result<Self, LeaseIdError> {
        text.parse()
    }
}

impl From<LeaseId> for String {
    fn from(id: LeaseId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_has_one_form() {
        let text = "000102030405060708090a0b0c0d0e0f";
        let id: LeaseId = text.parse().unwrap();
        assert_eq!(
            id,
            LeaseId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
        );
        assert_eq!(id.to_string(), text);
        for bad in [
            "",
            "00",
            "000102030405060708090A0B0C0D0E0F",
            "+00102030405060708090a0b0c0d0e0f",
        ] {
            assert_eq!(bad.parse::<LeaseId>(), Err(LeaseIdError), "{bad}");
        }
    }
}
