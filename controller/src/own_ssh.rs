//! An ssh client of our own, for computers without one: a command or a login, and nothing else.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use daemon::flow::Flow;
use daemon::splice::{self, ChannelEnd, SpliceLimits};
use daemon::ssh::{PeerKind, client_config};
use protocol::DeviceId;
use russh::client::{self, DisconnectReason, Msg};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::raw_terminal::RawTerminal;

/// What a session is to be.
#[derive(Debug)]
pub struct OwnSsh {
    /// The device.
    pub device: DeviceId,
    /// The user there.
    pub user: String,
    /// The key to log in with.
    pub key: Arc<PrivateKey>,
    /// The device's host keys: no other is accepted.
    pub known: Vec<PublicKey>,
    /// What to run there; nothing for a shell.
    pub command: Vec<OsString>,
}

/// Why there was no session, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OwnSshError {
    /// Nobody has said what the device's host key is.
    #[error("the host key of `{device}` is not known")]
    Unknown {
        /// The device.
        device: DeviceId,
    },
    /// The two ends within this program cannot be set up.
    #[error("cannot run an ssh client within this program")]
    Local(#[source] io::Error),
    /// There is no ssh at the other end, or not the right one, or it does not answer.
    #[error("the ssh handshake with `{device}` failed")]
    Handshake {
        /// The device.
        device: DeviceId,
        /// Why.
        #[source]
        source: russh::Error,
    },
    /// It takes too long.
    #[error("the ssh server of `{device}` did not answer within {limit:?}")]
    TimedOut {
        /// The device.
        device: DeviceId,
        /// What was allowed.
        limit: Duration,
    },
    /// The key is not permitted there.
    #[error("`{device}` refuses our key for user `{user}`")]
    Refused {
        /// The device.
        device: DeviceId,
        /// The user.
        user: String,
    },
    /// It ended the connection, and said why.
    #[error("`{device}` ends the connection: {reason}")]
    Dismissed {
        /// The device.
        device: DeviceId,
        /// In its words.
        reason: String,
    },
    /// The session ended without a result.
    #[error("the session with `{device}` was lost")]
    Lost {
        /// The device.
        device: DeviceId,
    },
}

impl OwnSshError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { .. } => Some(
                "without `ssh` nobody can be asked about it: install OpenSSH's client (`openssh-client` on Debian and Ubuntu)",
            ),
            Self::Refused { .. } => Some(
                "the remote computer's list of permitted keys does not have this controller's: there, `tunnel agent sync-keys` brings it",
            ),
            Self::Handshake { .. } => Some(
                "what serves `ssh` there may be no SSH server, or have another host key: `tunnel doctor DEVICE` looks",
            ),
            Self::TimedOut { .. } => {
                Some("sshd there hangs, or is overloaded: `tunnel doctor DEVICE` looks")
            }
            Self::Lost { .. } => {
                Some("the device, its network or the proxy went away: connect again")
            }
            // The device's own words.
            Self::Local(_) | Self::Dismissed { .. } => None,
        }
    }
}

impl OwnSsh {
    /// Runs the session over the stream, with our standard input, output and error, and returns the remote command's exit
    /// code; 255 when a signal ended it. `on_login` is called when the login is over, one way or the other.
    pub async fn run(
        self,
        stream: ChannelEnd<Msg>,
        on_login: impl FnOnce(),
    ) -> Result<u8, OwnSshError> {
        if self.known.is_empty() {
            let device = self.device;
            return Err(OwnSshError::Unknown { device });
        }
        let (mut near, far) = UnixStream::pair().map_err(OwnSshError::Local)?;
        let carrying = async move {
            let (mut reader, mut writer) = near.split();
            splice::local(stream, &mut reader, &mut writer, SpliceLimits::default()).await;
        };
        let (mut carrying, mut talking) = (Box::pin(carrying), Box::pin(self.talk(far, on_login)));
        let mut is_carried = true;
        loop {
            tokio::select! {
                code = &mut talking => return code,
                () = &mut carrying, if is_carried => is_carried = false,
            }
        }
    }

    async fn talk(self, socket: UnixStream, on_login: impl FnOnce()) -> Result<u8, OwnSshError> {
        let (farewell, mut last_words) = mpsc::channel(1);
        let logged_in = timeout(LOGIN, self.log_in(socket, farewell)).await;
        on_login();
        let (handle, flow) = match logged_in {
            Ok(result) => result?,
            Err(_) => {
                return Err(OwnSshError::TimedOut {
                    device: self.device,
                    limit: LOGIN,
                });
            }
        };
        let code = match self.begin(&handle).await {
            Ok((channel, terminal)) => attend(channel, &flow, terminal).await,
            Err(_) => None,
        };
        match (code, last_words.try_recv()) {
            (Some(code), _) => Ok(code),
            (None, Ok(reason)) => Err(OwnSshError::Dismissed {
                device: self.device,
                reason,
            }),
            (None, Err(_)) => Err(OwnSshError::Lost {
                device: self.device,
            }),
        }
    }

