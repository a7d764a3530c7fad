//! russh's callbacks for one connection: all that a client may ask.
//!
//! They run inside the session's loop and wait for nothing but a file and a bind. What a session asks for before it begins
//! is kept here, because russh knows only of the last request whether its client wants an answer: each has to be answered
//! before the next is looked at.

mod asked;
mod begin;
mod login;

use std::collections::HashMap;
use std::sync::Arc;

use daemon::flow::Flow;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::asked::Asked;
use self::login::Standing;
pub(crate) use self::login::{Admitted, TurnedDown};
use crate::forward::{Direct, Listening, direct, listen};
use crate::limits::{LISTENERS, SESSIONS, STRAY_REQUESTS, STREAMS};
use crate::process::Program;
use crate::server::House;
use crate::terminal::{Size, Wanted};

/// One connection's callbacks and what they know.
pub(crate) struct Visitor {
    house: Arc<House>,
    flow: Flow,
    tasks: TaskTracker,
    stop: CancellationToken,
    standing: Standing,
    offers: usize,
    admitted: Option<oneshot::Sender<Result<Admitted, TurnedDown>>>,
    /// Sessions that have not begun.
    waiting: HashMap<ChannelId, Asked>,
    sessions: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Ports that are forwarded to this client.
    listeners: HashMap<(String, u32), DropGuard>,
    /// Requests on channels that cannot have any.
    strays: usize,
}

impl Visitor {
    pub(crate) fn new(
        house: Arc<House>,
        flow: Flow,
        tasks: TaskTracker,
        stop: CancellationToken,
        admitted: oneshot::Sender<Result<Admitted, TurnedDown>>,
    ) -> Self {
        Self {
            house,
            flow,
            tasks,
            stop,
            standing: Standing::Stranger,
            offers: 0,
            admitted: Some(admitted),
            waiting: HashMap::new(),
            sessions: Arc::new(Semaphore::new(SESSIONS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            listeners: HashMap::new(),
            strays: 0,
        }
    }

    fn who(&self) -> Option<&str> {
        match &self.standing {
            Standing::Member(who) => Some(who),
            Standing::Stranger | Standing::Proved(_) => None,
        }
    }

    /// What a session has asked for so far. Every request counts, since russh keeps each until the session begins; of
    /// those on other channels a client has no use for more than a few.
    fn asked(&mut self, channel: ChannelId) -> Result<Option<&mut Asked>, Error> {
        if let Some(asked) = self.waiting.get_mut(&channel) {
            return if asked.count() {
                Ok(Some(asked))
            } else {
                Err(Error::Inconsistent)
            };
        }
        self.strays += 1;
        if self.strays > STRAY_REQUESTS {
            return Err(Error::Inconsistent);
        }
        Ok(None)
    }

    fn begin(
        &mut self,
        channel: ChannelId,
        program: Option<Program>,
        session: &mut Session,
    ) -> Result<(), Error> {
        if self.asked(channel)?.is_none() {
            return session.channel_failure(channel);
        }
        let (Some(program), Some(who)) = (program, self.who()) else {
            return session.channel_failure(channel);
        };
        let who = who.to_owned();
        let Some(asked) = self.waiting.remove(&channel) else {
            return session.channel_failure(channel);
        };
        begin::begin(self, asked, program, &who, session)
    }

    async fn forward(&mut self, address: &str, port: &mut u32, handle: Handle) -> bool {
        let permitted = self.house.forwarding != crate::Forwarding::None;
        let Ok(wanted) = u16::try_from(*port) else {
            return false;
        };
        if self.who().is_none() || !permitted || self.listeners.len() >= LISTENERS {
            return false;
        }
        let (listener, granted) = match listen(address, wanted).await {
            Ok(listening) => listening,
            Err(error) => {
                tracing::info!(address, port, %error, "a port could not be forwarded");
                return false;
            }
        };
        let stop = self.stop.child_token();
        *port = u32::from(granted);
        let name = (address.to_owned(), *port);
        self.listeners.insert(name, stop.clone().drop_guard());
        let listening = Listening {
            listener,
            address: address.to_owned(),
            port: granted,
            handle,
            flow: self.flow.clone(),
            places: Arc::clone(&self.streams),
            tasks: self.tasks.clone(),
            stop,
        };
        self.tasks.spawn(listening.run());
        true
    }
}

impl Handler for Visitor {
    type Error = Error;

    async fn auth_publickey_offered(
        &mut self,
        _user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Error> {
        Ok(self.offered(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Error> {
        Ok(self.proved(user, key.public_key))
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
        let place = Arc::clone(&self.sessions).try_acquire_owned();
        match (self.who(), place) {
            (Some(_), Ok(place)) => {
                self.flow.open(channel.id());
                let asked = Asked::new(channel, place);
                self.waiting.insert(asked.id(), asked);
                reply.accept().await;
            }
            (Some(_), Err(_)) => reply.reject(ChannelOpenFailure::ResourceShortage).await,
            (None, _) => {
                reply
                    .reject(ChannelOpenFailure::AdministrativelyProhibited)
                    .await;
            }
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
        let Some((_, port)) = self.who().zip(u16::try_from(port).ok()) else {
            reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
            return Ok(());
        };
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        self.flow.open(channel.id());
        let request = Direct {
            channel,
            host: host.to_owned(),
            port,
            reply,
            place,
        };
        let (flow, stop) = (self.flow.clone(), self.stop.clone());
        self.tasks
            .spawn(direct(request, self.house.forwarding, flow, stop));
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

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // One that never began: its place is free again.
        if self.waiting.remove(&channel).is_some() {
            self.flow.close(channel);
        }
        Ok(())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if self.waiting.contains_key(&channel) {
            self.asked(channel)?;
        }
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

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        let size = Size::new(col_width, row_height, pix_width, pix_height);
        match self.asked(channel)? {
            Some(asked) => {
                asked.terminal = Some(Wanted::new(term, size, modes));
                session.channel_success(channel)
            }
            None => session.channel_failure(channel),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        pix_width: u32,
        pix_height: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        // One that has begun sees to it by itself.
        if self.waiting.contains_key(&channel)
            && let Some(asked) = self.asked(channel)?
            && let Some(terminal) = &mut asked.terminal
        {
            terminal.size = Size::new(col_width, row_height, pix_width, pix_height);
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        _signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if self.waiting.contains_key(&channel) {
            self.asked(channel)?;
        }
        Ok(())
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let taken = match self.asked(channel)? {
            Some(asked) => asked.variables.set(name, value),
            None => false,
        };
        if taken {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.begin(channel, Some(Program::Login), session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.begin(channel, asked::command(command), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let program = (name == "sftp").then_some(Program::Sftp);
        self.begin(channel, program, session)
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
        self.asked(channel)?;
        session.channel_failure(channel)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        // russh itself says no.
        self.asked(channel)?;
        Ok(false)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Error> {
        let handle = session.handle();
        Ok(Box::pin(self.forward(address, port, handle)).await)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        let name = (address.to_owned(), port);
        Ok(self.listeners.remove(&name).is_some())
    }
}
