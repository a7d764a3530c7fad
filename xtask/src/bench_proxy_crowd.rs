//! Many tunnels from one process: russh clients that log in, ask for a remote forward, and stay.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{Stopwatch, raise_descriptors};
use russh::client::{self, Handle};
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Preferred, SshId, cipher, kex};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::percentile::Samples;

/// Who logs in where.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) server: SocketAddr,
    pub(crate) user: String,
    pub(crate) key: Arc<PrivateKey>,
}

/// Tunnels that are held, and the runtime on which they live.
pub(crate) struct Crowd {
    members: Members,
    speaking: Arc<AtomicBool>,
    runtime: Runtime,
    config: Arc<client::Config>,
    _pings: JoinSet<()>,
}

type Members = Arc<Mutex<Vec<Handle<Anyone>>>>;

/// A round of logins.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// From the TCP connection to the granted forward, each.
    pub(crate) took: Samples,
    pub(crate) per_second: f64,
}

impl Crowd {
    pub(crate) fn new() -> Result<Self, String> {
        raise_descriptors();
        let runtime = Runtime::new().map_err(|error| error.to_string())?;
        let members = Arc::default();
        let speaking = Arc::new(AtomicBool::new(true));
        let mut pings = JoinSet::new();
        pings.spawn_on(
            ping(Arc::clone(&members), Arc::clone(&speaking)),
            runtime.handle(),
        );
        Ok(Self {
            members,
            speaking,
            runtime,
            config: config(),
            _pings: pings,
        })
    }

    /// Adds one tunnel for each of these, some at a time, and keeps them.
    pub(crate) fn grow(&self, logins: &[Login]) -> Result<(), String> {
        // Those who stand have to ping while others are still coming.
        for batch in logins.chunks(BATCH) {
            self.runtime.block_on(async {
                let (_, mut grown) =
                    set_up_all(&self.config, batch, AT_A_TIME, |held| held).await?;
                self.members.lock().await.append(&mut grown);
                Ok::<_, String>(())
            })?;
        }
        Ok(())
    }

    /// Sets up one tunnel for each of these, so many at a time, each given up before its place sets up the next.
    pub(crate) fn come_and_go(&self, logins: &[Login], at_a_time: usize) -> Result<Round, String> {
        let (round, _) = self.runtime.block_on(set_up_all(
            &self.config,
            logins,
            at_a_time,
            drop::<Handle<Anyone>>,
        ))?;
        Ok(round)
    }

    /// How many are alive.
    pub(crate) fn alive(&self) -> usize {
        let members = self.runtime.block_on(self.members.lock());
        members.iter().filter(|member| !member.is_closed()).count()
    }

    /// Has all ping once more, and then not, until [`resume`](Self::resume).
    pub(crate) fn pause(&self) {
        self.speaking.store(false, Ordering::Relaxed);
        self.runtime.block_on(ping_all(&self.members));
    }

    /// Has all ping at once, and from then on again.
    pub(crate) fn resume(&self) {
        self.runtime.block_on(ping_all(&self.members));
        self.speaking.store(true, Ordering::Relaxed);
    }

    /// Ends them all.
    pub(crate) fn leave(&self) {
        self.runtime
            .block_on(async { self.members.lock().await.clear() });
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.runtime.block_on(async { sleep(time).await });
    }
}

impl Login {
    /// A key that is the same in every run: it is worth nothing outside of the bench's own realm.
    pub(crate) fn made_up(server: SocketAddr, user: &str, number: u64) -> Self {
        let mut seed = [7; 32];
        for (place, byte) in seed.iter_mut().zip(number.to_be_bytes()) {
            *place = byte;
        }
        Self {
            server,
            user: user.to_owned(),
            key: Arc::new(PrivateKey::from(Ed25519Keypair::from_seed(&seed))),
        }
    }

    /// The line of the public key's file, which says whose it is.
    pub(crate) fn public_key(&self, device: &str) -> Result<String, String> {
        let mut key = self.key.public_key().clone();
        key.set_comment(device);
        key.to_openssh().map_err(|error| error.to_string())
    }
}

