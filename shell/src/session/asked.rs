//! What a session has asked for before it begins.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use russh::server::Msg;
use russh::{Channel, ChannelId};
use tokio::sync::OwnedSemaphorePermit;

use crate::environment::Variables;
use crate::limits::{COMMAND, REQUESTS};
use crate::process::Program;
use crate::terminal::Wanted;

/// A session that has not begun, and its place among its connection's.
pub(super) struct Asked {
    pub(super) channel: Channel<Msg>,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) terminal: Option<Wanted>,
    pub(super) variables: Variables,
    requests: usize,
}

impl Asked {
    pub(super) fn new(channel: Channel<Msg>, place: OwnedSemaphorePermit) -> Self {
        Self {
            channel,
            place,
            terminal: None,
            variables: Variables::default(),
            requests: 0,
        }
    }

    pub(super) fn id(&self) -> ChannelId {
        self.channel.id()
    }

    /// Counts a request. Returns whether there may be as many.
    pub(super) fn count(&mut self) -> bool {
        self.requests += 1;
        self.requests <= REQUESTS
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
    fn a_command_is_any_bytes_that_a_program_can_be_given() {
        let bytes = b"echo \xff";
        let expected = OsString::from_vec(bytes.to_vec());
        assert_eq!(command(bytes), Some(Program::Command(expected)));
        assert_eq!(command(b"a\0b"), None);
        assert!(command(&vec![b'x'; COMMAND]).is_some());
        assert_eq!(command(&vec![b'x'; COMMAND + 1]), None);
    }
}
