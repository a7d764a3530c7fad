//! Connections that have logged in and are about to ask for their forwards.
//!
//! One of our agents asks for a port as soon as it hears that it is in, and which port it gets if it asks for any is decided
//! here. So a stream that waits for the device can be on its way together with the word of the login, a round trip before it
//! could be if it waited for the forward.

use daemon::ssh::PeerKind;
use tokio::time::Instant;

use super::entry::{Connection, Slot};
use super::{Chosen, ConnectionId, Member, Table};
use crate::admission::{Destination, ForwardPermit, StreamPermit};
use crate::limits::SSH_PORT;

impl<M: Clone> Table<M> {
    /// A connection has logged in that may ask for a forward. It is expected to, if it is one of our agents, until it does or is
    /// [gone](Self::gone); others do not take a stream before.
    pub fn expect(&mut self, permit: &ForwardPermit, member: Member<M>) {
        if member.kind == PeerKind::Foreign || self.connections.contains_key(&member.connection) {
            return;
        }
        let device = permit.owner();
        self.connections.insert(
            member.connection,
            Box::new(Connection {
                reach: member.reach,
                kind: member.kind,
                busy: 0,
                slots: Vec::new(),
                expected: Some(device.clone()),
                promised: None,
            }),
        );
        // Of several the latest, which is the least likely to be dead without our knowing.
        self.expected.insert(device.clone(), member.connection);
        let named = Slot::Service(device.clone(), SSH_PORT);
        self.waiting.wake(&named, device);
    }

    /// Finds a connection that is expected to forward what a stream asks for, when [no member](Self::pick) will do. Nor will
    /// those which `declined`: a connection that has not been asked yet owes nobody anything.
    ///
    /// The port is kept for the device as if it had been there before, so that the connection gets it when it asks for any. Only
    /// the first service has one that can be told beforehand. `draw` is a random number, for a port that is to be allocated.
    pub fn pick_expected(
        &mut self,
        permit: &StreamPermit,
        declined: &[ConnectionId],
        draw: u16,
        now: Instant,
    ) -> Option<Chosen<M>> {
        let Destination::Service(device, SSH_PORT) = permit.to() else {
            return None;
        };
        // Where somebody serves it already, or another service by that name, its spare is not asked before its turn.
        let named = Slot::Service(device.clone(), SSH_PORT);
        if self.is_served(&named) || self.served_first(device).is_some() {
            return None;
        }
        let connection = *self.expected.get(device)?;
        let idle = self
            .connections
            .get(&connection)
            .is_some_and(|known| known.busy == 0);
        if !idle || declined.contains(&connection) {
            return None;
        }
        let port = self.promise(device, draw, now)?;
        let known = self.connections.get_mut(&connection)?;
        known.busy += 1;
        known.promised = Some(port);
        Some(Chosen {
            connection,
            device: device.clone(),
            reach: known.reach.clone(),
            address: ADDRESS.to_owned(),
            port,
        })
    }

    /// A connection has asked, or is gone.
    pub(super) fn no_longer_expected(&mut self, connection: ConnectionId) {
        let known = self.connections.get_mut(&connection);
        let Some(device) = known.and_then(|known| known.expected.take()) else {
            return;
        };
        if self.expected.get(&device) == Some(&connection) {
            self.expected.remove(&device);
        }
    }
}

/// The address that our agents ask for, and by which they know a stream for a port.
const ADDRESS: &str = "localhost";
