//! The embedded MQTT 3.1.1 broker of a realm.
//!
//! ```text
//!  listener ── accepts only, owns every connection's task
//!     │ socket
//!  greeting ── TLS (tls), certificate (peer), CONNECT (connect), each decided by the gate
//!     │
//!  connection ── one task: transport (bytes), packet (requests), deadlines
//!     │ attachment                                    ▲ messages
//!    hub ── seats with sessions, routing (subscriptions, retained) ── one lock, no await
//!     │                                               ▲
//!     ├── journal ── store_writer ── store            │
//!     │                                               │
//!    bus ── local_bus over rumqttd links ── roster and other services of the realm
//! ```
//!
//! It is a signalling broker: `QoS` 0 and 1, and sessions in memory. Everything that a device wants is decided by the
//! realm's policies (gate), and everything is bounded ([`Limits`]). What decides is pure: session, subscriptions,
//! retained, topic, packet and connect know no socket and no clock.

mod accounts;
mod acknowledgements;
mod attachment;
mod audit;
mod broker;
mod bus;
mod check;
mod config;
mod connect;
mod connection;
mod cost;
mod counters;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod greeting;
mod held;
mod histogram;
mod hub;
mod journal;
mod limits;
mod lines;
mod listener;
mod load;
mod local_bus;
mod message;
mod outlet;
mod pace;
mod packet;
mod peer;
mod policy_files;
mod reload;
mod retained;
mod revocation;
mod roster;
mod routing;
mod seat;
mod seats;
mod session;
mod store;
mod store_writer;
mod subscriptions;
mod tls;
mod topic;
mod transport;
mod trust;
mod verifier;
mod vitals;
#[cfg(test)]
mod words;

pub use broker::{BindError, Broker, CounterView};
pub use bus::{Bus, BusLost, OfferError};
pub use check::{CheckError, Expected, Served, check};
pub use config::{BrokerConfig, Pem, PemError};
pub use counters::{CounterSnapshot, QueueDepths};
pub use histogram::HistogramSnapshot;
pub use limits::Limits;
pub use local_bus::{LinkUnavailable, ServiceLink};
pub use message::{Message, Qos};
pub use policy_files::{PoliciesError, load_policies, load_policy};
pub use reload::ReloadBell;
pub use revocation::RevocationListError;
pub use store::{ContentError, StoreError};
pub use tls::TlsError;
pub use topic::{TopicError, TopicFilter, TopicName};
pub use vitals::Vitals;
