//! The proxy: an SSH server that only introduces controllers to devices.
//!
//! A device's remote forward becomes an entry in the [rendezvous table](rendezvous::Table), by its port or by the
//! device's name; no TCP port is opened. A controller's stream to that port or name is joined to a stream of one of the
//! device's connections. Users are systems, keys are devices, and [admission](admission::Peer) says who may do what.
//! There is no shell.

pub mod admission;
mod complaints;
mod config;
mod connection;
mod crowd;
mod farewell;
mod hub;
pub mod keys;
pub mod limits;
mod listener;
mod penalty;
pub mod rendezvous;
mod session;
mod settings;
mod stream;
mod turned_away;
mod vitals;
#[cfg(test)]
mod words;

pub use config::{ProxyConfig, RELOAD};
pub use hub::{Stats, StatsReader};
pub use keys::KeyPermission;
pub use limits::Limits;
pub use listener::{BindError, Proxy};
pub use settings::Settings;
pub use vitals::Vitals;
