//! Where controllers meet devices: ports and names, who serves them, and who is least busy. Pure: no sockets, and time
//! and chance come from the caller.

mod entry;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use daemon::ssh::PeerKind;
use protocol::{DeviceId, Label};
use tokio::time::Instant;

use self::entry::{Connection, Entry, Seat, Slot};
use crate::admission::{Destination, ForwardPermit, StreamPermit, Wanted};
use crate::limits::{FIRST_ALLOCATED_PORT, Limits, SSH_PORT};

/// One SSH connection of the proxy. Numbers are not used again while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Where streams may go, and through which connections. `M` is what is needed to reach a member.
#[derive(Debug)]
pub struct Table<M> {
    limits: TableLimits,
    entries: HashMap<Slot, Entry>,
    devices: HashMap<DeviceId, Vec<Slot>>,
    connections: HashMap<ConnectionId, Connection<M>>,
    emptied: VecDeque<(Instant, Slot)>,
    sequence: u64,
}

/// The limits that concern the table; see [`Limits`].
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    forwards_per_connection: usize,
    entries_per_device: usize,
    members_per_entry: usize,
    streams_per_connection: usize,
    port_keep: Duration,
    kept_ports_per_device: usize,
}

/// What a member is known by when it registers.
#[derive(Clone, Debug)]
pub struct Member<M> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Whether it is one of our agents, which would rather bring a spare connection than share.
    pub kind: PeerKind,
    /// What is needed to reach it.
    pub reach: M,
}

/// Whom a stream should go to. It counts as one of the member's streams until it is [released](Table::release).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<M> {
    /// The member's connection.
    pub connection: ConnectionId,
    /// What is needed to reach it.
    pub reach: M,
    /// The address, as the member asked for it: clients look their forwards up by it.
    pub address: String,
    /// The port that was granted.
    pub port: u16,
}

/// An answer to a stream that looks for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick<M> {
    /// Take this one.
    Member(Chosen<M>),
    /// All are busy; an idle one may come.
    Busy,
    /// Nobody is there, or may be told of.
    Nobody,
}

/// Why a forward is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardRefusal {
    /// Another device of the system has that port.
    #[error("the port belongs to another device")]
    Taken,
    /// The connection has it already.
    #[error("the connection has it already")]
    Twice,
    /// One of the limits.
    #[error("too many forwards")]
    TooMany,
}

/// What the table holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections with at least one forward.
    pub members: usize,
    /// Devices with at least one member: they can be reached.
    pub tunnels: usize,
}

