//! Bytes per second, as people write them: `500 kB/s`, `20 MB/s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many bytes per second; at least [`SLOWEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate(u64);

/// Why a text is not a rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a number and a unit.
    #[error("`{0}` is not a rate: write a number and `kB/s`, `MB/s` or `GB/s`")]
    Form(String),
    /// So slow that nothing would work through it.
    #[error("`{0}` is less than {slowest}, with which no session is usable", slowest = Rate(SLOWEST))]
    TooSlow(String),
}

impl Rate {
    /// How long so many bytes take.
    pub fn time_for(self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.0)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let form = || RateError::Form(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
        let (number, unit) = text.split_at(end);
        let number: u64 = number.parse().map_err(|_| form())?;
        let unit = UNITS
            .iter()
            .find(|(name, _)| *name == unit.trim_start_matches(' '))
            .map(|(_, size)| *size)
            .ok_or_else(form)?;
        let rate = number.checked_mul(unit).ok_or_else(form)?;
        if rate < SLOWEST {
            return Err(RateError::TooSlow(text.to_owned()));
        }
        Ok(Self(rate))
    }
}

impl TryFrom<String> for Rate {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, size) = UNITS
            .iter()
            .find(|(_, size)| self.0.is_multiple_of(*size))
            .copied()
            .unwrap_or(("B/s", 1));
        write!(f, "{} {name}", self.0 / size)
    }
}

/// One packet of 64 KiB in half a minute would be taken for a dead stream; 10 kB/s are seven seconds.
pub const SLOWEST: u64 = 10_000;

const UNITS: &[(&str, u64)] = &[
    ("GB/s", 1_000_000_000),
    ("MB/s", 1_000_000),
    ("kB/s", 1_000),
    ("B/s", 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written_as_people_do() {
        for (text, bytes, written) in [
            ("20 MB/s", 20_000_000, "20 MB/s"),
            ("500kB/s", 500_000, "500 kB/s"),
            ("10000 B/s", 10_000, "10 kB/s"),
            ("1 GB/s", 1_000_000_000, "1 GB/s"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate, rate.to_string().as_str()), (Rate(bytes), written));
        }
        for bad in [
            "",
            "20",
            "MB/s",
            "20 MB",
            "-1 MB/s",
            "1.5 MB/s",
            "20 mb/s",
            "99999999999999 GB/s",
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(RateError::Form(bad.to_owned())));
        }
        assert_eq!(
            "9 kB/s".parse::<Rate>().unwrap_err().to_string(),
            "`9 kB/s` is less than 10 kB/s, with which no session is usable"
        );
    }

    #[test]
    fn the_time_for_a_packet() {
        let rate: Rate = "1 MB/s".parse().unwrap();
        assert_eq!(rate.time_for(500_000), Duration::from_millis(500));
        assert_eq!(rate.time_for(0), Duration::ZERO);
    }
}
