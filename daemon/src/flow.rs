//! Flow control for one SSH connection, beneath and beside russh.
//!
//! russh's session loop must never wait for its peer's reading, and nothing in russh pushes back when the reader of a
//! channel is slow. So its sessions run over a [`FlowStream`], which takes all output at once and holds back input, and
//! everybody who touches the connection's channels shares its [`Flow`]: handlers count what came in
//! ([`Flow::received`]), splices count what they wrote on ([`Flow::consumed`]) and wait before they write
//! ([`Flow::wait_writable`]).
//!
//! An own peer is slowed down by TCP: above [`OWN_IN_HI`] its socket is not read. A foreign peer may have many streams in the
//! connection, so its socket is read on, and its windows shrink instead.

mod gate;
mod lookout;
mod socket;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use russh::ChannelId;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::gate::Gate;
pub use self::lookout::Lookout;
use self::socket::Socket;
pub use self::stream::FlowStream;
use crate::ssh::PeerKind;

/// What is known and decided about one connection's flow. Clones are the same connection.
#[derive(Clone, Debug)]
pub struct Flow(Arc<Shared>);

/// Marks that a task is writing to the connection, from [`Flow::writing`] until it is dropped.
#[derive(Debug)]
pub struct Writing<'a>(&'a Flow);

impl Flow {
    /// Puts a socket under flow control: sets `TCP_NODELAY` and the kernel's keepalive, which is what finds a dead peer
    /// while the connection is paused.
    pub fn over(socket: TcpStream) -> io::Result<(FlowStream, Self)> {
        Self::over_socket(Socket::Tcp(socket))
    }

    /// Puts a socket to another part of this process under flow control.
    pub fn over_local(socket: UnixStream) -> io::Result<(FlowStream, Self)> {
        Self::over_socket(Socket::Local(socket))
    }

    fn over_socket(socket: Socket) -> io::Result<(FlowStream, Self)> {
        let flow = Self(Arc::new(Shared {
            state: Mutex::new(State {
                gate: Gate::new(PeerKind::Foreign),
                queued_out: 0,
                channels: BTreeMap::new(),
                forced_closes: 0,
                reader: None,
                cut: None,
                silence_limit: None,
                heard: Instant::now(),
                looked_after: false,
                dead: false,
            }),
            writable: Notify::new(),
            paused: Notify::new(),
            died: Notify::new(),
        }));
        Ok((FlowStream::new(socket, flow.clone())?, flow))
    }

    /// Says who the peer is. Until then it is taken for a foreign one.
    pub fn set_kind(&self, kind: PeerKind) {
        let mut state = self.lock();
        state.gate.set_kind(kind);
        if state.gate.is_paused() {
            self.0.paused.notify_one();
        }
        state.wake_reader();
    }

    /// Who the peer is.
    pub fn kind(&self) -> PeerKind {
        self.lock().gate.kind()
    }

    /// Ends the connection when its peer is silent for longer than this, while we read. The peer must have a reason to
    /// speak more often: an own client sends keepalives, a foreign one answers ours.
    pub fn limit_silence(&self, limit: Duration) {
        let mut state = self.lock();
        state.silence_limit = Some(limit);
        state.heard = Instant::now();
        state.wake_reader();
    }

    /// How long the peer may be silent, if that is limited.
    pub fn silence_limit(&self) -> Option<Duration> {
        self.lock().silence_limit
    }

    /// How long nothing came from the peer.
    pub fn silent_for(&self) -> Duration {
        self.lock().heard.elapsed()
    }

    /// A channel begins to be counted: from its handler, before its first data.
    pub fn open(&self, channel: ChannelId) {
        self.lock().channels.entry(channel).or_insert(0);
    }