impl<M: Clone> Table<M> {
    /// An empty table.
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: TableLimits {
                forwards_per_connection: limits.forwards_per_connection,
                entries_per_device: limits.entries_per_device,
                members_per_entry: limits.members_per_entry,
                streams_per_connection: limits.streams_per_connection,
                port_keep: limits.port_keep,
                kept_ports_per_device: limits.kept_ports_per_device,
            },
            entries: HashMap::new(),
            devices: HashMap::new(),
            connections: HashMap::new(),
            emptied: VecDeque::new(),
            sequence: 0,
        }
    }

    /// Registers a forward. Returns the port to tell the client. `draw` is a random number, for a port that is to be
    /// allocated.
    pub fn forward(
        &mut self,
        permit: &ForwardPermit,
        address: &str,
        member: Member<M>,
        draw: u16,
        now: Instant,
    ) -> Result<u16, ForwardRefusal> {
        self.expire(now);
        let ordinal = self.next_ordinal(member.connection);
        let slot = self.slot_for(permit, ordinal, draw)?;
        let port = slot.port();
        let known = self.entries.get(&slot);
        if known.is_some_and(|entry| &entry.owner != permit.owner()) {
            return Err(ForwardRefusal::Taken);
        }
        if known.is_some_and(|entry| entry.has(member.connection)) {
            return Err(ForwardRefusal::Twice);
        }
        let owned = self.devices.get(permit.owner()).map_or(0, Vec::len);
        let forwards = self.forwards(member.connection);
        if forwards >= self.limits.forwards_per_connection
            || known.map_or(0, |entry| entry.members.len()) >= self.limits.members_per_entry
            || (known.is_none() && owned >= self.limits.entries_per_device)
        {
            return Err(ForwardRefusal::TooMany);
        }
        self.sequence += 1;
        let order = self.sequence;
        if known.is_none() {
            let slots = self.devices.entry(permit.owner().clone()).or_default();
            slots.push(slot.clone());
        }
        let entry = self.entries.entry(slot.clone()).or_insert_with(|| Entry {
            owner: permit.owner().clone(),
            ordinal,
            members: Vec::new(),
            emptied: None,
        });
        if entry.members.is_empty() {
            entry.ordinal = ordinal;
        }
        entry.emptied = None;
        entry.members.push(Seat {
            connection: member.connection,
            address: address.to_owned(),
            order,
        });
        let connection = self
            .connections
            .entry(member.connection)
            .or_insert_with(|| Connection {
                reach: member.reach,
                kind: member.kind,
                busy: 0,
                slots: Vec::new(),
            });
        connection.slots.push(slot);
        Ok(port)
    }

    /// Takes a forward back. Returns whether there was one.
    pub fn cancel(
        &mut self,
        connection: ConnectionId,
        permit: &ForwardPermit,
        now: Instant,
    ) -> bool {
        let owner = permit.owner();
        let slot = match permit.wanted() {
            Wanted::AnyPort => return false,
            Wanted::Port(port) => Slot::Port(owner.system().clone(), port),
            Wanted::Service(port) => Slot::Service(owner.clone(), port),
        };
        let Some(known) = self.connections.get_mut(&connection) else {
            return false;
        };
        let before = known.slots.len();
        known.slots.retain(|held| held != &slot);
        if known.slots.len() == before {
            return false;
        }
        self.leave(connection, &slot, now);
        true
    }

    /// A connection has ended, or should get nothing new. Returns whether it was a member.
    pub fn gone(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let Some(ended) = self.connections.remove(&connection) else {
            return false;
        };
        for slot in ended.slots {
            self.leave(connection, &slot, now);
        }
        true
    }

    /// Finds the least busy member for a stream, except those that were `tried`. With `share`, a busy member of an own
    /// agent will do.
    pub fn pick(&mut self, permit: &StreamPermit, tried: &[ConnectionId], share: bool) -> Pick<M> {
        let Some((slot, seat)) = self.least_busy(permit, tried) else {
            return Pick::Nobody;
        };
        let port = slot.port();
        let (connection, address) = (seat.connection, seat.address.clone());
        let Some(known) = self.connections.get_mut(&connection) else {
            return Pick::Nobody;
        };
        let may_share = share || known.kind == PeerKind::Foreign;
        if known.busy >= self.limits.streams_per_connection || (known.busy > 0 && !may_share) {
            return Pick::Busy;
        }
        known.busy += 1;
        Pick::Member(Chosen {
            connection,
            reach: known.reach.clone(),
            address,
            port,
        })
    }

    /// A stream that was picked has ended, or could not be opened.
    pub fn release(&mut self, connection: ConnectionId) {
        if let Some(known) = self.connections.get_mut(&connection) {
            known.busy = known.busy.saturating_sub(1);
        }
    }

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

    /// How many forwards a connection has.
    pub fn forwards(&self, connection: ConnectionId) -> usize {
        self.connections
            .get(&connection)
            .map_or(0, |known| known.slots.len())
    }

    /// What the table holds.
    pub fn occupancy(&self) -> Occupancy {
        let reachable = |slots: &&Vec<Slot>| {
            let mut entries = slots.iter().filter_map(|slot| self.entries.get(slot));
            entries.any(|entry| !entry.members.is_empty())
        };
        Occupancy {
            members: self
                .connections
                .values()
                .filter(|known| !known.slots.is_empty())
                .count(),
            tunnels: self.devices.values().filter(reachable).count(),
        }
    }

    /// Which of a connection's ports the next one is: the first that it does not have.
    fn next_ordinal(&self, connection: ConnectionId) -> usize {
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

    fn slot_for(
        &self,
        permit: &ForwardPermit,
        ordinal: usize,
        draw: u16,
    ) -> Result<Slot, ForwardRefusal> {
        let owner = permit.owner();
        match permit.wanted() {
            Wanted::Port(port) => Ok(Slot::Port(owner.system().clone(), port)),
            Wanted::Service(port) => Ok(Slot::Service(owner.clone(), port)),
            Wanted::AnyPort => match self.kept_port(owner, ordinal) {
                Some(slot) => Ok(slot),
                None => self
                    .free_port(owner.system(), draw)
                    .ok_or(ForwardRefusal::TooMany),
            },
        }
    }

    /// The port that the device had before for the same service, if nobody serves it now. Another service's is not
    /// given: controllers that know the port would reach the wrong one.
    fn kept_port(&self, owner: &DeviceId, ordinal: usize) -> Option<Slot> {
        let mut ports = self.ports_of(owner, ordinal);
        ports.find(|slot| !self.is_served(slot)).cloned()
    }

    /// The ports that are a device's first, second and so on, in the order in which they were registered.
    fn ports_of(&self, owner: &DeviceId, ordinal: usize) -> impl Iterator<Item = &Slot> {
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

    fn least_busy(&self, permit: &StreamPermit, tried: &[ConnectionId]) -> Option<(Slot, &Seat)> {
        let slot = self.resolve(permit)?;
        let entry = self.entries.get(&slot)?;
        let busy = |seat: &Seat| {
            self.connections
                .get(&seat.connection)
                .map_or(0, |known| known.busy)
        };
        let mut seats: Vec<&Seat> = entry.members.iter().collect();
        seats.retain(|seat| !tried.contains(&seat.connection));
        // Among equals the latest, which is the least likely to be dead without our knowing.
        let best = seats
            .into_iter()
            .min_by_key(|seat| (busy(seat), u64::MAX - seat.order))?;
        Some((slot, best))
    }

    fn resolve(&self, permit: &StreamPermit) -> Option<Slot> {
        match permit.to() {
            Destination::Port(system, port) => Some(Slot::Port(system.clone(), *port)),
            Destination::Service(device, port) => {
                let named = Slot::Service(device.clone(), *port);
                if *port != SSH_PORT || self.is_served(&named) {
                    return Some(named);
                }
                // Never another of its services, even if the first is not served for a moment: it is waited for.
                let mut first = self.ports_of(device, 0);
                first.find(|slot| self.is_served(slot)).cloned()
            }
        }
    }

    fn is_served(&self, slot: &Slot) -> bool {
        self.entries
            .get(slot)
            .is_some_and(|entry| !entry.members.is_empty())
    }

    fn leave(&mut self, connection: ConnectionId, slot: &Slot, now: Instant) {
        let Some(entry) = self.entries.get_mut(slot) else {
            return;
        };
        entry.members.retain(|seat| seat.connection != connection);
        if !entry.members.is_empty() {
            return;
        }
        match slot {
            Slot::Port(..) => {
                entry.emptied = Some(now);
                let owner = entry.owner.clone();
                self.emptied.push_back((now, slot.clone()));
                self.keep_few(&owner);
                self.compact();
            }
            // A name is the device's own anyway: there is nothing to keep.
            Slot::Service(..) => self.forget(slot),
        }
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

    fn forget(&mut self, slot: &Slot) {
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
const STALE_MARKS: usize = 1024;

#[cfg(test)]
mod tests;
