//! The listener of the monitor.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::http::{self, Answer, Status};
use super::pulse::STUCK;
use super::{Page, Pulse, Source, process};
use crate::clock;
use crate::shutdown::Shutdown;

/// Where a daemon is asked how it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(SocketAddr);

/// A listener that answers for the parts of a daemon: from before they are there, until it is dropped behind their drain.
pub struct Monitor {
    address: SocketAddr,
    asked: Arc<Asked>,
    // Dropped with it, and the task with it.
    _task: JoinSet<()>,
}

/// Why nobody can ask.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The address is for others too, and nobody has said that it should be.
    #[error("`metrics` would listen on `{address}`, where others than this computer can ask")]
    Public {
        /// The address.
        address: SocketAddr,
    },
    /// The address is taken, or not ours.
    #[error("`metrics` cannot listen on `{address}`")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl MonitorError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Public { .. } => Some(
                "take an address of this computer alone, such as `127.0.0.1:9464`, or write `metrics_public = true`: there is no login, and it tells how much goes on".to_owned(),
            ),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another program, or another part of the realm, listens there: give this one an address of its own with `--metrics`".to_owned(),
            ),
            Self::Listen { .. } => None,
        }
    }
}

impl Place {
    /// Refuses an address that others can reach, unless that is wanted.
    pub fn new(address: SocketAddr, public: bool) -> Result<Self, MonitorError> {
        if public || address.ip().to_canonical().is_loopback() {
            Ok(Self(address))
        } else {
            Err(MonitorError::Public { address })
        }
    }
}

impl Monitor {
    /// Listens and answers. The daemon is not ready until [`begun`](Self::begun), nor once the shutdown is requested.
    pub async fn bind(
        place: Place,
        pulse: Pulse,
        shutdown: &Shutdown,
    ) -> Result<Self, MonitorError> {
        let Place(address) = place;
        let fail = |source| MonitorError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let asked = Arc::new(Asked {
            pulse,
            sources: RwLock::default(),
            has_begun: AtomicBool::new(false),
            shutdown: shutdown.clone(),
            stopping: OnceLock::new(),
            began: clock::unix_seconds(),
        });
        tracing::info!(%address, "the monitor listens");
        // A task of its own and not the shutdown's: who asks is to hear of the drain, and nobody waits for him.
        let mut task = JoinSet::new();
        task.spawn(answer(listener, Arc::clone(&asked)));
        let noting = Arc::clone(&asked);
        task.spawn(async move { noting.note_the_stop().await });
        Ok(Self {
            address,
            asked,
            _task: task,
        })
    }

    /// Where it listens, with the port that was free.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers for this part too.
    pub fn watch(&self, source: impl Source + 'static) {
        let sources = self.asked.sources.write();
        let mut sources = sources.unwrap_or_else(PoisonError::into_inner);
        sources.push(Box::new(source));
    }

    /// All parts are there: from now on each of them says whether it is ready, and the run loop turns.
    pub fn begun(&self) {
        self.asked.pulse.beat();
        self.asked.has_begun.store(true, Ordering::Relaxed);
    }
}

/// Answers without an end. Who asks is served at once: of too many connections the oldest is cut.
async fn answer(listener: TcpListener, asked: Arc<Asked>) {
    let mut tasks = JoinSet::new();
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::debug!(%error, "nobody could ask");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let asked = Arc::clone(&asked);
        open.push_back(tasks.spawn(async move {
            // What cannot be read or written in time is of no use to who asked.
            let _ = timeout(EXCHANGE, exchange(socket, &asked)).await;
        }));
    }
}

/// Everything that can be asked.
struct Asked {
    pulse: Pulse,
    sources: RwLock<Vec<Box<dyn Source>>>,
    has_begun: AtomicBool,
    shutdown: Shutdown,
    stopping: OnceLock<Instant>,
    began: u64,
}

impl Asked {
    fn answer(&self, path: &str) -> Answer {
        match path {
            "/healthz" => match self.stuck() {
                None => Answer::text(Status::Ok, "ok"),
                Some(why) => Answer::text(Status::Unavailable, why),
            },
            "/readyz" => {
                let reasons = self.unready();
                if reasons.is_empty() {
                    Answer::text(Status::Ok, "ready")
                } else {
                    Answer::text(Status::Unavailable, reasons.join("\n"))
                }
            }
            "/metrics" => {
                let mut page = Page::default();
                let version = [(env!("CARGO_PKG_VERSION"), 1)];
                page.numbers(
                    "tunnel_build_info",
                    "Which program this is.",
                    "version",
                    version,
                );
                process::write(&mut page, self.began);
                for part in self.sources().iter() {
                    part.write(&mut page);
                }
                Answer::numbers(page.text())
            }
            _ => Answer::bare(Status::NotFound),
        }
    }

