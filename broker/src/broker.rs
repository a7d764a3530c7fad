//! The whole broker, from its configuration to its drain.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use daemon::shutdown::Shutdown;
use policies::PolicySet;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, interval, sleep};

use crate::bus;
use crate::config::BrokerConfig;
use crate::counters::{CounterSnapshot, QueueDepths};
use crate::gate::Gate;
use crate::greeting::Door;
use crate::hub::Hub;
use crate::limits::{GIVE_UP_COUNT, LISTEN_BACKLOG, SWEEP_INTERVAL};
use crate::listener::listen;
use crate::local_bus::{LinkUnavailable, LocalBus, ServiceLink};
use crate::message::Message;
use crate::policy_files::{self, PoliciesError};
use crate::reload::{ReloadBell, Reloader, Sources};
use crate::revocation::RevocationListError;
use crate::roster::Roster;
use crate::store::{Store, StoreError};
use crate::store_writer::StoreWriter;
use crate::tls::{self, Front, TlsError};
use crate::topic::TopicError;
use crate::trust::{Trust, TrustError};
use crate::vitals::Vitals;

/// The embedded broker: bound, and serving when it is [`run`](Self::run).
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    door: Arc<Door>,
    reloader: Reloader,
    bus: LocalBus,
    for_bus: mpsc::Receiver<Arc<Message>>,
    writer: Option<StoreWriter>,
    roster: Roster,
    online: watch::Receiver<usize>,
}

/// A view of the broker's counters that outlives its [`run`](Broker::run).
#[derive(Clone)]
pub struct CounterView {
    hub: Arc<Hub>,
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Its certificate, key or authorities.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The revocation lists.
    #[error(transparent)]
    Revocations(#[from] RevocationListError),
    /// The realm's policies.
    #[error("the realm's policies cannot be enforced")]
    Policies(#[source] PoliciesError),
    /// The address.
    #[error("the broker cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What is to outlive it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus of the realm's services.
    #[error(transparent)]
    Bus(#[from] LinkUnavailable),
    /// The realm's name makes no topic.
    #[error("presences of the realm cannot be subscribed to")]
    Roster(#[source] TopicError),
}

impl BindError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tls(TlsError::File { source, .. }) => source.hint(),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another broker may be running; port 0 takes a free one".to_owned())
            }
            Self::Store(error) => error.hint(),
            Self::Revocations(error) => Some(error.hint()),
            Self::Tls(
                TlsError::Pem { .. } | TlsError::Authority { .. } | TlsError::Identity(_),
            ) => Some(
                "certificate and key are a pair, and the authorities are `ca` in `realm.toml`: put them back from a copy of the \
                 realm's directory"
                    .to_owned(),
            ),
            Self::Tls(TlsError::Verifier(_) | TlsError::Protocol(_))
            | Self::Policies(_)
            | Self::Listen { .. }
            | Self::Bus(_)
            | Self::Roster(_) => None,
        }
    }
}

impl Broker {
    /// Loads everything and binds the address, so that what is wrong is known before anybody is served. To be called
    /// within a tokio runtime. Newcomers wait in the kernel until [`run`](Self::run).
    pub fn bind(config: BrokerConfig) -> Result<Self, BindError> {
        // How the files are, before they are read.
        let sources = Sources::of(&config);
        let watched = sources.watch();
        let (front, policies) = read(&config)?;
        let gate = Gate::new(policies, config.client_id_suffix.clone());
        let fail = |source| BindError::Listen {
            address: config.listen,
            source,
        };
        let listener = bind(config.listen).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        // After the address: of two brokers of one configuration the second says that the first is running.
        let (store, kept) = config
            .store
            .map(|directory| Store::open(&directory, &config.realm))
            .transpose()?
            .unzip();
        let (hub, for_bus) = Hub::new(gate, config.limits, kept);
        let writer = store.map(|store| StoreWriter::new(Arc::clone(&hub), store));
        let bus = LocalBus::start()?;
        let (roster, online) =
            Roster::new(bus.service("roster")?, &config.realm).map_err(BindError::Roster)?;
        let door = Door {
            front: RwLock::new(Arc::new(front)),
            realm: config.realm,
            client_id_suffix: config.client_id_suffix,
            hub,
        };
        let door = Arc::new(door);
        Ok(Self {
            listener,
            address,
            reloader: Reloader::new(sources, watched, Arc::clone(&door)),
            door,
            bus,
            for_bus,
            writer,
            roster,
            online,
        })
    }

