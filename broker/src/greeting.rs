//! From an accepted socket to a connected client: TLS, certificate, CONNECT. The caller sets the deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use daemon::report::one_line;
use protocol::{ClientIdSuffix, Label};
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode};
use rustls::HandshakeKind;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

use crate::attachment::Attachment;
use crate::connect::{self, Connect, ConnectError, REFUSED_V5};
use crate::connection::Connection;
use crate::cost;
use crate::gate::{Admitted, Refusal};
use crate::hub::{AttachError, Hub};
use crate::limits::TLS_BUFFER;
use crate::packet::{self, Frame, PacketError};
use crate::peer::Peer;
use crate::revocation::CertificateName;
use crate::tls::Front;
use crate::transport::{Exchanged, Transport};
use crate::trust;

/// What every newcomer meets.
pub(crate) struct Door {
    pub(crate) front: RwLock<Arc<Front>>,
    pub(crate) realm: Label,
    pub(crate) client_id_suffix: ClientIdSuffix,
    pub(crate) hub: Arc<Hub>,
}

/// Why nobody has been connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GreetError {
    #[error("the TLS handshake has failed")]
    Handshake(#[source] io::Error),
    #[error("the connection is lost before CONNECT")]
    Lost(#[source] io::Error),
    #[error("another one needs the place, and of its address there are most")]
    Crowded,
    #[error("no CONNECT in time")]
    Late,
    #[error("the peer has left before CONNECT")]
    Left,
    #[error("the first packet is no CONNECT that can be served")]
    Connect(#[source] ConnectError),
    /// It has been written down who, and by which rule.
    #[error("the client is refused")]
    Refused,
}

impl Door {
    /// Lets a client in, or says no in the way that MQTT has for it.
    pub(crate) async fn greet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Box<Connection<TlsStream<TcpStream>>>, GreetError> {
        let start = Instant::now();
        // A message is one packet and should leave at once.
        stream.set_nodelay(true).map_err(GreetError::Lost)?;
        let front = self.front();
        let handshake = front.acceptor.accept(stream);
        let handshake = self.hub.audit.handshake(address, handshake);
        let mut stream = handshake
            .await
            .map_err(|error| self.handshake_failed(error, address))?;
        let counters = &self.hub.counters;
        counters.handshakes.increment();
        counters.handshake_time.record(start.elapsed());
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        // Of a resumed session the certificate comes out of the ticket, and nobody has looked at it today.
        if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            counters.resumed.increment();
            self.verify(&front, chain_of(&stream), address)?;
        }
        let peer = self.peer(&stream, address);
        let mut transport = Transport::new(stream);
        let admitted = self.admit(&mut transport, peer).await;
        match admitted.and_then(|admitted| self.confirm(&front, &transport, admitted)) {
            Ok((client, connect, attachment)) => {
                let accept = ConnAck::new(ConnectReturnCode::Success, attachment.session_present());
                drop(accept.write(&mut transport.outbound));
                let (id, clean_session) = (&client.peer().id, connect.clean_session);
                tracing::info!(device = %id, %address, clean_session, "connected");
                let hub = Arc::clone(&self.hub);
                let keepalive = connect.keepalive;
                let connection = Connection::new(transport, attachment, client, hub, keepalive);
                Ok(Box::new(connection))
            }
            Err((answer, error)) => {
                transport.outbound.extend_from_slice(answer);
                drop(transport.close().await);
                Err(error)
            }
        }
    }

    /// What newcomers meet now.
    pub(crate) fn front(&self) -> Arc<Front> {
        let front = self.front.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&front)
    }

    /// From now on newcomers meet this.
    pub(crate) fn replace(&self, front: Front) {
        let mut current = self.front.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(front);
    }

    fn handshake_failed(&self, error: io::Error, address: SocketAddr) -> GreetError {
        let cause = error
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            // The verifier has written its line.
            Some(rustls::Error::InvalidCertificate(_)) => {}
            Some(none @ rustls::Error::NoCertificatesPresented) => {
                self.hub.audit.refused_claim(&[], address, none);
            }
            Some(_) | None => return GreetError::Handshake(error),
        }
        self.hub.counters.refused_certificates.increment();
        GreetError::Refused
    }

    /// Decides about a certificate that no handshake has decided about, or one before the files changed.
    fn verify(
        &self,
        front: &Front,
        chain: &[CertificateDer<'_>],
        address: SocketAddr,
    ) -> Result<(), GreetError> {
        // The verifier makes no exception, so there always is one.
        let (leaf, others) = chain.split_first().ok_or(GreetError::Left)?;
        front
            .trust
            .verify(leaf, others, UnixTime::now())
            .map_err(|error| {
                self.hub.counters.refused_certificates.increment();
                let rule = trust::rule(&error);
                self.hub.audit.refused_claim(leaf, address, &rule);
                GreetError::Refused
            })
    }

    /// A client whose certificate has gone since the handshake is seen here or, having its seat by now, by whoever makes the
    /// change.
    fn confirm(
        &self,
        front: &Arc<Front>,
        transport: &Transport<TlsStream<TcpStream>>,
        admitted: (Admitted, Connect, Attachment),
    ) -> Result<(Admitted, Connect, Attachment), (&'static [u8], GreetError)> {
        let peer = admitted.0.peer();
        let present = self.front();
        if !Arc::ptr_eq(&present.trust, &front.trust) {
            self.verify(&present, chain_of(transport.stream()), peer.address)
                .map_err(|error| (NOT_AUTHORIZED, error))?;
        }
        Ok(admitted)
    }

    /// The device that the certificate names. Who has none of this realm is told in the way that MQTT has for it.
    fn peer(&self, stream: &TlsStream<TcpStream>, address: SocketAddr) -> Result<Peer, GreetError> {
        let chain = chain_of(stream);
        let der = chain.first().map(AsRef::as_ref).unwrap_or_default();
        let others = chain.get(1..).unwrap_or_default();
        let peer = Peer::of_certificate(der, address, &self.realm, &self.client_id_suffix);
        peer.map(|peer| Peer {
            intermediates: others.iter().filter_map(CertificateName::of_der).collect(),
            ..peer
        })
        .map_err(|error| {
            self.hub.counters.refused_peers.increment();
            self.hub
                .audit
                .refused_claim(der, address, &one_line(&error));
            GreetError::Refused
        })
    }

    /// Reads the CONNECT and decides it. What is refused comes with the bytes of the answer.
    async fn admit<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        transport: &mut Transport<S>,
        peer: Result<Peer, GreetError>,
    ) -> Result<(Admitted, Connect, Attachment), (&'static [u8], GreetError)> {
        let frame = match first_frame(transport).await {
            Ok(frame) => frame,
            Err(GreetError::Connect(error)) => return Err(self.no_connect(&peer, error)),
            Err(error) => return Err((NOTHING, error)),
        };
        let counters = &self.hub.counters;
        let mut connect = Connect::parse(&frame).map_err(|error| self.no_connect(&peer, error))?;
        let peer = peer.map_err(|error| (NOT_AUTHORIZED, error))?;
        let (id, address) = (peer.id.clone(), peer.address);
        if connect.client_id != peer.subject.client_id() {
            counters.refused_connects.increment();
            let refusal = Refusal::new(
                "iot:Connect",
                &connect.client_id,
                "the certificate is for another client id",
            );
            self.hub.audit.refused_peer(&id, address, &refusal);
            return Err((BAD_CLIENT_ID, GreetError::Refused));
        }
        let refuse = |refusal: Refusal| {
            self.hub.audit.refused_peer(&id, address, &refusal);
            (NOT_AUTHORIZED, GreetError::Refused)
        };
        self.charge(&peer, &connect)?;
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
        let attachment = attached.map_err(|error| match error {
            AttachError::Refused(refusal) => {
                counters.refused_connects.increment();
                refuse(refusal)
            }
            AttachError::Draining | AttachError::Full | AttachError::Will(_) => {
                counters.refused_load.increment();
                let refusal = Refusal::new("CONNECT", "session", one_line(&error));
                self.hub.audit.refused_peer(&id, address, &refusal);
                (UNAVAILABLE, GreetError::Refused)
            }
        })?;
        Ok((client, connect, attachment))
    }

    /// A CONNECT is paid for like anything else, and who owes too much does not come in by it.
    fn charge(&self, peer: &Peer, connect: &Connect) -> Result<(), (&'static [u8], GreetError)> {
        let (limits, now) = (&self.hub.limits, Instant::now());
        let account = self.hub.accounts.of(peer.subject.client_id());
        if account.may_connect(now, limits) {
            account.spend(cost::of_connect(connect.will.as_ref()), now, limits);
            return Ok(());
        }
        self.hub.counters.refused_floods.increment();
        let refusal = Refusal::new("rate", "CONNECT", "it has asked for too much before");
        self.hub
            .audit
            .refused_peer(&peer.id, peer.address, &refusal);
        Err((UNAVAILABLE, GreetError::Refused))
    }

    /// The first packet is no CONNECT that can be served, and there is a line of its own about it if it is known whose.
    fn no_connect(
        &self,
        peer: &Result<Peer, GreetError>,
        error: ConnectError,
    ) -> (&'static [u8], GreetError) {
        let answer = self.answer(&error);
        let Ok(peer) = peer else {
            return (answer, GreetError::Connect(error));
        };
        let refusal = Refusal::new("CONNECT", "packet", one_line(&error));
        self.hub
            .audit
            .refused_peer(&peer.id, peer.address, &refusal);
        (answer, GreetError::Refused)
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
            ConnectError::Foreign | ConnectError::Packet(_) => {
                counters.malformed.increment();
                NOTHING
            }
        }
    }
}

/// The certificates that the client has shown, now or in the session that it resumes.
fn chain_of(stream: &TlsStream<TcpStream>) -> &[CertificateDer<'static>] {
    stream.get_ref().1.peer_certificates().unwrap_or_default()
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
