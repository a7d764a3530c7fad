//! russh's callbacks for one connection: everything that an authenticated or unknown peer may ask.
//!
//! They run inside the session's loop, so none of them waits for anything but the key store. Large bodies are boxed: russh
//! keeps the callbacks' futures within the session's own, for as long as the connection lives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemon::flow::Flow;
use daemon::splice::ChannelEnd;
use daemon::ssh::{PeerKind, known_peer};
use daemon::ssh_client::SILENCE_LIMIT;
use russh::keys::{HashAlg, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admission::{ForwardPermit, Peer};
use crate::crowd::{Crowded, Place};
use crate::hub::{Hub, Reach};
use crate::rendezvous::{ConnectionId, Member};
use crate::stream::{Request, carry};

/// One connection's callbacks and what they know.
pub(crate) struct Visitor {
    hub: Arc<Hub>,
    connection: ConnectionId,
    address: SocketAddr,
    flow: Flow,
    standing: Standing,
    admitted: Option<oneshot::Sender<Result<Admitted, Crowded>>>,
    sessions: usize,
}

/// What the connection's task is told when its peer has logged in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) peer: Peer,
    pub(crate) key: PublicKey,
    pub(crate) serves: Arc<AtomicBool>,
    pub(crate) _place: Place,
}

/// How far a connection has come.
enum Standing {
    Stranger,
    /// The key is proved; the client is about to hear of it.
    Proved(Peer, PublicKey),
    Member(Peer, Arc<AtomicBool>),
}

impl Visitor {
    pub(crate) fn new(
        hub: Arc<Hub>,
        connection: ConnectionId,
        address: SocketAddr,
        flow: Flow,
        admitted: oneshot::Sender<Result<Admitted, Crowded>>,
    ) -> Self {
        Self {
            hub,
            connection,
            address,
            flow,
            standing: Standing::Stranger,
            admitted: Some(admitted),
            sessions: 0,
        }
    }

    fn peer(&self) -> Option<&Peer> {
        match &self.standing {
            Standing::Member(peer, _) => Some(peer),
            Standing::Stranger | Standing::Proved(..) => None,
        }
    }

    /// The device of a key, after a second look if the key is not known.
    async fn admit(&self, user: &str, key: &PublicKey) -> Option<Peer> {
        let keys = self.hub.keys.current();
        if let Some(peer) = Peer::admit(user, key, &keys) {
            return Some(peer);
        }
        self.hub.keys.refresh().await;
        Peer::admit(user, key, &self.hub.keys.current())
    }

    fn succeeded(&mut self, sshid: &[u8]) {
        let Standing::Proved(peer, key) = std::mem::replace(&mut self.standing, Standing::Stranger)
        else {
            return;
        };
        let Some(admitted) = self.admitted.take() else {
            return;
        };
        let place = match self.hub.crowd.enter(peer.id()) {
            Ok(place) => place,
            Err(crowded) => {
                tracing::warn!(device = %peer.id(), address = %self.address, connection = self.connection.0, reason = %crowded, "login refused");
                // It stays a stranger until it is told so and cut off. If nobody listens, it is being ended.
                let _ = admitted.send(Err(crowded));
                return;
            }
        };
        let kind = known_peer(sshid);
        self.flow.set_kind(kind);
        self.flow.limit_silence(match kind {
            PeerKind::Own => SILENCE_LIMIT,
            PeerKind::Foreign => self.hub.limits.idle_silence,
        });
        let serves = Arc::new(AtomicBool::new(false));
        tracing::info!(device = %peer.id(), address = %self.address, connection = self.connection.0, ?kind, "logged in");
        self.standing = Standing::Member(peer.clone(), Arc::clone(&serves));
        // If nobody listens, the connection is being ended.
        let _ = admitted.send(Ok(Admitted {
            peer,
            key,
            serves,
            _place: place,
        }));
    }

    fn forward(&mut self, address: &str, port: &mut u32, session: &Session) -> bool {
        let Standing::Member(peer, serves) = &self.standing else {
            return false;
        };
        if self.hub.stopping.is_cancelled() {
            return false;
        }
        let registered = peer
            .forward(address, *port)
            .map_err(|refusal| refusal.to_string())
            .and_then(|permit| {
                let member = Member {
                    connection: self.connection,
                    kind: self.flow.kind(),
                    reach: Reach {
                        handle: session.handle(),
                        flow: self.flow.clone(),
                    },
                };
                let mut table = self.hub.table();
                table
                    .forward(&permit, address, member, rand::random(), Instant::now())
                    .map_err(|refusal| refusal.to_string())
            });
        match registered {
            Ok(granted) => {
                tracing::info!(
                    device = %peer.id(), connection = self.connection.0, address, port = granted, "forward granted"
                );
                *port = u32::from(granted);
                serves.store(true, Ordering::Relaxed);
                // From now on others rely on it being alive.
                self.flow.limit_silence(SILENCE_LIMIT);
                self.hub.changed();
                true
            }
            Err(reason) => {
                tracing::warn!(
                    device = %peer.id(), connection = self.connection.0, address, port = *port, reason, "forward refused"
                );
                false
            }
        }
    }

