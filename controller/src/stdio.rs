//! A stream joined with standard input and output, for ssh's ProxyCommand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use daemon::splice::{self, ChannelEnd, Ended, SpliceLimits};
use russh::client::Msg;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::timing::{Step, Timing};

/// Joins the stream with standard input and output until it is over.
pub async fn over_stdio(stream: ChannelEnd<Msg>, timing: &Timing) -> Ended {
    let mut input = tokio::io::stdin();
    let mut output = FirstByte::new(tokio::io::stdout(), timing);
    splice::local(stream, &mut input, &mut output, SpliceLimits::default()).await
}

/// Notes when the first byte comes through: that is the service's banner.
pub(crate) struct FirstByte<'a, W> {
    inner: W,
    timing: Option<(&'a Timing, Instant)>,
}

impl<'a, W> FirstByte<'a, W> {
    pub(crate) fn new(inner: W, timing: &'a Timing) -> Self {
        Self {
            inner,
            timing: Some((timing, Instant::now())),
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for FirstByte<'_, W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some((timing, began)) = self.timing.take() {
            timing.record(Step::Banner, began);
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
