//! The client's side of an SSH connection to the proxy: what agents and controllers share.

mod peer;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::Disconnect;
use russh::client::{self, Msg};
use russh::keys::ssh_key::Fingerprint;
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub use self::peer::ForwardedStream;
use self::peer::{Peer, PeerError, REFUSALS};
use crate::flow::Flow;
use crate::splice::ChannelEnd;
use crate::ssh::{PeerKind, client_config};

/// An authenticated connection to a proxy. It pings by itself, and is dead when the proxy is silent for [`SILENCE_LIMIT`].
///
/// Keep it for as long as its streams: dropping it cuts them. Without streams, the connection ends when what is already
/// on its way is out; [`disconnect`](Self::disconnect) waits for that.
pub struct Dialed {
    /// The streams that the proxy opens through remote forwards, in their order; at most [`FORWARDED_QUEUE`] wait.
    pub forwarded: mpsc::Receiver<ForwardedStream>,
    handle: Arc<client::Handle<Peer>>,
    flow: Flow,
    kind: PeerKind,
    refusals: Mutex<mpsc::Receiver<String>>,
    // Dropped with the connection, and the task with it.
    _pings: JoinSet<()>,
}

impl fmt::Debug for Dialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialed")
            .field("flow", &self.flow)
            .finish_non_exhaustive()
    }
}

/// Why a proxy could not be reached or would not have us.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// It took too long, in whatever step.
    #[error("proxy `{proxy}` did not answer within {limit:?}")]
    TimedOut {
        /// Its address.
        proxy: String,
        /// What was allowed.
        limit: Duration,
    },
    /// No TCP connection.
    #[error("cannot connect to proxy `{proxy}`")]
    Connect {
        /// Its address.
        proxy: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody else answers at its address, or its key was changed.
    #[error("proxy `{proxy}` presented host key {got}, expected {pinned}")]
    HostKey {
        /// Its address.
        proxy: String,
        /// The fingerprint of what it presented.
        got: Fingerprint,
        /// The fingerprints that are known to be its own.
        pinned: String,
    },
    /// The SSH handshake failed: no SSH there, no common algorithm, or the connection broke.
    #[error("ssh handshake with proxy `{proxy}` failed")]
    Handshake {
        /// Its address.
        proxy: String,
        /// Why.
        #[source]
        source: russh::Error,
    },
    /// It ended the connection, and said why.
    #[error("proxy `{proxy}` turns us away: {reason}")]
    TurnedAway {
        /// Its address.
        proxy: String,
        /// In its words.
        reason: String,
    },
    /// The key is not admitted for this user.
    #[error("proxy `{proxy}` refuses key {key} for user `{user}`")]
    Refused {
        /// Its address.
        proxy: String,
        /// The user, which is the system.
        user: String,
        /// The fingerprint of our key.
        key: Fingerprint,
    },
}

impl DialError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::HostKey { .. } => {
                Some("ask the realm's admin whether the proxy's host key was changed on purpose")
            }
            Self::Refused { .. } => {
                Some("the key may not be synced to the proxy yet, or it was withdrawn")
            }
            Self::TimedOut { .. } | Self::Connect { .. } => Some(
                "check the network, and that the realm's proxy runs and its TCP port is open on the way to it",
            ),
            Self::TurnedAway { .. } => {
                Some("try again later; if it stays so, the log of the proxy says more")
            }
            Self::Handshake { .. } => {
                Some("something answers at that address but not as the realm's proxy does")
            }
        }
    }

    /// Whether trying again later may help without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            // A key that was just uploaded is refused until it is synced.
            Self::TimedOut { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::TurnedAway { .. }
            | Self::Refused { .. } => true,
            Self::HostKey { .. } => false,
        }
    }
}

/// Why a request on a live connection failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No answer in time. What was asked for may still be granted: drop the connection.
    #[error("the proxy did not answer within {limit:?}")]
    TimedOut {
        /// What was allowed.
        limit: Duration,
    },
    /// The proxy says no.
    #[error("the proxy refuses it: {reason}")]
    Refused {
        /// In the proxy's words.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to the proxy is lost")]
    Lost {
        /// Why.
        #[source]
        source: russh::Error,
    },
}

