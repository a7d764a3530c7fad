//! A proxy on a free port, with devices' keys, agents, controllers and small services around it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::shutdown::Shutdown;
use daemon::splice::{self, SpliceLimits};
use daemon::ssh_client::{DialError, Dialed, dial};
use protocol::DeviceId;
use proxy::{KeyPermission, Limits, Proxy, ProxyConfig, Stats, StatsReader};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) home: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) host_key: PublicKey,
    pub(crate) private_host_key: PrivateKey,
    pub(crate) shutdown: Shutdown,
    pub(crate) tasks: JoinSet<()>,
    stats: StatsReader,
}

/// How often a row is repeated: so many times in the suite, and as often as `TUNNEL_REPEAT` says in a soak.
pub(crate) fn times(in_the_suite: usize) -> usize {
    let wanted = std::env::var("TUNNEL_REPEAT").ok();
    wanted.map_or(in_the_suite, |wanted| wanted.parse().unwrap())
}

/// The limits with the waits made short, where a test is about their end.
pub(crate) fn quick() -> Limits {
    Limits {
        forward_wait: Duration::from_millis(300),
        ..Limits::default()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    #[expect(clippy::large_types_passed_by_value, reason = "made for the call")]
    pub(crate) async fn with(limits: Limits) -> Self {
        Self::with_bandwidth(limits, "").await
    }

    /// A proxy where the streams of `hula` have this rate.
    #[expect(clippy::large_types_passed_by_value, reason = "made for the call")]
    pub(crate) async fn with_bandwidth(limits: Limits, rate: &str) -> Self {
        Self::start(limits, rate, Duration::from_secs(5)).await
    }

    /// A proxy whose streams have this long when it stops.
    pub(crate) async fn with_grace(grace: Duration) -> Self {
        Self::start(Limits::default(), "", grace).await
    }

    #[expect(clippy::large_types_passed_by_value, reason = "made for the call")]
    async fn start(limits: Limits, rate: &str, grace: Duration) -> Self {
        listen_to_logs();
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("keys")).unwrap();
        let host_key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let public = host_key.public_key().clone();
        let config = config(home.path(), vec![host_key.clone()], limits, rate);
        let proxy = Proxy::bind(config).await.unwrap();
        let (address, stats) = (proxy.local_addr(), proxy.stats());
        let shutdown = Shutdown::new(grace);
        let mut tasks = JoinSet::new();
        tasks.spawn(proxy.run(shutdown.clone()));
        let known = format!(
            "[127.0.0.1]:{} {}\n",
            address.port(),
            public.to_openssh().unwrap()
        );
        fs::write(home.path().join("known_hosts"), known).unwrap();
        Self {
            home,
            address,
            host_key: public,
            private_host_key: host_key,
            shutdown,
            tasks,
            stats,
        }
    }

    /// What another proxy for the same devices would be started with.
    pub(crate) fn config(&self, host_keys: Vec<PrivateKey>) -> ProxyConfig {
        config(self.home.path(), host_keys, Limits::default(), "")
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats.now()
    }

    /// Waits for a state of the proxy.
    pub(crate) async fn until(&self, what: &str, state: impl Fn(Stats) -> bool) {
        let start = Instant::now();
        while !state(self.stats()) {
            assert!(start.elapsed() < LONG, "not {what}: {:?}", self.stats());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// A new key of this device, known to the proxy.
    pub(crate) fn key(&self, id: &str) -> Arc<PrivateKey> {
        let key = self.strangers_key(id);
        let line = key.public_key().to_openssh().unwrap();
        let temporary = self.home.path().join("new");
        fs::write(&temporary, format!("{line}\n")).unwrap();
        fs::rename(temporary, self.public_path(id)).unwrap();
        key
    }

    /// A key that the proxy does not know.
    pub(crate) fn strangers_key(&self, id: &str) -> Arc<PrivateKey> {
        let mut key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        key.set_comment(id);
        let path = self.private_path(id);
        fs::write(&path, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Arc::new(key)
    }

    pub(crate) fn public_path(&self, id: &str) -> PathBuf {
        self.home
            .path()
            .join("keys")
            .join(format!("{id}.sshkey.pub"))
    }

    pub(crate) fn private_path(&self, id: &str) -> PathBuf {
        self.home.path().join(id)
    }

    pub(crate) async fn dial(&self, id: &str, key: Arc<PrivateKey>) -> Result<Dialed, DialError> {
        let id: DeviceId = id.parse().unwrap();
        self.dial_as(id.system().as_str(), key).await
    }

    pub(crate) async fn dial_as(
        &self,
        user: &str,
        key: Arc<PrivateKey>,
    ) -> Result<Dialed, DialError> {
        let address = self.address.to_string();
        dial(
            &address,
            user,
            key,
            std::slice::from_ref(&self.host_key),
            LONG,
        )
        .await
    }

    /// An agent's connection that forwards `host` and `port` to a local service. Returns the port granted.
    pub(crate) async fn agent(
        &mut self,
        id: &str,
        key: &Arc<PrivateKey>,
        host: &str,
        port: u16,
        service: SocketAddr,
    ) -> u16 {
        let dialed = self.dial(id, Arc::clone(key)).await.unwrap();
        let granted = dialed.request_forward(host, port, LONG).await.unwrap();
        self.tasks.spawn(serve(dialed, service));
        granted
    }

    pub(crate) async fn controller(&self, id: &str) -> Dialed {
        let key = self.key(id);
        self.dial(id, key).await.unwrap()
    }

    /// A service that gives back what it gets.
    pub(crate) async fn echo(&mut self) -> SocketAddr {
        self.service(|mut socket| async move {
            let (mut read, mut write) = socket.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        })
        .await
    }

    /// A service for each of whose connections this runs.
    pub(crate) async fn service<F, R>(&mut self, run: F) -> SocketAddr
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(run(socket));
            }
        });
        address
    }

    /// OpenSSH's client with nothing of this machine's configuration.
    pub(crate) fn ssh(&self, id: &str) -> Command {
        let mut ssh = Command::new("/usr/bin/ssh");
        ssh.args(self.ssh_options(id));
        ssh.kill_on_drop(true);
        ssh.stdin(std::process::Stdio::null());
        ssh
    }

    pub(crate) fn ssh_options(&self, id: &str) -> Vec<String> {
        let id: DeviceId = id.parse().unwrap();
        let mut options: Vec<String> = [
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "ExitOnForwardFailure=yes",
        ]
        .map(String::from)
        .to_vec();
        options.extend([
            "-o".into(),
            "IdentityAgent=none".into(),
            "-o".into(),
            "IdentitiesOnly=yes".into(),
        ]);
        options.extend([
            "-o".into(),
            format!(
                "UserKnownHostsFile={}",
                self.home.path().join("known_hosts").display()
            ),
        ]);
        options.extend([
            "-i".into(),
            self.private_path(&id.to_string()).display().to_string(),
        ]);
        options.extend(["-p".into(), self.address.port().to_string()]);
        options.extend(["-l".into(), id.system().to_string()]);
        options
    }

    /// Ends the proxy, and checks that nothing of it stays.
    pub(crate) async fn end(mut self) {
        self.shutdown.request();
        self.until("empty", |stats| stats == Stats::default()).await;
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[expect(clippy::large_types_passed_by_value, reason = "made for the call")]
fn config(
    home: &std::path::Path,
    host_keys: Vec<PrivateKey>,
    limits: Limits,
    rate: &str,
) -> ProxyConfig {
    ProxyConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        realm: "atlas".parse().unwrap(),
        host_keys,
        keys: home.join("keys"),
        permits: KeyPermission::everyone_with_write_access(),
        reload: Duration::from_millis(200),
        limits,
        bandwidth: rate
            .parse()
            .ok()
            .map(|rate| ("hula".parse().unwrap(), rate))
            .into_iter()
            .collect(),
    }
}

