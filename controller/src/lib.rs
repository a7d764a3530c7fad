//! The controller's side: an order, its reply, and a stream to a remote computer's service.

mod attempt;
mod connection;
mod disconnect;
mod fdpass;
mod known_hosts;
mod list;
mod order;
mod ssh;
mod stdio;
mod timing;
mod tunnel;
mod turn;

pub use connection::{Account, BrokerError};
pub use disconnect::{DisconnectError, disconnect};
pub use fdpass::{FdPassError, StreamSocket, pass_stream};
pub use known_hosts::{KnownHostsError, learn};
pub use list::{ListError, Listed, list};
pub use ssh::{SshCommand, SshError};
pub use stdio::over_stdio;
pub use timing::{Step, Timing};
pub use tunnel::{OpenError, Stream, Tunnel, Wanted};
pub use turn::TurnError;
