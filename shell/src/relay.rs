//! A session at work: what comes from its channel goes to its process, and what the process says goes back.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use daemon::flow::Flow;
use daemon::ssh::PeerKind;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits::{CHUNK, CLOSED_CHANNELS, GOODBYE};
use crate::process::{Leader, Process, Streams, name_of, signal_of};
use crate::terminal::{Size, Terminal};

/// A session's channel and what it runs.
pub(crate) struct Relay {
    pub(crate) channel: Channel<Msg>,
    pub(crate) flow: Flow,
    pub(crate) handle: Handle,
    pub(crate) process: Process,
    pub(crate) streams: Streams,
    /// How long it may leave its input unread, while others of its connection wait behind it.
    pub(crate) stall: Duration,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    /// Its process has, and all that it said is sent.
    Exited(ExitStatus),
    /// Its client has gone.
    Left,
    /// It read nothing for too long, and others waited behind it.
    Stalled,
    /// The connection is ended from this side.
    Stopped,
    /// It cannot be waited for, or a channel takes nothing more.
    Failed,
}

impl Relay {
    /// Serves the session to its end. Whatever the end is, the process does not outlive it unless it means to.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self {
            channel,
            flow,
            handle,
            mut process,
            streams,
            stall,
        } = self;
        let id = channel.id();
        let _counted = Counted(&flow, id);
        let (mut read, write) = channel.split();
        let Streams {
            input,
            output,
            errors,
            terminal,
        } = streams;
        let mut inbox = Inbox {
            id,
            flow: &flow,
            leader: process.leader(),
            terminal,
            input: Some(input),
            waiting: VecDeque::new(),
            ended: false,
            partly: 0,
            since: None,
            stall,
        };
        let outputs = async {
            let errors = async {
                match errors {
                    Some(errors) => carry(errors, &write, &flow, Some(STDERR)).await,
                    None => Ok(()),
                }
            };
            tokio::try_join!(carry(output, &write, &flow, None), errors)
        };
        let exited = async {
            match tokio::join!(process.ended(), outputs) {
                (Ok(status), Ok(_)) => End::Exited(status),
                (Err(_), _) | (_, Err(_)) => End::Failed,
            }
        };
        let end = tokio::select! {
            biased;
            () = flow.dead() => End::Left,
            () = stop.cancelled() => End::Stopped,
            end = inbox.attend(&mut read) => end,
            end = exited => end,
        };
        drop(process);
        tracing::debug!(?id, ?end, "a session has ended");
        farewell(&handle, &flow, id, &end).await;
    }
}

/// What has come from the channel and was not taken yet. The flow bounds it.
struct Inbox<'a> {
    id: ChannelId,
    flow: &'a Flow,
    leader: Leader,
    terminal: Option<Terminal>,
    /// `None` when the process has been told the end, or takes nothing more.
    input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    waiting: VecDeque<Bytes>,
    /// How much of the first was taken.
    partly: usize,
    ended: bool,
    /// Since when nothing was taken, or it was last seen that nobody else minds.
    since: Option<Instant>,
    stall: Duration,
}

