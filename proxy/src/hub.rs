//! What all connections of a proxy share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use daemon::doorway::Doorway;
use daemon::flow::{Flow, Lookout};
use daemon::pace::Pace;
use daemon::rate::Rate;
use protocol::Label;
use russh::server::Handle;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::crowd::Crowd;
use crate::keys::KeyStore;
use crate::limits::Limits;
use crate::penalty::Penalties;
use crate::rendezvous::{ConnectionId, Table};
use crate::vitals::Counts;

/// What all connections share, and the owner of the streams' tasks.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) limits: Limits,
    pub(crate) keys: KeyStore,
    pub(crate) doorway: Doorway,
    pub(crate) crowd: Crowd,
    pub(crate) streams_asked: Crowd,
    pub(crate) streams_served: Crowd,
    paces: RwLock<HashMap<Label, (Rate, Pace)>>,
    pub(crate) penalties: Penalties,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    pub(crate) connections: AtomicUsize,
    pub(crate) streams: AtomicUsize,
    pub(crate) counts: Counts,
    pub(crate) lookout: Lookout,
    cut_at: OnceLock<Instant>,
    next_connection: AtomicU64,
    table: Mutex<Table<Reach>>,
    changes: watch::Sender<()>,
}

/// What it takes to open a stream on a member.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    pub(crate) handle: Handle,
    pub(crate) flow: Flow,
}

/// How much a proxy is doing now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Authenticated connections, of devices and controllers.
    pub connections: usize,
    /// Connections that serve at least one forward.
    pub members: usize,
    /// Devices that can be reached, each through one or more members.
    pub tunnels: usize,
    /// Streams that are open through the proxy.
    pub streams: usize,
    /// Streams that wait for a forward, or for a member with room.
    pub waiting: usize,
    /// Connections that have not authenticated yet.
    pub strangers: usize,
}

/// Reads a proxy's [`Stats`]. Clones read the same.
#[derive(Clone, Debug)]
pub struct StatsReader(Arc<Hub>);

impl StatsReader {
    /// The numbers now.
    pub fn now(&self) -> Stats {
        let occupancy = self.0.table().occupancy();
        Stats {
            connections: self.0.connections.load(Ordering::Relaxed),
            members: occupancy.members,
            tunnels: occupancy.tunnels,
            streams: self.0.streams.load(Ordering::Relaxed),
            waiting: occupancy.waiting,
            strangers: self.0.doorway.occupied(),
        }
    }
}

impl Hub {
    pub(crate) fn new(
        limits: &Limits,
        keys: KeyStore,
        bandwidth: impl IntoIterator<Item = (Label, Rate)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            limits: *limits,
            keys,
            doorway: Doorway::new(limits.unauthenticated, limits.unauthenticated_per_address)
                .displacing(limits.doorway_patience),
            crowd: Crowd::of_connections(limits),
            streams_asked: Crowd::of_streams(limits),
            streams_served: Crowd::of_streams_served(limits),
            paces: RwLock::new(
                bandwidth
                    .into_iter()
                    .map(|(system, rate)| (system, (rate, Pace::new(rate))))
                    .collect(),
            ),
            penalties: Penalties::new(limits),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            connections: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            counts: Counts::default(),
            lookout: Lookout::new(),
            cut_at: OnceLock::new(),
            next_connection: AtomicU64::new(1),
            table: Mutex::new(Table::new(limits)),
            changes: watch::Sender::new(()),
        })
    }

    pub(crate) fn stats(self: &Arc<Self>) -> StatsReader {
        StatsReader(Arc::clone(self))
    }

    /// How fast the streams of a system may be together.
    pub(crate) fn pace(&self, system: &Label) -> Option<Pace> {
        let paces = self.paces.read().unwrap_or_else(PoisonError::into_inner);
        paces.get(system).map(|(_, pace)| pace.clone())
    }

    /// Holds the streams that begin from now on to these rates. A rate that stays is shared with those that go on.
    pub(crate) fn repace(&self, bandwidth: impl IntoIterator<Item = (Label, Rate)>) {
        let mut paces = self.paces.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *paces);
        for (system, rate) in bandwidth {
            let kept = before.remove(&system).filter(|(was, _)| *was == rate);
            let pace = kept.map_or_else(|| Pace::new(rate), |(_, pace)| pace);
            paces.insert(system, (rate, pace));
        }
    }

    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// The table, for a moment: never over an await.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table<Reach>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait for streams to end to look again.
    pub(crate) fn changed(&self) {
        self.changes.send_replace(());
    }

    /// Completes at each change after the last look.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Takes a connection out of the table.
    pub(crate) fn gone(&self, connection: ConnectionId) {
        self.table().gone(connection, Instant::now());
    }

    /// From now on nothing new is granted, and at `cut_at` what still goes on is cut.
    pub(crate) fn stop(&self, cut_at: Instant) {
        self.cut_at.get_or_init(|| cut_at);
        self.stopping.cancel();
    }

    /// When what still goes on is cut, once the proxy is stopping.
    pub(crate) fn cut_at(&self) -> Instant {
        self.cut_at.get().copied().unwrap_or_else(Instant::now)
    }
}

/// One more of something, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    hub: Arc<Hub>,
    of: fn(&Hub) -> &AtomicUsize,
}

impl Counted {
    pub(crate) fn new(hub: &Arc<Hub>, of: fn(&Hub) -> &AtomicUsize) -> Self {
        of(hub).fetch_add(1, Ordering::Relaxed);
        Self {
            hub: Arc::clone(hub),
            of,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.of)(&self.hub).fetch_sub(1, Ordering::Relaxed);
        self.hub.changed();
    }
}
