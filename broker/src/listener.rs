//! The accept loop, which only accepts, and the connections, which it owns.

use std::net::SocketAddr;
use std::sync::Arc;

use daemon::backoff::Backoff;
use daemon::doorway::{Doorway, Full, Pass};
use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::greeting::{Door, GreetError};
use crate::limits::{ACCEPT_BACKOFF, FULL_REPORT};

/// Serves newcomers until the shutdown is requested, and then until all of them have gone.
pub(crate) async fn listen(listener: TcpListener, door: Arc<Door>, shutdown: Shutdown) {
    let limits = &door.hub.limits;
    let doorway = Doorway::new(limits.handshakes, limits.handshakes_per_address);
    let mut turned_back = TurnedBack::default();
    let mut backoff = Backoff::new(ACCEPT_BACKOFF.0, ACCEPT_BACKOFF.1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = accept(&listener, &door, &mut backoff) => {
                let Some((stream, address)) = accepted else { continue };
                // Who has no place is closed at once: nobody waits behind those who say nothing.
                match doorway.enter(address.ip()) {
                    Ok(pass) => {
                        let (door, shutdown) = (Arc::clone(&door), shutdown.clone());
                        connections.spawn(serve(stream, address, pass, door, shutdown));
                    }
                    Err(full) => {
                        door.hub.counters.refused_full.increment();
                        turned_back.note(address, full);
                    }
                }
            }
        }
    }
    drop(listener);
    door.hub.drain();
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// The next newcomer. None when accepting failed, after a pause.
async fn accept(
    listener: &TcpListener,
    door: &Door,
    backoff: &mut Backoff,
) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => {
            door.hub.counters.accepted.increment();
            backoff.reset();
            Some(accepted)
        }
        Err(error) => {
            door.hub.counters.accept_errors.increment();
            tracing::warn!(%error, "no connection can be accepted");
            sleep(backoff.next_delay()).await;
            None
        }
    }
}

/// Says now and then that newcomers are turned back in the doorway, and how many.
#[derive(Debug, Default)]
struct TurnedBack {
    count: u64,
    told: Option<Instant>,
}

impl TurnedBack {
    fn note(&mut self, address: SocketAddr, reason: Full) {
        self.count += 1;
        let now = Instant::now();
        if self.told.is_none_or(|told| told + FULL_REPORT <= now) {
            tracing::warn!(%address, %reason, connections = self.count, "turned away at once");
            *self = Self {
                count: 0,
                told: Some(now),
            };
        }
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    pass: Pass,
    door: Arc<Door>,
    shutdown: Shutdown,
) {
    // On the heap and gone afterwards: an idle connection should not keep the room that its handshake needed.
    let greeting = Box::pin(door.greet(stream, address));
    let greeted = tokio::select! {
        // Those who have no session yet are simply left.
        () = shutdown.requested() => return,
        greeted = timeout(door.hub.limits.greeting, greeting) => greeted,
    };
    drop(pass);
    match greeted {
        Ok(Ok(connection)) => Box::pin(connection.run()).await,
        Ok(Err(error)) => turned_away(&door, address, &error),
        Err(_) => {
            door.hub.counters.greetings_failed.increment();
            tracing::info!(%address, "no CONNECT in time");
        }
    }
}

fn turned_away(door: &Door, address: SocketAddr, error: &GreetError) {
    match error {
        GreetError::Handshake(_) | GreetError::Lost(_) | GreetError::Left => {
            door.hub.counters.greetings_failed.increment();
        }
        // The gate has written its line, with the rule.
        GreetError::Refused => return,
        GreetError::Peer(_)
        | GreetError::Connect(_)
        | GreetError::Attach(_)
        | GreetError::Revoked => {}
    }
    tracing::info!(%address, "{}", one_line(error));
}

/// A panic is one client's end, and a fault of ours.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}