/// A client that takes every host key: the server is the bench's own.
struct Anyone;

impl client::Handler for Anyone {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// Each place takes every `at_a_time`th login.
async fn set_up_all<K: Send + 'static>(
    config: &Arc<client::Config>,
    logins: &[Login],
    at_a_time: usize,
    keep: fn(Handle<Anyone>) -> K,
) -> Result<(Round, Vec<K>), String> {
    let mut places = JoinSet::new();
    let watch = Stopwatch::start();
    for place in 0..at_a_time {
        // Each place has an address of its own, as sites do: the proxy counts newcomers by address.
        let from = Ipv4Addr::new(127, 0, 1, u8::try_from(place + 1).unwrap_or(u8::MAX));
        let (config, logins) = (Arc::clone(config), logins.to_vec());
        places.spawn(async move {
            let mut done = Vec::new();
            for login in logins.into_iter().skip(place).step_by(at_a_time) {
                let watch = Stopwatch::start();
                let held = set_up(&config, &login, from).await?;
                done.push((watch.elapsed_ms(), keep(held)));
            }
            Ok::<_, String>(done)
        });
    }
    let (mut took, mut kept) = (Samples::default(), Vec::with_capacity(logins.len()));
    while let Some(place) = places.join_next().await {
        for (ms, held) in place.map_err(|error| error.to_string())?? {
            took.push(ms);
            kept.push(held);
        }
    }
    let count = u32::try_from(kept.len()).unwrap_or(u32::MAX);
    let per_second = f64::from(count) / watch.elapsed().as_secs_f64();
    Ok((Round { took, per_second }, kept))
}

/// TCP, key exchange, login, remote forward.
async fn set_up(
    config: &Arc<client::Config>,
    login: &Login,
    from: Ipv4Addr,
) -> Result<Handle<Anyone>, String> {
    let steps = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let stream = socket.connect(login.server).await?;
        stream.set_nodelay(true)?;
        let mut handle = client::connect_stream(Arc::clone(config), stream, Anyone).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&login.key), None);
        let answer = handle.authenticate_publickey(&login.user, key).await?;
        if !answer.success() {
            return Err(russh::Error::NotAuthenticated);
        }
        handle.tcpip_forward("localhost", 0).await?;
        Ok(handle)
    };
    match timeout(SET_UP_LIMIT, Box::pin(steps)).await {
        Ok(done) => done.map_err(|error| format!("a tunnel at {}: {error}", login.server)),
        Err(_) => Err(format!("no tunnel at {} in time", login.server)),
    }
}

/// What agents do, so that each side hears of the other.
async fn ping(members: Members, speaking: Arc<AtomicBool>) {
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if speaking.load(Ordering::Relaxed) {
            ping_all(&members).await;
        }
    }
}

async fn ping_all(members: &Members) {
    for member in members.lock().await.iter() {
        // Who is gone is counted elsewhere.
        let _ = member.send_keepalive(true).await;
    }
}

/// The algorithms and the name of our own agents, for both servers.
fn config() -> Arc<client::Config> {
    Arc::new(client::Config {
        client_id: SshId::Standard("SSH-2.0-tunnel_bench".into()),
        preferred: Preferred {
            kex: vec![kex::MLKEM768X25519_SHA256, kex::CURVE25519].into(),
            cipher: vec![cipher::AES_128_GCM].into(),
            ..Preferred::DEFAULT
        },
        nodelay: true,
        ..client::Config::default()
    })
}

/// As many as the goal is about.
pub(crate) const AT_A_TIME: usize = 16;

/// How many stand together: what takes far less time than the proxy lets a peer be silent.
const BATCH: usize = 500;

/// As agents have it.
const PING_INTERVAL: Duration = Duration::from_secs(4);

/// How long one tunnel may take to stand.
const SET_UP_LIMIT: Duration = Duration::from_secs(30);
