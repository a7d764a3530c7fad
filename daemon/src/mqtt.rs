//! The one MQTT event loop: a link to the broker that comes back for ever.
//!
//! One task owns the event loop and does nothing but move packets, so that no slow handler can delay a keepalive. It
//! tells its owner when the link is up, down, or has brought a message. Each session is a fresh one (`clean_session`):
//! an order that was meant for an earlier session never arrives late, and the owner says anew what is to be known.

mod error;
mod link;
mod session;

pub use error::{LinkError, Loss};
pub use link::{Link, LinkEvent, LinkSettings, Message, Publisher};
