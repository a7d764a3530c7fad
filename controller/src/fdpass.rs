//! Handing a stream to ssh as a file descriptor, so that its bytes do not go through one more process.
//!
//! ssh runs its ProxyCommand with `ProxyUseFdpass`: the command connects to a socket that only this user can reach,
//! passes that connection on to ssh over its standard output, and ends (`ssh_config(5)`).

use std::fs::DirBuilder;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::net::{UnixListener, UnixStream};

/// A socket in a directory of its own, on which ssh's end of the stream is fetched. Both are removed on drop.
pub struct StreamSocket {
    listener: UnixListener,
    directory: PathBuf,
}

/// Why a stream could not be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FdPassError {
    /// The socket could not be made.
    #[error("cannot make a socket for ssh in `{}`", directory.display())]
    Bind {
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody listens on the socket any more.
    #[error("cannot fetch the stream from `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output is not a socket to ssh.
    #[error(
        "cannot pass the stream on: this command is for ssh's ProxyCommand with ProxyUseFdpass"
    )]
    Pass {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl FdPassError {
    /// What the person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Bind { .. } => Some(
                "`XDG_RUNTIME_DIR`, or `TMPDIR` without it, names a directory where this user may write",
            ),
            Self::Connect { .. } => {
                Some("`tunnel connect` runs this command itself, and waits there while it does")
            }
            Self::Pass { .. } => Some("`tunnel connect` runs this command itself"),
        }
    }
}

impl StreamSocket {
    /// Makes the socket.
    pub fn bind() -> Result<Self, FdPassError> {
        let base =
            std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let directory = base.join(format!("tunnel-{:016x}", rand::random::<u64>()));
        let bind = || {
            DirBuilder::new().mode(0o700).create(&directory)?;
            UnixListener::bind(directory.join(SOCKET))
        };
        match bind() {
            Ok(listener) => Ok(Self {
                listener,
                directory,
            }),
            Err(source) => {
                let _ = std::fs::remove_dir_all(&directory);
                Err(FdPassError::Bind { directory, source })
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// Waits for ssh to fetch its end. Cancel-safe.
    pub async fn fetched(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for StreamSocket {
    fn drop(&mut self) {
        // Nothing but the socket is in there; a leftover is an empty directory of this user.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Fetches the stream from that socket and passes it to ssh over standard output.
pub fn pass_stream(path: &Path) -> Result<(), FdPassError> {
    let stream = StdUnixStream::connect(path).map_err(|source| FdPassError::Connect {
        path: path.to_owned(),
        source,
    })?;
    let fds = [stream.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    // One byte has to go with it; ssh ignores which.
    rustix::net::sendmsg(
        io::stdout(),
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::empty(),
    )
    .map(drop)
    .map_err(|error| FdPassError::Pass {
        source: error.into(),
    })
}

const SOCKET: &str = "stream";
