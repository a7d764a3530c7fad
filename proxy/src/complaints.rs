//! What is logged of the requests that one connection was refused: the first few as they are, the many after them as a number.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts the refusals of one connection, streams and forwards. Clones are about the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<Mutex<Window>>);

impl Complaints {
    /// If this refusal is to be told: how many were not, since the last that was. Whoever asks for what he may not have, as
    /// fast as he can, would otherwise fill the log.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.line(Instant::now())
    }
}

/// As much of a text that a peer has chosen as a line of the log needs. It may have sent a quarter of a megabyte.
pub(crate) fn excerpt(text: &str) -> &str {
    let end = text.floor_char_boundary(EXCERPT);
    text.get(..end).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Window {
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now >= since + LENGTH) {
            (self.since, self.told) = (Some(now), 0);
        }
        if self.told == MOST {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

/// How many lines of one connection there are at most in each window: a device with several services tells of each.
const MOST: u32 = 8;

/// The length of a window: less than a line a second for each connection, however fast it asks.
const LENGTH: Duration = Duration::from_secs(10);

/// How much is quoted, in bytes: more than the longest id of a device within its realm.
const EXCERPT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_and_none_of_the_others_is_forgotten() {
        let (mut window, start) = (Window::default(), Instant::now());
        for _ in 0..MOST {
            assert_eq!(window.line(start), Some(0));
        }
        for _ in 0..100 {
            assert_eq!(window.line(start + LENGTH / 2), None);
        }
        assert_eq!(window.line(start + LENGTH), Some(100));
        assert_eq!(window.line(start + LENGTH), Some(0));
    }

    #[test]
    fn a_long_text_is_cut_where_a_character_ends() {
        assert_eq!(excerpt("333.hula.atlas"), "333.hula.atlas");
        let long = "ä".repeat(1000);
        assert_eq!(excerpt(&long).len(), EXCERPT);
        assert_eq!(excerpt(&format!("x{long}")).len(), EXCERPT - 1);
    }
}
