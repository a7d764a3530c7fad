//! What the parts of a realm say to each other: names, topics, orders, replies and presence.
//!
//! The crate is pure: it parses and prints, and does no I/O. Everything that comes from outside is
//! capped in size, then parsed into a type that cannot hold anything else; see [`limits`] for every
//! number. `docs/protocol.md` is the normative text, and its vectors are run against this crate.

mod client_id;
mod device;
mod envelope;
mod label;
mod lease;
pub mod limits;
mod order;
mod plain;
mod presence;
mod reply;
mod role;
mod topic;

pub use client_id::ClientIdSuffix;
pub use device::DeviceId;
pub use envelope::{DecodeError, VERSION};
pub use label::{Label, NameError};
pub use lease::{LeaseId, LeaseIdError};
pub use order::{Lifetime, Order};
pub use plain::{PlainOrder, PlainState};
pub use presence::{Epoch, Presence};
pub use reply::{Forward, RefusalCode, Reply, ReplyBody};
pub use role::{CONTROLLER_PREFIX, Role};
pub use topic::{Topic, TopicError, filter};
