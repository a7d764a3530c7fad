//! A local reader and writer as an end of a splice.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::pump::{Event, Gone, Sink, Source};
use crate::ssh::MAX_PACKET;

/// What comes from a local reader.
#[derive(Debug)]
pub(super) struct RawSource<'a, R> {
    reader: &'a mut R,
    buffer: BytesMut,
    ended: bool,
}

impl<'a, R> RawSource<'a, R> {
    pub(super) fn new(reader: &'a mut R) -> Self {
        Self {
            reader,
            buffer: BytesMut::new(),
            ended: false,
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Source for RawSource<'_, R> {
    async fn next(&mut self) -> Event {
        if self.ended {
            // It has nothing more to say; the other direction decides about the end.
            return std::future::pending().await;
        }
        self.buffer.reserve(READ_SIZE);
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) => {
                self.ended = true;
                self.buffer = BytesMut::new();
                Event::Eof
            }
            Ok(_) => Event::Data(self.buffer.split().freeze()),
            Err(error) => Event::Failed(error),
        }
    }

    async fn look_ahead(&mut self) {
        // What is not read yet stays where it is: that is the backpressure.
        std::future::pending::<()>().await;
    }

    fn gone(&self) -> Option<Gone> {
        None
    }

    fn consumed(&mut self, _len: usize) {}

    fn starves_others(&self) -> bool {
        false
    }
}

/// What goes to a local writer.
#[derive(Debug)]
pub(super) struct RawSink<'a, W> {
    writer: &'a mut W,
}

impl<'a, W> RawSink<'a, W> {
    pub(super) fn new(writer: &'a mut W) -> Self {
        Self { writer }
    }
}

impl<W: AsyncWrite + Unpin + Send> Sink for RawSink<'_, W> {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.writer.write_all(&data).await?;
        // Before the next wait, or a buffered writer would sit on the end of an answer.
        self.writer.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        match self.writer.shutdown().await {
            // It has closed the other direction already, and that is no fault.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

/// One read, in bytes: one SSH packet.
const READ_SIZE: usize = MAX_PACKET as usize;
