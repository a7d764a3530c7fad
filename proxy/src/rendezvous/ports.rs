//! Which port a forward gets, and how long it is kept for its device.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use protocol::{DeviceId, Label};
use tokio::time::Instant;

use super::entry::{Entry, Slot};
use super::{ConnectionId, ForwardRefusal, Table, push};
use crate::admission::{ForwardPermit, Wanted};
use crate::limits::FIRST_ALLOCATED_PORT;

impl<M: Clone> Table<M> {
    /// Forgets the ports whose time without members is over.
    pub fn expire(&mut self, now: Instant) {
        while let Some((since, slot)) = self.emptied.front() {
            if now < *since + self.limits.port_keep {
                return;
            }
            let (since, slot) = (*since, slot.clone());
            self.emptied.pop_front();
            // It may have come back since, and gone again.
            if self
                .entries
                .get(&slot)
                .is_some_and(|entry| entry.emptied == Some(since))
            {
                self.forget(&slot);
            }
        }
    }

    /// Which of a connection's ports the next one is: the first that it does not have.
    pub(super) fn next_ordinal(&self, connection: ConnectionId) -> usize {
        let held: BTreeSet<usize> = self
            .connections
            .get(&connection)
            .map(|known| known.slots.as_slice())
            .unwrap_or_default()
            .iter()
            .filter(|slot| matches!(slot, Slot::Port(..)))
            .filter_map(|slot| Some(self.entries.get(slot)?.ordinal))
            .collect();
        let mut numbers = 0..=held.len();
        numbers
            .find(|number| !held.contains(number))
            .unwrap_or(held.len())
    }

    pub(super) fn slot_for(
        &self,
        permit: &ForwardPermit,
        connection: ConnectionId,
        ordinal: usize,
        draw: u16,
    ) -> Result<Slot, ForwardRefusal> {
        let owner = permit.owner();
        match permit.wanted() {
            Wanted::Port(port) => Ok(Slot::Port(owner.system().clone(), port)),
            Wanted::Service(port) => Ok(Slot::Service(owner.clone(), port)),
            Wanted::AnyPort => self
                .promised_to(connection, owner)
                .or_else(|| self.kept_port(owner, ordinal))
                .or_else(|| self.free_port(owner.system(), draw))
                .ok_or(ForwardRefusal::TooMany),
        }
    }

    /// The port that was promised to a connection, as long as it is its device's and it has not got it.
    pub(super) fn promised_to(&self, connection: ConnectionId, owner: &DeviceId) -> Option<Slot> {
        let port = self.connections.get(&connection)?.promised?;
        let slot = Slot::Port(owner.system().clone(), port);
        let entry = self.entries.get(&slot)?;
        (entry.owner == *owner && !entry.has(connection)).then_some(slot)
    }

    /// The port that the device had before for the same service, if nobody serves it now. Another service's is not
    /// given: controllers that know the port would reach the wrong one.
    fn kept_port(&self, owner: &DeviceId, ordinal: usize) -> Option<Slot> {
        let mut ports = self.ports_of(owner, ordinal);
        ports.find(|slot| !self.is_served(slot)).cloned()
    }

    /// The port of a device's first service, for a connection that gets it if it asks for any. It is kept from now on.
    pub(super) fn promise(&mut self, owner: &DeviceId, draw: u16, now: Instant) -> Option<u16> {
        self.expire(now);
        let slot = match self.kept_port(owner, 0) {
            Some(kept) => kept,
            None => self.reserve(owner, draw)?,
        };
        self.keep(&slot, now);
        Some(slot.port())
    }

    /// The port at which a device's first service is served now.
    pub(super) fn served_first(&self, owner: &DeviceId) -> Option<&Slot> {
        let mut first = self.ports_of(owner, 0);
        first.find(|slot| self.is_served(slot))
    }

    /// A new entry for a port that is free.
    fn reserve(&mut self, owner: &DeviceId, draw: u16) -> Option<Slot> {
        let entries = self.devices.get(owner).map_or(0, Vec::len);
        if entries >= self.limits.entries_per_device {
            return None;
        }
        let slot = self.free_port(owner.system(), draw)?;
        let entry = Entry {
            owner: owner.clone(),
            ordinal: 0,
            members: Vec::new(),
            emptied: None,
        };
        self.entries.insert(slot.clone(), Box::new(entry));
        let slots = self.devices.entry(owner.clone()).or_default();
        push(slots, slot.clone());
        Some(slot)
    }

    /// The ports that are a device's first, second and so on, in the order in which they were registered.
    pub(super) fn ports_of(&self, owner: &DeviceId, ordinal: usize) -> impl Iterator<Item = &Slot> {
        let slots = self.devices.get(owner).map(Vec::as_slice);
        slots.unwrap_or_default().iter().filter(move |slot| {
            let entry = self.entries.get(slot);
            matches!(slot, Slot::Port(..)) && entry.is_some_and(|entry| entry.ordinal == ordinal)
        })
    }

    fn free_port(&self, system: &Label, draw: u16) -> Option<Slot> {
        let count = u16::MAX - FIRST_ALLOCATED_PORT;
        let mut candidates = (0..=count).map(|step| {
            let offset = (u32::from(draw) + u32::from(step)) % (u32::from(count) + 1);
            FIRST_ALLOCATED_PORT + u16::try_from(offset).unwrap_or(0)
        });
        candidates.find_map(|port| {
            let slot = Slot::Port(system.clone(), port);
            (!self.entries.contains_key(&slot)).then_some(slot)
        })
    }

    /// Keeps a port without members for its device, from now on.
    pub(super) fn keep(&mut self, slot: &Slot, now: Instant) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        entry.emptied = Some(now);
        let owner = entry.owner.clone();
        self.emptied.push_back((now, slot.clone()));
        self.keep_few(&owner);
        self.compact();
    }

    fn keep_few(&mut self, owner: &DeviceId) {
        let slots = self
            .devices
            .get(owner)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut kept: Vec<(Instant, Reverse<usize>, Slot)> = slots
            .iter()
            .filter_map(|slot| {
                let entry = self.entries.get(slot)?;
                Some((entry.emptied?, Reverse(entry.ordinal), slot.clone()))
            })
            .collect();
        // Of those that went together, the first service's stays.
        kept.sort_by_key(|(since, later, _)| (*since, *later));
        let surplus = kept.len().saturating_sub(self.limits.kept_ports_per_device);
        for (_, _, slot) in kept.into_iter().take(surplus) {
            self.forget(&slot);
        }
    }

    /// A device that comes and goes all the time leaves marks that mean nothing any more.
    fn compact(&mut self) {
        if self.emptied.len() > STALE_MARKS + 2 * self.entries.len() {
            let entries = &self.entries;
            let valid = |since: Instant, slot: &Slot| {
                entries
                    .get(slot)
                    .is_some_and(|entry| entry.emptied == Some(since))
            };
            self.emptied.retain(|(since, slot)| valid(*since, slot));
        }
    }

    pub(super) fn forget(&mut self, slot: &Slot) {
        let Some(entry) = self.entries.remove(slot) else {
            return;
        };
        if let Some(slots) = self.devices.get_mut(&entry.owner) {
            slots.retain(|held| held != slot);
            if slots.is_empty() {
                self.devices.remove(&entry.owner);
            }
        }
    }
}

/// How many marks of ports without members may be out of date before they are swept.
pub(super) const STALE_MARKS: usize = 1024;
