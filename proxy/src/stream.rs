//! One stream: from a controller's request to the end of the bytes.

mod failure;
mod find;
mod opening;

use std::sync::Arc;

use daemon::splice::{self, ChannelEnd, SpliceLimits};
use russh::server::{ChannelOpenHandle, Msg};

pub(crate) use self::failure::refusal;
use self::find::find;
use self::opening::Found;
use crate::admission::Peer;
use crate::complaints::{Complaints, excerpt};
use crate::crowd::Place;
use crate::hub::{Counted, Hub};

/// A controller's request, accepted only when a device's side is open.
pub(crate) struct Request {
    pub(crate) peer: Peer,
    pub(crate) host: String,
    pub(crate) port: u32,
    pub(crate) end: ChannelEnd<Msg>,
    pub(crate) reply: ChannelOpenHandle,
    /// Its place among the controller's streams. A target has none, and is refused.
    pub(crate) place: Option<Place>,
    pub(crate) complaints: Complaints,
}

/// Carries one stream: finds a member, opens its side, joins the two, and stays until both are done.
pub(crate) async fn carry(hub: Arc<Hub>, request: Request) {
    let Request {
        peer,
        host,
        port,
        end,
        reply,
        place: _place,
        complaints,
    } = request;
    let controller_gone = end.flow().clone();
    let found = tokio::select! {
        found = Box::pin(find(&hub, &peer, &host, port)) => found,
        () = controller_gone.dead() => return,
    };
    let Found {
        end: member,
        device,
        claim,
    } = match found {
        Ok(found) => found,
        Err(failure) => {
            hub.counts.refused_streams.increment();
            if let Some(untold) = complaints.due() {
                let (host, reason) = (excerpt(&host), failure.to_string());
                tracing::info!(controller = %peer.id(), host, port, reason = excerpt(&reason), untold, "stream refused");
            }
            reply.reject(failure.public()).await;
            drop(end);
            // A connection that has nothing else any more need not wait for the end of the grace period.
            hub.changed();
            return;
        }
    };
    hub.counts.streams.increment();
    let _counted = Counted::new(&hub, |hub| &hub.streams);
    tracing::info!(controller = %peer.id(), %device, host, port, member = claim.connection.0, "stream opened");
    reply.accept().await;
    let flow = member.flow().clone();
    let pace = hub.pace(device.system());
    let ended = Box::pin(splice::channels(
        end,
        member,
        SpliceLimits::default(),
        pace.as_ref(),
    ))
    .await;
    drop(claim);
    hub.counts.up.add(ended.up);
    hub.counts.down.add(ended.down);
    tracing::info!(
        controller = %peer.id(), %device, host, port, up = ended.up, down = ended.down, reason = %ended.why, "stream ended"
    );
    for flow in [flow, controller_gone] {
        if flow.forced_closes() >= hub.limits.forced_closes_per_connection && flow.streams() == 0 {
            flow.cut("too many of its streams were not closed by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, F: Future>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_costs_little_beside_what_it_carries() {
        let size = size_of_future(carry);
        println!("a stream's future: {size} bytes");
        // A quarter more than it is: how a future is laid out is the compiler's business, and changes with it.
        assert!(size <= 1920, "{size}");
    }
}
