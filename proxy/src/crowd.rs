//! Who is inside: authenticated connections, counted by device and by system. Pure counting.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::{DeviceId, Label, Role};

use crate::limits::Limits;

/// Counts the authenticated connections. Clones are the same crowd.
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
    #[error("too many connections of this device")]
    Device,
    #[error("too many connections of this system")]
    System,
}

impl Crowd {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Mutex::new(Counts {
            per_target: limits.connections_per_target,
            per_controller: limits.connections_per_controller,
            per_system: limits.connections_per_system,
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
            return Err(Crowded::Device);
        }
        if counts.systems.get(id.system()).copied().unwrap_or(0) >= counts.per_system {
            return Err(Crowded::System);
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
        one_less(&mut counts.devices, self.id.clone());
        one_less(&mut counts.systems, self.id.system().clone());
    }
}

#[derive(Debug)]
struct Counts {
    per_target: usize,
    per_controller: usize,
    per_system: usize,
    devices: HashMap<DeviceId, usize>,
    systems: HashMap<Label, usize>,
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_systems_have_so_many_places_and_get_them_back() {
        let crowd = Crowd::new(&Limits {
            connections_per_target: 2,
            connections_per_controller: 3,
            connections_per_system: 4,
            ..Limits::default()
        });
        let enter = |id: &str| crowd.enter(&id.parse().unwrap());
        let mut places = vec![
            enter("333.hula.atlas").unwrap(),
            enter("333.hula.atlas").unwrap(),
        ];
        assert_eq!(enter("333.hula.atlas").unwrap_err(), Crowded::Device);
        places.push(enter("controller.hula.atlas").unwrap());
        places.push(enter("controller.hula.atlas").unwrap());
        assert_eq!(enter("334.hula.atlas").unwrap_err(), Crowded::System);
        drop(enter("334.lono.atlas").unwrap());
        places.remove(0);
        places.push(enter("controller.hula.atlas").unwrap());
        assert_eq!(enter("controller.hula.atlas").unwrap_err(), Crowded::Device);
        drop(places);
        let counts = crowd.0.lock().unwrap();
        assert!(counts.devices.is_empty() && counts.systems.is_empty());
    }
}
