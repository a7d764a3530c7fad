//! From an accepted socket to a connected client: TLS, certificate, CONNECT. The caller sets the deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use protocol::{ClientIdSuffix, Label};
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::attachment::Attachment;
use crate::audit;
use crate::connect::{self, Connect, ConnectError, REFUSED_V5};
use crate::connection::Connection;
use crate::gate::{Admitted, Refusal};
use crate::hub::{AttachError, Hub};
use crate::limits::TLS_BUFFER;
use crate::packet::{self, Frame, PacketError};
use crate::peer::{Peer, PeerError};
use crate::revocation::RevocationList;
use crate::transport::{Exchanged, Transport};

/// What every newcomer meets.
pub(crate) struct Door {
    pub(crate) tls: TlsAcceptor,
    pub(crate) realm: Label,
    pub(crate) client_id_suffix: ClientIdSuffix,
    pub(crate) hub: Arc<Hub>,
    pub(crate) revoked: Arc<RevocationList>,
}

/// Why nobody has been connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GreetError {
    #[error("the TLS handshake has failed")]
    Handshake(#[source] io::Error),
    #[error("the connection is lost before CONNECT")]
    Lost(#[source] io::Error),
    #[error("the peer has left before CONNECT")]
    Left,
    #[error("the certificate is no device's of this realm")]
    Peer(#[source] PeerError),
    #[error("the first packet is no CONNECT that can be served")]
    Connect(#[source] ConnectError),
    #[error("the CONNECT is refused")]
    Refused,
    #[error("no session can be given")]
    Attach(#[source] AttachError),
    #[error("the certificate has been revoked since the handshake")]
    Revoked,
}

impl Door {
    /// Lets a client in, or says no in the way that MQTT has for it.
    pub(crate) async fn greet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Connection<TlsStream<TcpStream>>, GreetError> {
        let start = Instant::now();
        // A message is one packet and should leave at once.
        stream.set_nodelay(true).map_err(GreetError::Lost)?;
        let mut stream = self
            .tls
            .accept(stream)
            .await
            .map_err(GreetError::Handshake)?;
        let counters = &self.hub.counters;
        counters.handshakes.increment();
        counters
            .handshake_micros
            .add(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let peer = self.peer(&stream, address);
        let mut transport = Transport::new(stream);
        match self.admit(&mut transport, peer).await {
            Ok((client, connect, attachment)) => {
                let accept = ConnAck::new(ConnectReturnCode::Success, attachment.session_present());
                drop(accept.write(&mut transport.outbound));
                let (id, clean_session) = (&client.peer().id, connect.clean_session);
                tracing::info!(device = %id, %address, clean_session, "connected");
                let hub = Arc::clone(&self.hub);
                Ok(Connection::new(
                    transport,
                    attachment,
                    client,
                    hub,
                    connect.keepalive,
                ))
            }
            Err((answer, error)) => {
                transport.outbound.extend_from_slice(answer);
                drop(transport.close().await);
                Err(error)
            }
        }
    }

    fn peer(&self, stream: &TlsStream<TcpStream>, address: SocketAddr) -> Result<Peer, PeerError> {
        // The verifier makes no exception, so there always is one.
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let der = leaf.map(AsRef::as_ref).unwrap_or_default();
        Peer::of_certificate(der, address, &self.realm, &self.client_id_suffix)
    }

    /// Reads the CONNECT and decides it. What is refused comes with the bytes of the answer.
    async fn admit<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        transport: &mut Transport<S>,
        peer: Result<Peer, PeerError>,
    ) -> Result<(Admitted, Connect, Attachment), (&'static [u8], GreetError)> {
        let frame = first_frame(transport)
            .await
            .map_err(|error| (NOTHING, error))?;
        let counters = &self.hub.counters;
        let mut connect = Connect::parse(&frame).map_err(|error| {
            let answer = self.answer(&error);
            (answer, GreetError::Connect(error))
        })?;
        let peer = peer.map_err(|error| {
            counters.refused_peers.increment();
            (NOT_AUTHORIZED, GreetError::Peer(error))
        })?;
        let (id, address) = (peer.id.clone(), peer.address);
        if connect.client_id != peer.subject.client_id() {
            counters.refused_connects.increment();
            let refusal = Refusal::new(
                "iot:Connect",
                &connect.client_id,
                "the certificate is for another client id",
            );
            audit::refused_peer(&id, address, &refusal);
            return Err((BAD_CLIENT_ID, GreetError::Refused));
        }
        let refuse = |refusal: Refusal| {
            audit::refused_peer(&id, address, &refusal);
            (NOT_AUTHORIZED, GreetError::Refused)
        };
        let client = self.hub.gate.connect(peer).map_err(|refusal| {
            counters.refused_connects.increment();
            refuse(refusal)
        })?;
        let will = connect
            .will
            .take()
            .map(|will| self.hub.gate.publish(&client, will))
            .transpose();
        let will = will.map_err(|refusal| {
            counters.refused_wills.increment();
            refuse(refusal)
        })?;
        let attached = self.hub.attach(client.clone(), connect.clean_session, will);
        let attachment = attached.map_err(|error| {
            counters.refused_load.increment();
            (UNAVAILABLE, GreetError::Attach(error))
        })?;
        // One that was revoked since the handshake is seen here, or, from now on, by whoever reads the new list.
        if self.revoked.has(&client.peer().certificate) {
            counters.revoked.increment();
            return Err((NOT_AUTHORIZED, GreetError::Revoked));
        }
        Ok((client, connect, attachment))
    }

    fn answer(&self, error: &ConnectError) -> &'static [u8] {
        let counters = &self.hub.counters;
        match error {
            ConnectError::Version { level } => {
                counters.refused_versions.increment();
                if *level == 5 {
                    &REFUSED_V5
                } else {
                    BAD_VERSION
                }
            }
            ConnectError::WillTopic(_) | ConnectError::WillQos => {
                counters.refused_wills.increment();
                NOT_AUTHORIZED
            }
            // MQTT-3.1.4-1: no CONNACK for what is not a CONNECT.
            ConnectError::Packet(_) => {
                counters.malformed.increment();
                NOTHING
            }
        }
    }
}

async fn first_frame<S: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<S>,
) -> Result<Frame, GreetError> {
    let no_connect = |error: PacketError| GreetError::Connect(error.into());
    loop {
        if let Some(frame) =
            packet::frame(&mut transport.inbound, connect::is_connect).map_err(no_connect)?
        {
            return Ok(frame);
        }
        match transport.exchange().await.map_err(GreetError::Lost)? {
            Exchanged::Received | Exchanged::Sent => {}
            Exchanged::Closed => return Err(GreetError::Left),
        }
    }
}

const NOTHING: &[u8] = &[];
const BAD_VERSION: &[u8] = &connect::refused(ConnectReturnCode::RefusedProtocolVersion);
const BAD_CLIENT_ID: &[u8] = &connect::refused(ConnectReturnCode::BadClientId);
const UNAVAILABLE: &[u8] = &connect::refused(ConnectReturnCode::ServiceUnavailable);
const NOT_AUTHORIZED: &[u8] = &connect::refused(ConnectReturnCode::NotAuthorized);
