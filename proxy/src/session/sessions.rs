//! The session channels of one connection: each is told once what this is. Pure counting.

use russh::ChannelId;

/// The session channels that a connection has ever had.
#[derive(Debug, Default)]
pub(super) struct Sessions(Vec<(ChannelId, Told)>);

/// Whether a channel has had its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    NotYet,
    Already,
}

impl Sessions {
    /// How many there were in the connection's life.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn opened(&mut self, channel: ChannelId) {
        self.0.push((channel, Told::NotYet));
    }

    /// Whether this is a session channel that asks for the first time. What is said to a peer that grants no window stays in
    /// memory, and it may ask for ever; and a stream's channel is not ours to end.
    pub(super) fn first_time(&mut self, channel: ChannelId) -> bool {
        let session = self.0.iter_mut().find(|(id, _)| *id == channel);
        session.is_some_and(|(_, told)| std::mem::replace(told, Told::Already) == Told::NotYet)
    }
}
