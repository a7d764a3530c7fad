//! The way of a stream to a member that opens it.

use std::future::pending;
use std::sync::Arc;

use protocol::{DeviceId, Role};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::failure::Failure;
use super::opening::{Found, Opening};
use crate::admission::{Peer, StreamPermit};
use crate::hub::{Hub, Reach};
use crate::rendezvous::{Chosen, Pick, WaiterId};

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
///
/// While there is none, a connection that is expected to become one is asked already. What it says counts only if it opens the
/// stream: it has not told what it forwards, and may be of a version that takes nothing before.
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
    let mut asked = Vec::new();
    let mut early: Option<Opening> = None;
    loop {
        let now = Instant::now();
        let share = share_at.is_some_and(|at| now >= at);
        let mut passed_over = tried.clone();
        // It is busy with this stream.
        passed_over.extend(early.as_ref().map(|early| early.connection));
        let pick = hub.table().pick(permit, &passed_over, share);
        let (until, failure) = match pick {
            Pick::Member(chosen) => {
                let connection = chosen.connection;
                // Whichever takes it first.
                let opening = tokio::select! {
                    Ok(found) = opened(&mut early) => return Ok(found),
                    opening = open(hub, chosen, controller, end) => opening,
                };
                match opening {
                    Ok(found) => return Ok(found),
                    Err(failure @ (Failure::Device(_) | Failure::Crowded(_)))
                        if early.is_none() =>
                    {
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
        if now >= deadline && early.is_none() {
            return Err(failure);
        }
        let Some(turn) = &turn else {
            turn = Some(Turn::begin(hub, Some(permit), controller)?);
            // What came between the look and the turn is seen by another look.
            continue;
        };
        if early.is_none() && asked.len() < hub.limits.tries {
            let chosen = hub
                .table()
                .pick_expected(permit, &asked, rand::random(), now);
            if let Some(chosen) = chosen {
                asked.push(chosen.connection);
                early = Opening::begin(hub, chosen, controller, end).ok();
            }
        }
        tokio::select! {
            opened = opened(&mut early) => match opened {
                Ok(found) => return Ok(found),
                Err(reason) => tracing::debug!(%reason, "stream not opened before its forward"),
            },
            () = turn.bell.notified() => {}
            () = sleep_until(until), if now < until => {}
            () = hub.stopping.cancelled() => return Err(Failure::Stopping),
        }
    }
}

/// Opens a member's side, unless it takes too long.
async fn open(
    hub: &Arc<Hub>,
    chosen: Chosen<Reach>,
    controller: &DeviceId,
    end: Instant,
) -> Result<Found, Failure> {
    let mut opening = Opening::begin(hub, chosen, controller, end)?;
    opening.opened().await
}

/// What comes of an opening, which there is none of afterwards. It never completes without one.
async fn opened(early: &mut Option<Opening>) -> Result<Found, Failure> {
    let opened = match early {
        Some(opening) => opening.opened().await,
        None => pending().await,
    };
    *early = None;
    opened
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