    /// Data of `len` bytes was handed to a channel: from the handler's `data` and `extended_data`. Channels that were
    /// not opened here, or were closed, do not count, since nobody holds their data.
    pub fn received(&self, channel: ChannelId, len: usize) {
        let mut state = self.lock();
        let (cost, streams) = (cost(len), state.channels.len());
        if let Some(pending) = state.channels.get_mut(&channel) {
            *pending = pending.saturating_add(cost);
            let was_paused = state.gate.is_paused();
            state.gate.received(len, cost, streams, Instant::now());
            if !was_paused && state.gate.is_paused() {
                self.0.paused.notify_one();
            }
        }
    }

    /// A message of `len` bytes was written on or thrown away.
    pub fn consumed(&self, channel: ChannelId, len: usize) {
        let mut state = self.lock();
        let Some(pending) = state.channels.get_mut(&channel) else {
            return;
        };
        let cost = cost(len).min(*pending);
        *pending -= cost;
        if state.gate.consumed(cost) {
            state.wake_reader();
        }
    }

    /// A channel has ended, whatever it still held.
    pub fn close(&self, channel: ChannelId) {
        let mut state = self.lock();
        if let Some(pending) = state.channels.remove(&channel)
            && state.gate.consumed(pending)
        {
            state.wake_reader();
        }
    }

    /// A channel had to be closed from this side first: russh's server keeps something of it until the connection ends.
    pub fn closed_by_force(&self) {
        self.lock().forced_closes += 1;
    }

    /// How many channels had to be closed from this side first.
    pub fn forced_closes(&self) -> u64 {
        self.lock().forced_closes
    }

    /// Completes when the connection is paused. Cancel-safe; for one task.
    pub async fn paused(&self) {
        while !self.lock().gate.is_paused() {
            self.0.paused.notified().await;
        }
    }

    /// A channel of a connection that is paused now, if it is. Its peer gets no answers, and should hear something on that
    /// channel instead, lest it takes us for dead.
    pub fn paused_channel(&self) -> Option<ChannelId> {
        let state = self.lock();
        let paused = state.gate.is_paused();
        state.channels.keys().next().copied().filter(|_| paused)
    }

    /// How many channels are counted.
    pub fn streams(&self) -> usize {
        self.lock().channels.len()
    }

    /// The window for the handler's `adjust_window` to return.
    pub fn window(&self) -> u32 {
        let state = self.lock();
        state.gate.window(state.channels.len())
    }

    /// Bytes that wait for the socket.
    pub fn queued_out(&self) -> usize {
        self.lock().queued_out
    }

    /// Bytes, with overhead, that channels hold and nobody has written on.
    pub fn unconsumed(&self) -> usize {
        self.lock().gate.unconsumed()
    }

    /// Waits until less than [`OUT_HI`] waits for the socket, or the connection is dead, when a write fails at once.
    /// Cancel-safe.
    pub async fn wait_writable(&self) {
        loop {
            let mut notified = std::pin::pin!(self.0.writable.notified());
            // Registered before the check, so that no change falls in between.
            notified.as_mut().enable();
            if self.queued_out() < OUT_HI || self.is_dead() {
                return;
            }
            notified.await;
        }
    }

    /// Marks that the caller writes to this connection until the value is dropped. If that takes long, a paused
    /// connection is read on for a while, because what the writer waits for may come in behind the data.
    pub fn writing(&self) -> Writing<'_> {
        let mut state = self.lock();
        if state.gate.writer_begins(Instant::now()) {
            state.wake_reader();
        }
        Writing(self)
    }

    /// Ends the connection now: the next read and write fail with this reason, and so does russh's session.
    pub fn cut(&self, reason: &'static str) {
        let mut state = self.lock();
        state.cut.get_or_insert(reason);
        state.wake_reader();
    }

    /// Why the connection was cut from this side, if it was.
    pub fn cut_reason(&self) -> Option<&'static str> {
        self.lock().cut
    }

    /// Completes when the connection is gone. Cancel-safe.
    pub async fn dead(&self) {
        let mut died = std::pin::pin!(self.0.died.notified());
        // Registered before the check, as above.
        died.as_mut().enable();
        if !self.is_dead() {
            died.await;
        }
    }

    /// Whether the connection is gone.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_queued_out(&self, queued: usize) {
        let before = std::mem::replace(&mut self.lock().queued_out, queued);
        if before >= OUT_HI && queued < OUT_HI {
            self.0.writable.notify_waiters();
        }
    }

    fn die(&self) {
        {
            let mut state = self.lock();
            (state.queued_out, state.dead) = (0, true);
        }
        self.0.died.notify_waiters();
        self.0.writable.notify_waiters();
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.lock().gate.writer_ends(Instant::now());
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    writable: Notify,
    paused: Notify,
    died: Notify,
}

