//! The remote computer's side: orders in, a tunnel while somebody needs it, replies and presence out.
//!
//! [`Agent`] is the run loop, and [`AlwaysOn`] that of a system without orders. What is decided is decided without a socket in `leases` (when there has to be a tunnel, and
//! what controllers are told) and in `pool` (how many connections to the proxy it has); `tunnel`, `member` and `stream`
//! do what they say.

mod agent;
mod always_on;
mod builtin;
mod deadline;
mod ends;
mod hangup;
mod hooks;
mod host_keys;
mod leases;
mod member;
mod plan;
mod pool;
mod presence;
mod reply_text;
mod stream;
mod tunnel;
mod vitals;
#[cfg(test)]
mod words;

pub use agent::{Agent, AgentError};
pub use always_on::AlwaysOn;
pub use builtin::Builtin;
pub use leases::{MAX_LEASES, MAX_LEASES_PER_CONTROLLER, PLAIN_LIFETIME};
pub use pool::{MAX_MEMBERS, MAX_SPARES};
pub use vitals::Vitals;
