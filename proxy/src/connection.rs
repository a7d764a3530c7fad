//! One connection, from the first byte to the last.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use daemon::doorway::Pass;
use daemon::flow::Flow;
use daemon::ssh::PeerKind;
use daemon::ssh_client::{PING_INTERVAL, SILENCE_LIMIT};
use protocol::DeviceId;
use russh::Disconnect;
use russh::server::{Config, Handle, RunningSession, run_stream};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at};

use crate::hub::{Counted, Hub};
use crate::rendezvous::ConnectionId;
use crate::session::{Admitted, Tried, TurnedDown, Visitor};

/// One connection's place in the proxy. Dropping it takes it out of the table.
#[derive(Debug)]
pub(crate) struct Connection {
    hub: Arc<Hub>,
    id: ConnectionId,
    address: SocketAddr,
    _place: OwnedSemaphorePermit,
}

/// What is there before the first byte.
struct Newcomer {
    ssh: Arc<Config>,
    socket: TcpStream,
    pass: Pass,
}

/// A connection whose peer has logged in.
struct Greeted {
    session: RunningSession<Visitor>,
    flow: Flow,
    admitted: Box<Admitted>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed")]
    Closed,
    #[error("failed: {0}")]
    Failed(russh::Error),
    #[error("not authenticated in time")]
    TooSlow,
    #[error("{0}")]
    Refused(TurnedDown),
    #[error("not authenticated when others needed the place")]
    Displaced,
    #[error("its key was withdrawn")]
    Withdrawn,
    #[error("the proxy is stopping")]
    Stopping,
}

impl Connection {
    pub(crate) fn new(hub: &Arc<Hub>, address: SocketAddr, place: OwnedSemaphorePermit) -> Self {
        Self {
            hub: Arc::clone(hub),
            id: hub.next_connection(),
            address,
            _place: place,
        }
    }

    /// Serves it to its end. The pass is given back when the peer has authenticated, or its session is gone.
    ///
    /// What a login needs is boxed and gone when the long time begins, in which most connections do nothing: a future keeps
    /// room for what it was called with for as long as it runs.
    pub(crate) fn serve(
        self,
        ssh: Arc<Config>,
        socket: TcpStream,
        pass: Pass,
    ) -> impl Future<Output = ()> + Send {
        let newcomer = Box::new(Newcomer { ssh, socket, pass });
        async move {
            let Some(Greeted {
                mut session,
                flow,
                admitted,
            }) = Box::pin(self.greet(newcomer)).await
            else {
                return;
            };
            let end = self.attend(&mut session, &flow, &admitted).await;
            let device = admitted.peer.id().clone();
            // Its place is another's before it has heard why it lost it.
            drop(admitted);
            Box::pin(self.end(session, &flow, Some(&device), &end)).await;
        }
    }

    /// From the first byte to the login, for which there is so much time; whoever does not get there is told, and gone.
    async fn greet(&self, newcomer: Box<Newcomer>) -> Option<Greeted> {
        let Newcomer { ssh, socket, pass } = *newcomer;
        let deadline = Instant::now() + self.hub.limits.auth_deadline;
        let (stream, flow) = match Flow::over(socket) {
            Ok(over) => over,
            Err(error) => {
                tracing::debug!(address = %self.address, %error, "connection not set up");
                return None;
            }
        };
        let (sender, admitted) = oneshot::channel();
        let hub = Arc::clone(&self.hub);
        let tried = Tried::default();
        let mut displaced = pin!(pass.displaced());
        let visitor = Visitor::new(
            hub,
            self.id,
            self.address,
            flow.clone(),
            pass,
            tried.clone(),
            sender,
        );
        // Until the peer has identified itself, which it may never do.
        let started = tokio::select! {
            started = timeout_at(deadline, Box::pin(run_stream(ssh, stream, visitor))) => started,
            () = &mut displaced => {
                tracing::debug!(address = %self.address, "silent: others needed the place");
                return None;
            }
        };
        let mut session = match started {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => {
                tracing::debug!(address = %self.address, %error, "no ssh");
                return None;
            }
            Err(_) => {
                tracing::info!(address = %self.address, "silent: cut");
                return None;
            }
        };
        let admitted = tokio::select! {
            Ok(admitted) = admitted => admitted.map_err(End::Refused),
            result = &mut session => Err(End::of(result)),
            () = sleep_until(deadline) => Err(End::TooSlow),
            () = &mut displaced => Err(End::Displaced),
            () = self.hub.stopping.cancelled() => Err(End::Stopping),
        };
        match admitted {
            Ok(admitted) => Some(Greeted {
                session,
                flow,
                admitted: Box::new(admitted),
            }),
            Err(end) => {
                self.punish(&tried);
                Box::pin(self.end(session, &flow, None, &end)).await;
                None
            }
        }
    }

    /// Who tried, and ended without a login, has failed.
    fn punish(&self, tried: &Tried) {
        let address = self.address.ip();
        if !tried.in_vain() {
            return;
        }
        self.hub.counts.failed_logins.increment();
        if self.hub.penalties.failed(address, Instant::now()) {
            tracing::warn!(%address, "too many failed logins: shut out for a while");
        }
    }

    /// Stays with an authenticated connection until something ends it.
    async fn attend(
        &self,
        session: &mut RunningSession<Visitor>,
        flow: &Flow,
        admitted: &Admitted,
    ) -> End {
        let _counted = Counted::new(&self.hub, |hub| &hub.connections);
        let handle = session.handle();
        tokio::select! {
            result = session => End::of(result),
            () = self.withdrawn(admitted) => End::Withdrawn,
            () = self.stopped(flow) => End::Stopping,
            () = ping(&handle, flow) => End::Closed,
        }
    }