    async fn log_in(
        &self,
        socket: UnixStream,
        farewell: mpsc::Sender<String>,
    ) -> Result<(client::Handle<Peer>, Flow), OwnSshError> {
        let failed = |source| OwnSshError::Handshake {
            device: self.device.clone(),
            source,
        };
        let (stream, flow) = Flow::over_local(socket).map_err(OwnSshError::Local)?;
        // Whoever it is: only the stream slows a server down, since russh's client ignores what `adjust_window` says.
        flow.set_kind(PeerKind::Own);
        let peer = Peer {
            flow: flow.clone(),
            known: self.known.clone(),
            farewell,
        };
        let connecting = client::connect_stream(client_config(&self.known), stream, peer);
        let mut handle = connecting.await.map_err(failed)?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), Some(HashAlg::Sha512));
        let result = handle.authenticate_publickey(&self.user, key).await;
        if !result.map_err(failed)?.success() {
            return Err(OwnSshError::Refused {
                device: self.device.clone(),
                user: self.user.clone(),
            });
        }
        Ok((handle, flow))
    }

    /// Opens the session, with a terminal for a login at one.
    async fn begin(
        &self,
        handle: &client::Handle<Peer>,
    ) -> Result<(Channel<Msg>, Option<RawTerminal>), russh::Error> {
        let channel = handle.channel_open_session().await?;
        let mut words = self.command.iter();
        let Some(first) = words.next() else {
            let terminal = RawTerminal::take();
            if terminal.is_some() {
                let name = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
                let (columns, rows) = RawTerminal::size();
                channel
                    .request_pty(false, &name, columns, rows, 0, 0, &[])
                    .await?;
            }
            channel.request_shell(false).await?;
            return Ok((channel, terminal));
        };
        // As ssh does it: the words with a space between them, for the shell there.
        let mut line = first.clone();
        for word in words {
            line.push(" ");
            line.push(word);
        }
        channel.exec(false, line.into_vec()).await?;
        Ok((channel, None))
    }
}

/// Joins the session with standard input, output and error. `None` if it is lost.
async fn attend(channel: Channel<Msg>, flow: &Flow, terminal: Option<RawTerminal>) -> Option<u8> {
    let (mut read, write) = channel.split();
    let mut sending = Box::pin(send(&write, flow, terminal.is_some()));
    let mut receiving = Box::pin(receive(&mut read, flow, write.id()));
    let mut sends = true;
    let code = loop {
        tokio::select! {
            code = &mut receiving => break code,
            () = &mut sending, if sends => sends = false,
        }
    };
    // The terminal is the person's again before anything else is said on it.
    drop(terminal);
    code
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "answers that mean nothing here"
)]
async fn receive(read: &mut ChannelReadHalf, flow: &Flow, id: ChannelId) -> Option<u8> {
    let (mut output, mut errors) = (tokio::io::stdout(), tokio::io::stderr());
    let mut code = None;
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                show(&mut output, &data).await;
                flow.consumed(id, data.len());
            }
            ChannelMsg::ExtendedData { data, .. } => {
                show(&mut errors, &data).await;
                flow.consumed(id, data.len());
            }
            ChannelMsg::ExitStatus { exit_status } => {
                code = Some(u8::try_from(exit_status).unwrap_or(u8::MAX));
            }
            ChannelMsg::ExitSignal { .. } => code = Some(u8::MAX),
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    code
}

/// What is typed, and the sizes of the terminal in which it is.
async fn send(write: &ChannelWriteHalf<Msg>, flow: &Flow, at_terminal: bool) {
    let (mut input, mut typed) = (tokio::io::stdin(), BytesMut::new());
    let mut resized = signal(SignalKind::window_change())
        .ok()
        .filter(|_| at_terminal);
    loop {
        typed.reserve(CHUNK);
        tokio::select! {
            count = input.read_buf(&mut typed) => {
                if !matches!(count, Ok(1..)) {
                    // Whoever is gone needs not be told.
                    let _ = write.eof().await;
                    return;
                }
                flow.wait_writable().await;
                if write.data_bytes(typed.split().freeze()).await.is_err() {
                    return;
                }
            }
            Some(()) = next(resized.as_mut()) => {
                let (columns, rows) = RawTerminal::size();
                let _ = write.window_change(columns, rows, 0, 0).await;
            }
        }
    }
}

async fn next(signal: Option<&mut Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// A reader that has gone misses it.
async fn show(to: &mut (impl AsyncWrite + Unpin), data: &[u8]) {
    if to.write_all(data).await.is_ok() {
        let _ = to.flush().await;
    }
}

/// russh's callbacks for the connection.
struct Peer {
    flow: Flow,
    known: Vec<PublicKey>,
    farewell: mpsc::Sender<String>,
}

impl client::Handler for Peer {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(match presented {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                let mut known = self.known.iter();
                known.any(|known| known.key_data() == key.key_data())
            }
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<russh::Error>,
    ) -> Result<(), russh::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let words = info.message.chars().filter(|sign| !sign.is_control());
                let words = words.take(MAX_WORDS).collect();
                // There is one, and if nobody asks, nobody wants to know.
                let _ = self.farewell.try_send(words);
                Ok(())
            }
            DisconnectReason::Error(error) => Err(error),
        }
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _max_packet_size: u32,
        _window_size: u32,
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.flow.open(id);
        Ok(())
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.flow.received(channel, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _code: u32,
        data: &[u8],
        _session: &mut client::Session,
    ) -> Result<(), russh::Error> {
        self.flow.received(channel, data.len());
        Ok(())
    }
}

/// The deadline of the whole login at the device.
const LOGIN: Duration = Duration::from_secs(30);

/// What is read from standard input at once, in bytes: what one packet of OpenSSH holds.
const CHUNK: usize = 32 * 1024;

/// How much of the other side's last words is shown, in characters.
const MAX_WORDS: usize = 256;
