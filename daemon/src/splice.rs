//! Joining two ends so that what comes in at one goes out at the other, until it is over.
//!
//! Half-close is kept: one side's end of file is passed on, and the other direction goes on. A splice ends when both
//! sides have sent theirs, or when one side closes or is lost; then what it had already sent is still delivered, as long
//! as it moves. `copy_bidirectional` over russh's `into_stream()` would do none of this: that stream shows a close as an
//! end of file, waits for ever for the window of a channel that is gone, and counts nothing as consumed.

mod channel;
mod pump;
mod raw;

use std::fmt;
use std::io;
use std::time::Duration;

use russh::{ChannelId, ChannelMsg};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

pub use self::channel::ChannelEnd;
use self::pump::{Ends, Rules, Stop, pump};
use self::raw::{RawSink, RawSource};
use crate::pace::Pace;

/// What a channel of either kind of session sends to its loop.
pub trait SessionMessage: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static {}

impl<T: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static> SessionMessage for T {}

/// How patient a splice is.
#[derive(Clone, Copy, Debug)]
pub struct SpliceLimits {
    /// After one side is gone, how long each message that it had sent may take to go out at the other.
    pub linger: Duration,
    /// How long a message may wait when it came from a foreign connection with other streams, which it starves.
    /// A stream that has its connection to itself may wait for ever: a terminal stopped with Ctrl-S is no fault.
    pub stall: Duration,
}

/// One of the two ends of a splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first argument.
    First,
    /// The second argument.
    Second,
}

/// Why a splice ended.
#[derive(Debug)]
pub enum Why {
    /// Both sides sent their end of file: everything was delivered.
    Finished,
    /// This side closed; if the flag is set, after its end of file, so that all it sent was delivered.
    Closed {
        /// Which side.
        side: Side,
        /// Whether it had sent its end of file.
        after_eof: bool,
    },
    /// The connection of this side was lost.
    Lost(Side),
    /// This side took nothing for too long.
    Stalled(Side),
    /// Reading from or writing to this side failed.
    Failed(Side, io::Error),
    /// The caller ended it.
    Cancelled,
}

/// How a splice ended.
#[derive(Debug)]
pub struct Ended {
    /// Bytes written from the first to the second end.
    pub up: u64,
    /// Bytes written from the second to the first end.
    pub down: u64,
    /// The reason.
    pub why: Why,
}

impl Ended {
    /// Whether both directions ended as their senders meant them to.
    pub fn is_clean(&self) -> bool {
        match self.why {
            Why::Finished => true,
            Why::Closed { after_eof, .. } => after_eof,
            Why::Lost(_) | Why::Stalled(_) | Why::Failed(..) | Why::Cancelled => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => write!(f, "finished"),
            Self::Closed {
                side,
                after_eof: true,
            } => write!(f, "closed by the {side} side"),
            Self::Closed {
                side,
                after_eof: false,
            } => {
                write!(f, "closed by the {side} side without end of file")
            }
            Self::Lost(side) => write!(f, "connection of the {side} side lost"),
            Self::Stalled(side) => write!(f, "the {side} side took nothing for too long"),
            Self::Failed(side, error) => write!(f, "the {side} side failed: {error}"),
            Self::Cancelled => write!(f, "ended from this side"),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
        })
    }
}

impl Default for SpliceLimits {
    fn default() -> Self {
        Self {
            linger: LINGER,
            stall: STALL,
        }
    }
}

/// Joins two channels, of two connections: first the one that asked for the stream. Both are closed at the end. With a
/// pace, both directions together keep to it.
pub async fn channels<A: SessionMessage, B: SessionMessage>(
    mut first: ChannelEnd<A>,
    mut second: ChannelEnd<B>,
    limits: SpliceLimits,
    pace: Option<&Pace>,
) -> Ended {
    let ends = Ends::new();
    let (mut up, mut down) = (0, 0);
    let rules = Rules { limits, pace };
    let why = {
        let (mut a, mut to_a) = first.halves(&ends.first);
        let (mut b, mut to_b) = second.halves(&ends.second);
        join(
            pump(&mut a, &mut to_b, Side::First, &ends, rules, &mut up),
            pump(&mut b, &mut to_a, Side::Second, &ends, rules, &mut down),
            &ends,
        )
        .await
    };
    // A side that closes by itself is forgotten by russh; one that we close first leaves some KiB behind for the life of
    // its connection. So an orderly end waits for the others' close, but not long for the first: `ssh -W` waits for ours.
    let (brief, patient) = match &why {
        Why::Finished
        | Why::Closed {
            after_eof: true, ..
        } => (CLOSE_WAIT / 20, CLOSE_WAIT),
        Why::Closed { .. } | Why::Lost(_) | Why::Stalled(_) | Why::Failed(..) | Why::Cancelled => {
            (Duration::ZERO, Duration::ZERO)
        }
    };
    tokio::join!(first.finish(brief), second.finish(patient));
    Ended { up, down, why }
}

