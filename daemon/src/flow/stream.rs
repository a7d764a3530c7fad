//! The byte stream under a russh session: it takes output without waiting and gives input as the gate allows.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::gate::Verdict;
use super::socket::Socket;
use super::{Flow, OUT_MAX};

/// A socket with an output buffer of its own and a gate before its input. Made by [`Flow::over`] and [`Flow::over_local`].
///
/// One task reads and writes it: russh's session. There is no pump task, so a write that the socket does not take now
/// goes out with the next read, flush or write.
#[derive(Debug)]
pub struct FlowStream {
    socket: Socket,
    flow: Flow,
    out: BytesMut,
    timer: Option<Pin<Box<Sleep>>>,
    stuck: Option<Instant>,
    stuck_limit: Duration,
    closing: Option<Instant>,
    /// The connection is lost: nothing of the output can arrive any more.
    lost: bool,
    /// What was read since the session last waited.
    burst: usize,
}

impl FlowStream {
    pub(super) fn new(socket: Socket, flow: Flow) -> io::Result<Self> {
        socket.prepare()?;
        Ok(Self {
            socket,
            flow,
            out: BytesMut::new(),
            timer: None,
            stuck: None,
            stuck_limit: STUCK_LIMIT,
            closing: None,
            lost: false,
            burst: 0,
        })
    }

    /// Writes what the socket takes. `Pending` means that the rest waits, with the task registered for it.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let result = loop {
            match Pin::new(&mut self.socket).poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.out.advance(written);
                    self.stuck = None;
                }
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            if self.out.is_empty() {
                // A burst should not be held for the life of an idle connection.
                self.out = BytesMut::new();
                break Poll::Ready(Ok(()));
            }
        };
        self.flow.set_queued_out(self.out.len());
        result
    }

    /// What the gate allows of the input, behind the output.
    fn poll_input(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Output first, so that it moves while input is held back.
        if let Poll::Ready(Err(error)) = self.drain(cx) {
            return Poll::Ready(Err(error));
        }
        if self.burst >= BURST {
            self.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let now = Instant::now();
            let verdict = {
                let mut state = self.flow.lock();
                // Stored before the check, so that what changes in between wakes us.
                match &mut state.reader {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                if let Some(reason) = state.cut {
                    return Poll::Ready(Err(io::Error::other(reason)));
                }
                state.gate.may_read(now)
            };
            match verdict {
                Verdict::Read => {}
                Verdict::TooMuch => {
                    return Poll::Ready(Err(io::Error::other(
                        "the peer sent more than it was granted",
                    )));
                }
                Verdict::Wait(until) => {
                    self.check_socket()?;
                    // Silence is ours while we do not listen.
                    self.flow.lock().heard = now;
                    self.burst = 0;
                    let look = now + PAUSED_LOOK;
                    if self.wake_at(until.map_or(look, |then| then.min(look)), cx) {
                        continue;
                    }
                    return Poll::Pending;
                }
            }
            let before = buf.filled().len();
            if let Poll::Ready(result) = Pin::new(&mut self.socket).poll_read(cx, buf) {
                let read = buf.filled().len() - before;
                if read > 0 {
                    self.flow.lock().heard = now;
                    self.burst += read;
                }
                return Poll::Ready(result);
            }
            self.burst = 0;
            let (end, looked_after) = {
                let state = self.flow.lock();
                (state.silence_ends(), state.looked_after)
            };
            let Some(end) = end else {
                return Poll::Pending;
            };
            if now >= end {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer is silent",
                )));
            }
            if looked_after || !self.wake_at(end, cx) {
                return Poll::Pending;
            }
        }
    }

    /// Takes output at once, below the maximum.
    fn poll_output(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut()?;
        if let Poll::Ready(Err(error)) = self.drain(cx) {
            return Poll::Ready(Err(error));
        }
        let mut rest = buf;
        while self.out.is_empty() && !rest.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if !self.out.is_empty() && self.out.len().saturating_add(rest.len()) > OUT_MAX {
            // For a cut. Nothing is read while the session's loop waits here, so nobody would notice the peer's silence.
            self.flow.lock().reader = Some(cx.waker().clone());
            let limit = self.stuck_limit;
            let end = *self.stuck.get_or_insert_with(|| Instant::now() + limit);
            if self.wake_at(end, cx) {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the peer takes nothing",
                )));
            }
            return Poll::Pending;
        }
        if !rest.is_empty() {
            self.out.extend_from_slice(rest);
            self.flow.set_queued_out(self.out.len());
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn check_cut(&self) -> io::Result<()> {
        match self.flow.cut_reason() {
            Some(reason) => Err(io::Error::other(reason)),
            None => Ok(()),
        }
    }

    /// Sees to it that the task is woken by then. Returns whether that time is already past.
    fn wake_at(&mut self, then: Instant, cx: &mut Context<'_>) -> bool {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(then)));
        if timer.deadline() > then {
            timer.as_mut().reset(then);
        }
        // An earlier deadline is left alone until it fires: that costs less than a reset with every read.
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= then {
                return true;
            }
            timer.as_mut().reset(then);
        }
        false
    }

    /// A paused connection hears nothing from its peer, but the kernel does.
    fn check_socket(&self) -> io::Result<()> {
        match self.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl AsyncRead for FlowStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = this.poll_input(cx, buf);
        this.lost |= matches!(result, Poll::Ready(Err(_)));
        result
    }
}

