//! A russh channel as an end of a splice.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio_util::sync::CancellationToken;

use super::SessionMessage;
use super::pump::{Event, Gone, Sink, Source};
use crate::flow::Flow;
use crate::ssh::PeerKind;

/// A channel together with the flow of the connection that it belongs to. Dropping it gives back what it still holds.
#[derive(Debug)]
pub struct ChannelEnd<S: SessionMessage> {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<S>,
    flow: Flow,
    inbox: Inbox,
}

impl<S: SessionMessage> ChannelEnd<S> {
    /// Takes a channel that was announced with [`Flow::open`].
    pub fn new(channel: Channel<S>, flow: Flow) -> Self {
        let (read, write) = channel.split();
        Self {
            read,
            write,
            flow,
            inbox: Inbox::default(),
        }
    }

    /// The flow of its connection.
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Asks the peer to close the channel, whatever was still to be said.
    pub async fn close(&self) {
        // It fails only when the connection is gone, and then the channel is closed.
        let _ = self.write.close().await;
    }

    /// Waits until the peer has closed the channel or is lost, and throws away what it says.
    pub(super) async fn drain(&mut self) {
        let never_seen = CancellationToken::new();
        let (mut source, _) = self.halves(&never_seen);
        while source.inbox.gone.is_none() {
            match source.next().await {
                Event::Data(data) => source.consumed(data.len()),
                Event::Eof | Event::Closed | Event::Lost | Event::Failed(_) => {}
            }
        }
    }

    /// The two directions, for a splice. `token` is cancelled when the peer closes or is lost.
    pub(super) fn halves<'a>(
        &'a mut self,
        token: &'a CancellationToken,
    ) -> (ChannelSource<'a>, ChannelSink<'a, S>) {
        let source = ChannelSource {
            id: self.write.id(),
            read: &mut self.read,
            flow: &self.flow,
            inbox: &mut self.inbox,
            token,
        };
        let sink = ChannelSink {
            write: &self.write,
            flow: &self.flow,
        };
        (source, sink)
    }
}

impl<S: SessionMessage> Drop for ChannelEnd<S> {
    fn drop(&mut self) {
        self.flow.close(self.write.id());
    }
}

/// What comes from a channel. It looks ahead into a queue of its own: a close that stands behind undelivered data would
/// otherwise not be seen before the data is delivered, which may be never. The flow bounds the queue.
#[derive(Debug)]
pub(super) struct ChannelSource<'a> {
    id: ChannelId,
    read: &'a mut ChannelReadHalf,
    flow: &'a Flow,
    inbox: &'a mut Inbox,
    token: &'a CancellationToken,
}

impl ChannelSource<'_> {
    fn take(&mut self, message: Option<ChannelMsg>) {
        match message {
            Some(ChannelMsg::Data { data }) => self.inbox.push(Item::Data(data)),
            Some(ChannelMsg::ExtendedData { data, .. }) => self.flow.consumed(self.id, data.len()),
            Some(ChannelMsg::Eof) => self.inbox.push(Item::Eof),
            Some(ChannelMsg::Close) => self.leave(Gone::Closed),
            None => self.leave(Gone::Lost),
            // Requests and answers that mean nothing for a forwarded stream.
            Some(_) => {}
        }
    }

    fn leave(&mut self, how: Gone) {
        self.inbox.gone.get_or_insert(how);
        self.token.cancel();
    }
}

impl Source for ChannelSource<'_> {
    async fn next(&mut self) -> Event {
        loop {
            match self.inbox.queue.pop_front() {
                Some(Item::Data(data)) => return Event::Data(data),
                Some(Item::Eof) => return Event::Eof,
                None => {}
            }
            match self.inbox.gone {
                Some(Gone::Closed) => return Event::Closed,
                Some(Gone::Lost) => return Event::Lost,
                None => {}
            }
            let message = self.read.wait().await;
            self.take(message);
        }
    }

    async fn look_ahead(&mut self) {
        if self.inbox.gone.is_some() {
            return std::future::pending().await;
        }
        let message = self.read.wait().await;
        self.take(message);
    }

    fn gone(&self) -> Option<Gone> {
        self.inbox.gone
    }

    fn consumed(&mut self, len: usize) {
        self.flow.consumed(self.id, len);
    }

    fn starves_others(&self) -> bool {
        self.flow.kind() == PeerKind::Foreign && self.flow.streams() > 1
    }
}

/// What goes to a channel.
#[derive(Debug)]
pub(super) struct ChannelSink<'a, S: SessionMessage> {
    write: &'a ChannelWriteHalf<S>,
    flow: &'a Flow,
}

impl<S: SessionMessage> Sink for ChannelSink<'_, S> {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.flow.wait_writable().await;
        // Not before: what waits for a slow link waits for nothing that could come in.
        let _writing = self.flow.writing();
        self.write.data_bytes(data).await.map_err(io::Error::other)
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.write.eof().await.map_err(io::Error::other)
    }
}

/// What has come and was not delivered.
#[derive(Debug, Default)]
struct Inbox {
    queue: VecDeque<Item>,
    ended: bool,
    gone: Option<Gone>,
}

impl Inbox {
    /// One end of file is all that there is: no window bounds how many a peer sends, and they would pile up here.
    fn push(&mut self, item: Item) {
        match item {
            Item::Eof if self.ended => return,
            Item::Eof => self.ended = true,
            Item::Data(_) => {}
        }
        self.queue.push_back(item);
    }
}

#[derive(Debug)]
enum Item {
    Data(Bytes),
    Eof,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_end_of_file_is_nothing() {
        let mut inbox = Inbox::default();
        inbox.push(Item::Data(Bytes::from_static(b"x")));
        for _ in 0..1000 {
            inbox.push(Item::Eof);
        }
        assert_eq!(inbox.queue.len(), 2);
        inbox.queue.clear();
        inbox.push(Item::Eof);
        assert!(inbox.queue.is_empty(), "nor after the first was delivered");
    }
}
