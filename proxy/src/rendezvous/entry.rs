//! What the rendezvous table is made of.

use daemon::ssh::PeerKind;
use protocol::{DeviceId, Label};
use tokio::time::Instant;

use super::ConnectionId;

/// A place that streams can be sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// A port within a system.
    Port(Label, u16),
    /// A service port of a device, by its name.
    Service(DeviceId, u16),
}

impl Slot {
    pub(super) fn port(&self) -> u16 {
        match self {
            Self::Port(_, port) | Self::Service(_, port) => *port,
        }
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) owner: DeviceId,
    /// Which of its connection's ports it was when it was registered: the first service has 0. Services are asked for in
    /// the same order each time, so this tells them apart when they come back.
    pub(super) ordinal: usize,
    pub(super) members: Vec<Seat>,
    /// Since when it has had no members.
    pub(super) emptied: Option<Instant>,
}

impl Entry {
    pub(super) fn has(&self, connection: ConnectionId) -> bool {
        self.members
            .iter()
            .any(|seat| seat.connection == connection)
    }
}

#[derive(Debug)]
pub(super) struct Seat {
    pub(super) connection: ConnectionId,
    pub(super) address: Box<str>,
    pub(super) order: u64,
}

#[derive(Debug)]
pub(super) struct Connection<M> {
    pub(super) reach: M,
    pub(super) kind: PeerKind,
    pub(super) busy: usize,
    pub(super) slots: Vec<Slot>,
    /// Whose it is, as long as it has not asked for anything.
    pub(super) expected: Option<DeviceId>,
    /// The port at which a stream was sent to it before it had asked.
    pub(super) promised: Option<u16>,
}
