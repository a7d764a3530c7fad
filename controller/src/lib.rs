//! The controller's side: an order, its reply, and a stream to a remote computer's service.

mod answers;
mod attempt;
mod connection;
mod disconnect;
mod fdpass;
mod forward;
mod known_hosts;
mod list;
mod order;
mod own_ssh;
mod raw_terminal;
mod ssh;
mod ssh_background;
mod ssh_config;
mod ssh_include;
mod ssh_settings;
mod ssh_words;
mod stdio;
mod timing;
mod tunnel;
mod turn;
mod watch;
mod way;
#[cfg(test)]
mod words;

pub use connection::{Account, BrokerError};
pub use disconnect::{DisconnectError, disconnect};
pub use fdpass::{FdPassError, StreamSocket, pass_stream};
pub use forward::{Forward, ForwardError, Notice, Port, Wish};
pub use known_hosts::{Acquaintance, KnownHostsError, compare, known_keys, learn};
pub use list::{ListError, Listed, list, list_as_for_an_order};
pub use own_ssh::{OwnSsh, OwnSshError};
pub use ssh::{SshCommand, SshEnded, SshError, has_ssh};
pub use ssh_config::SshConfig;
pub use ssh_include::{INCLUDE, Installed, Removed, SshInclude, SshIncludeError};
pub use ssh_settings::Unrepeatable;
pub use ssh_words::UnwritablePath;
pub use stdio::over_stdio;
pub use timing::{Step, Timing};
pub use tunnel::{OpenError, Stream, Tunnel, Wanted};
pub use turn::TurnError;
pub use watch::{Change, watch};
