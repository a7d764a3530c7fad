//! When a connection may be read, and how much its peer is granted. Pure: time comes from the caller.

use std::time::Duration;

use tokio::time::Instant;

use super::{ABSORB, HARD_CAP, IN_HI, IN_LO, OWN_IN_HI, OWN_IN_LO};
use crate::ssh::{FIRST_WINDOW, OWN_WINDOW, PeerKind};

/// What has come in and was not yet written on, and what follows from it for reading.
#[derive(Debug)]
pub(super) struct Gate {
    kind: PeerKind,
    unconsumed: usize,
    shut: bool,
    writers: usize,
    blocked_since: Option<Instant>,
    probe_delay: Duration,
    not_before: Option<Instant>,
    /// How many uses of a small grant were read early for the writer that waits now.
    hurried: u8,
}

/// Whether the socket may be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Read,
    /// Not until this time, or until something is consumed, or a writer begins.
    Wait(Option<Instant>),
    /// Never again: the peer sent more than it was granted.
    TooMuch,
}

impl Gate {
    pub(super) fn new(kind: PeerKind) -> Self {
        Self {
            kind,
            unconsumed: 0,
            shut: false,
            writers: 0,
            blocked_since: None,
            probe_delay: FIRST_PROBE_DELAY,
            not_before: None,
            hurried: 0,
        }
    }

    pub(super) fn kind(&self) -> PeerKind {
        self.kind
    }

    pub(super) fn set_kind(&mut self, kind: PeerKind) {
        self.kind = kind;
        // The marks of the other kind.
        self.settle();
    }

    /// Whether the peer's messages are left unread, its pings among them.
    pub(super) fn is_paused(&self) -> bool {
        self.shut && self.kind == PeerKind::Own
    }

    pub(super) fn unconsumed(&self) -> usize {
        self.unconsumed
    }

    /// A message of `len` bytes, which costs `cost`, was handed to one of so many channels.
    pub(super) fn received(&mut self, len: usize, cost: usize, streams: usize, now: Instant) {
        self.unconsumed = self.unconsumed.saturating_add(cost);
        self.settle();
        if self.shut && self.kind == PeerKind::Foreign && len <= PROBE {
            if streams > 1 {
                // Its neighbours wait for the same reads.
                self.probe_delay = FIRST_PROBE_DELAY;
            }
            if self.hurries_from().is_some_and(|then| now >= then) {
                self.hurried += 1;
            }
            self.not_before = Some(now + self.probe_delay);
            self.probe_delay = (self.probe_delay * 2).min(MAX_PROBE_DELAY);
        }
    }

    /// So much was written on or thrown away. Returns whether a waiting reader should look again.
    pub(super) fn consumed(&mut self, cost: usize) -> bool {
        let was_shut = self.shut;
        self.unconsumed = self.unconsumed.saturating_sub(cost);
        self.settle();
        was_shut
            && (!self.shut
                || self.unconsumed <= OWN_IN_HI.saturating_add(ABSORB)
                    && self.blocked_since.is_some())
    }

    /// A task begins to write to this connection. Returns whether a waiting reader should look again.
    pub(super) fn writer_begins(&mut self, now: Instant) -> bool {
        self.writers += 1;
        let first = self.blocked_since.is_none();
        if first {
            self.blocked_since = Some(now);
        }
        first && self.shut
    }

    /// A task got its message written, or gave up.
    pub(super) fn writer_ends(&mut self, now: Instant) {
        self.writers = self.writers.saturating_sub(1);
        self.blocked_since = (self.writers > 0).then_some(now);
        self.hurried = 0;
    }

    pub(super) fn may_read(&mut self, now: Instant) -> Verdict {
        self.settle();
        if self.unconsumed > HARD_CAP {
            return Verdict::TooMuch;
        }
        if !self.shut {
            return Verdict::Read;
        }
        match self.kind {
            PeerKind::Own => self.may_absorb(now),
            PeerKind::Foreign => {
                let pause = self.not_before;
                let then =
                    pause.map(|pause| self.hurries_from().map_or(pause, |from| from.min(pause)));
                match then {
                    Some(then) if now < then => Verdict::Wait(Some(then)),
                    Some(_) | None => Verdict::Read,
                }
            }
        }
    }

