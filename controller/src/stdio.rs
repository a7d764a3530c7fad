//! A stream joined with standard input and output, for ssh's ProxyCommand.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use daemon::splice::{self, ChannelEnd, Ended, SpliceLimits};
use russh::client::Msg;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::timing::{Step, Timing};

/// Joins the stream with standard input and output until it is over.
pub async fn over_stdio(stream: ChannelEnd<Msg>, timing: &Timing) -> Ended {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    // Whoever has them after us expects them as they were.
    let _as_before = (Mode::of(stdin.as_fd()), Mode::of(stdout.as_fd()));
    let _wide = (Wide::make(stdin.as_fd()), Wide::make(stdout.as_fd()));
    let mut input = input(stdin.as_fd());
    let began = Instant::now();
    let banner = || timing.record(Step::Banner, began);
    let mut output = FirstByte::new(output(stdout.as_fd()), banner);
    splice::local(stream, &mut input, &mut output, SpliceLimits::default()).await
}

/// A pipe, which ssh makes for its ProxyCommand, is read when it has something. Anything else, such as a file, takes a
/// thread that waits: with each packet it costs two switches of threads.
fn input(stdin: BorrowedFd<'_>) -> Box<dyn AsyncRead + Send + Unpin> {
    let pipe = stdin
        .try_clone_to_owned()
        .and_then(pipe::Receiver::from_owned_fd);
    match pipe {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

fn output(stdout: BorrowedFd<'_>) -> Box<dyn AsyncWrite + Send + Unpin> {
    let pipe = stdout
        .try_clone_to_owned()
        .and_then(pipe::Sender::from_owned_fd);
    match pipe {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdout()),
    }
}

/// A pipe that holds more than before, as long as this lives.
struct Wide<'a> {
    pipe: BorrowedFd<'a>,
    before: Option<usize>,
}

impl<'a> Wide<'a> {
    fn make(pipe: BorrowedFd<'a>) -> Self {
        // What is no pipe has no size, and who has many large pipes may have none larger.
        let before = size(pipe)
            .filter(|size| *size < PIPE_SIZE)
            .filter(|_| resize(pipe, PIPE_SIZE));
        Self { pipe, before }
    }
}

impl Drop for Wide<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Not while it holds more than that.
            resize(self.pipe, before);
        }
    }
}

#[cfg(target_os = "linux")]
fn size(pipe: BorrowedFd<'_>) -> Option<usize> {
    rustix::pipe::fcntl_getpipe_size(pipe).ok()
}

#[cfg(target_os = "linux")]
fn resize(pipe: BorrowedFd<'_>, size: usize) -> bool {
    rustix::pipe::fcntl_setpipe_size(pipe, size).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn size(_pipe: BorrowedFd<'_>) -> Option<usize> {
    None
}

#[cfg(not(target_os = "linux"))]
fn resize(_pipe: BorrowedFd<'_>, _size: usize) -> bool {
    false
}

/// How a descriptor was set, which is set again when this is dropped.
struct Mode<'a> {
    descriptor: BorrowedFd<'a>,
    flags: Option<OFlags>,
}

impl<'a> Mode<'a> {
    fn of(descriptor: BorrowedFd<'a>) -> Self {
        Self {
            descriptor,
            flags: fcntl_getfl(descriptor).ok(),
        }
    }
}

impl Drop for Mode<'_> {
    fn drop(&mut self) {
        if let Some(flags) = self.flags {
            // It is closed, then.
            let _ = fcntl_setfl(self.descriptor, flags);
        }
    }
}

/// Calls when the first byte comes through: that is the service's banner.
pub(crate) struct FirstByte<W, F> {
    inner: W,
    on_first: Option<F>,
}

impl<W, F> FirstByte<W, F> {
    pub(crate) fn new(inner: W, on_first: F) -> Self {
        Self {
            inner,
            on_first: Some(on_first),
        }
    }
}

impl<W: AsyncWrite + Unpin, F: FnOnce() + Unpin> AsyncWrite for FirstByte<W, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(on_first) = self.on_first.take() {
            on_first();
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

/// What a pipe may hold, in bytes: four times what it has by itself, so that ssh and we wait for each other less often. Not the
/// most that one may ask for, 1 MiB (pipe(7)): with 64 of those, a user's other pipes would shrink to a page or two.
const PIPE_SIZE: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pipe_blocks_again_when_we_have_done_with_it() {
        let (reader, writer) = io::pipe().unwrap();
        let blocks = |descriptor: BorrowedFd<'_>| {
            !fcntl_getfl(descriptor).unwrap().contains(OFlags::NONBLOCK)
        };
        {
            let _as_before = (Mode::of(reader.as_fd()), Mode::of(writer.as_fd()));
            let _joined = (input(reader.as_fd()), output(writer.as_fd()));
            assert!(!blocks(reader.as_fd()) && !blocks(writer.as_fd()));
        }
        assert!(blocks(reader.as_fd()) && blocks(writer.as_fd()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pipe_is_wider_for_a_while_and_never_narrower() {
        let (reader, _writer) = io::pipe().unwrap();
        let before = size(reader.as_fd()).unwrap();
        assert!(before < PIPE_SIZE, "{before}");
        {
            let _wide = Wide::make(reader.as_fd());
            assert_eq!(size(reader.as_fd()), Some(PIPE_SIZE));
        }
        assert_eq!(size(reader.as_fd()), Some(before));
        assert!(resize(reader.as_fd(), 2 * PIPE_SIZE));
        drop(Wide::make(reader.as_fd()));
        assert_eq!(size(reader.as_fd()), Some(2 * PIPE_SIZE));
    }

    #[tokio::test]
    async fn a_file_is_read_all_the_same() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let _input = input(file.as_fd());
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK));
    }
}
