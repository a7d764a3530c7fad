//! What a session has asked for before it begins.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use russh::server::Msg;
use russh::{Channel, ChannelId};
use tokio::sync::OwnedSemaphorePermit;

use crate::environment::Variables;
use crate::limits::{COMMAND, REQUESTS, REQUESTS_SIZE};
use crate::process::Program;
use crate::terminal::Wanted;

/// A session that has not begun, and its place among its connection's.
pub(super) struct Asked {
    pub(super) channel: Channel<Msg>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) terminal: Option<Wanted>,
    pub(super) variables: Variables,
    requests: Tally,
}

/// Counts requests, and what they hold: russh keeps each until somebody reads the channel.
#[derive(Debug, Default)]
pub(super) struct Tally {
    count: usize,
    size: usize,
}

impl Asked {
    pub(super) fn new(channel: Channel<Msg>, place: OwnedSemaphorePermit) -> Self {
        Self {
            channel,
            place,
            terminal: None,
            variables: Variables::default(),
            requests: Tally::default(),
        }
    }

    pub(super) fn id(&self) -> ChannelId {
        self.channel.id()
    }

    /// Counts a request of this size, in bytes. Returns whether there may be as many.
    pub(super) fn count(&mut self, size: usize) -> bool {
        self.requests.add(size, REQUESTS)
    }
}

impl Tally {
    /// Counts one of this size, in bytes. Returns whether there are no more than `most`, and not too large.
    pub(super) fn add(&mut self, size: usize, most: usize) -> bool {
        self.count += 1;
        self.size = self.size.saturating_add(size);
        self.count <= most && self.size <= REQUESTS_SIZE
    }
}

/// The command of an exec request; `None` for what no shell could be given.
pub(super) fn command(bytes: &[u8]) -> Option<Program> {
    let fits = bytes.len() <= COMMAND && !bytes.contains(&0);
    fits.then(|| Program::Command(OsString::from_vec(bytes.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded_by_their_number_and_by_what_they_hold() {
        let mut small = Tally::default();
        assert!((0..REQUESTS).all(|_| small.add(0, REQUESTS)));
        assert!(!small.add(0, REQUESTS));
        let mut large = Tally::default();
        assert!(large.add(REQUESTS_SIZE, REQUESTS));
        assert!(!large.add(1, REQUESTS));
    }

    #[test]
    fn a_command_is_any_bytes_that_a_program_can_be_given() {
        let bytes = b"echo \xff";
        let expected = OsString::from_vec(bytes.to_vec());
        assert_eq!(command(bytes), Some(Program::Command(expected)));
        assert_eq!(command(b"a\0b"), None);
        assert!(command(&vec![b'x'; COMMAND]).is_some());
        assert_eq!(command(&vec![b'x'; COMMAND + 1]), None);
    }
}