/// Locked for a few instructions at a time, never over an await.
#[derive(Debug)]
struct State {
    gate: Gate,
    queued_out: usize,
    channels: BTreeMap<ChannelId, usize>,
    forced_closes: u64,
    reader: Option<Waker>,
    cut: Option<&'static str>,
    silence_limit: Option<Duration>,
    heard: Instant,
    /// A [`Lookout`] wakes the reader when the peer is silent.
    looked_after: bool,
    dead: bool,
}

impl State {
    /// When the peer's silence is too long, if nothing comes until then.
    fn silence_ends(&self) -> Option<Instant> {
        self.silence_limit.map(|limit| self.heard + limit)
    }

    /// When to look again whether the peer is silent, if ever. If it has been for too long the reader is woken: it takes what
    /// came meanwhile, or ends the connection.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        let end = self.silence_ends()?;
        if now >= end {
            self.wake_reader();
        }
        Some(end)
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// A message counts with what it costs beside its bytes, so that a flood of tiny ones is bounded too.
const fn cost(len: usize) -> usize {
    len.saturating_add(MESSAGE_COST)
}

/// Above this much unconsumed input, in bytes, a foreign peer is slowed down. Two full windows.
pub const IN_HI: usize = 4 * MIB;

/// At this much it goes on. Half, so that reading is not switched for each packet.
pub const IN_LO: usize = IN_HI / 2;

/// Above this much unconsumed input, in bytes, an own peer is not read. Less than [`IN_HI`], since it has nothing but TCP to
/// keep to: what piles up here is no longer in the processor's cache when its turn comes, and the kernel's buffer is there.
pub const OWN_IN_HI: usize = MIB;

/// At this much it is read again.
pub const OWN_IN_LO: usize = OWN_IN_HI / 2;

/// Above this much queued output, in bytes, splices wait. The kernel's own buffer keeps the link full; this one is for what
/// it does not take at once.
pub const OUT_HI: usize = MIB / 4;

/// At this much queued output the session's loop waits after all. Every splice of a connection may add a message after
/// it saw less than [`OUT_HI`]; 8.75 MiB are 141 of 64 KiB, and a proxy lets a connection have 128 streams.
pub const OUT_MAX: usize = 9 * MIB;

/// What is read beyond [`OWN_IN_HI`] for the sake of a waiting writer, in bytes.
pub const ABSORB: usize = 32 * MIB;

/// Unconsumed input that ends the connection, in bytes with overhead, since russh does not enforce windows. A peer that
/// keeps to its windows meets it only if it fills them, before a reader that has stopped, with messages of less than 256
/// bytes on average (less than eight with a single stream): half a million keystrokes that nobody has read.
pub const HARD_CAP: usize = 64 * MIB;

const MIB: usize = 1024 * 1024;

/// A queued message, its allocation and its share of the queue's block, in bytes.
const MESSAGE_COST: usize = 128;

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn all_who_wait_hear_of_the_death() {
        let (near, _far) = UnixStream::pair().unwrap();
        let (stream, flow) = Flow::over_local(near).unwrap();
        flow.set_queued_out(OUT_HI);
        let all = async {
            tokio::join!(flow.dead(), flow.dead(), flow.wait_writable(), async {
                tokio::task::yield_now().await;
                assert!(!flow.is_dead());
                drop(stream);
            })
        };
        timeout(Duration::from_secs(20), all).await.unwrap();
        assert!(flow.is_dead());
    }
}