    fn cancel(&self, address: &str, port: u32) -> bool {
        let permit: Option<ForwardPermit> = self
            .peer()
            .and_then(|peer| peer.forward(address, port).ok());
        let Some(permit) = permit else {
            return false;
        };
        let cancelled = self
            .hub
            .table()
            .cancel(self.connection, &permit, Instant::now());
        if cancelled {
            tracing::info!(device = %permit.owner(), connection = self.connection.0, address, port, "forward cancelled");
            self.hub.changed();
        }
        cancelled
    }

    /// Starts a stream, or gives back the reply to refuse.
    fn stream(
        &self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        reply: ChannelOpenHandle,
    ) -> Result<(), (ChannelOpenHandle, ChannelOpenFailure)> {
        let Some(peer) = self.peer() else {
            return Err((reply, ChannelOpenFailure::AdministrativelyProhibited));
        };
        if self.flow.streams() >= self.hub.limits.streams_per_connection {
            tracing::warn!(device = %peer.id(), connection = self.connection.0, "stream refused: too many on one connection");
            let reason = ChannelOpenFailure::Other {
                code: ChannelOpenFailure::ResourceShortage.code(),
                reason: "too many streams on one connection".to_owned(),
            };
            return Err((reply, reason));
        }
        self.flow.open(channel.id());
        let request = Request {
            peer: peer.clone(),
            host: host.to_owned(),
            port,
            end: ChannelEnd::new(channel, self.flow.clone()),
            reply,
        };
        self.hub.tasks.spawn(carry(Arc::clone(&self.hub), request));
        Ok(())
    }

    /// Says what this is not, and ends the channel: a client that wants a shell should not be left hanging.
    fn no_shell(channel: ChannelId, session: &mut Session) -> Result<(), Error> {
        // Success, because OpenSSH's client does not show what comes before a failure.
        session.channel_success(channel)?;
        session.extended_data(channel, STDERR, NO_SHELL)?;
        session.exit_status_request(channel, 1)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

impl Handler for Visitor {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        let admitted = Box::pin(self.admit(user, offer.public_key)).await;
        if admitted.is_none() {
            let key = offer.public_key.fingerprint(HashAlg::Sha256);
            tracing::info!(?user, %key, address = %self.address, "key not admitted");
            return Ok(Auth::reject());
        }
        Ok(Auth::Accept)
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        let Some(peer) = Box::pin(self.admit(user, key.public_key)).await else {
            return Ok(Auth::reject());
        };
        self.standing = Standing::Proved(peer, key.public_key.clone());
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        self.succeeded(session.remote_sshid());
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.sessions += 1;
        if self.sessions > self.hub.limits.sessions_per_connection {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        } else {
            // The channel's own end is dropped: what it says is not for us.
            drop(channel);
            reply.accept().await;
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if let Err((reply, reason)) = self.stream(channel, host, port, reply) {
            reply.reject(reason).await;
        }
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.flow.open(id);
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.flow.received(channel, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), Error> {
        self.flow.received(channel, data.len());
        Ok(())
    }

    fn adjust_window(&mut self, _channel: ChannelId, _current: u32) -> u32 {
        self.flow.window()
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.forward(address, port, session))
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        Ok(self.cancel(address, port))
    }

    // What a session channel may ask for, and does not get. Each has to be answered, or clients hang.

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        Self::no_shell(channel, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        Self::no_shell(channel, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        Self::no_shell(channel, session)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        // There is none; but OpenSSH's client would give up here, before it is told what this is.
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<bool, Error> {
        session.channel_failure(channel)?;
        Ok(false)
    }
}

/// RFC 4254, section 5.2.
const STDERR: u32 = 1;

/// What somebody sees who tries to log in here.
const NO_SHELL: &[u8] = b"This is a tunnel proxy. It has no shell: it only connects controllers to devices.\r\n\
Use `tunnel connect USER@DEVICE`, or `ssh -J SYSTEM@PROXY USER@DEVICE`; a device uses `ssh -N -R`.\r\n";
