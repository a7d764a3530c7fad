//! The accept loop, which only accepts, and the connections, which it owns.

use std::net::SocketAddr;
use std::sync::Arc;

use daemon::backoff::Backoff;
use daemon::report::one_line;
use daemon::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::greeting::{Door, GreetError};
use crate::limits::ACCEPT_BACKOFF;

/// Serves newcomers until the shutdown is requested, and then until all of them have gone.
pub(crate) async fn listen(listener: TcpListener, door: Arc<Door>, shutdown: Shutdown) {
    let permits = Arc::new(Semaphore::new(door.hub.limits.handshakes));
    let mut backoff = Backoff::new(ACCEPT_BACKOFF.0, ACCEPT_BACKOFF.1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = accept(&listener, &permits, &door, &mut backoff) => {
                let Some((stream, address, permit)) = accepted else { continue };
                let (door, shutdown) = (Arc::clone(&door), shutdown.clone());
                connections.spawn(serve(stream, address, permit, door, shutdown));
            }
        }
    }
    drop(listener);
    door.hub.drain();
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

/// The next newcomer, with a permit to be greeted: those who do not get further must not be more than we can bear. None
/// when accepting failed, after a pause.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    door: &Door,
    backoff: &mut Backoff,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => {
            door.hub.counters.accepted.increment();
            backoff.reset();
            Some((stream, address, permit))
        }
        Err(error) => {
            door.hub.counters.accept_errors.increment();
            tracing::warn!(%error, "no connection can be accepted");
            sleep(backoff.next_delay()).await;
            None
        }
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
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
    drop(permit);
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
