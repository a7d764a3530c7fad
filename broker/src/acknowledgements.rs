//! PUBACKs that wait for the disk, in the order of their messages (MQTT-4.6.0-2). Pure: the caller has the clock.
//!
//! The link is served meanwhile. Only a client that has sent [`MAX_UNKEPT`] messages without an answer is not read until
//! there is one, and a client that waits for too long is told by the end of its connection, as MQTT 3.1.1 has no other way.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Mark;
use crate::limits::MAX_UNKEPT;

/// What one client is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Acknowledgements {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    pkid: u16,
    /// Durable up to here means that the message is.
    mark: Mark,
    since: Instant,
}

impl Acknowledgements {
    pub(crate) fn push(&mut self, pkid: u16, mark: Mark, now: Instant) {
        self.waiting.push_back(Waiting {
            pkid,
            mark,
            since: now,
        });
    }

    /// The next one that can be sent.
    pub(crate) fn next(&mut self, durable: Mark) -> Option<u16> {
        let next = self.waiting.pop_front_if(|next| next.mark <= durable)?;
        if self.waiting.is_empty() {
            // Most connections idle.
            self.waiting.shrink_to_fit();
        }
        Some(next.pkid)
    }

    /// What the next one waits for.
    pub(crate) fn awaited(&self) -> Option<Mark> {
        Some(self.waiting.front()?.mark)
    }

    /// When the next one has waited for this long.
    pub(crate) fn overdue(&self, limit: Duration) -> Option<Instant> {
        Some(self.waiting.front()?.since + limit)
    }

    /// Whether another message may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_UNKEPT
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::journal::Journal;
    use crate::message::{Message, Qos};
    use crate::topic::tests::name;

    /// Two marks of a journal, and the latest that is durable when the first is.
    fn marks() -> (Mark, Mark, Mark) {
        let journal = Journal::new(true, 10);
        let message = Arc::new(Message::new(name("t"), b"1", Qos::AtLeastOnce, true));
        let first = journal.retain(&message);
        journal.written(&journal.take());
        (first, journal.retain(&message), journal.durable())
    }

    #[tokio::test(start_paused = true)]
    async fn they_leave_in_the_order_of_their_messages() {
        let (first, second, durable) = marks();
        let mut acknowledgements = Acknowledgements::default();
        let now = Instant::now();
        assert_eq!(acknowledgements.awaited(), None);
        for (pkid, mark) in [(1, first), (2, second), (3, Mark::default())] {
            acknowledgements.push(pkid, mark, now);
        }
        assert_eq!(acknowledgements.next(Mark::default()), None);
        assert_eq!(acknowledgements.next(durable), Some(1));
        // The third waits for nothing but the second.
        assert_eq!(acknowledgements.next(durable), None);
        assert_eq!(acknowledgements.awaited(), Some(second));
        let limit = Duration::from_secs(1);
        assert_eq!(acknowledgements.overdue(limit), Some(now + limit));
        assert_eq!(acknowledgements.next(second), Some(2));
        assert_eq!(acknowledgements.next(second), Some(3));
        assert_eq!(acknowledgements.overdue(limit), None);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_for_so_many() {
        let (first, _, durable) = marks();
        let mut acknowledgements = Acknowledgements::default();
        for _ in 0..MAX_UNKEPT {
            assert!(acknowledgements.has_room());
            acknowledgements.push(1, first, Instant::now());
        }
        assert!(!acknowledgements.has_room());
        acknowledgements.next(durable);
        assert!(acknowledgements.has_room());
    }
}
