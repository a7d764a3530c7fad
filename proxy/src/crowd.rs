//! How many of something there are, by device and by system. Pure counting.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{DeviceId, Label, Role};

use crate::limits::Limits;

/// Counts connections or streams. Clones are the same crowd.
#[derive(Clone, Debug)]
pub(crate) struct Crowd(Arc<Mutex<Counts>>);

/// A device's place in the crowd, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    id: DeviceId,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Crowded {
    #[error("too many {0} of this device")]
    Device(Of),
    #[error("too many {0} of this system")]
    System(Of),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Connections,
    Streams,
}

impl Crowd {
    /// Authenticated connections.
    pub(crate) fn of_connections(limits: &Limits) -> Self {
        Self::new(
            Of::Connections,
            limits.connections_per_target,
            limits.connections_per_controller,
            limits.connections_per_system,
        )
    }

    /// Streams, by who asked for them.
    pub(crate) fn of_streams(limits: &Limits) -> Self {
        Self::new(
            Of::Streams,
            0,
            limits.streams_per_controller,
            limits.streams_per_system,
        )
    }

    /// Streams, by who serves them. Their systems are those of the controllers, which are counted there.
    pub(crate) fn of_streams_served(limits: &Limits) -> Self {
        Self::new(Of::Streams, limits.streams_per_target, 0, usize::MAX)
    }

    fn new(of: Of, per_target: usize, per_controller: usize, per_system: usize) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            of,
            per_target,
            per_controller,
            per_system,
            devices: HashMap::new(),
            systems: HashMap::new(),
        })))
    }

    pub(crate) fn enter(&self, id: &DeviceId) -> Result<Place, Crowded> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let per_device = match id.role() {
            Role::Target => counts.per_target,
            Role::Controller => counts.per_controller,
        };
        if counts.devices.get(id).copied().unwrap_or(0) >= per_device {
            return Err(Crowded::Device(counts.of));
        }
        if counts.systems.get(id.system()).copied().unwrap_or(0) >= counts.per_system {
            return Err(Crowded::System(counts.of));
        }
        *counts.devices.entry(id.clone()).or_insert(0) += 1;
        *counts.systems.entry(id.system().clone()).or_insert(0) += 1;
        Ok(Place {
            crowd: self.clone(),
            id: id.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        one_less(&mut counts.devices, &self.id);
        one_less(&mut counts.systems, self.id.system());
    }
}

impl std::fmt::Display for Of {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Streams => "streams",
        })
    }
}

#[derive(Debug)]
struct Counts {
    of: Of,
    per_target: usize,
    per_controller: usize,
    per_system: usize,
    devices: HashMap<DeviceId, usize>,
    systems: HashMap<Label, usize>,
}

/// Counts one less of this key, and forgets a key of which there are none.
pub(crate) fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_systems_have_so_many_places_and_get_them_back() {
        let crowd = Crowd::of_connections(&Limits {
            connections_per_target: 2,
            connections_per_controller: 3,
            connections_per_system: 4,
            ..Limits::default()
        });
        let (device, system) = (
            Crowded::Device(Of::Connections),
            Crowded::System(Of::Connections),
        );
        let enter = |id: &str| crowd.enter(&id.parse().unwrap());
        let mut places = vec![
            enter("333.hula.atlas").unwrap(),
            enter("333.hula.atlas").unwrap(),
        ];
        assert_eq!(enter("333.hula.atlas").unwrap_err(), device);
        places.push(enter("controller.hula.atlas").unwrap());
        places.push(enter("controller.hula.atlas").unwrap());
        assert_eq!(enter("334.hula.atlas").unwrap_err(), system);
        drop(enter("334.lono.atlas").unwrap());
        places.remove(0);
        places.push(enter("controller.hula.atlas").unwrap());
        assert_eq!(enter("controller.hula.atlas").unwrap_err(), device);
        drop(places);
        let counts = crowd.0.lock().unwrap();
        assert!(counts.devices.is_empty() && counts.systems.is_empty());
    }

    #[test]
    fn controllers_ask_for_streams_and_targets_serve_them() {
        let limits = Limits::default();
        let (asked, served) = (
            Crowd::of_streams(&limits),
            Crowd::of_streams_served(&limits),
        );
        let (target, controller) = (
            "333.hula.atlas".parse().unwrap(),
            "controller.hula.atlas".parse().unwrap(),
        );
        assert!(asked.enter(&target).is_err() && served.enter(&controller).is_err());
        assert!(asked.enter(&controller).is_ok() && served.enter(&target).is_ok());
    }
}
