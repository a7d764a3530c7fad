//! The listening socket: who is let in, and how it all stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::doorway::{Full, Pass};
use daemon::shutdown::Shutdown;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::config::ProxyConfig;
use crate::connection::Connection;
use crate::farewell::Farewell;
use crate::hub::{Hub, StatsReader};
use crate::keys::{KeyStore, KeyStoreError};
use crate::settings::{Settings, SshSettings};
use crate::turned_away::TurnedAway;
use crate::vitals::Vitals;

/// A proxy that listens.
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    address: SocketAddr,
    ssh: SshSettings,
    hub: Arc<Hub>,
    reload: Duration,
}

/// Why a proxy cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The address is taken, or not ours.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The devices' keys cannot be read.
    #[error("cannot read the devices' keys")]
    Keys {
        /// Why.
        #[source]
        source: KeyStoreError,
    },
    /// Nobody could tell this proxy from another.
    #[error("a proxy needs a host key")]
    NoHostKey,
}

impl BindError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another proxy may be running; `listen` below `[proxy]` in `server.toml` names another address",
            ),
            Self::Listen { .. } => Some(
                "`listen` below `[proxy]` in `server.toml` names the address: it has to be one of this computer, with a port that its user may have",
            ),
            Self::Keys {
                source: KeyStoreError::List { .. },
            } => Some("the proxy's user has to be able to read that directory"),
            Self::Keys {
                source: KeyStoreError::Interrupted { .. },
            }
            | Self::NoHostKey => None,
        }
    }
}

impl Proxy {
    /// Reads the keys and listens. Connections wait until [`run`](Self::run).
    pub async fn bind(config: ProxyConfig) -> Result<Self, BindError> {
        let ProxyConfig {
            listen: address,
            realm,
            host_keys,
            keys,
            permits,
            reload,
            limits,
            bandwidth,
        } = config;
        if host_keys.is_empty() {
            return Err(BindError::NoHostKey);
        }
        let keys = KeyStore::open(&keys, realm, permits, limits.keys)
            .await
            .map_err(|source| BindError::Keys { source })?;
        let fail = |source| BindError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self {
            listener,
            address,
            ssh: SshSettings::new(host_keys),
            hub: Hub::new(&limits, keys, bandwidth),
            reload,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// How much it is doing.
    pub fn stats(&self) -> StatsReader {
        self.hub.stats()
    }

    /// What changes its settings while it runs.
    pub fn settings(&self) -> Settings {
        Settings::new(self.ssh.clone(), Arc::clone(&self.hub))
    }

    /// What it says of itself to a monitor.
    pub fn vitals(&self) -> Vitals {
        Vitals(Arc::clone(&self.hub))
    }

    /// Serves until the shutdown is requested; then streams may go on for the shutdown's grace period.
    pub async fn run(self, shutdown: Shutdown) {
        let hub = Arc::clone(&self.hub);
        tokio::select! {
            () = self.serve(shutdown) => {}
            // Until the last has ended.
            () = hub.lookout.run() => {}
        }
    }

    async fn serve(self, shutdown: Shutdown) {
        let watch = self.hub.keys.watch(self.reload, &shutdown);
        tokio::select! {
            () = shutdown.requested() => {}
            () = watch => {}
            () = self.accept() => {}
        }
        let Self { listener, hub, .. } = self;
        // Who comes now should go elsewhere at once, rather than wait in the kernel's queue.
        drop(listener);
        let streams = hub.stats().now().streams;
        tracing::info!(streams, grace = ?shutdown.grace(), "stopping: no new connections");
        hub.stop(Instant::now() + shutdown.grace());
        hub.tasks.close();
        // A moment more than the grace period, in which those that are cut can say so.
        if timeout(shutdown.grace() + CUT_LIMIT, hub.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = hub.tasks.len(), "some connections did not end");
        }
    }

    /// Whether a newcomer may try to log in.
    fn admit(
        &self,
        address: SocketAddr,
        places: &Arc<Semaphore>,
    ) -> Result<(Pass, OwnedSemaphorePermit), Refused> {
        if let Some(rest) = self.hub.penalties.shut_out(address.ip(), Instant::now()) {
            return Err(Refused::ShutOut(rest.as_secs() + 1));
        }
        let pass = self.hub.doorway.enter(address.ip());
        let pass = pass.map_err(Refused::Doorway)?;
        let place = Arc::clone(places).try_acquire_owned();
        Ok((pass, place.map_err(|_| Refused::Full)?))
    }

    async fn accept(&self) {
        let places = Arc::new(Semaphore::new(self.hub.limits.connections));
        let (farewell, mut turned_away) = (Farewell::new(), TurnedAway::default());
        loop {
            let (socket, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: others have to end first.
                    tracing::error!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (pass, place) = match self.admit(address, &places) {
                Ok(admitted) => admitted,
                Err(refused) => {
                    self.hub.counts.turned_away.increment();
                    let reason = refused.to_string();
                    turned_away.note(address, &reason);
                    farewell.say(&self.hub.tasks, socket, &reason);
                    continue;
                }
            };
            self.hub.counts.accepted.increment();
            let connection = Connection::new(&self.hub, address, place);
            let ssh = self.ssh.current();
            self.hub.tasks.spawn(connection.serve(ssh, socket, pass));
        }
    }
}

/// Why a connection is not even begun.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("too many failed logins from your address: come back in {0} s")]
    ShutOut(u64),
    #[error("{0}: come back later")]
    Doorway(Full),
    #[error("too many connections: come back later")]
    Full,
}

/// How long accepting pauses after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the connections that are cut at the end may take to say goodbye.
const CUT_LIMIT: Duration = Duration::from_secs(5);