impl AsyncWrite for FlowStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = this.poll_output(cx, buf);
        this.lost |= matches!(result, Poll::Ready(Err(_)));
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is left goes out with the next read: the session's loop must not wait for it.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check_cut()?;
        if this.lost {
            // Waiting for a peer that is gone would only keep from everybody else that it is. The drop resets the connection.
            return Poll::Ready(Ok(()));
        }
        let end = *this
            .closing
            .get_or_insert_with(|| Instant::now() + CLOSE_LIMIT);
        if this.drain(cx).is_pending() {
            if this.wake_at(end, cx) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        }
        ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        this.socket.end_in_order()?;
        Poll::Ready(Ok(()))
    }
}

impl Drop for FlowStream {
    fn drop(&mut self) {
        self.flow.die();
    }
}

/// What a session reads before others have their turn, in bytes. Those who take the data come next, and find it in the
/// processor's cache and its memory free for the next read. Without this a session reads megabytes at a time, which costs up
/// to half as much again (docs/decisions/0025-packets-of-64-kib.md).
const BURST: usize = 256 * 1024;

/// How often a paused connection asks the kernel whether the peer is still there.
const PAUSED_LOOK: Duration = Duration::from_secs(2);

/// How long a peer may take nothing at all while [`OUT_MAX`] waits for it, and with it the session's loop. Three times
/// what an own peer may be silent: a program that was stopped for a moment finds its streams again.
const STUCK_LIMIT: Duration = Duration::from_secs(30);

