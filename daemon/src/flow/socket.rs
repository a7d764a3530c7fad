//! The sockets that a russh session may run over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A socket of one of two kinds.
#[derive(Debug)]
pub(super) enum Socket {
    /// To another computer, or another program.
    Tcp(TcpStream),
    /// To another part of this process.
    Local(UnixStream),
}

impl Socket {
    /// Sets the options that a connection needs.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let Self::Tcp(socket) = self else {
            return Ok(());
        };
        socket.set_nodelay(true)?;
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
        // A process that is killed resets its connections. Otherwise the kernel would go on offering what was still to be
        // sent, and a peer that has paused would not learn for minutes that nobody is there.
        sockopt::set_socket_linger(socket, Some(Duration::ZERO))?;
        Ok(())
    }

    /// Lets the kernel take its time to deliver the last of what was written.
    pub(super) fn end_in_order(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => Ok(sockopt::set_socket_linger(socket, None)?),
            Self::Local(_) => Ok(()),
        }
    }

    /// What the kernel knows to be wrong with it.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Self::Tcp(socket) => socket.take_error(),
            Self::Local(socket) => socket.take_error(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Local(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Local(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Local(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Local(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

/// The kernel's keepalive: a peer that is cut off while we do not read it is found after 3 + 3 × 2 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_COUNT: u32 = 3;
