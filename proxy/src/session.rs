//! russh's callbacks for one connection: everything that an authenticated or unknown peer may ask.
//!
//! They run inside the session's loop, so none of them waits for anything but the key store, and for a refusal that is held
//! back. Large bodies are boxed: russh keeps the callbacks' futures within the session's own, for as long as the connection
//! lives.

mod login;
mod requests;
mod sessions;

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use daemon::doorway::Pass;
use daemon::flow::Flow;
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty};
use tokio::sync::oneshot;

pub(crate) use self::login::{Admitted, Tried, TurnedDown};
use self::login::{Standing, Stranger};
use self::sessions::Sessions;
use crate::admission::Peer;
use crate::complaints::Complaints;
use crate::hub::Hub;
use crate::rendezvous::ConnectionId;
use crate::stream::refusal;

/// One connection's callbacks. Boxed, since russh keeps them twice within its session's future: the argument, and what it has
/// become.
pub(crate) struct Visitor(Box<Known>);

/// What they know.
pub(crate) struct Known {
    hub: Arc<Hub>,
    connection: ConnectionId,
    address: SocketAddr,
    flow: Flow,
    standing: Standing,
    sessions: Sessions,
    complaints: OnceLock<Complaints>,
}

impl Visitor {
    pub(crate) fn new(
        hub: Arc<Hub>,
        connection: ConnectionId,
        address: SocketAddr,
        flow: Flow,
        pass: Pass,
        tried: Tried,
        admitted: oneshot::Sender<Result<Admitted, TurnedDown>>,
    ) -> Self {
        Self(Box::new(Known {
            hub,
            connection,
            address,
            flow,
            standing: Standing::Stranger(Box::new(Stranger::new(pass, tried, admitted))),
            sessions: Sessions::default(),
            complaints: OnceLock::new(),
        }))
    }

    /// What it was refused. Most are refused nothing.
    fn complaints(&self) -> &Complaints {
        self.complaints.get_or_init(Complaints::default)
    }

    fn peer(&self) -> Option<&Peer> {
        match &self.standing {
            Standing::Member(peer) => Some(peer),
            Standing::Stranger(_) => None,
        }
    }
}

impl Deref for Visitor {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0
    }
}

impl DerefMut for Visitor {
    fn deref_mut(&mut self) -> &mut Known {
        &mut self.0
    }
}

impl Handler for Visitor {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Box::pin(self.offered(user, offer.public_key)).await
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        Box::pin(self.proved(user, key.public_key)).await
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Error> {
        self.succeeded(session);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if self.sessions.count() >= self.hub.limits.sessions_per_connection {
            let code = ChannelOpenFailure::ResourceShortage;
            let reason = "too many sessions on one connection";
            reply.reject(refusal(&code, reason)).await;
        } else {
            self.sessions.opened(channel.id());
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
        self.no_shell(channel, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.no_shell(channel, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.no_shell(channel, session)
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
