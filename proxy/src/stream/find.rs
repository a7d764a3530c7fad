//! The way of a stream to a member that opens it.

use std::sync::Arc;

use daemon::splice::ChannelEnd;
use protocol::{DeviceId, Role};
use russh::ChannelOpenFailure;
use russh::server::Msg;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::failure::Failure;
use crate::admission::{Peer, StreamPermit};
use crate::crowd::Place;
use crate::hub::{Hub, Reach};
use crate::rendezvous::{Chosen, ConnectionId, Pick, WaiterId};

/// A member's side of a stream, open.
pub(super) struct Found {
    pub(super) end: ChannelEnd<Msg>,
    pub(super) device: DeviceId,
    pub(super) claim: Claim,
}

/// A stream's place on a member, and among the streams of its device, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    hub: Arc<Hub>,
    pub(super) connection: ConnectionId,
    _served: Place,
}

pub(super) async fn find(
    hub: &Arc<Hub>,
    peer: &Peer,
    host: &str,
    port: u32,
) -> Result<Found, Failure> {
    let now = Instant::now();
    let deadline = now + hub.limits.forward_wait;
    let end = now + hub.limits.stream_deadline;
    match peer.stream(host, port) {
        Ok(permit) => find_permitted(hub, peer.id(), &permit, deadline, end).await,
        // Controllers ask for names: an answer that comes sooner than that to an unknown name, or that is another when
        // many wait, would tell them apart.
        Err(refusal) if peer.id().role() == Role::Controller => {
            let _turn = Turn::begin(hub, None, peer.id())?;
            tokio::select! {
                () = sleep_until(deadline) => Err(Failure::NotAllowed(refusal)),
                () = hub.stopping.cancelled() => Err(Failure::Stopping),
            }
        }
        Err(refusal) => Err(Failure::NotAllowed(refusal)),
    }
}

/// Waits for a member until the deadline, and for members to open the stream until the end.
async fn find_permitted(
    hub: &Arc<Hub>,
    controller: &DeviceId,
    permit: &StreamPermit,
    deadline: Instant,
    end: Instant,
) -> Result<Found, Failure> {
    let mut tried = Vec::new();
    let mut share_at = None;
    let mut turn: Option<Turn> = None;
    loop {
        let now = Instant::now();
        let share = share_at.is_some_and(|at| now >= at);
        let pick = hub.table().pick(permit, &tried, share);
        let (until, failure) = match pick {
            Pick::Member(chosen) => {
                let connection = chosen.connection;
                let patience = end.min(now + hub.limits.open_deadline);
                match open(hub, chosen, controller, patience).await {
                    Ok(found) => return Ok(found),
                    Err(failure @ (Failure::Device(_) | Failure::Crowded(_))) => {
                        return Err(failure);
                    }
                    Err(failure) => {
                        tracing::warn!(member = connection.0, reason = %failure, "stream not opened");
                        tried.push(connection);
                        if tried.len() >= hub.limits.tries || Instant::now() >= end {
                            return Err(failure);
                        }
                        continue;
                    }
                }
            }
            Pick::Busy => {
                let at = *share_at.get_or_insert(now + hub.limits.share_wait);
                // Once sharing is allowed and it is still busy, it is full.
                let until = if share { deadline } else { at.min(deadline) };
                (until, Failure::Busy)
            }
            Pick::Nobody if tried.is_empty() => (deadline, Failure::Nobody),
            Pick::Nobody => (deadline, Failure::Unreachable),
        };
        if now >= deadline {
            return Err(failure);
        }
        let Some(turn) = &turn else {
            turn = Some(Turn::begin(hub, Some(permit), controller)?);
            // What came between the look and the turn is seen by another look.
            continue;
        };
        tokio::select! {
            () = turn.bell.notified() => {}
            () = sleep_until(until) => {}
            () = hub.stopping.cancelled() => return Err(Failure::Stopping),
        }
    }
}

/// Opens a member's side. If it takes too long, the answer is still waited for, outside, so that a channel which opens
/// after all is closed again.
async fn open(
    hub: &Arc<Hub>,
    chosen: Chosen<Reach>,
    controller: &DeviceId,
    deadline: Instant,
) -> Result<Found, Failure> {
    let Chosen {
        connection,
        device,
        reach: Reach { handle, flow },
        address,
        port,
    } = chosen;
    let served = hub.streams_served.enter(&device).map_err(|crowded| {
        hub.table().release(connection);
        Failure::Crowded(crowded)
    })?;
    let claim = Claim {
        hub: Arc::clone(hub),
        connection,
        _served: served,
    };
    // Who it is from tells the device's log more than an address would.
    let originator = controller.to_string();
    let (sender, receiver) = oneshot::channel();
    hub.tasks.spawn(async move {
        let opening = handle.channel_open_forwarded_tcpip(address, u32::from(port), originator, 0);
        let opened = opening.await.map(|channel| ChannelEnd::new(channel, flow));
        if let Err((Ok(unwanted), _claim)) = sender.send((opened, claim)) {
            unwanted.close().await;
        }
    });
    match timeout_at(deadline, receiver).await {
        Ok(Ok((Ok(end), claim))) => Ok(Found { end, device, claim }),
        Ok(Ok((Err(russh::Error::ChannelOpenFailure(failure)), _claim))) => match failure {
            // It is full, and another of its connections may not be.
            ChannelOpenFailure::ResourceShortage => Err(Failure::Unreachable),
            failure @ (ChannelOpenFailure::AdministrativelyProhibited
            | ChannelOpenFailure::ConnectFailed
            | ChannelOpenFailure::UnknownChannelType
            | ChannelOpenFailure::Other { .. }) => {
                Err(Failure::Device(failure.description().to_owned()))
            }
        },
        Ok(Ok((Err(_), _)) | Err(_)) | Err(_) => Err(Failure::Unreachable),
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.hub.table().release(self.connection);
    }
}

/// A stream's turn among those that wait, until it is dropped.
#[derive(Debug)]
struct Turn {
    hub: Arc<Hub>,
    id: WaiterId,
    bell: Arc<Notify>,
}

impl Turn {
    fn begin(
        hub: &Arc<Hub>,
        permit: Option<&StreamPermit>,
        controller: &DeviceId,
    ) -> Result<Self, Failure> {
        let begun = hub.table().wait(permit, controller);
        let (id, bell) = begun.map_err(Failure::TooManyWaiting)?;
        Ok(Self {
            hub: Arc::clone(hub),
            id,
            bell,
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.hub.table().stop_waiting(self.id);
    }
}