    /// The address it is bound to, with the port that was free.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How many devices are online.
    pub fn roster(&self) -> watch::Receiver<usize> {
        self.online.clone()
    }

    /// The counters.
    pub fn counters(&self) -> CounterView {
        CounterView {
            hub: Arc::clone(&self.door.hub),
        }
    }

    /// What it says of itself to a monitor.
    pub fn vitals(&self) -> Vitals {
        Vitals::new(self.counters(), self.roster())
    }

    /// What asks the broker to read its files again at once. It does so by itself within a second.
    pub fn reload_bell(&self) -> ReloadBell {
        self.reloader.bell()
    }

    /// A link to the bus, for one of the realm's own services. Each needs a name of its own; `front` and `roster` are taken.
    pub fn service(&self, name: &str) -> Result<ServiceLink, LinkUnavailable> {
        self.bus.service(name)
    }

    /// Serves until the shutdown is requested; then stops accepting, closes every connection without publishing a will,
    /// and returns when all are gone.
    pub async fn run(mut self, shutdown: Shutdown) {
        let hub = Arc::clone(&self.door.hub);
        let mut services = JoinSet::new();
        services.spawn(bus::carry(self.bus, Arc::clone(&hub), self.for_bus));
        services.spawn(self.roster.run());
        tracing::info!(address = %self.address, "the broker listens");
        tokio::select! {
            () = listen(self.listener, self.door, shutdown) => {}
            () = sweep(&hub) => {}
            () = give_up(&hub) => {}
            () = write(self.writer.as_mut()) => {}
            () = self.reloader.watch() => {}
            // Devices are served without the realm's services too, but somebody should know.
            () = watch_services(&mut services) => {}
        }
        if let Some(writer) = self.writer {
            writer.finish().await;
        }
        tracing::info!("the broker has drained");
    }
}

impl CounterView {
    /// The counters now.
    pub fn snapshot(&self) -> CounterSnapshot {
        self.hub.counters.snapshot()
    }

    /// What waits for clients now. Every session is looked at, so that it is for somebody who asks now and then.
    pub fn queues(&self) -> QueueDepths {
        self.hub.queue_depths()
    }
}

impl From<TrustError> for BindError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Authorities(error) => Self::Tls(error),
            TrustError::Revocations(error) => Self::Revocations(error),
        }
    }
}

/// Reads every file that says who is served and how.
pub(crate) fn read(config: &BrokerConfig) -> Result<(Front, PolicySet), BindError> {
    let trust = Trust::load(
        &config.client_authorities,
        config.revocations.as_deref(),
        None,
    )?;
    let identity = tls::identity(&config.certificates, &config.key)?;
    let front = Front::new(identity, Arc::new(trust))?;
    let policies = policy_files::load_policies(config.policies.as_deref(), &config.realm)
        .map_err(BindError::Policies)?;
    Ok((front, policies))
}

/// Never completes: the broker goes on without them.
async fn watch_services(services: &mut JoinSet<bus::BusLost>) {
    while let Some(ended) = services.join_next().await {
        match ended {
            Ok(lost) => tracing::error!(error = %lost, "a service of the realm has ended"),
            Err(error) => tracing::error!(%error, "a service of the realm has failed"),
        }
    }
    std::future::pending::<()>().await;
}

/// Never completes.
async fn sweep(hub: &Hub) {
    let mut ticks = interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        hub.sweep(Instant::now());
    }
}

/// Never completes. Publishes the wills of devices that were connected to an earlier broker and have not come back.
async fn give_up(hub: &Hub) {
    sleep(hub.limits.reconnect_window).await;
    while hub.give_up(GIVE_UP_COUNT) {
        // Others want the hub too.
        yield_now().await;
    }
    std::future::pending::<()>().await;
}

/// Never completes.
async fn write(writer: Option<&mut StoreWriter>) {
    match writer {
        Some(writer) => writer.run().await,
        None => std::future::pending().await,
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restarted broker must not wait for the connections of the old one to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
}
