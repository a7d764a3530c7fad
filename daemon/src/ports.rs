//! `[ports]` of `realm.toml`: which port at the proxy a target has, where ports have to be known beforehand.

use std::collections::BTreeMap;

use protocol::{DeviceId, Label, Role};
use serde::{Deserialize, Serialize};

/// The port ranges of a realm's systems. The port of a target whose name is a number is its system's first port plus that
/// number, so that the device, its proxy and its controllers know it without asking each other.
///
/// Our own proxy does not need it. A stock sshd does, because its `permitlisten` names the port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Label, PortRange>")]
pub struct Ports(BTreeMap<Label, PortRange>);

/// The ports of one system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The port of number 0; at least 1024, since a stock sshd lets only root listen below.
    pub start: u16,
    /// The last port.
    pub end: u16,
    /// Whether the tunnels of the system's targets are always on: nobody orders them, and agents and controllers of the system
    /// have nothing to do with the broker. Default: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub always_on: bool,
}

/// Why the ranges cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PortsError {
    /// It ends before it starts, or starts below 1024.
    #[error("the ports of `{system}` are no range above 1023")]
    Range {
        /// Whose.
        system: Label,
    },
    /// A device of one system could have another's port.
    #[error("the ports of `{first}` and `{second}` overlap")]
    Overlap {
        /// One of them.
        first: Label,
        /// The other.
        second: Label,
    },
}

impl Ports {
    /// Whether no system has a range.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this system has a range.
    pub fn has(&self, system: &Label) -> bool {
        self.0.contains_key(system)
    }

    /// Whether the tunnels of this system are always on.
    pub fn is_always_on(&self, system: &Label) -> bool {
        self.0.get(system).is_some_and(|range| range.always_on)
    }

    /// The systems that have a range.
    pub fn systems(&self) -> impl Iterator<Item = &Label> {
        self.0.keys()
    }

    /// The port of a device: for targets whose name is a number that fits into their system's range.
    pub fn of(&self, id: &DeviceId) -> Option<u16> {
        let range = self.0.get(id.system())?;
        let name = id.device().as_str();
        // `7` and `07` would have one port.
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
        if id.role() != Role::Target || !is_number {
            return None;
        }
        let port = range.start.checked_add(name.parse().ok()?)?;
        (port <= range.end).then_some(port)
    }
}

impl TryFrom<BTreeMap<Label, PortRange>> for Ports {
    type Error = PortsError;

    fn try_from(ranges: BTreeMap<Label, PortRange>) -> Result<Self, PortsError> {
        for (system, range) in &ranges {
            if range.start < 1024 || range.end < range.start {
                return Err(PortsError::Range {
                    system: system.clone(),
                });
            }
            let overlap = ranges.iter().find(|(other, range_of_other)| {
                *other != system
                    && range.start <= range_of_other.end
                    && range_of_other.start <= range.end
            });
            if let Some((other, _)) = overlap {
                return Err(PortsError::Overlap {
                    first: system.clone(),
                    second: other.clone(),
                });
            }
        }
        Ok(Self(ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Result<Ports, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_number_is_counted_from_its_systems_start() {
        let ports = ports("hula = { start = 61000, end = 61999 }").unwrap();
        let of = |id: &str| ports.of(&id.parse().unwrap());
        assert_eq!(of("333.hula.atlas"), Some(61_333));
        assert_eq!(of("999.hula.atlas"), Some(61_999));
        for none in [
            "1000.hula.atlas",
            "99999.hula.atlas",
            "033.hula.atlas",
            "0.hula.atlas",
            "x333.hula.atlas",
            "333.tau.atlas",
            "controller-1.hula.atlas",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_system_is_always_on_only_when_it_says_so() {
        let text = "hula = { start = 61000, end = 61999, always_on = true }\ntau = { start = 62000, end = 62999 }";
        let ports = ports(text).unwrap();
        let is = |system: &str| ports.is_always_on(&system.parse().unwrap());
        assert!(is("hula") && !is("tau") && !is("other"));
        let written = toml::to_string(&ports).unwrap();
        assert_eq!(toml::from_str::<Ports>(&written).unwrap(), ports);
    }

    #[test]
    fn no_port_is_of_two_systems() {
        let overlap =
            ports("hula = { start = 61000, end = 61999 }\ntau = { start = 61999, end = 62000 }");
        assert_eq!(
            overlap,
            Err("the ports of `hula` and `tau` overlap".to_owned())
        );
        for bad in ["start = 1023, end = 2000", "start = 3000, end = 2999"] {
            let refused = ports(&format!("hula = {{ {bad} }}"));
            assert_eq!(
                refused,
                Err("the ports of `hula` are no range above 1023".to_owned())
            );
        }
    }
}