/// What the proxies of this process have logged, line by line.
pub(crate) fn logged() -> Vec<String> {
    let bytes = LOG.lock().unwrap().clone();
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Forgets what was logged, and gives back its memory.
pub(crate) fn forget_log() {
    *LOG.lock().unwrap() = Vec::new();
}

/// Waits for a line of the log with all of these in it.
pub(crate) async fn until_logged(parts: &[&str]) -> String {
    let start = Instant::now();
    loop {
        let all = logged();
        let has = |line: &&String| parts.iter().all(|part| line.contains(part));
        if let Some(line) = all.iter().find(has) {
            return line.clone();
        }
        assert!(start.elapsed() < LONG, "{parts:?} is not in {all:#?}");
        sleep(Duration::from_millis(5)).await;
    }
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn listen_to_logs() {
    // Another test of this process may listen already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter("proxy=debug")
        .with_ansi(false)
        .with_writer(|| Log)
        .try_init();
}

/// What OpenSSH's client tells its user.
pub(crate) async fn told_by_ssh(world: &World, id: &str) -> String {
    let mut ssh = world.ssh(id);
    let output = timeout(LONG, ssh.args(["-N", "127.0.0.1"]).output())
        .await
        .expect("hangs")
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What an agent does with the streams of one connection.
pub(crate) async fn serve(mut dialed: Dialed, service: SocketAddr) {
    let mut streams = JoinSet::new();
    let flow = dialed.flow().clone();
    loop {
        let stream = tokio::select! {
            stream = dialed.forwarded.recv() => stream,
            () = flow.dead() => return,
        };
        let Some(stream) = stream else { return };
        streams.spawn(async move {
            match TcpStream::connect(service).await {
                Ok(mut socket) => {
                    let (mut read, mut write) = socket.split();
                    let end = stream.accept().await;
                    splice::local(end, &mut read, &mut write, SpliceLimits::default()).await;
                }
                Err(_) => stream.refuse("nobody listens").await,
            }
        });
    }
}
