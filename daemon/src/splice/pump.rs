//! One direction of a splice.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Side, SpliceLimits};
use crate::pace::Pace;

/// Where a direction begins.
pub(super) trait Source: Send {
    /// The next event. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Event> + Send;

    /// Looks ahead while a message is being written, so that a close behind it is seen. Cancel-safe; never completes
    /// when there is nothing to look for.
    fn look_ahead(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether the source is known to be gone, behind what it has still to deliver.
    fn gone(&self) -> Option<Gone>;

    /// A message of this length was written on.
    fn consumed(&mut self, len: usize);

    /// Whether others wait for what this source holds.
    fn starves_others(&self) -> bool;
}

/// Where a direction ends.
pub(super) trait Sink: Send {
    /// Writes all of it, and flushes.
    fn send(&mut self, data: Bytes) -> impl Future<Output = io::Result<()>> + Send;

    /// Passes the end of file on.
    fn finish(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// What a source says.
#[derive(Debug)]
pub(super) enum Event {
    Data(Bytes),
    Eof,
    /// The channel was closed.
    Closed,
    /// The connection is gone.
    Lost,
    Failed(io::Error),
}

/// How a source is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    Closed,
    Lost,
}

impl Gone {
    fn stop(self) -> Stop {
        match self {
            Self::Closed => Stop::Closed,
            Self::Lost => Stop::Lost,
        }
    }
}

/// Why a direction stopped.
#[derive(Debug)]
pub(super) enum Stop {
    BothEofs,
    Closed,
    Lost,
    Stalled,
    ReadFailed(io::Error),
    WriteFailed(io::Error),
    /// Nobody is there to write to.
    OtherGone,
}

impl Stop {
    /// Whether the other direction need not be waited for.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Closed | Self::Lost | Self::Stalled | Self::ReadFailed(_) => true,
            Self::BothEofs | Self::WriteFailed(_) | Self::OtherGone => false,
        }
    }
}

/// What both directions keep to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) limits: SpliceLimits,
    pub(super) pace: Option<&'a Pace>,
}

/// What the two directions know of each other.
#[derive(Debug)]
pub(super) struct Ends {
    /// Cancelled when the first side is gone.
    pub(super) first: CancellationToken,
    /// Cancelled when the second side is gone.
    pub(super) second: CancellationToken,
    both_eofs: CancellationToken,
    first_eof: AtomicBool,
    second_eof: AtomicBool,
}

impl Ends {
    pub(super) fn new() -> Self {
        Self {
            first: CancellationToken::new(),
            second: CancellationToken::new(),
            both_eofs: CancellationToken::new(),
            first_eof: AtomicBool::new(false),
            second_eof: AtomicBool::new(false),
        }
    }

    pub(super) fn has_eof(&self, side: Side) -> bool {
        self.eof(side).load(Ordering::Relaxed)
    }

    fn eof(&self, side: Side) -> &AtomicBool {
        match side {
            Side::First => &self.first_eof,
            Side::Second => &self.second_eof,
        }
    }

    fn gone(&self, side: Side) -> &CancellationToken {
        match side {
            Side::First => &self.first,
            Side::Second => &self.second,
        }
    }

    fn eof_passed_on(&self, side: Side) {
        self.eof(side).store(true, Ordering::Relaxed);
        if self.has_eof(Side::First) && self.has_eof(Side::Second) {
            self.both_eofs.cancel();
        }
    }
}

/// Moves everything from a source to a sink, and counts it in `moved`.
pub(super) async fn pump<From: Source, To: Sink>(
    source: &mut From,
    sink: &mut To,
    side: Side,
    ends: &Ends,
    Rules { limits, pace }: Rules<'_>,
    moved: &mut u64,
) -> Stop {
    let other_gone = ends.gone(match side {
        Side::First => Side::Second,
        Side::Second => Side::First,
    });
    loop {
        let event = tokio::select! {
            event = source.next() => event,
            () = other_gone.cancelled() => return Stop::OtherGone,
            () = ends.both_eofs.cancelled() => return Stop::BothEofs,
        };
        // Before the write, whose time is limited: the pace is nobody's fault.
        if let (Some(pace), Event::Data(data)) = (pace, &event) {
            let turn = pace.take(data.len());
            if let Err(stop) = await_turn(source, turn, other_gone, limits).await {
                return stop;
            }
        }
        let (written, len) = match event {
            Event::Data(data) => {
                let len = data.len();
                (
                    deliver(source, sink.send(data), other_gone, limits).await,
                    Some(len),
                )
            }
            Event::Eof => (
                deliver(source, sink.finish(), other_gone, limits).await,
                None,
            ),
            Event::Closed => return Stop::Closed,
            Event::Lost => return Stop::Lost,
            Event::Failed(error) => return Stop::ReadFailed(error),
        };
        if let Err(stop) = written {
            return stop;
        }
        match len {
            Some(len) => {
                source.consumed(len);
                *moved += u64::try_from(len).unwrap_or(u64::MAX);
            }
            None => ends.eof_passed_on(side),
        }
    }
}

