//! Forwarded streams: from a client to a destination, and from a port of this computer to a client.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daemon::flow::Flow;
use daemon::splice::{self, ChannelEnd, SpliceLimits};
use russh::Channel;
use russh::ChannelOpenFailure;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits::CONNECT;

/// Where clients may have streams forwarded to, and whether ports to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// Nowhere.
    None,
    /// To this computer's own services.
    #[default]
    Loopback,
    /// To whatever this computer can reach.
    Anywhere,
}

impl Forwarding {
    /// The hosts to connect to, in their order; empty if the destination is not permitted.
    fn hosts(self, host: &str) -> Vec<String> {
        let is_name = host.eq_ignore_ascii_case("localhost");
        let is_loopback = host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        match self {
            Self::None => Vec::new(),
            // Not what a file of names makes of it.
            Self::Loopback | Self::Anywhere if is_name => {
                vec![
                    Ipv4Addr::LOCALHOST.to_string(),
                    Ipv6Addr::LOCALHOST.to_string(),
                ]
            }
            Self::Loopback if !is_loopback => Vec::new(),
            Self::Loopback | Self::Anywhere => vec![host.to_owned()],
        }
    }
}

/// A client's request for a stream.
pub(crate) struct Direct {
    pub(crate) channel: Channel<Msg>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) reply: ChannelOpenHandle,
    pub(crate) place: OwnedSemaphorePermit,
}

/// Connects, and carries the stream until it ends or is stopped.
pub(crate) async fn direct(
    request: Direct,
    permitted: Forwarding,
    flow: Flow,
    stop: CancellationToken,
) {
    let Direct {
        channel,
        host,
        port,
        reply,
        place: _place,
    } = request;
    let end = ChannelEnd::new(channel, flow);
    let hosts = permitted.hosts(&host);
    if hosts.is_empty() {
        tracing::info!(host, port, "a forward was refused: it is not permitted");
        return reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
    }
    let connected = tokio::select! {
        connected = timeout(CONNECT, connect(&hosts, port)) => connected,
        () = stop.cancelled() => return,
        () = end.flow().dead() => return,
    };
    match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(socket) => {
            reply.accept().await;
            carry(end, socket, stop).await;
        }
        Err(error) => {
            tracing::debug!(host, port, %error, "a forward could not connect");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

/// A port of this computer whose connections go to a client, until `stop`.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    /// As the client wrote it.
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) handle: Handle,
    pub(crate) flow: Flow,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Opens a port on loopback alone, whatever address the client wrote: nobody else shall come through it.
pub(crate) async fn listen(address: &str, port: u16) -> io::Result<(TcpListener, u16)> {
    let host: IpAddr = if address == "::1" {
        Ipv6Addr::LOCALHOST.into()
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let listener = TcpListener::bind((host, port)).await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

impl Listening {
    /// Accepts, and offers each connection to the client.
    pub(crate) async fn run(self) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.stop.cancelled() => return,
                () = self.flow.dead() => return,
            };
            match accepted {
                Ok((socket, from)) => {
                    if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                        self.offer(socket, from, place);
                    } else {
                        let port = self.port;
                        tracing::warn!(port, "a connection was dropped: there are too many");
                    }
                }
                // Out of files or memory: the next moment may be better.
                Err(error) => {
                    tracing::warn!(port = self.port, %error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn offer(&self, socket: TcpStream, from: SocketAddr, place: OwnedSemaphorePermit) {
        let (handle, flow, stop) = (self.handle.clone(), self.flow.clone(), self.stop.clone());
        let (address, port) = (self.address.clone(), u32::from(self.port));
        self.tasks.spawn(async move {
            let _place = place;
            let (ip, from_port) = (from.ip().to_string(), u32::from(from.port()));
            let opening = handle.channel_open_forwarded_tcpip(address, port, ip, from_port);
            let opened = tokio::select! {
                opened = timeout(CONNECT, opening) => opened,
                () = stop.cancelled() => return,
                () = flow.dead() => return,
            };
            if let Ok(Ok(channel)) = opened {
                carry(ChannelEnd::new(channel, flow), socket, stop).await;
            }
        });
    }
}

async fn connect(hosts: &[String], port: u16) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    for host in hosts {
        match TcpStream::connect((host.as_str(), port)).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn carry(end: ChannelEnd<Msg>, mut socket: TcpStream, stop: CancellationToken) {
    // It is only slower without.
    let _ = socket.set_nodelay(true);
    let ended = {
        let (mut reader, mut writer) = socket.split();
        let limits = SpliceLimits::default();
        splice::local_until(end, &mut reader, &mut writer, limits, stop.cancelled()).await
    };
    if !ended.is_clean() {
        let _ = socket.set_zero_linger();
    }
    tracing::debug!(up = ended.up, down = ended.down, why = %ended.why, "a forwarded stream has ended");
}

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_the_name_says_and_no_other_name() {
        let both = ["127.0.0.1", "::1"];
        for (host, hosts) in [
            ("localhost", &both[..]),
            ("LocalHost", &both[..]),
            ("127.0.0.1", &["127.0.0.1"]),
            ("127.8.8.8", &["127.8.8.8"]),
            ("::1", &["::1"]),
            ("0.0.0.0", &[]),
            ("10.0.0.1", &[]),
            ("localhost.example.org", &[]),
            ("", &[]),
        ] {
            assert_eq!(Forwarding::Loopback.hosts(host), hosts, "{host:?}");
            assert!(Forwarding::None.hosts(host).is_empty());
        }
        assert_eq!(Forwarding::Anywhere.hosts("10.0.0.1"), ["10.0.0.1"]);
        assert_eq!(Forwarding::Anywhere.hosts("localhost"), both);
    }
}