/// Joins a channel and a local reader and writer, such as the halves of a socket, or standard input and output. The
/// channel is closed at the end; what becomes of the local end is up to the caller, who may want to reset it when the
/// end was not [clean](Ended::is_clean).
pub async fn local<S, R, W>(
    channel: ChannelEnd<S>,
    reader: &mut R,
    writer: &mut W,
    limits: SpliceLimits,
) -> Ended
where
    S: SessionMessage,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    local_until(channel, reader, writer, limits, std::future::pending()).await
}

/// As [`local`], but when `cancelled` completes the splice ends at once, and the channel is closed without waiting for
/// what was still to be delivered.
pub async fn local_until<S, R, W>(
    mut channel: ChannelEnd<S>,
    reader: &mut R,
    writer: &mut W,
    limits: SpliceLimits,
    cancelled: impl Future<Output = ()>,
) -> Ended
where
    S: SessionMessage,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let ends = Ends::new();
    let (mut up, mut down) = (0, 0);
    let rules = Rules { limits, pace: None };
    let why = {
        let (mut a, mut to_a) = channel.halves(&ends.first);
        let (mut b, mut to_b) = (RawSource::new(reader), RawSink::new(writer));
        let joined = join(
            pump(&mut a, &mut to_b, Side::First, &ends, rules, &mut up),
            pump(&mut b, &mut to_a, Side::Second, &ends, rules, &mut down),
            &ends,
        );
        tokio::select! {
            biased;
            why = joined => why,
            () = cancelled => Why::Cancelled,
        }
    };
    channel.finish(Duration::ZERO).await;
    Ended { up, down, why }
}

/// Runs both directions and tells why the whole is over.
async fn join(
    up: impl Future<Output = Stop>,
    down: impl Future<Output = Stop>,
    ends: &Ends,
) -> Why {
    let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
    let mut stops: [Option<Stop>; 2] = [None, None];
    let mut deadline = None;
    loop {
        let [up_stop, down_stop] = &mut stops;
        tokio::select! {
            stop = &mut up, if up_stop.is_none() => *up_stop = Some(stop),
            stop = &mut down, if down_stop.is_none() => *down_stop = Some(stop),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => break,
        }
        match &stops {
            [Some(_), Some(_)] => break,
            // A write that failed says nothing about what the same end may still have to say; a moment is enough for it.
            [Some(Stop::WriteFailed(_)), None] | [None, Some(Stop::WriteFailed(_))] => {
                deadline.get_or_insert_with(|| Instant::now() + LAST_WORDS);
            }
            [Some(_) | None, None] | [None, Some(_)] => {}
        }
        if stops.iter().flatten().any(Stop::is_final) {
            break;
        }
    }
    let [up, down] = stops;
    verdict(up, down, ends)
}

/// The cause, of up to two stops: a stop that only follows from the other side's end is none, and a failed write often
/// follows from a loss.
fn verdict(up: Option<Stop>, down: Option<Stop>, ends: &Ends) -> Why {
    let mut failed = None;
    for (stop, from, to) in [
        (up, Side::First, Side::Second),
        (down, Side::Second, Side::First),
    ] {
        match stop {
            Some(Stop::Closed) => {
                return Why::Closed {
                    side: from,
                    after_eof: ends.has_eof(from),
                };
            }
            Some(Stop::Lost) => return Why::Lost(from),
            Some(Stop::Stalled) => return Why::Stalled(to),
            Some(Stop::ReadFailed(error)) => return Why::Failed(from, error),
            Some(Stop::WriteFailed(error)) => failed = Some(Why::Failed(to, error)),
            Some(Stop::BothEofs | Stop::OtherGone) | None => {}
        }
    }
    failed.unwrap_or(Why::Finished)
}

impl<S: SessionMessage> ChannelEnd<S> {
    /// Closes the channel if its peer does not do so in time, and throws away what still comes.
    async fn finish(mut self, patience: Duration) {
        let closed = timeout(patience, self.drain()).await.is_ok();
        if !closed {
            // A full queue to the session's loop means that the connection is about to be cut for it.
            let _ = timeout(CLOSE_WAIT, self.close()).await;
            self.flow().closed_by_force();
        }
    }
}

/// See [`SpliceLimits::linger`]: a message has at most 64 KiB, which takes ten seconds at 52 kbit/s. Nobody waits for it who
/// ends in order: such a side sends its end of file, and closes when it has the other's.
const LINGER: Duration = Duration::from_secs(10);

/// See [`SpliceLimits::stall`]: what the neighbours of a stalled stream put up with.
const STALL: Duration = Duration::from_mins(2);

/// How long a peer may take to close a channel whose both directions have ended. The first end gets a twentieth.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How long an end that takes nothing more may still speak.
const LAST_WORDS: Duration = Duration::from_secs(1);