/// Connects to a proxy at `host:port`, checks that it has one of the host keys, and logs in, all within `limit`.
pub async fn dial(
    proxy: &str,
    user: &str,
    key: Arc<PrivateKey>,
    host_keys: &[PublicKey],
    limit: Duration,
) -> Result<Dialed, DialError> {
    match timeout(limit, Box::pin(log_in(proxy, user, key, host_keys))).await {
        Ok(result) => result,
        Err(_) => Err(DialError::TimedOut {
            proxy: proxy.to_owned(),
            limit,
        }),
    }
}

impl Dialed {
    /// The connection's flow, by which its death is seen.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Whether the proxy is our own software, as its identification line says.
    pub fn kind(&self) -> PeerKind {
        self.kind
    }

    /// Asks for a remote forward. With port 0 the proxy chooses; the port that was granted is returned.
    pub async fn request_forward(
        &self,
        address: &str,
        port: u16,
        limit: Duration,
    ) -> Result<u16, RequestError> {
        let request = self.handle.tcpip_forward(address, u32::from(port));
        let granted = answer(limit, request).await?;
        if port != 0 {
            return Ok(port);
        }
        match u16::try_from(granted) {
            Ok(granted) if granted != 0 => Ok(granted),
            _ => Err(RequestError::Refused {
                reason: format!("it granted port {granted}, which is none"),
            }),
        }
    }

    /// Gives a remote forward back. Streams that are open stay open.
    pub async fn cancel_forward(
        &self,
        address: &str,
        port: u16,
        limit: Duration,
    ) -> Result<(), RequestError> {
        answer(
            limit,
            self.handle.cancel_tcpip_forward(address, u32::from(port)),
        )
        .await
    }

    /// Opens a stream to a device by name, or to `localhost` and the port that the proxy has allocated to it.
    pub async fn open(
        &self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<ChannelEnd<Msg>, RequestError> {
        let request = self
            .handle
            .channel_open_direct_tcpip(host, u32::from(port), ORIGINATOR, 0);
        match answer(limit, request).await {
            Ok(channel) => Ok(ChannelEnd::new(channel, self.flow.clone())),
            Err(RequestError::Refused { reason }) => Err(RequestError::Refused {
                reason: self.refusal().await.unwrap_or(reason),
            }),
            Err(other) => Err(other),
        }
    }

    /// The proxy's own words, which russh hands to the callback only, a moment after the failure.
    async fn refusal(&self) -> Option<String> {
        let mut refusals = self.refusals.lock().await;
        timeout(REFUSAL_LIMIT, refusals.recv()).await.ok().flatten()
    }

    /// Says goodbye; the connection ends when that is out. What its streams have sent before goes out first.
    pub async fn disconnect(self, reason: &str) {
        // russh keeps the goodbye and the data of streams that the proxy opened in different queues; an answer from the
        // proxy tells that the loop has been through both.
        let _ = timeout(GOODBYE_LIMIT, self.handle.send_ping()).await;
        let goodbye = self
            .handle
            .disconnect(Disconnect::ByApplication, reason, "en");
        // Whether or not the proxy hears it: the connection ends with the drop.
        let _ = timeout(GOODBYE_LIMIT, goodbye).await;
    }
}

impl Drop for Dialed {
    fn drop(&mut self) {
        if self.flow.streams() > 0 {
            // Nobody pings any more, so they would end anyway, some seconds later and for no visible reason.
            self.flow.cut("the connection was given up");
        }
    }
}

async fn log_in(
    proxy: &str,
    user: &str,
    key: Arc<PrivateKey>,
    host_keys: &[PublicKey],
) -> Result<Dialed, DialError> {
    let connect = |source| DialError::Connect {
        proxy: proxy.to_owned(),
        source,
    };
    let socket = reach(proxy).await.map_err(connect)?;
    let (stream, flow) = Flow::over(socket).map_err(connect)?;
    // Whoever it is: only TCP slows a server down, since russh's client ignores what `adjust_window` says.
    flow.set_kind(PeerKind::Own);
    let (sender, forwarded) = mpsc::channel(FORWARDED_QUEUE);
    let (refused, refusals) = mpsc::channel(REFUSALS);
    let (farewell, mut last_words) = mpsc::channel(1);
    let kind = Arc::new(OnceLock::new());
    let peer = Peer {
        flow: flow.clone(),
        kind: Arc::clone(&kind),
        refused,
        farewell,
        pinned: host_keys.to_vec(),
        forwarded: sender,
    };
    let mut handle = match client::connect_stream(client_config(host_keys), stream, peer).await {
        Ok(handle) => handle,
        Err(PeerError::HostKey(got)) => {
            return Err(DialError::HostKey {
                proxy: proxy.to_owned(),
                got,
                pinned: fingerprints(host_keys),
            });
        }
        Err(PeerError::Ssh(source)) => return Err(ended(proxy, &mut last_words, source).await),
    };
    let fingerprint = key.fingerprint(HashAlg::Sha256);
    let key = PrivateKeyWithHashAlg::new(key, Some(HashAlg::Sha512));
    let result = match handle.authenticate_publickey(user, key).await {
        Ok(result) => result,
        Err(source) => return Err(ended(proxy, &mut last_words, source).await),
    };
    if !result.success() {
        return Err(DialError::Refused {
            proxy: proxy.to_owned(),
            user: user.to_owned(),
            key: fingerprint,
        });
    }
    flow.limit_silence(SILENCE_LIMIT);
    let handle = Arc::new(handle);
    let mut pings = JoinSet::new();
    pings.spawn(ping(Arc::clone(&handle)));
    Ok(Dialed {
        forwarded,
        handle,
        flow,
        kind: kind.get().copied().unwrap_or(PeerKind::Foreign),
        refusals: Mutex::new(refusals),
        _pings: pings,
    })
}

/// Connects, and asks anew while nobody answers: the kernel asks after 1, 3, 7 and 15 s, so that a link which comes back would lie
/// idle for half of the time that it was away.
async fn reach(proxy: &str) -> std::io::Result<TcpStream> {
    loop {
        if let Ok(connected) = timeout(CONNECT_PATIENCE, TcpStream::connect(proxy)).await {
            return connected;
        }
        // The caller's deadline ends it.
        tracing::debug!(proxy, "no answer yet; asking again");
    }
}

/// What became of a connection that ended before the login: the proxy's words say more than the failure.
async fn ended(
    proxy: &str,
    last_words: &mut mpsc::Receiver<String>,
    source: russh::Error,
) -> DialError {
    let proxy = proxy.to_owned();
    match timeout(REFUSAL_LIMIT, last_words.recv()).await {
        Ok(Some(reason)) => DialError::TurnedAway { proxy, reason },
        Ok(None) | Err(_) => DialError::Handshake { proxy, source },
    }
}

/// Pings whether or not anything comes in: a proxy that only sends would otherwise hear nothing from us.
async fn ping(handle: Arc<client::Handle<Peer>>) {
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if handle.send_keepalive(true).await.is_err() {
            return;
        }
    }
}