/// How long the last output of an ended session may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream, UnixStream};
    use tokio::time::timeout;

    use super::super::{HARD_CAP, OUT_HI, OWN_IN_HI};
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn pair() -> (FlowStream, Flow, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, flow) = Flow::over(listener.accept().await.unwrap().0).unwrap();
        (stream, flow, peer)
    }

    #[tokio::test]
    async fn a_local_socket_carries_both_directions_and_their_ends() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (mut stream, flow) = Flow::over_local(near).unwrap();
        let talk = async {
            far.write_all(b"question").await.unwrap();
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let serve = async {
            let mut question = [0; 8];
            stream.read_exact(&mut question).await.unwrap();
            stream.write_all(&question).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let (answer, ()) = timeout(LONG, async { tokio::join!(talk, serve) })
            .await
            .unwrap();
        assert_eq!(answer, b"question");
        drop(stream);
        assert!(flow.is_dead());
    }

    #[tokio::test]
    async fn others_have_their_turn_within_a_flood() {
        let (mut stream, _flow, mut peer) = pair().await;
        let flood = vec![7; 16 * BURST];
        let read = std::cell::Cell::new(0);
        let reading = async {
            let mut some = vec![0; BURST / 8];
            while read.get() < flood.len() {
                read.set(read.get() + stream.read(&mut some).await.unwrap());
            }
        };
        let (mut before, mut longest) = (0, 0);
        let others = std::future::poll_fn(|cx| {
            longest = longest.max(read.get() - before);
            before = read.get();
            cx.waker().wake_by_ref();
            Poll::Pending::<()>
        });
        let reading = async {
            tokio::select! {
                biased;
                () = reading => {}
                () = others => {}
            }
        };
        let both = async { tokio::join!(peer.write_all(&flood), reading) };
        timeout(LONG, both).await.unwrap().0.unwrap();
        assert!(longest <= BURST + BURST / 8, "{longest} bytes in one go");
    }

    #[tokio::test]
    async fn a_write_never_waits_below_the_maximum_and_all_of_it_arrives() {
        let (mut stream, flow, mut peer) = pair().await;
        let data: Vec<u8> = (0..OUT_MAX - OUT_HI).map(|n| n.to_le_bytes()[0]).collect();
        timeout(LONG, stream.write_all(&data))
            .await
            .unwrap()
            .unwrap();
        assert!(
            flow.queued_out() > 0,
            "the socket took it all: raise the amount"
        );
        let expected = data.clone();
        let reader = async {
            let mut got = vec![0; expected.len()];
            peer.read_exact(&mut got).await.unwrap();
            assert!(got == expected, "bytes arrive in order");
            peer.write_all(b"x").await.unwrap();
        };
        // Reading is what drains the output.
        let mut one = [0];
        let ((), read) = timeout(LONG, async {
            tokio::join!(reader, stream.read_exact(&mut one))
        })
        .await
        .unwrap();
        read.unwrap();
        assert_eq!(flow.queued_out(), 0);
    }

    #[tokio::test]
    async fn at_the_maximum_a_write_waits_until_the_peer_reads() {
        let (mut stream, _flow, mut peer) = pair().await;
        let chunk = vec![7; OUT_MAX / 2];
        let mut taken = 0_usize;
        while timeout(Duration::from_millis(300), stream.write_all(&chunk))
            .await
            .is_ok()
        {
            taken += chunk.len();
            assert!(taken < 20 * OUT_MAX, "never waits");
        }
        let mut rest = vec![0; taken];
        let mut one = [0];
        tokio::select! {
            read = timeout(LONG, peer.read_exact(&mut rest)) => drop(read.unwrap().unwrap()),
            read = stream.read(&mut one) => panic!("the peer said nothing: {read:?}"),
        }
        timeout(LONG, stream.write_all(&chunk))
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_at_the_maximum_is_given_up() {
        let (mut stream, _flow, _peer) = pair().await;
        let (start, chunk) = (Instant::now(), vec![7; OUT_MAX / 2]);
        let error = loop {
            // The clock moves when all wait, so the limit is not waited for.
            let written = timeout(10 * STUCK_LIMIT, stream.write_all(&chunk)).await;
            if let Err(error) = written.expect("it waits for ever") {
                break error;
            }
        };
        assert_eq!(error.to_string(), "the peer takes nothing");
        assert!(start.elapsed() >= STUCK_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_lost_connection_does_not_wait_for_its_output() {
        let (mut stream, flow, _peer) = pair().await;
        let limit = Duration::from_secs(10);
        flow.limit_silence(limit);
        while flow.queued_out() < OUT_HI {
            stream.write_all(&vec![7; OUT_HI]).await.unwrap();
        }
        let start = Instant::now();
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.to_string(), "the peer is silent");
        stream.shutdown().await.unwrap();
        assert!(start.elapsed() < limit + CLOSE_LIMIT / 2);
        assert!(flow.queued_out() >= OUT_HI, "it could have gone out");
    }

    // By the real clock: a paused one moves while a real socket is only slow.
    #[tokio::test]
    async fn a_slow_peer_is_not_given_up() {
        let (mut stream, _flow, mut peer) = pair().await;
        stream.stuck_limit = Duration::from_secs(4);
        let pause = stream.stuck_limit / 4;
        let slow = async {
            let mut some = vec![0; OUT_MAX];
            for _ in 0..6 {
                tokio::time::sleep(pause).await;
                peer.read_exact(&mut some).await.unwrap();
            }
        };
        let chunk = vec![7; OUT_MAX / 2];
        let writing = async {
            loop {
                stream.write_all(&chunk).await.unwrap();
            }
        };
        tokio::select! {
            () = slow => {}
            () = writing => {}
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_ends_the_connection_above_the_cap_and_not_at_it() {
        let (mut stream, flow, mut peer) = pair().await;
        let now = Instant::now();
        flow.lock().gate.received(HARD_CAP, HARD_CAP, 1, now);
        peer.write_all(b"x").await.unwrap();
        timeout(LONG, stream.read_exact(&mut [0]))
            .await
            .unwrap()
            .unwrap();
        flow.lock().gate.received(1, 1, 1, now);
        let error = timeout(LONG, stream.read(&mut [0])).await.unwrap();
        assert_eq!(
            error.unwrap_err().to_string(),
            "the peer sent more than it was granted"
        );
    }

    #[tokio::test]
    async fn a_paused_stream_reads_again_when_its_data_is_consumed() {
        let (mut stream, flow, mut peer) = pair().await;
        flow.set_kind(crate::ssh::PeerKind::Own);
        flow.lock()
            .gate
            .received(0, OWN_IN_HI + 1, 1, Instant::now());
        peer.write_all(b"x").await.unwrap();
        let mut one = [0];
        assert!(
            timeout(Duration::from_millis(200), stream.read_exact(&mut one))
                .await
                .is_err(),
            "read although it is paused"
        );
        let consumer = flow.clone();
        let consume = async move {
            let woken = consumer.lock().gate.consumed(OWN_IN_HI);
            assert!(woken);
            consumer.lock().wake_reader();
        };
        let (read, ()) = tokio::join!(timeout(LONG, stream.read_exact(&mut one)), consume);
        read.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_cut_ends_a_waiting_read_with_its_reason_and_the_drop_is_the_death() {
        let (mut stream, flow, _peer) = pair().await;
        let mut one = [0];
        let (read, ()) = tokio::join!(timeout(LONG, stream.read(&mut one)), async {
            tokio::task::yield_now().await;
            flow.cut("enough");
        });
        assert_eq!(read.unwrap().unwrap_err().to_string(), "enough");
        assert!(!flow.is_dead());
        drop(stream);
        timeout(LONG, flow.dead()).await.unwrap();
        timeout(LONG, flow.wait_writable()).await.unwrap();
    }

    #[tokio::test]
    async fn a_silent_peer_is_dead_and_a_paused_one_is_not() {
        let (mut stream, flow, _peer) = pair().await;
        let limit = Duration::from_millis(100);
        flow.limit_silence(limit);
        let mut one = [0];
        let error = timeout(LONG, stream.read(&mut one))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut stream, flow, _peer) = pair().await;
        flow.set_kind(crate::ssh::PeerKind::Own);
        flow.limit_silence(limit);
        flow.lock()
            .gate
            .received(0, OWN_IN_HI + 1, 1, Instant::now());
        assert!(timeout(limit * 6, stream.read(&mut one)).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_is_looked_after_sets_no_timer() {
        let lookout = super::super::Lookout::new();
        for looked_after in [false, true] {
            let (mut stream, flow, _peer) = pair().await;
            if looked_after {
                lookout.watch(&flow);
            }
            flow.limit_silence(LONG);
            let mut one = [0];
            tokio::select! {
                biased;
                read = stream.read(&mut one) => panic!("the peer said nothing: {read:?}"),
                () = std::future::ready(()) => {}
            }
            assert_eq!(stream.timer.is_none(), looked_after);
        }
    }
}