    /// The window that the peer is granted next, with so many streams on the connection.
    pub(super) fn window(&self, streams: usize) -> u32 {
        match (self.kind, self.shut) {
            (PeerKind::Own, _) => OWN_WINDOW,
            (PeerKind::Foreign, true) => SHUT_WINDOW,
            (PeerKind::Foreign, false) => {
                let share = u32::try_from(streams.max(1)).map_or(1, |n| SHARED_WINDOW / n);
                share.clamp(FIRST_WINDOW / 4, FULL_WINDOW)
            }
        }
    }

    /// Behind the data there may be the very credit or key exchange answer that a waiting writer needs.
    fn may_absorb(&self, now: Instant) -> Verdict {
        if self.unconsumed > OWN_IN_HI.saturating_add(ABSORB) {
            return Verdict::Wait(None);
        }
        match self.blocked_since.map(|since| since + PATIENCE) {
            Some(then) if now < then => Verdict::Wait(Some(then)),
            Some(_) => Verdict::Read,
            None => Verdict::Wait(None),
        }
    }

    /// From when on a pause is cut short for the writer that waits: what it waits for comes in behind a few uses of grants
    /// at most. Without it, a peer that sends what nobody takes would receive one window a second.
    fn hurries_from(&self) -> Option<Instant> {
        let since = self.blocked_since.filter(|_| self.hurried < HURRIED);
        since.map(|since| since + PATIENCE)
    }

    fn settle(&mut self) {
        let (high, low) = match self.kind {
            PeerKind::Own => (OWN_IN_HI, OWN_IN_LO),
            PeerKind::Foreign => (IN_HI, IN_LO),
        };
        if self.unconsumed > high {
            self.shut = true;
        } else if self.unconsumed <= low {
            self.shut = false;
            self.probe_delay = FIRST_PROBE_DELAY;
            self.not_before = None;
        }
    }
}

/// How long a writer waits before a paused connection is read for its sake: longer than any round of the local tasks.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a foreign peer is granted while it is shut, in bytes: the smallest target for which russh still sends grants,
/// so window adjustments, end of file and key exchange keep coming through.
const SHUT_WINDOW: u32 = 2;

/// A message no larger than this, while shut, is the use of such a grant.
const PROBE: usize = SHUT_WINDOW as usize;

/// The pause after each such message. A stream that has its connection to itself comes down to one packet a second by
/// doubling. One among others costs fifty, until it is given up, since each pause also holds up the others.
const FIRST_PROBE_DELAY: Duration = Duration::from_millis(20);
const MAX_PROBE_DELAY: Duration = Duration::from_secs(1);

/// So many uses of a grant are read early for one writer: two can be on their way, since each is granted when the one before
/// has come. A writer whose peer takes nothing either must not have them read as fast as they come.
const HURRIED: u8 = 4;

/// The window of a foreign stream that has its connection to itself, in bytes: 20 MB/s at a round trip of 100 ms.
const FULL_WINDOW: u32 = 2 * 1024 * 1024;