async fn answer<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, russh::Error>>,
) -> Result<T, RequestError> {
    match timeout(limit, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(russh::Error::RequestDenied)) => Err(RequestError::Refused {
            reason: "request denied".to_owned(),
        }),
        Ok(Err(russh::Error::ChannelOpenFailure(failure))) => Err(RequestError::Refused {
            reason: failure.description().to_lowercase(),
        }),
        Ok(Err(source)) => Err(RequestError::Lost { source }),
        Err(_) => Err(RequestError::TimedOut { limit }),
    }
}

fn fingerprints(keys: &[PublicKey]) -> String {
    if keys.is_empty() {
        return "none, since no host key is known".to_owned();
    }
    let all: Vec<String> = keys
        .iter()
        .map(|key| key.fingerprint(HashAlg::Sha256).to_string())
        .collect();
    all.join(" or ")
}

/// How long one try to connect waits: for the answers to three requests of the kernel's, the last of which may be a second on its way.
const CONNECT_PATIENCE: Duration = Duration::from_secs(4);

/// How often a connection pings: twice within [`SILENCE_LIMIT`], with a second for the way.
pub const PING_INTERVAL: Duration = Duration::from_secs(4);

/// How long an own peer may say nothing, when its pings come through. A cut link is noticed by everybody within ten seconds;
/// one is left for a machine that is slow to look.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(9);

/// How long a controller waits for a stream. The proxy answers sooner: it may wait for the device's forward, and try
/// another of its connections, which dials its service.
pub const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// How many streams may wait for the agent to take them. More are refused, and the proxy tries another connection.
pub const FORWARDED_QUEUE: usize = 16;

/// What a controller tells as its address: who it is, its key has already said.
const ORIGINATOR: &str = "127.0.0.1";

/// How long a goodbye may take; nothing depends on it.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// How long the words of a refusal are waited for.
const REFUSAL_LIMIT: Duration = Duration::from_millis(200);
