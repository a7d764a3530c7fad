//! Local ports that lead to a device's services.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use daemon::shutdown::Shutdown;
use daemon::splice::{self, SpliceLimits};
use protocol::{DeviceId, Label};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::connection::Account;
use crate::tunnel::{OpenError, check};
use crate::way::{Device, Way};

mod patience;

use patience::Patience;

/// One local port that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The local port; `None` for any that is free.
    pub local: Option<u16>,
    /// The service, by name or by port.
    pub service: Label,
}

/// Local ports that lead to services, until [`run`](Self::run) is dropped.
pub struct Forward {
    device: Arc<Device>,
    ports: Vec<Port>,
    is_away: Arc<AtomicBool>,
}

/// One of them.
pub struct Port {
    listener: Arc<TcpListener>,
    /// Where it listens.
    pub address: SocketAddr,
    way: Arc<Way>,
}

/// What the person is told while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The device cannot be reached, and why; connections wait for it.
    Away(String),
    /// It can be reached again.
    Back,
    /// A connection was broken, and why: the device answers, and waiting would not help.
    Refused(String),
    /// Connections to this service are broken that have waited for so long.
    GivenUp {
        /// The service.
        service: Label,
        /// How long the first of them has waited.
        after: Duration,
    },
    /// Connections to this service, which were given up, go through again; the device was not said to be away.
    Again(Label),
}

/// Why nothing is forwarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The local port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port; 0 for any.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The device, or the service.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl ForwardError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("leave the local port out to get one that is free".to_owned())
            }
            Self::Listen { .. } => None,
            Self::Open(error) => error.hint(),
        }
    }
}

impl Forward {
    /// Listens for each wish, and asks the device for its service. `on_wait` is told what is waited for; when `cancel` is
    /// requested, everything ends.
    pub async fn begin(
        account: Arc<Account>,
        id: DeviceId,
        wishes: Vec<Wish>,
        on_wait: impl Fn(&'static str),
        cancel: &Shutdown,
    ) -> Result<Self, ForwardError> {
        check(account.id(), &id)?;
        let device = Device::new(account, id, cancel.part(DRAIN));
        let mut ports = Vec::new();
        for Wish { local, service } in wishes {
            let port = local.unwrap_or(0);
            let fail = |source| ForwardError::Listen { port, source };
            // The loopback alone: what is behind it is for who sits here.
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            let listener = Arc::new(listener.map_err(fail)?);
            let address = listener.local_addr().map_err(fail)?;
            let way = match Way::find(&device, service, &on_wait).await {
                Ok(way) => way,
                Err(error) => {
                    device.give_back().await;
                    return Err(error.into());
                }
            };
            ports.push(Port {
                listener,
                address,
                way,
            });
        }
        Ok(Self {
            device,
            ports,
            is_away: Arc::default(),
        })
    }

    /// The ports, in the order of the wishes.
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// Serves the ports until the shutdown is requested, and gives everything back.
    pub async fn run(self, on_notice: impl Fn(Notice) + Send + Sync + 'static) {
        let on_notice = Arc::new(on_notice);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let tasks = self.device.tasks.clone();
        for port in &self.ports {
            let server = Server {
                listener: Arc::clone(&port.listener),
                way: Arc::clone(&port.way),
                room: Arc::clone(&room),
                patience: Patience::new(Arc::clone(&self.is_away), Arc::clone(&on_notice)),
            };
            tasks.spawn(server.run(tasks.clone()));
        }
        tasks.requested().await;
        if !tasks.drained().await {
            tracing::debug!("some streams had not ended in time");
        }
        self.device.give_back().await;
    }
}

impl Port {
    /// What was asked for: a name, or a port.
    pub fn asked(&self) -> &Label {
        self.way.asked()
    }

    /// The service's name at the device.
    pub fn service(&self) -> Label {
        self.way.service()
    }
}

struct Server<F> {
    listener: Arc<TcpListener>,
    way: Arc<Way>,
    room: Arc<Semaphore>,
    patience: Patience<F>,
}

impl<F: Fn(Notice) + Send + Sync + 'static> Server<F> {
    async fn run(self, tasks: Shutdown) {
        let this = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                () = tasks.requested() => return,
                accepted = this.accept() => accepted,
            };
            let Some((room, local)) = accepted else {
                // No descriptors, most likely: others end soon.
                sleep(ACCEPT_AGAIN).await;
                continue;
            };
            let (serving, ending) = (Arc::clone(&this), tasks.clone());
            tasks.spawn(async move {
                let _room = room;
                serving.serve(local, &ending).await;
            });
        }
    }

    async fn accept(&self) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream)> {
        let room = Arc::clone(&self.room).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((local, _)) => Some((room, local)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                None
            }
        }
    }

    /// Joins a local connection with a stream of its own.
    async fn serve(&self, mut local: TcpStream, tasks: &Shutdown) {
        let _ = local.set_nodelay(true);
        let joined = tokio::select! {
            joined = self.patience.outlast(|| self.way.service(), || self.way.stream()) => joined,
            () = tasks.requested() => None,
        };
        let Some((proxy, stream)) = joined else {
            // A broken connection, and not the end of an empty answer.
            let _ = local.set_zero_linger();
            return;
        };
        let ended = {
            let (mut reader, mut writer) = local.split();
            let limits = SpliceLimits::default();
            let until = tasks.requested();
            splice::local_until(stream, &mut reader, &mut writer, limits, until).await
        };
        tracing::debug!(up = ended.up, down = ended.down, why = %ended.why, "a stream has ended");
        if !ended.is_clean() {
            let _ = local.set_zero_linger();
        }
        drop(local);
        proxy.disconnect("done").await;
    }
}

/// Local connections at once: as many as the proxy takes of one controller. The next waits to be accepted.
const CONNECTIONS: usize = 200;

/// How long after a failure to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// How long streams may take to end when they are told to.
const DRAIN: Duration = Duration::from_secs(2);
