//! Bytes in and out of one connection, both at once and in one task.
//!
//! A task that only writes or only reads can be held up by a peer that does neither; here neither direction waits for the
//! other. Nothing is lost when [`Transport::exchange`] is dropped: both buffers are part of the transport.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use crate::limits::{OUTBOUND_HIGH, READ_CHUNK};

/// A stream with its two buffers. `inbound` is bounded by whoever parses it, `outbound` by whoever fills it.
#[derive(Debug)]
pub(crate) struct Transport<S> {
    stream: S,
    pub(crate) inbound: BytesMut,
    pub(crate) outbound: BytesMut,
    unflushed: bool,
    stalled: Option<Instant>,
    /// Nothing more is to be received for now.
    pub(crate) held: bool,
}

/// What an exchange came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchanged {
    /// There is more in `inbound`.
    Received,
    /// All of `outbound` is on the link.
    Sent,
    /// The peer will send nothing more.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            unflushed: false,
            stalled: None,
            held: false,
        }
    }

    /// The stream itself, to look at.
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// Since when the peer has taken nothing of what there is for it.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.stalled
    }

    /// Whether there is little enough to send that more may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.outbound.len() < OUTBOUND_HIGH
    }

    /// Sends what there is, and receives unless too much is to be sent already. Cancel-safe.
    pub(crate) async fn exchange(&mut self) -> io::Result<Exchanged> {
        poll_fn(|cx| self.poll_exchange(cx)).await
    }

    /// Sends what there is and closes the stream.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.outbound).await?;
        self.stream.shutdown().await
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Exchanged>> {
        let had_something = self.unflushed || !self.outbound.is_empty();
        let sent = self.poll_send(cx)?;
        if sent.is_ready() && had_something {
            return Poll::Ready(Ok(Exchanged::Sent));
        }
        if self.has_room() && !self.held {
            self.poll_receive(cx)
        } else {
            Poll::Pending
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.outbound)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.outbound.advance(count);
                    self.unflushed = true;
                    self.stalled = None;
                }
                Poll::Pending => return self.stall(),
            }
        }
        if self.unflushed {
            if Pin::new(&mut self.stream).poll_flush(cx)?.is_pending() {
                return self.stall();
            }
            self.unflushed = false;
            self.stalled = None;
            // Most connections idle, and should not hold the largest buffer that they ever needed.
            self.outbound = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Exchanged>> {
        let mut chunk = [0; READ_CHUNK];
        let mut chunk = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Ok(Exchanged::Closed));
        }
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
        self.inbound.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(Exchanged::Received))
    }

    fn stall(&mut self) -> Poll<io::Result<()>> {
        self.stalled.get_or_insert_with(Instant::now);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_only_writes_is_still_read() {
        let (near, mut far) = duplex(16);
        let mut transport = Transport::new(near);
        transport.outbound.extend_from_slice(&[1; 1000]);
        let writing = async {
            far.write_all(&[2; 1000]).await.unwrap();
            far
        };
        tokio::pin!(writing);
        let far = loop {
            tokio::select! {
                far = &mut writing => break far,
                exchanged = transport.exchange() => assert_eq!(exchanged.unwrap(), Exchanged::Received),
            }
        };
        assert!(transport.stalled_since().is_some());
        assert!(transport.inbound.iter().all(|byte| *byte == 2));
        let mut reading = tokio::io::join(far, tokio::io::sink());
        let (mut received, mut sent) = (Vec::new(), false);
        while received.len() < 1000 || !sent {
            tokio::select! {
                count = reading.read_buf(&mut received), if received.len() < 1000 => assert!(count.unwrap() > 0),
                exchanged = transport.exchange() => sent |= exchanged.unwrap() == Exchanged::Sent,
            }
        }
        assert_eq!(transport.stalled_since(), None);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_not_read_either() {
        let (near, mut far) = duplex(16);
        let mut transport = Transport::new(near);
        transport
            .outbound
            .extend_from_slice(&vec![1; OUTBOUND_HIGH + 100]);
        far.write_all(&[2; 16]).await.unwrap();
        let exchange = poll_fn(|cx| Poll::Ready(transport.poll_exchange(cx).is_pending()));
        assert!(exchange.await);
        assert!(transport.inbound.is_empty());
    }
}
