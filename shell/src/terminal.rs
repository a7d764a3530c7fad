//! A pseudo-terminal: its size, and its near end as a reader and a writer.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use russh::Pty;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::{TERMINAL_NAME, TERMINAL_SIDE};
use crate::modes;

/// What a client asks of a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) modes: Vec<(Pty, u32)>,
}

/// Rows and columns within their bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    columns: u16,
    rows: u16,
    /// In pixels, for programs that draw.
    width: u16,
    height: u16,
}

/// The near end of a pseudo-terminal; clones are the same. The far end is a process's.
#[derive(Clone, Debug)]
pub(crate) struct Terminal(Arc<AsyncFd<OwnedFd>>);

/// A terminal that was just made.
pub(crate) struct Opened {
    pub(crate) near: Terminal,
    pub(crate) far: OwnedFd,
    /// `/dev/pts/N`
    pub(crate) device: String,
}

impl Wanted {
    /// Bounds what a client has asked for. A name that is none becomes one that every program knows.
    pub(crate) fn new(name: &str, size: Size, modes: &[(Pty, u32)]) -> Self {
        let is_name = !name.is_empty()
            && name.len() <= TERMINAL_NAME
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/');
        Self {
            name: if is_name { name } else { "dumb" }.to_owned(),
            size,
            modes: modes.to_vec(),
        }
    }
}

impl Size {
    /// Bounds a size in characters and pixels.
    pub(crate) fn new(columns: u32, rows: u32, width: u32, height: u32) -> Self {
        let side = |n: u32| u16::try_from(n).map_or(TERMINAL_SIDE, |n| n.min(TERMINAL_SIDE));
        let pixels = |n: u32| u16::try_from(n).unwrap_or(0);
        Self {
            columns: side(columns),
            rows: side(rows),
            width: pixels(width),
            height: pixels(height),
        }
    }
}

impl Terminal {
    /// Makes a terminal with this size and these modes.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of other types; an `OwnedFd` that nobody can take out stays what it is"
    )]
    pub(crate) fn open(wanted: &Wanted) -> io::Result<Opened> {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let device = ptsname(&near, Vec::new())?.to_string_lossy().into_owned();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let far = ioctl_tiocgptpeer(&near, flags)?;
        let mut settings = tcgetattr(&far)?;
        modes::apply(&wanted.modes, &mut settings);
        tcsetattr(&far, OptionalActions::Now, &settings)?;
        fcntl_setfl(&near, fcntl_getfl(&near)? | OFlags::NONBLOCK)?;
        let near = Self(Arc::new(AsyncFd::new(near)?));
        near.resize(wanted.size);
        Ok(Opened { near, far, device })
    }

    /// Changes the size, of which the programs in it are told.
    pub(crate) fn resize(&self, size: Size) {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: size.width,
            ws_ypixel: size.height,
        };
        // It fails only when nobody is in it any more.
        let _ = tcsetwinsize(self.0.get_ref(), size);
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let read = ready.try_io(|fd| {
                let read = rustix::io::read(fd.get_ref(), buf.initialize_unfilled());
                match read {
                    // Nobody has the far end open any more.
                    Err(Errno::IO) => Ok(0),
                    read => Ok(read?),
                }
            });
            if let Ok(read) = read {
                return Poll::Ready(read.map(|count| buf.advance(count)));
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            let written = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?));
            if let Ok(written) = written {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no half-close: whoever means the end of input types it.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use rustix::termios::tcgetwinsize;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn sizes_and_names_are_bounded() {
        let huge = Size::new(u32::MAX, 70_000, u32::MAX, 5);
        assert_eq!(huge, Size::new(4096, 4096, 0, 5));
        for (asked, named) in [
            ("xterm-256color", "xterm-256color"),
            ("", "dumb"),
            ("../../etc/passwd", "dumb"),
            ("a b", "dumb"),
            ("x\0", "dumb"),
        ] {
            assert_eq!(Wanted::new(asked, huge, &[]).name, named, "{asked:?}");
        }
        assert_eq!(Wanted::new(&"x".repeat(65), huge, &[]).name, "dumb");
    }

    #[tokio::test]
    async fn what_is_typed_is_read_and_the_end_is_an_end() {
        let wanted = Wanted::new("xterm", Size::new(81, 25, 0, 0), &[]);
        let Opened {
            mut near,
            far,
            device,
        } = Terminal::open(&wanted).unwrap();
        assert!(device.starts_with("/dev/pts/"), "{device}");
        let size = tcgetwinsize(&far).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (81, 25));
        near.resize(Size::new(100, 30, 0, 0));
        assert_eq!(tcgetwinsize(&far).unwrap().ws_col, 100);
        near.write_all(b"hello\n").await.unwrap();
        let mut typed = [0; 6];
        assert_eq!(rustix::io::read(&far, &mut typed).unwrap(), 6);
        assert_eq!(&typed, b"hello\n");
        // Who reads is woken before the kernel has handed over the echo: it has to be here before that end is gone.
        let mut echoed = [0; 7];
        near.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"hello\r\n");
        drop(far);
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}
