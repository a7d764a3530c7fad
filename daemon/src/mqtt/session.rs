//! One session on one connection: how it begins, packets in and out, and the keepalive.
//!
//! The codec and the rules of the protocol are rumqttc's. Its event loop is not used: that waits for CONNACK before it sends
//! anything else, which MQTT does not ask for, and costs whoever waits a round trip.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use protocol::limits::MAX_PAYLOAD;
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, ConnectionError, Event, MqttState, Packet, PingReq,
    Request, StateError, TlsError,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::host_port::HostPort;

/// What a session begins with.
pub(super) struct Opening<'o> {
    pub(super) broker: &'o HostPort,
    pub(super) tls: &'o Arc<ClientConfig>,
    pub(super) connect: Connect,
    /// Sent with CONNECT, in one piece: the client "need not wait for a CONNACK" (MQTT 3.1.1, 3.1.4). A broker that refuses
    /// the session must not look at them.
    pub(super) behind: Vec<Request>,
    /// Told as soon as they are on their way, if there are any.
    pub(super) sent: &'o watch::Sender<bool>,
}

/// A session that the broker has accepted.
pub(super) struct Session {
    stream: TlsStream<TcpStream>,
    state: MqttState,
    received: BytesMut,
    out: BytesMut,
    ping_at: Instant,
    /// How long the broker may take none of what is written.
    limit: Duration,
}

impl Session {
    /// Connects, and waits for CONNACK until the limit.
    pub(super) async fn begin(
        opening: Opening<'_>,
        limit: Duration,
    ) -> Result<Self, ConnectionError> {
        match timeout(limit, Self::accepted(opening, limit)).await {
            Ok(begun) => begun,
            Err(_) => Err(ConnectionError::NetworkTimeout),
        }
    }

    async fn accepted(opening: Opening<'_>, limit: Duration) -> Result<Self, ConnectionError> {
        let stream = connect(opening.broker, opening.tls).await?;
        let mut session = Self {
            stream,
            state: MqttState::new(IN_FLIGHT, false),
            received: BytesMut::new(),
            out: BytesMut::new(),
            ping_at: Instant::now() + KEEP_ALIVE,
            limit,
        };
        session.put(&Packet::Connect(opening.connect))?;
        let hurries = !opening.behind.is_empty();
        for request in opening.behind {
            session.enqueue(request)?;
        }
        session.flush().await?;
        if hurries {
            opening.sent.send_replace(true);
        }
        let answer = session.read().await?;
        let Packet::ConnAck(ConnAck { code, .. }) = answer else {
            return Err(ConnectionError::NotConnAck(answer));
        };
        if code == ConnectReturnCode::Success {
            Ok(session)
        } else {
            Err(ConnectionError::ConnectionRefused(code))
        }
    }

    /// Sends this, whatever waits for an acknowledgement.
    pub(super) async fn send(&mut self, request: Request) -> Result<(), ConnectionError> {
        self.enqueue(request)?;
        self.flush().await
    }

    /// What happens next: a packet that has come, or one that has gone. Requests are taken while fewer than [`IN_FLIGHT`]
    /// messages wait for an acknowledgement. Not cancel-safe: a session whose future is dropped is over.
    pub(super) async fn next(
        &mut self,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<Event, ConnectionError> {
        loop {
            if let Some(event) = self.state.events.pop_front() {
                return Ok(event);
            }
            let room = self.state.inflight() < IN_FLIGHT && self.state.collision.is_none();
            let ping_at = self.ping_at;
            tokio::select! {
                packet = self.read() => self.take_all(packet?)?,
                request = requests.recv(), if room => {
                    let request = request.ok_or(ConnectionError::RequestsDone)?;
                    self.enqueue(request)?;
                }
                () = sleep_until(ping_at) => {
                    self.ping_at = Instant::now() + KEEP_ALIVE;
                    // It fails if the last one has not been answered.
                    self.enqueue(Request::PingReq(PingReq))?;
                }
            }
            self.flush().await?;
        }
    }

    /// Takes a packet, and those that are here already, so that their acknowledgements leave together.
    fn take_all(&mut self, first: Packet) -> Result<(), StateError> {
        let mut packet = Some(first);
        let mut taken = 0;
        while let Some(now) = packet {
            if let Some(answer) = self.state.handle_incoming_packet(now)? {
                self.put(&answer)?;
            }
            taken += 1;
            packet = if taken < AT_ONCE { self.parse()? } else { None };
        }
        Ok(())
    }

    /// The next packet. Cancel-safe.
    async fn read(&mut self) -> Result<Packet, StateError> {
        loop {
            if let Some(packet) = self.parse()? {
                return Ok(packet);
            }
            self.received.reserve(READ);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(StateError::ConnectionAborted);
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Packet>, StateError> {
        match Packet::read(&mut self.received, MAX_PACKET) {
            Ok(packet) => Ok(Some(packet)),
            Err(PacketError::InsufficientBytes(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn enqueue(&mut self, request: Request) -> Result<(), StateError> {
        if let Some(packet) = self.state.handle_outgoing_packet(request)? {
            self.put(&packet)?;
        }
        Ok(())
    }

    fn put(&mut self, packet: &Packet) -> Result<(), StateError> {
        packet.write(&mut self.out, MAX_PACKET)?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let flushed = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        match timeout(self.limit, flushed).await {
            Ok(Ok(())) => {
                self.out.clear();
                Ok(())
            }
            Ok(Err(error)) => Err(StateError::Io(error).into()),
            Err(_) => Err(ConnectionError::FlushTimeout),
        }
    }
}

async fn connect(
    broker: &HostPort,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, ConnectionError> {
    let name = ServerName::try_from(broker.host().to_owned()).map_err(TlsError::from)?;
    let tcp = TcpStream::connect((broker.host(), broker.port())).await?;
    tcp.set_nodelay(true)?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, tcp).await.map_err(TlsError::Io)?;
    Ok(stream)
}

/// How often the client shows that it is there. The least that AWS IoT Core takes; a link that died silently is found
/// after two of them at most.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The largest packet, either way: a payload at its cap and a topic at its.
const MAX_PACKET: usize = 2 * MAX_PAYLOAD;

/// Messages of ours that may wait for an acknowledgement; the rest waits in queues that are bounded too.
const IN_FLIGHT: u16 = 100;

/// Packets that are taken before their acknowledgements are sent.
const AT_ONCE: usize = 10;

/// Room for the next read: a message of the usual size, and its neighbours.
const READ: usize = 4096;