    /// Completes when the key is no longer this device's.
    async fn withdrawn(&self, admitted: &Admitted) {
        let (id, key) = (admitted.peer.id(), &admitted.key);
        let mut keys = self.hub.keys.subscribe();
        while keys.borrow_and_update().owner_of(id.system(), key) == Some(id) {
            if keys.changed().await.is_err() {
                return;
            }
        }
    }

    /// Completes when the proxy is stopping and nothing goes through this connection any more, or its time is over.
    async fn stopped(&self, flow: &Flow) {
        self.hub.stopping.cancelled().await;
        Box::pin(self.drained(flow)).await;
    }

    async fn drained(&self, flow: &Flow) {
        let mut changes = self.hub.changes();
        let cut = sleep_until(self.hub.cut_at());
        tokio::pin!(cut);
        while flow.streams() > 0 {
            tokio::select! {
                result = changes.changed() => if result.is_err() { return },
                () = &mut cut => return,
            }
        }
    }

    async fn end(
        &self,
        mut session: RunningSession<Visitor>,
        flow: &Flow,
        device: Option<&DeviceId>,
        end: &End,
    ) {
        // First, so that no stream is sent its way any more.
        self.hub.gone(self.id);
        let (address, connection) = (self.address, self.id.0);
        if let Some(device) = device {
            tracing::info!(%device, %address, connection, reason = %end, "connection ended");
        } else {
            // Strangers come by the thousand.
            tracing::debug!(%address, connection, reason = %end, "connection ended");
        }
        match end {
            End::Closed | End::Failed(_) => return,
            End::Displaced => {
                flow.cut("not authenticated when others needed the place");
                let _ = timeout(GOODBYE_LIMIT, session).await;
                return;
            }
            End::TooSlow | End::Refused(_) | End::Withdrawn | End::Stopping => {}
        }
        let handle = session.handle();
        let goodbye =
            handle.disconnect(Disconnect::ByApplication, end.to_string(), "en".to_owned());
        // A peer that does not listen is cut off without hearing why.
        let parting = async {
            let _ = goodbye.await;
            (&mut session).await
        };
        if timeout(GOODBYE_LIMIT, parting).await.is_err() {
            flow.cut("cut off");
            let _ = timeout(GOODBYE_LIMIT, session).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.gone(self.id);
    }
}

impl End {
    fn of(result: Result<(), russh::Error>) -> Self {
        match result {
            Ok(()) => Self::Closed,
            Err(error) => Self::Failed(error),
        }
    }
}

/// Sees to it that both sides hear of each other when nothing else is said.
async fn ping(handle: &Handle, flow: &Flow) {
    match flow.kind() {
        PeerKind::Own => loop {
            // Nothing wakes an idle connection.
            flow.paused().await;
            Box::pin(sleep(PING_INTERVAL / 2)).await;
            Box::pin(speak(handle, flow)).await;
        },
        PeerKind::Foreign => Box::pin(ask_again(handle, flow)).await,
    }
}

/// Our own peers ping by themselves; but while we have paused, they get no answers. This request has none either, and no
/// meaning for a stream (RFC 4254, section 6.8).
async fn speak(handle: &Handle, flow: &Flow) {
    if let Some(channel) = flow.paused_channel() {
        // If the connection is gone, that is noticed elsewhere.
        let _ = handle.xon_xoff_request(channel, false).await;
    }
}

async fn ask_again(handle: &Handle, flow: &Flow) {
    let mut ticks = interval(PING_INTERVAL / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        Box::pin(ask(handle, flow)).await;
    }
}

/// Gives a foreign peer a reason to speak when it has been silent.
///
/// russh sends keepalives only by its own timer, which would also run before authentication, where OpenSSH's client gives
/// up on any such message. This request, which every client has to refuse (RFC 4254, section 7.1), does as well.
async fn ask(handle: &Handle, flow: &Flow) {
    // Its limit is short from its first forward on.
    let limit = flow.silence_limit();
    let serves = limit.is_some_and(|limit| limit <= SILENCE_LIMIT);
    let patience = if serves { PING_INTERVAL } else { IDLE_PING };
    if flow.silent_for() >= patience {
        // The refusal is the answer; a missing one is noticed by the flow.
        let _ = handle.forward_tcpip(PING.to_owned(), 0).await;
    }
}

/// What a foreign peer is asked to listen on, so that its debug log says what this is.
const PING: &str = "keepalive@openssh.com";

/// How long a foreign connection without forwards is silent before it is asked: often enough for the tables of NAT
/// routers, which forget idle TCP connections after minutes.
const IDLE_PING: Duration = Duration::from_mins(1);

/// How long a peer may take to read why it is cut off, and then how long russh may take to end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_little_beside_its_session() {
        let size = size_of_future_of_four(Connection::serve);
        println!("a connection's future: {size} bytes");
        // In September 2026's compiler it is 736 bytes, with the task's header and trailer in the allocator's class of 896.
        // How a future is laid out is the compiler's business, and changes with it: a quarter is left for that.
        assert!(size <= 920, "{size}");
        let size = size_of_future_of_two(Connection::greet);
        println!("until it has logged in: {size} bytes more");
        assert!(size <= 980, "{size}");
    }

    fn size_of_future_of_four<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn size_of_future_of_two<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }
}
