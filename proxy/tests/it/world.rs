//! A proxy on a free port, with devices' keys, agents, controllers and small services around it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::shutdown::Shutdown;
use daemon::splice::{self, ChannelEnd, SpliceLimits};
use daemon::ssh_client::{DialError, Dialed, RequestError, dial};
use protocol::DeviceId;
use proxy::{KeyPermission, Limits, Proxy, ProxyConfig, Stats, StatsReader};
use russh::client::Msg;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
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
        listen_to_logs();
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("keys")).unwrap();
        let host_key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let public = host_key.public_key().clone();
        let config = config(home.path(), vec![host_key.clone()], limits, rate);
        let proxy = Proxy::bind(config).await.unwrap();
        let (address, stats) = (proxy.local_addr(), proxy.stats());
        let shutdown = Shutdown::new(Duration::from_secs(5));
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

/// A stream whose near end is a pipe, as a controller's standard input and output would be.
pub(crate) struct Stream {
    pub(crate) pipe: DuplexStream,
    pub(crate) ended: tokio::task::JoinHandle<splice::Ended>,
    _owner: JoinSet<()>,
}

pub(crate) async fn open(
    controller: &Dialed,
    host: &str,
    port: u16,
) -> Result<Stream, RequestError> {
    let end = controller.open(host, port, LONG).await?;
    Ok(stream_of(end))
}

fn stream_of(end: ChannelEnd<Msg>) -> Stream {
    let (pipe, far) = duplex(64 * 1024);
    let tracker = tokio_util::task::TaskTracker::new();
    let ended = tracker.spawn(async move {
        let (mut read, mut write) = tokio::io::split(far);
        splice::local(end, &mut read, &mut write, SpliceLimits::default()).await
    });
    Stream {
        pipe,
        ended,
        _owner: JoinSet::new(),
    }
}

impl Stream {
    /// Sends a word and waits for it to come back. Returns how long that took.
    pub(crate) async fn ping(&mut self) -> Duration {
        let start = Instant::now();
        self.pipe.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        timeout(LONG, self.pipe.read_exact(&mut word))
            .await
            .expect("no answer")
            .unwrap();
        assert_eq!(&word, b"ping");
        start.elapsed()
    }
}

/// Bytes that do not repeat with the size of any buffer.
pub(crate) fn pattern(from: u64, buffer: &mut [u8]) {
    for (at, byte) in (from..).zip(buffer.iter_mut()) {
        *byte = (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).to_le_bytes()[0];
    }
}

/// Writes `count` bytes of the pattern, then the end of file.
pub(crate) async fn send(writer: &mut (impl AsyncWriteExt + Unpin), count: u64) {
    send_counted(writer, count, &AtomicU64::new(0)).await;
}

/// As [`send`], and adds what was written as it goes.
pub(crate) async fn send_counted(
    writer: &mut (impl AsyncWriteExt + Unpin),
    count: u64,
    written: &AtomicU64,
) {
    let (mut sent, mut buffer) = (0, vec![0; 64 * 1024]);
    while sent < count {
        let size = usize::try_from((count - sent).min(65_536)).unwrap();
        pattern(sent, &mut buffer[..size]);
        writer.write_all(&buffer[..size]).await.unwrap();
        sent += size as u64;
        written.fetch_add(size as u64, Ordering::Relaxed);
    }
    writer.shutdown().await.unwrap();
}

/// Reads up to the end of file, and checks that it was `count` bytes of the pattern.
pub(crate) async fn receive(reader: &mut (impl AsyncReadExt + Unpin), count: u64) {
    let (mut got, mut buffer, mut expected) = (0, vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let size = reader.read(&mut buffer).await.unwrap();
        if size == 0 {
            break;
        }
        pattern(got, &mut expected[..size]);
        assert!(
            buffer[..size] == expected[..size],
            "wrong bytes after {got}"
        );
        got += size as u64;
    }
    assert_eq!(got, count, "bytes until the end of file");
}
