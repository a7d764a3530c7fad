//! russh's callbacks for one connection to a proxy, and the streams that it opens.

use std::fmt;
use std::sync::{Arc, OnceLock};

use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg};
use russh::keys::ssh_key::Fingerprint;
use russh::keys::{HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelOpenFailure, Names};
use tokio::sync::mpsc;

use crate::flow::Flow;
use crate::report::is_invisible;
use crate::splice::ChannelEnd;
use crate::ssh::{PeerKind, known_peer};

/// A stream that the proxy wants to open. Dropping it refuses it.
#[derive(Debug)]
pub struct ForwardedStream {
    /// The address that the forward was requested for.
    pub address: String,
    /// The port that was granted.
    pub port: u16,
    /// Where the stream comes from, as the proxy tells it.
    pub originator: String,
    end: ChannelEnd<Msg>,
    reply: Reply,
}

impl ForwardedStream {
    /// Accepts it: call this when the local side is connected.
    pub async fn accept(self) -> ChannelEnd<Msg> {
        self.reply.0.accept().await;
        self.end
    }

    /// Refuses it, for this reason.
    pub async fn refuse(self, reason: &str) {
        self.reply.0.reject(connect_failed(reason)).await;
    }
}

/// russh's callbacks for one connection.
pub(super) struct Peer {
    pub(super) flow: Flow,
    /// Set when the key exchange is done.
    pub(super) kind: Arc<OnceLock<PeerKind>>,
    /// The proxy's words when it does not open a stream.
    pub(super) refused: mpsc::Sender<String>,
    /// The proxy's words when it ends the connection.
    pub(super) farewell: mpsc::Sender<String>,
    pub(super) pinned: Vec<PublicKey>,
    pub(super) forwarded: mpsc::Sender<ForwardedStream>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum PeerError {
    #[error("unexpected host key {0}")]
    HostKey(Fingerprint),
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

impl client::Handler for Peer {
    type Error = PeerError;

    async fn disconnected(&mut self, reason: DisconnectReason<PeerError>) -> Result<(), PeerError> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let words = printable(&info.message);
                tracing::info!(reason = words, "the proxy ends the connection");
                // There is one, and if nobody asks, nobody wants to know.
                let _ = self.farewell.try_send(words);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, PeerError> {
        match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                let known = |pinned: &PublicKey| pinned.key_data() == key.key_data();
                if self.pinned.iter().any(known) {
                    Ok(true)
                } else {
                    Err(PeerError::HostKey(key.fingerprint(HashAlg::Sha256)))
                }
            }
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }

    async fn kex_done(
        &mut self,
        _shared_secret: Option<&[u8]>,
        _names: &Names,
        session: &mut client::Session,
    ) -> Result<(), PeerError> {
        // Later exchanges of the same connection tell the same.
        let _ = self.kind.set(known_peer(session.remote_sshid()));
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        self.flow.open(id);
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _channel: ChannelId,
        _reason: ChannelOpenFailure,
        description: &str,
        _language: &str,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        // When nobody fetches them, the oldest are good enough.
        let _ = self.refused.try_send(printable(description));
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        let Ok(port) = u16::try_from(port) else {
            return Ok(());
        };
        self.flow.open(channel.id());
        let stream = ForwardedStream {
            address: address.to_owned(),
            port,
            originator: format!("{originator_address}:{originator_port}"),
            end: ChannelEnd::new(channel, self.flow.clone()),
            reply: Reply(reply),
        };
        if let Err(full) = self.forwarded.try_send(stream) {
            let reply = full.into_inner().reply;
            reply.0.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        self.flow.received(channel, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        self.flow.received(channel, data.len());
        Ok(())
    }

    // A proxy has no business with any of these; the defaults would accept them.

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host: &str,
        _port: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), PeerError> {
        Ok(())
    }
}

/// What a proxy says is shown to people.
fn printable(words: &str) -> String {
    let words = words
        .chars()
        .filter(|c| !c.is_control() && !is_invisible(*c));
    words.take(MAX_REFUSAL).collect()
}

fn connect_failed(reason: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        code: ChannelOpenFailure::ConnectFailed.code(),
        reason: reason.to_owned(),
    }
}

/// How a stream is answered; russh's own type has no `Debug`.
struct Reply(ChannelOpenHandle);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

/// How many refusals are kept for whoever asks, and how many characters of each.
pub(super) const REFUSALS: usize = 4;
const MAX_REFUSAL: usize = 200;
