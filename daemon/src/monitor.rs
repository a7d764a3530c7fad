//! `/healthz`, `/readyz` and `/metrics`: how a daemon does, over HTTP. Nothing listens unless an address is configured.

mod counter;
mod http;
mod page;
mod process;
mod pulse;
mod server;

pub use counter::Counter;
pub use page::Page;
pub use pulse::{BEAT, Pulse};
pub use server::{Monitor, MonitorError, Place};

/// A part of a daemon that can be asked how it does.
pub trait Source: Send + Sync {
    /// Why it cannot do its work now; `None`: it can.
    fn unready(&self) -> Option<String>;

    /// Writes its numbers.
    fn write(&self, page: &mut Page);
}
