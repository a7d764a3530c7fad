//! Where controllers meet devices: ports and names, who serves them, and who is least busy. Pure: no sockets, and time
//! and chance come from the caller.

mod entry;
mod expected;
mod ports;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use daemon::ssh::PeerKind;
use protocol::DeviceId;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::entry::{Connection, Entry, Seat, Slot};
use self::waiting::Waiting;
pub use self::waiting::{TooManyWaiting, WaiterId};
use crate::admission::{Destination, ForwardPermit, StreamPermit, Wanted};
use crate::limits::{Limits, SSH_PORT};

/// One SSH connection of the proxy. Numbers are not used again while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Where streams may go, and through which connections. `M` is what is needed to reach a member.
#[derive(Debug)]
pub struct Table<M> {
    limits: TableLimits,
    // Boxed, since a map has up to twice as many places as it needs.
    entries: HashMap<Slot, Box<Entry>>,
    devices: HashMap<DeviceId, Vec<Slot>>,
    connections: HashMap<ConnectionId, Box<Connection<M>>>,
    /// The connection of a device that is about to ask for its forwards.
    expected: HashMap<DeviceId, ConnectionId>,
    emptied: VecDeque<(Instant, Slot)>,
    waiting: Waiting,
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
    /// The device that it belongs to.
    pub device: DeviceId,
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
    /// Streams that wait for a forward, or for a member with room.
    pub waiting: usize,
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
            expected: HashMap::new(),
            emptied: VecDeque::new(),
            waiting: Waiting::new(limits),
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
        self.no_longer_expected(member.connection);
        let ordinal = self.next_ordinal(member.connection);
        let slot = self.slot_for(permit, member.connection, ordinal, draw)?;
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
            push(slots, slot.clone());
        }
        let entry = self.entries.entry(slot.clone()).or_insert_with(|| {
            Box::new(Entry {
                owner: permit.owner().clone(),
                ordinal,
                members: Vec::new(),
                emptied: None,
            })
        });
        if entry.members.is_empty() {
            entry.ordinal = ordinal;
        }
        entry.emptied = None;
        let seat = Seat {
            connection: member.connection,
            address: address.into(),
            order,
        };
        push(&mut entry.members, seat);
        let connection = self
            .connections
            .entry(member.connection)
            .or_insert_with(|| {
                Box::new(Connection {
                    reach: member.reach,
                    kind: member.kind,
                    busy: 0,
                    slots: Vec::new(),
                    expected: None,
                    promised: None,
                })
            });
        self.waiting.wake(&slot, permit.owner());
        push(&mut connection.slots, slot);
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

    /// A connection has ended, or should get nothing new. Returns whether it was a member, or expected to become one.
    pub fn gone(&mut self, connection: ConnectionId, now: Instant) -> bool {
        self.no_longer_expected(connection);
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
        let (connection, address) = (seat.connection, seat.address.to_string());
        let Some(owner) = self.entries.get(&slot).map(|entry| entry.owner.clone()) else {
            return Pick::Nobody;
        };
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
            device: owner,
            reach: known.reach.clone(),
            address,
            port,
        })
    }

    /// A stream that was picked has ended, or could not be opened.
    pub fn release(&mut self, connection: ConnectionId) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        known.busy = known.busy.saturating_sub(1);
        for slot in &known.slots {
            if let Some(entry) = self.entries.get(slot) {
                self.waiting.wake(slot, &entry.owner);
            }
        }
        if let Some(device) = &known.expected {
            let named = Slot::Service(device.clone(), SSH_PORT);
            self.waiting.wake(&named, device);
        }
    }

    /// Lets a controller's stream wait where its permit leads; without one it waits in vain, which from outside is the
    /// same. The bell rings when it is worth [picking](Self::pick) again.
    pub fn wait(
        &mut self,
        permit: Option<&StreamPermit>,
        controller: &DeviceId,
    ) -> Result<(WaiterId, Arc<Notify>), TooManyWaiting> {
        let at = permit.map(|permit| match permit.to() {
            Destination::Port(system, port) => Slot::Port(system.clone(), *port),
            Destination::Service(device, port) => Slot::Service(device.clone(), *port),
        });
        self.waiting.begin(at, controller)
    }

    /// A stream waits no more.
    pub fn stop_waiting(&mut self, waiter: WaiterId) {
        self.waiting.end(waiter);
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
            waiting: self.waiting.len(),
        }
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
                self.served_first(device).cloned()
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
            Slot::Port(..) => self.keep(slot, now),
            // A name is the device's own anyway: there is nothing to keep.
            Slot::Service(..) => self.forget(slot),
        }
    }
}

/// Most have one, and few have more than a handful: there is no room for those that do not come.
fn push<T>(to: &mut Vec<T>, one: T) {
    to.reserve_exact(1);
    to.push(one);
}

#[cfg(test)]
mod tests;
