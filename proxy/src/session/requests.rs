//! What an authenticated peer may ask for: forwards, streams, and a session that tells it what this is.

use std::sync::Arc;

use daemon::splice::ChannelEnd;
use daemon::ssh_client::SILENCE_LIMIT;
use protocol::Role;
use russh::server::{ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelOpenFailure, Error};
use tokio::time::Instant;

use super::Visitor;
use super::login::Standing;
use crate::admission::{ForwardPermit, Peer};
use crate::complaints::excerpt;
use crate::crowd::Place;
use crate::hub::Reach;
use crate::rendezvous::Member;
use crate::stream::{Request, carry, refusal};

impl Visitor {
    pub(super) fn forward(&mut self, address: &str, port: &mut u32, session: &Session) -> bool {
        let Standing::Member(peer) = &self.standing else {
            return false;
        };
        if self.hub.stopping.is_cancelled() {
            return false;
        }
        let registered = peer
            .forward(address, *port)
            .map_err(|refusal| refusal.to_string())
            .and_then(|permit| {
                let (member, now) = (self.member(session), Instant::now());
                let mut table = self.hub.table();
                table
                    .forward(&permit, address, member, rand::random(), now)
                    .map_err(|refusal| refusal.to_string())
            });
        match registered {
            Ok(granted) => {
                tracing::info!(
                    device = %peer.id(), connection = self.connection.0, address, port = granted, "forward granted"
                );
                *port = u32::from(granted);
                // From now on others rely on it being alive.
                self.flow.limit_silence(SILENCE_LIMIT);
                self.hub.changed();
                true
            }
            Err(reason) => {
                if let Some(untold) = self.complaints().due() {
                    tracing::warn!(
                        device = %peer.id(), connection = self.connection.0, address = excerpt(address), port = *port, reason, untold, "forward refused"
                    );
                }
                false
            }
        }
    }

    /// What the table knows it by.
    pub(super) fn member(&self, session: &Session) -> Member<Reach> {
        Member {
            connection: self.connection,
            kind: self.flow.kind(),
            reach: Reach {
                handle: session.handle(),
                flow: self.flow.clone(),
            },
        }
    }

    pub(super) fn cancel(&self, address: &str, port: u32) -> bool {
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
    pub(super) fn stream(
        &self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        reply: ChannelOpenHandle,
    ) -> Result<(), (ChannelOpenHandle, ChannelOpenFailure)> {
        let Some(peer) = self.peer() else {
            return Err((reply, ChannelOpenFailure::AdministrativelyProhibited));
        };
        let place = if self.hub.stopping.is_cancelled() {
            Err("the proxy is stopping".to_owned())
        } else if self.flow.streams() >= self.hub.limits.streams_per_connection {
            Err("too many streams on one connection".to_owned())
        } else {
            self.place_for_stream(peer)
        };
        let place = match place {
            Ok(place) => place,
            Err(reason) => {
                if let Some(untold) = self.complaints().due() {
                    tracing::warn!(device = %peer.id(), connection = self.connection.0, reason, untold, "stream refused");
                }
                let code = ChannelOpenFailure::ResourceShortage;
                return Err((reply, refusal(&code, &reason)));
            }
        };
        self.flow.open(channel.id());
        let request = Request {
            peer: peer.clone(),
            host: host.to_owned(),
            port,
            end: ChannelEnd::new(channel, self.flow.clone()),
            reply,
            place,
            complaints: self.complaints().clone(),
        };
        self.hub.tasks.spawn(carry(Arc::clone(&self.hub), request));
        Ok(())
    }

    /// A target has no places, since it may not ask for streams, and is told so by the one who decides.
    fn place_for_stream(&self, peer: &Peer) -> Result<Option<Place>, String> {
        match peer.id().role() {
            Role::Target => Ok(None),
            Role::Controller => {
                let place = self.hub.streams_asked.enter(peer.id());
                place.map(Some).map_err(|crowded| crowded.to_string())
            }
        }
    }

    /// Says what this is not, and ends the channel: a client that wants a shell should not be left hanging.
    pub(super) fn no_shell(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Error> {
        if !self.sessions.first_time(channel) {
            return session.channel_failure(channel);
        }
        // Success, because OpenSSH's client does not show what comes before a failure.
        session.channel_success(channel)?;
        session.extended_data(channel, STDERR, NO_SHELL)?;
        session.exit_status_request(channel, 1)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

/// RFC 4254, section 5.2.
const STDERR: u32 = 1;

/// What somebody sees who tries to log in here.
const NO_SHELL: &[u8] = b"This is a tunnel proxy. It has no shell: it only connects controllers to devices.\r\n\
Use `tunnel connect USER@DEVICE`, or `ssh -J SYSTEM@PROXY USER@DEVICE`; a device uses `ssh -N -R`.\r\n";
