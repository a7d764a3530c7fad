//! How long a certificate is valid, and its number.

use std::fmt;

use rcgen::{CertificateParams, SerialNumber};
use time::{Duration, OffsetDateTime};

/// Sets a validity of this many days from now, not beyond the end of the authority that signs.
pub(crate) fn set(
    params: &mut CertificateParams,
    days: u16,
    now: OffsetDateTime,
    authority_end: Option<OffsetDateTime>,
) {
    params.not_before = now - BACKDATED;
    let end = now + Duration::days(days.into());
    params.not_after = authority_end.map_or(end, |limit| end.min(limit));
}

/// A certificate's serial number: 16 octets, 126 bits of them random (RFC 5280, section 4.1.2.2: at most 20 octets and
/// positive; CA/Browser Forum Baseline Requirements, section 7.1: at least 64 bits from a random generator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Serial(u128);

impl Serial {
    /// A new number.
    pub(crate) fn random() -> Self {
        Self(rand::random::<u128>() & (u128::MAX >> 2) | 1 << 126)
    }
}

impl From<Serial> for SerialNumber {
    fn from(serial: Serial) -> Self {
        Self::from(serial.0.to_be_bytes().to_vec())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032X}", self.0)
    }
}

/// How far a certificate's start lies in the past: a device whose clock is slow by less can use it at once.
const BACKDATED: Duration = Duration::hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_positive_has_16_octets_and_does_not_repeat() {
        let (one, other) = (Serial::random(), Serial::random());
        assert_ne!(one, other);
        for serial in [one, other] {
            let octets = SerialNumber::from(serial);
            assert_eq!((octets.len(), serial.to_string().len()), (16, 32));
            assert!((0x40..0x80).contains(&octets.as_ref()[0]));
        }
    }

    #[test]
    fn nothing_outlives_its_authority() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let mut params = CertificateParams::default();
        set(&mut params, 397, now, Some(now + Duration::days(10)));
        assert_eq!(params.not_after, now + Duration::days(10));
        set(&mut params, 397, now, Some(now + Duration::days(1000)));
        assert_eq!(params.not_after, now + Duration::days(397));
        assert_eq!(params.not_before, now - Duration::hours(1));
    }
}
