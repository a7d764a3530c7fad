//! One stream: from a controller's request to the end of the bytes.

use std::sync::Arc;

use daemon::splice::{self, ChannelEnd, SpliceLimits};
use protocol::DeviceId;
use russh::ChannelOpenFailure;
use russh::server::{ChannelOpenHandle, Msg};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::admission::{Peer, StreamPermit};
use crate::hub::{Counted, Hub, Reach};
use crate::rendezvous::{Chosen, ConnectionId, Pick};

/// A controller's request, accepted only when a device's side is open.
pub(crate) struct Request {
    pub(crate) peer: Peer,
    pub(crate) host: String,
    pub(crate) port: u32,
    pub(crate) end: ChannelEnd<Msg>,
    pub(crate) reply: ChannelOpenHandle,
}

/// Carries one stream: finds a member, opens its side, joins the two, and stays until both are done.
pub(crate) async fn carry(hub: Arc<Hub>, request: Request) {
    let Request {
        peer,
        host,
        port,
        end,
        reply,
    } = request;
    let controller_gone = end.flow().clone();
    let found = tokio::select! {
        found = Box::pin(find(&hub, &peer, &host, port)) => found,
        () = controller_gone.dead() => return,
    };
    let (member, claim) = match found {
        Ok(found) => found,
        Err(failure) => {
            tracing::info!(controller = %peer.id(), host, port, reason = %failure, "stream refused");
            reply.reject(failure.public()).await;
            return;
        }
    };
    let _counted = Counted::new(&hub, |hub| &hub.streams);
    tracing::info!(controller = %peer.id(), host, port, member = claim.connection.0, "stream opened");
    reply.accept().await;
    let flow = member.flow().clone();
    let ended = splice::channels(end, member, SpliceLimits::default()).await;
    drop(claim);
    tracing::info!(
        controller = %peer.id(), host, port, up = ended.up, down = ended.down, reason = %ended.why, "stream ended"
    );
    for flow in [flow, controller_gone] {
        if flow.forced_closes() >= hub.limits.forced_closes_per_connection && flow.streams() == 0 {
            flow.cut("too many of its streams were not closed by itself");
        }
    }
}

/// Why a stream was not opened: for the log.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not allowed: {0}")]
    NotAllowed(crate::admission::Refusal),
    #[error("nobody serves it")]
    Nobody,
    #[error("the device does not open it: {0}")]
    Device(String),
    #[error("no connection of the device opened it in time")]
    Unreachable,
    #[error("all connections of the device are busy")]
    Busy,
    #[error("the proxy is stopping")]
    Stopping,
}

impl Failure {
    /// What the controller is told. What is not there, and what is not for it, is the same.
    fn public(&self) -> ChannelOpenFailure {
        let (code, reason) = match self {
            Self::NotAllowed(_) | Self::Nobody => (
                ChannelOpenFailure::AdministrativelyProhibited,
                "there is no such tunnel, or it is not for you",
            ),
            Self::Device(_) => (
                ChannelOpenFailure::ConnectFailed,
                "the device cannot reach its service",
            ),
            Self::Unreachable => (
                ChannelOpenFailure::ConnectFailed,
                "the device does not answer",
            ),
            Self::Busy => (
                ChannelOpenFailure::ResourceShortage,
                "the device has too many streams",
            ),
            Self::Stopping => (
                ChannelOpenFailure::ResourceShortage,
                "the proxy is stopping",
            ),
        };
        ChannelOpenFailure::Other {
            code: code.code(),
            reason: reason.to_owned(),
        }
    }
}

async fn find(
    hub: &Arc<Hub>,
    peer: &Peer,
    host: &str,
    port: u32,
) -> Result<(ChannelEnd<Msg>, Claim), Failure> {
    let now = Instant::now();
    let deadline = now + hub.limits.forward_wait;
    let end = now + hub.limits.stream_deadline;
    match peer.stream(host, port) {
        Ok(permit) => find_permitted(hub, peer.id(), &permit, deadline, end).await,
        // Controllers ask for names: an answer that comes sooner than that to an unknown name would tell them apart.
        Err(refusal) if peer.id().role() == protocol::Role::Controller => {
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
) -> Result<(ChannelEnd<Msg>, Claim), Failure> {
    let mut changes = hub.changes();
    let mut tried = Vec::new();
    let mut share_at = None;
    loop {
        changes.mark_unchanged();
        let now = Instant::now();
        let share = share_at.is_some_and(|at| now >= at);
        let pick = hub.table().pick(permit, &tried, share);
        let (until, failure) = match pick {
            Pick::Member(chosen) => {
                let connection = chosen.connection;
                let patience = end.min(now + hub.limits.open_deadline);
                match open(hub, chosen, controller, patience).await {
                    Ok(opened) => return Ok(opened),
                    Err(failure @ Failure::Device(_)) => return Err(failure),
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
        tokio::select! {
            _ = changes.changed() => {}
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
) -> Result<(ChannelEnd<Msg>, Claim), Failure> {
    let Chosen {
        connection,
        reach: Reach { handle, flow },
        address,
        port,
    } = chosen;
    let claim = Claim {
        hub: Arc::clone(hub),
        connection,
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
        Ok(Ok((Ok(end), claim))) => Ok((end, claim)),
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

/// A stream's place on a member, until it is dropped.
#[derive(Debug)]
struct Claim {
    hub: Arc<Hub>,
    connection: ConnectionId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.hub.table().release(self.connection);
        self.hub.changed();
    }
}