    async fn note_the_stop(&self) {
        self.shutdown.requested().await;
        let _ = self.stopping.set(Instant::now());
    }

    /// Why a restart would help.
    fn stuck(&self) -> Option<String> {
        if self.shutdown.is_requested() {
            // Its loop has nothing left to turn for, and its drain has a deadline.
            let since = self.stopping.get()?.elapsed();
            let is_late = since >= self.shutdown.grace() + STUCK;
            return is_late.then(|| format!("it has been stopping for {} s", since.as_secs()));
        }
        if !self.has_begun.load(Ordering::Relaxed) {
            // No loop turns yet: a start waits for others, each time with a deadline.
            return None;
        }
        let still = self.pulse.stuck()?.as_secs();
        Some(format!("the run loop has not turned for {still} s"))
    }

    fn unready(&self) -> Vec<String> {
        if self.shutdown.is_requested() {
            return vec!["stopping: nobody new is served".to_owned()];
        }
        if !self.has_begun.load(Ordering::Relaxed) {
            return vec!["starting: nobody is served yet".to_owned()];
        }
        let sources = self.sources();
        sources.iter().filter_map(|part| part.unready()).collect()
    }

    fn sources(&self) -> RwLockReadGuard<'_, Vec<Box<dyn Source>>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(mut socket: TcpStream, asked: &Asked) -> io::Result<()> {
    let mut head = Vec::with_capacity(1024);
    let request = loop {
        if http::is_whole(&head) {
            break http::parse(&head);
        }
        if head.len() >= MAX_HEAD {
            break Err(Status::HeadTooLarge);
        }
        let room = MAX_HEAD - head.len();
        if (&mut socket).take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    };
    let bytes = match request {
        Ok(request) => asked.answer(&request.path).bytes(request.body),
        Err(status) => Answer::bare(status).bytes(true),
    };
    socket.write_all(&bytes).await?;
    socket.shutdown().await?;
    // What is unread when a socket closes takes the answer along. It is read until the other end has the answer and closes.
    let mut rest = (&mut socket).take(MAX_REST);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

/// The most connections at a time; a scraper and a health check have one each.
const CONNECTIONS: usize = 16;

/// The largest head of a request, in bytes: what a browser sends is smaller.
const MAX_HEAD: usize = 8 * 1024;

/// How much is read behind a request, in bytes.
const MAX_REST: u64 = 64 * 1024;

/// How long one connection may take: Prometheus itself gives up after 10 s.
const EXCHANGE: Duration = Duration::from_secs(5);

/// How long accepting pauses after it failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_start_that_takes_long_is_alive_and_a_drain_that_does_not_end_is_not() {
        let grace = Duration::from_secs(10);
        let shutdown = Shutdown::new(grace);
        let place = Place::new("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let monitor = Monitor::bind(place, Pulse::new(), &shutdown).await.unwrap();
        sleep(2 * STUCK).await;
        assert_eq!(monitor.asked.stuck(), None, "it starts");
        monitor.begun();
        assert_eq!(monitor.asked.stuck(), None, "it begins");
        sleep(STUCK).await;
        let said = monitor.asked.stuck().unwrap();
        assert_eq!(said, "the run loop has not turned for 30 s");
        shutdown.request();
        assert_eq!(monitor.asked.stuck(), None, "it stops");
        sleep(grace + STUCK / 2).await;
        assert_eq!(monitor.asked.stuck(), None, "it drains");
        sleep(STUCK).await;
        let said = monitor.asked.stuck().unwrap();
        assert!(said.starts_with("it has been stopping for "), "{said}");
    }

    #[test]
    fn who_is_not_on_this_computer_asks_only_where_that_is_said() {
        let place = |address: &str, public| Place::new(address.parse().unwrap(), public);
        for ours in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(place(ours, false).is_ok(), "{ours}");
        }
        for others in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let error = place(others, false).unwrap_err();
            assert!(error.hint().unwrap().contains("metrics_public"), "{others}");
            assert!(place(others, true).is_ok(), "{others}");
        }
    }
}