/// What all streams of a foreign connection are granted together once they are many, in bytes: with [`IN_HI`] and the
/// overhead of messages it stays below [`HARD_CAP`], as long as these have 256 bytes and more on average.
const SHARED_WINDOW: u32 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MESSAGE_COST;
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn an_own_peer_is_paused_between_the_marks() {
        let (mut gate, now) = (Gate::new(PeerKind::Own), Instant::now());
        gate.received(OWN_IN_HI, OWN_IN_HI, 1, now);
        assert_eq!(gate.may_read(now), Verdict::Read);
        gate.received(1, 1, 1, now);
        assert_eq!(gate.may_read(now), Verdict::Wait(None));
        assert!(
            !gate.consumed(OWN_IN_HI - OWN_IN_LO),
            "still one above the low mark"
        );
        assert_eq!(gate.may_read(now), Verdict::Wait(None));
        assert!(gate.consumed(1));
        assert_eq!(gate.may_read(now), Verdict::Read);
        assert_eq!(gate.window(1), OWN_WINDOW);
    }

    #[test]
    fn a_writer_that_waits_lets_a_bounded_amount_in() {
        let (mut gate, start) = (Gate::new(PeerKind::Own), Instant::now());
        gate.received(OWN_IN_HI + 1, OWN_IN_HI + 1, 1, start);
        assert!(gate.writer_begins(start), "the reader has to set its timer");
        assert_eq!(gate.may_read(start), Verdict::Wait(Some(start + PATIENCE)));
        assert_eq!(gate.may_read(start + PATIENCE), Verdict::Read);
        gate.received(ABSORB, ABSORB, 1, start);
        assert_eq!(gate.may_read(start + PATIENCE), Verdict::Wait(None));
        gate.writer_ends(start);
        gate.consumed(ABSORB);
        assert_eq!(gate.may_read(start + PATIENCE), Verdict::Wait(None));
    }

    #[test]
    fn a_foreign_peer_is_read_on_with_small_grants_and_growing_pauses() {
        let (mut gate, now) = (Gate::new(PeerKind::Foreign), Instant::now());
        assert_eq!(gate.window(1), FULL_WINDOW);
        gate.received(IN_HI + 1, IN_HI + 1, 1, now);
        assert_eq!(
            (gate.may_read(now), gate.window(1)),
            (Verdict::Read, SHUT_WINDOW)
        );
        gate.received(2, 130, 1, now);
        assert_eq!(gate.may_read(now), Verdict::Wait(Some(now + ms(20))));
        assert_eq!(gate.may_read(now + ms(20)), Verdict::Read);
        for _ in 0..10 {
            gate.received(2, 130, 1, now);
        }
        assert_eq!(
            gate.may_read(now),
            Verdict::Wait(Some(now + MAX_PROBE_DELAY))
        );
        gate.received(2, 130, 2, now);
        assert_eq!(
            gate.may_read(now),
            Verdict::Wait(Some(now + ms(20))),
            "neighbours"
        );
        assert!(gate.consumed(IN_HI));
        assert_eq!(
            (gate.may_read(now), gate.window(1)),
            (Verdict::Read, FULL_WINDOW)
        );
    }

    #[test]
    fn a_pause_is_cut_short_for_a_writer_and_not_for_ever() {
        let (mut gate, start) = (Gate::new(PeerKind::Foreign), Instant::now());
        gate.received(IN_HI + 1, IN_HI + 1, 1, start);
        for _ in 0..10 {
            gate.received(2, 130, 1, start);
        }
        let slow = Verdict::Wait(Some(start + MAX_PROBE_DELAY));
        assert_eq!(gate.may_read(start), slow);
        for _ in 0..3 {
            assert!(gate.writer_begins(start), "the reader has to set its timer");
            let soon = start + PATIENCE;
            assert_eq!(gate.may_read(start), Verdict::Wait(Some(soon)));
            for _ in 0..HURRIED {
                assert_eq!(gate.may_read(soon), Verdict::Read);
                gate.received(2, 130, 1, soon);
            }
            assert_eq!(
                gate.may_read(soon),
                Verdict::Wait(Some(soon + MAX_PROBE_DELAY)),
                "what it waits for does not come"
            );
            gate.writer_ends(start);
        }
    }

    #[test]
    fn foreign_streams_within_their_grants_stay_below_the_cap() {
        let gate = Gate::new(PeerKind::Foreign);
        // One after the other opens, and each keeps the largest grant that it ever got, and uses it all.
        let granted = |streams: usize, message: u64| -> u64 {
            let each = (1..=streams).map(|streams| u64::from(gate.window(streams)));
            each.map(|window| window.div_ceil(message) * (message + MESSAGE_COST as u64))
                .sum()
        };
        let room = (HARD_CAP - IN_HI) as u64;
        assert!(granted(128, 256) <= room, "{}", granted(128, 256));
        assert!(
            granted(1, 8) <= room,
            "a terminal has less: {}",
            granted(1, 8)
        );
        // The text of the cap says that such a peer can meet it.
        assert!(granted(128, 64) > room && granted(1, 1) > room);
    }

    proptest! {
        #[test]
        fn more_than_the_cap_is_never_read_on(sizes in prop::collection::vec(0usize..8_000_000, 1..40), own: bool) {
            let kind = if own { PeerKind::Own } else { PeerKind::Foreign };
            let (mut gate, now) = (Gate::new(kind), Instant::now());
            for size in sizes {
                gate.received(size, size, 1, now);
                if gate.unconsumed() > HARD_CAP {
                    prop_assert_eq!(gate.may_read(now), Verdict::TooMuch);
                }
            }
            gate.consumed(usize::MAX);
            prop_assert_eq!((gate.unconsumed(), gate.may_read(now)), (0, Verdict::Read));
        }
    }
}
