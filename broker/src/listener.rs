//! The accept loop, which only accepts, and the connections, which it owns.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use daemon::backoff::Backoff;
use daemon::doorway::{Doorway, Full, Pass};
use daemon::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::counters::Counters;
use crate::greeting::{Door, GreetError};
use crate::limits::{ACCEPT_BACKOFF, FULL_REPORT};

/// Serves newcomers until the shutdown is requested, and then until all of them have gone.
pub(crate) async fn listen(listener: TcpListener, door: Arc<Door>, shutdown: Shutdown) {
    let limits = &door.hub.limits;
    let house = Doorway::new(limits.connections, limits.connections_per_address);
    let doorway = Doorway::new(limits.handshakes, limits.handshakes_per_address).making_room();
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
                match enter(&house, &doorway, address.ip()) {
                    Ok(passes) => {
                        let (door, shutdown) = (Arc::clone(&door), shutdown.clone());
                        connections.spawn(serve(stream, address, passes, door, shutdown));
                    }
                    Err(reason) => {
                        turned_back.note(address, reason);
                        reason.count(&door.hub.counters);
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

/// Places for a newcomer: in the house until it leaves, and in the doorway until its CONNECT is answered.
struct Passes {
    house: Pass,
    doorway: Pass,
}

/// Why there is no place for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NoPlace {
    #[error("too many connections, or too many of its address")]
    House(#[source] Full),
    #[error("too many connections without a CONNECT, or too many of its address")]
    Doorway(#[source] Full),
}

impl NoPlace {
    fn count(self, counters: &Counters) {
        match self {
            Self::House(Full::InAll) => counters.refused_connections.increment(),
            Self::Doorway(Full::InAll) => counters.refused_full.increment(),
            Self::House(_) | Self::Doorway(_) => counters.refused_address.increment(),
        }
    }
}

fn enter(house: &Doorway, doorway: &Doorway, address: IpAddr) -> Result<Passes, NoPlace> {
    Ok(Passes {
        house: house.enter(address).map_err(NoPlace::House)?,
        doorway: doorway.enter(address).map_err(NoPlace::Doorway)?,
    })
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
    fn note(&mut self, address: SocketAddr, reason: NoPlace) {
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
    passes: Passes,
    door: Arc<Door>,
    shutdown: Shutdown,
) {
    let Passes { house, doorway } = passes;
    // On the heap and gone afterwards: an idle connection should not keep the room that its handshake needed.
    let greeting = Box::pin(door.greet(stream, address));
    let greeted = tokio::select! {
        // Those who have no session yet are simply left.
        () = shutdown.requested() => return,
        () = doorway.displaced() => Ok(Err(GreetError::Crowded)),
        greeted = timeout(door.hub.limits.greeting, greeting) => greeted,
    };
    drop(doorway);
    match greeted {
        Ok(Ok(connection)) => connection.run().await,
        Ok(Err(error)) => turned_away(&door, address, &error),
        Err(_) => {
            turned_away(&door, address, &GreetError::Late);
        }
    }
    drop(house);
}

fn turned_away(door: &Door, address: SocketAddr, error: &GreetError) {
    match error {
        GreetError::Handshake(_) | GreetError::Lost(_) | GreetError::Left | GreetError::Late => {
            door.hub.counters.greetings_failed.increment();
        }
        GreetError::Crowded => door.hub.counters.refused_full.increment(),
        // Whoever refused it has written a line, with the rule.
        GreetError::Refused => return,
        GreetError::Connect(_) => {}
    }
    door.hub.audit.turned_away(address, error);
}

/// A panic is one client's end, and a fault of ours.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task has failed");
    }
}
