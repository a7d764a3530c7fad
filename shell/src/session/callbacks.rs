//! russh's callbacks for one connection: all that a client may ask.
//!
//! They run inside the session's loop and wait for nothing but a file and a bind.

use std::sync::Arc;

use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig};

use super::Visitor;
use super::asked::{Asked, command as command_of};
use crate::forward::{Direct, direct};
use crate::process::Program;
use crate::terminal::{Size, Wanted};

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
            self.asked(channel, 0)?;
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
        match self.asked(channel, term.len() + size_of_val(modes))? {
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
            && let Some(asked) = self.asked(channel, 0)?
            && let Some(terminal) = &mut asked.terminal
        {
            terminal.size = Size::new(col_width, row_height, pix_width, pix_height);
        }
        Ok(())
    }

    async fn signal(
        &mut self,
        channel: ChannelId,
        signal: Sig,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if self.waiting.contains_key(&channel) {
            let size = if let Sig::Custom(name) = &signal {
                name.len()
            } else {
                0
            };
            self.asked(channel, size)?;
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
        let taken = match self.asked(channel, name.len() + value.len())? {
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
        self.begin(channel, Some(Program::Login), 0, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.begin(channel, command_of(command), command.len(), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        let program = (name == "sftp").then_some(Program::Sftp);
        self.begin(channel, program, name.len(), session)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        protocol: &str,
        cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.asked(channel, protocol.len() + cookie.len())?;
        session.channel_failure(channel)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<bool, Error> {
        // russh itself says no.
        self.asked(channel, 0)?;
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
