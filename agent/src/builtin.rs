//! The seam to what this process serves itself. The agent does not know what it is.

use std::pin::Pin;

use tokio::net::UnixStream;

/// An ssh server in this process, which is given its connections.
pub trait Builtin: Send + Sync + 'static {
    /// Serves one connection to its end. `originator` says where it comes from, for the log.
    fn serve<'a>(
        &'a self,
        socket: UnixStream,
        originator: &'a str,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

    /// Its public host key as `TYPE BASE64`, which controllers are told.
    fn host_key(&self) -> String;
}