/// Waits for a message's turn, which may come after minutes where many keep to one pace. Whoever is gone meanwhile keeps his
/// place and his neighbours' time no longer than for one write.
async fn await_turn<From: Source>(
    source: &mut From,
    turn: impl Future<Output = ()>,
    other_gone: &CancellationToken,
    limits: SpliceLimits,
) -> Result<(), Stop> {
    let mut turn = std::pin::pin!(turn);
    let mut gone_at = source.gone().map(|gone| (gone, Instant::now()));
    loop {
        let limit = gone_at.map(|(_, since)| since + limits.linger);
        tokio::select! {
            biased;
            () = &mut turn => return Ok(()),
            () = other_gone.cancelled() => return Err(Stop::OtherGone),
            () = source.look_ahead(), if gone_at.is_none() => {
                gone_at = source.gone().map(|gone| (gone, Instant::now()));
            }
            () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                return Err(gone_at.map_or(Stop::OtherGone, |(gone, _)| gone.stop()));
            }
        }
    }
}

/// Waits for one write, as long as somebody is there to take it and it moves at all.
async fn deliver<From: Source>(
    source: &mut From,
    write: impl Future<Output = io::Result<()>>,
    other_gone: &CancellationToken,
    limits: SpliceLimits,
) -> Result<(), Stop> {
    let mut write = std::pin::pin!(write);
    let begin = Instant::now();
    let mut gone_since = source.gone().map(|_| begin);
    let mut stall_at = begin + limits.stall;
    loop {
        let limit = gone_since.map_or(stall_at, |since| since + limits.linger);
        tokio::select! {
            biased;
            result = &mut write => return result.map_err(Stop::WriteFailed),
            () = other_gone.cancelled() => return Err(Stop::OtherGone),
            () = source.look_ahead(), if gone_since.is_none() => {
                gone_since = source.gone().map(|_| Instant::now());
            }
            () = sleep_until(limit) => {
                if gone_since.is_some() || source.starves_others() {
                    return Err(Stop::Stalled);
                }
                stall_at = Instant::now() + limits.stall;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says one thing, and is found to be gone as soon as somebody looks.
    struct Leaver {
        says: Option<Bytes>,
        gone: Option<Gone>,
        how: Gone,
    }

    impl Source for Leaver {
        async fn next(&mut self) -> Event {
            match (self.says.take(), self.how) {
                (Some(data), _) => Event::Data(data),
                (None, Gone::Closed) => Event::Closed,
                (None, Gone::Lost) => Event::Lost,
            }
        }

        async fn look_ahead(&mut self) {
            self.gone = Some(self.how);
        }

        fn gone(&self) -> Option<Gone> {
            self.gone
        }

        fn consumed(&mut self, _len: usize) {}

        fn starves_others(&self) -> bool {
            false
        }
    }

    struct Taker;

    impl Sink for Taker {
        async fn send(&mut self, _data: Bytes) -> io::Result<()> {
            Ok(())
        }

        async fn finish(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// How a direction ends, after how long and how many bytes, whose source has gone while others of its pace have booked so
    /// much.
    async fn left_behind(how: Gone, booked: usize) -> (Stop, std::time::Duration, u64) {
        let pace = Pace::new("10 kB/s".parse().unwrap());
        pace.take(booked).await;
        let mut source = Leaver {
            says: Some(Bytes::from_static(b"one")),
            gone: None,
            how,
        };
        let rules = Rules {
            limits: SpliceLimits::default(),
            pace: Some(&pace),
        };
        let (ends, start, mut moved) = (Ends::new(), Instant::now(), 0);
        let stop = pump(
            &mut source,
            &mut Taker,
            Side::First,
            &ends,
            rules,
            &mut moved,
        )
        .await;
        (stop, start.elapsed(), moved)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_while_a_message_waits_for_its_turn_is_seen_and_not_waited_for() {
        let linger = SpliceLimits::default().linger;
        for how in [Gone::Closed, Gone::Lost] {
            // A hundred seconds.
            let (stop, took, moved) = left_behind(how, 1_000_000).await;
            assert!(matches!(
                (how, stop),
                (Gone::Closed, Stop::Closed) | (Gone::Lost, Stop::Lost)
            ));
            assert_eq!((took, moved), (linger, 0));
            // One second: what was said before is delivered.
            let (_, took, moved) = left_behind(how, 10_000).await;
            assert!(took < linger && moved == 3, "{took:?}, {moved} bytes");
        }
    }
}