impl Inbox<'_> {
    /// Looks at every message as it comes, also behind data that nobody takes: a signal or a close must not wait for it.
    async fn attend(&mut self, read: &mut ChannelReadHalf) -> End {
        loop {
            if self.waiting.is_empty() && self.ended {
                // A pipe is closed by it; a terminal is not.
                self.input = None;
            }
            let stalled = self.since.map(|since| since + self.stall);
            tokio::select! {
                biased;
                message = read.wait() => match message {
                    Some(ChannelMsg::Close) | None => return End::Left,
                    Some(message) => self.take(message),
                },
                written = write(self.input.as_mut(), self.waiting.front()) => self.written(written.ok()),
                () = sleep_until(stalled.unwrap_or_else(Instant::now)), if stalled.is_some() => {
                    if self.starves_others() {
                        return End::Stalled;
                    }
                    // Others may come, of whom nobody here would be told.
                    self.since = Some(Instant::now());
                }
            }
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what was asked for before the session began, and answers that mean nothing here"
    )]
    fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } if self.input.is_some() && !self.ended => {
                if data.is_empty() {
                    return self.flow.consumed(self.id, 0);
                }
                self.waiting.push_back(data);
                self.since.get_or_insert_with(Instant::now);
            }
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                self.flow.consumed(self.id, data.len());
            }
            ChannelMsg::Eof => self.ended = true,
            ChannelMsg::Signal { signal } => {
                if let Some(signal) = signal_of(&signal) {
                    self.leader.signal(signal);
                }
            }
            ChannelMsg::WindowChange {
                col_width,
                row_height,
                pix_width,
                pix_height,
            } => {
                if let Some(terminal) = &self.terminal {
                    terminal.resize(Size::new(col_width, row_height, pix_width, pix_height));
                }
            }
            _ => {}
        }
    }

    fn written(&mut self, written: Option<usize>) {
        let Some(count @ 1..) = written else {
            // It takes nothing more, and may still have something to say.
            self.input = None;
            self.since = None;
            for data in self.waiting.drain(..) {
                self.flow.consumed(self.id, data.len());
            }
            return;
        };
        let Some(front) = self.waiting.front_mut() else {
            return;
        };
        front.advance(count.min(front.len()));
        self.partly += count;
        if front.is_empty() {
            self.waiting.pop_front();
            self.flow
                .consumed(self.id, std::mem::take(&mut self.partly));
        }
        self.since = (!self.waiting.is_empty()).then(Instant::now);
    }

    fn starves_others(&self) -> bool {
        self.flow.kind() == PeerKind::Foreign && self.flow.streams() > 1
    }
}

/// A channel that is counted until it has ended.
struct Counted<'a>(&'a Flow, ChannelId);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.close(self.1);
    }
}

/// Writes some of it; waits for ever when there is nothing to write, or nobody to write to.
async fn write(
    input: Option<&mut Box<dyn AsyncWrite + Send + Unpin>>,
    data: Option<&Bytes>,
) -> std::io::Result<usize> {
    match input.zip(data) {
        Some((input, data)) => input.write(data).await,
        None => std::future::pending().await,
    }
}

/// Carries one output of the process into the channel, as fast as its client reads and no faster.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    to: &ChannelWriteHalf<Msg>,
    flow: &Flow,
    kind: Option<u32>,
) -> Result<(), russh::Error> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        // A reader that fails has said all that it had to say.
        if !matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
            return Ok(());
        }
        let data = buffer.split().freeze();
        let _writing = flow.writing();
        flow.wait_writable().await;
        match kind {
            None => to.data_bytes(data).await?,
            Some(kind) => to.extended_data_bytes(kind, data).await?,
        }
    }
}

/// Says how it ended, as far as somebody listens.
async fn farewell(handle: &Handle, flow: &Flow, id: ChannelId, end: &End) {
    let parting = async {
        match end {
            End::Exited(status) => tell(handle, id, *status).await,
            End::Left => return Ok(()),
            End::Stalled | End::Stopped | End::Failed => {}
        }
        handle.eof(id).await?;
        handle.close(id).await
    };
    // A full queue to the session's loop means that the connection is about to be cut for it.
    let _ = timeout(GOODBYE, parting).await;
    if !matches!(end, End::Left) {
        flow.closed_by_force();
        if flow.forced_closes() >= CLOSED_CHANNELS && flow.streams() <= 1 {
            flow.cut("too many channels were closed in it");
        }
    }
}

async fn tell(handle: &Handle, id: ChannelId, status: ExitStatus) {
    let told = match (status.code(), status.signal()) {
        (Some(code), _) => {
            let code = u32::try_from(code).unwrap_or(u32::MAX);
            handle.exit_status_request(id, code).await
        }
        (None, Some(signal)) => {
            let (name, core) = (name_of(signal), status.core_dumped());
            let (message, language) = (String::new(), String::new());
            handle
                .exit_signal_request(id, name, core, message, language)
                .await
        }
        (None, None) => Ok(()),
    };
    if told.is_err() {
        tracing::debug!(?id, "nobody could be told how a session ended");
    }
}

/// RFC 4254, section 5.2.
const STDERR: u32 = 1;
