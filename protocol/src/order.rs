//! What a controller asks of a device.

use serde::{Deserialize, Serialize};

use crate::envelope::{self, bounded_list};
use crate::limits::{CLOCK_SKEW, MAX_LIFETIME, MAX_SERVICES};
use crate::{DecodeError, Label, LeaseId, VERSION};

/// An order, published on [`Topic::Order`](crate::Topic::Order). It is idempotent: it may be sent again until it is
/// answered, and an `Open` that is sent again with a new time renews its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open a tunnel, or keep it open, for this lease.
    Open {
        /// The controller's claim.
        lease: LeaseId,
        /// What it wants to reach; never empty.
        services: Vec<Label>,
        /// When it was sent, by the controller's clock, in seconds since 1970.
        issued: u64,
        /// How long the order and the lease last from then on.
        lifetime: Lifetime,
    },
    /// Give a lease up.
    Close {
        /// The controller's claim; `None` gives up all of that controller's leases and ends its streams.
        lease: Option<LeaseId>,
    },
}

/// How long a lease lasts without being renewed: 1 to [`MAX_LIFETIME`] seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Lifetime(u32);

impl Lifetime {
    /// A lifetime of that many seconds; `None` outside 1 to [`MAX_LIFETIME`].
    pub const fn from_secs(seconds: u32) -> Option<Self> {
        if seconds == 0 || seconds > MAX_LIFETIME {
            None
        } else {
            Some(Self(seconds))
        }
    }

    /// In seconds.
    pub const fn as_secs(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Lifetime {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        Self::from_secs(seconds)
            .ok_or_else(|| format!("a lifetime is 1 to {MAX_LIFETIME} seconds, not {seconds}"))
    }
}

impl From<Lifetime> for u32 {
    fn from(lifetime: Lifetime) -> Self {
        lifetime.0
    }
}

impl Order {
    /// The lease that it is about, if it is about one.
    pub fn lease(&self) -> Option<LeaseId> {
        match self {
            Self::Open { lease, .. } => Some(*lease),
            Self::Close { lease } => *lease,
        }
    }

    /// Whether the order was issued longer ago than it lasts, or in the future, by more than clocks may differ
    /// ([`CLOCK_SKEW`]). `now` is the device's clock in seconds since 1970.
    pub fn is_stale(&self, now: u64) -> bool {
        match self {
            Self::Close { .. } => false,
            Self::Open {
                issued, lifetime, ..
            } => {
                let last = issued
                    .saturating_add(u64::from(lifetime.0))
                    .saturating_add(CLOCK_SKEW);
                now > last || *issued > now.saturating_add(CLOCK_SKEW)
            }
        }
    }

    /// The JSON of the order.
    pub fn encode(&self) -> Vec<u8> {
        let wire = match self.clone() {
            Self::Open {
                lease,
                services,
                issued,
                lifetime,
            } => Wire::Open {
                lease,
                services,
                issued,
                lifetime,
            },
            Self::Close { lease } => Wire::Close { lease },
        };
        // Serialising plain structs into memory cannot fail; an empty payload would be refused by every reader.
        serde_json::to_vec(&Versioned { v: VERSION, wire }).unwrap_or_default()
    }

    /// Reads an order; unknown fields are ignored.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let Versioned { wire, .. } = envelope::decode(payload, &["open", "close"])?;
        Ok(match wire {
            Wire::Open {
                lease,
                services,
                issued,
                lifetime,
            } => Self::Open {
                lease,
                services,
                issued,
                lifetime,
            },
            Wire::Close { lease } => Self::Close { lease },
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(flatten)]
    wire: Wire,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
enum Wire {
    Open {
        lease: LeaseId,
        #[serde(deserialize_with = "services")]
        services: Vec<Label>,
        issued: u64,
        lifetime: Lifetime,
    },
    Close {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<LeaseId>,
    },
}

fn services<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Label>, D::Error> {
    let services: Vec<Label> = bounded_list::<MAX_SERVICES, _, _>(deserializer)?;
    if services.is_empty() {
        return Err(serde::de::Error::custom("no service is asked for"));
    }
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(issued: u64, lifetime: u32) -> Order {
        Order::Open {
            lease: LeaseId::from_bytes([7; 16]),
            services: vec!["ssh".parse().unwrap()],
            issued,
            lifetime: Lifetime::from_secs(lifetime).unwrap(),
        }
    }

    #[test]
    fn an_order_is_stale_only_beyond_its_life_and_the_skew() {
        let order = open(10_000, 60);
        for (now, stale) in [
            (10_000, false),
            (10_360, false),
            (10_361, true),
            (9_700, false),
            (9_699, true),
        ] {
            assert_eq!(order.is_stale(now), stale, "{now}");
        }
        assert!(!open(u64::MAX, 3600).is_stale(u64::MAX));
    }

    #[test]
    fn refusals_keep_the_lease_so_that_the_sender_can_be_told() {
        let lease = "07".repeat(16);
        let decode = |text: String| Order::decode(text.as_bytes()).unwrap_err();
        let version = decode(format!(r#"{{"v":2,"order":"open","lease":"{lease}"}}"#));
        assert!(
            matches!(
                version,
                DecodeError::Version {
                    found: 2,
                    lease: Some(_)
                }
            ),
            "{version:?}"
        );
        let word = decode(format!(r#"{{"v":1,"order":"reboot","lease":"{lease}"}}"#));
        assert!(
            matches!(&word, DecodeError::Unknown { word, lease: Some(_) } if word == "reboot"),
            "{word:?}"
        );
        let field = decode(format!(
            r#"{{"v":1,"order":"open","lease":"{lease}","services":[],"issued":1,"lifetime":1}}"#
        ));
        assert!(
            matches!(field, DecodeError::Field { lease: Some(_), .. }),
            "{field:?}"
        );
    }

    #[test]
    fn the_cap_comes_before_the_parser() {
        let payload = vec![b'['; crate::limits::MAX_PAYLOAD + 1];
        assert!(matches!(
            Order::decode(&payload),
            Err(DecodeError::TooLarge { .. })
        ));
    }
}
