//! The whole broker, from its configuration to its drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use daemon::shutdown::Shutdown;
use policies::PolicySetError;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_rustls::TlsAcceptor;

use crate::bus;
use crate::config::BrokerConfig;
use crate::counters::CounterSnapshot;
use crate::gate::Gate;
use crate::greeting::Door;
use crate::hub::Hub;
use crate::limits::{LISTEN_BACKLOG, SWEEP_INTERVAL};
use crate::listener::listen;
use crate::local_bus::{LinkUnavailable, LocalBus, ServiceLink};
use crate::message::Message;
use crate::revocation::{RevocationList, RevocationListError};
use crate::roster::Roster;
use crate::tls::{self, TlsError};
use crate::topic::TopicError;

/// The embedded broker: bound, and serving when it is [`run`](Self::run).
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    door: Arc<Door>,
    bus: LocalBus,
    for_bus: mpsc::Receiver<Arc<Message>>,
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
    Policies(#[source] PolicySetError),
    /// The address.
    #[error("the broker cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
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
            Self::Tls(_)
            | Self::Revocations(_)
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
        let authorities = tls::authorities(&config)?;
        let revoked = RevocationList::open(config.revocations.clone(), authorities.clone())?;
        let tls = tls::server(&config, authorities, Arc::clone(&revoked))?;
        let gate = Gate::new(&config.realm).map_err(BindError::Policies)?;
        let (hub, for_bus) = Hub::new(gate, config.limits);
        let bus = LocalBus::start()?;
        let (roster, online) =
            Roster::new(bus.service("roster")?, &config.realm).map_err(BindError::Roster)?;
        let fail = |source| BindError::Listen {
            address: config.listen,
            source,
        };
        let listener = bind(config.listen).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let door = Door {
            tls: TlsAcceptor::from(tls),
            realm: config.realm,
            client_id_suffix: config.client_id_suffix,
            hub,
            revoked,
        };
        Ok(Self {
            listener,
            address,
            door: Arc::new(door),
            bus,
            for_bus,
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

    /// A link to the bus, for one of the realm's own services. Each needs a name of its own; `front` and `roster` are taken.
    pub fn service(&self, name: &str) -> Result<ServiceLink, LinkUnavailable> {
        self.bus.service(name)
    }

    /// Serves until the shutdown is requested; then stops accepting, closes every connection without publishing a will,
    /// and returns when all are gone.
    pub async fn run(self, shutdown: Shutdown) {
        let hub = Arc::clone(&self.door.hub);
        let revoked = Arc::clone(&self.door.revoked);
        let mut services = JoinSet::new();
        services.spawn(bus::carry(self.bus, Arc::clone(&hub), self.for_bus));
        services.spawn(self.roster.run());
        tracing::info!(address = %self.address, "the broker listens");
        tokio::select! {
            () = listen(self.listener, self.door, shutdown) => {}
            () = sweep(&hub) => {}
            () = revoked.watch(Arc::clone(&hub)) => {}
            // Devices are served without the realm's services too, but somebody should know.
            () = watch_services(&mut services) => {}
        }
        tracing::info!("the broker has drained");
    }
}

impl CounterView {
    /// The counters now.
    pub fn snapshot(&self) -> CounterSnapshot {
        self.hub.counters.snapshot()
    }
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
