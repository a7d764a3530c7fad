//! The embedded MQTT 3.1.1 broker of a realm.
//!
//! ```text
//!  listener ── accepts only, owns every connection's task
//!     │ socket
//!  greeting ── TLS (tls), certificate (peer), CONNECT (connect), each decided by the gate
//!     │
//!  connection ── one task: transport (bytes), packet (requests), deadlines
//!     │ attachment                                    ▲ messages
//!    hub ── seats with sessions, subscriptions, retained ── one lock, no await
//!     │                                               ▲
//!    bus ── local_bus over rumqttd links ── roster and other services of the realm
//! ```
//!
//! It is a signalling broker: `QoS` 0 and 1, and sessions in memory. Everything that a device wants is decided by the
//! realm's policies (gate), and everything is bounded ([`Limits`]). What decides is pure: session, subscriptions,
//! retained, topic, packet and connect know no socket and no clock.

mod attachment;
mod audit;
mod broker;
mod bus;
mod config;
mod connect;
mod connection;
mod counters;
mod gate;
mod greeting;
mod hub;
mod limits;
mod listener;
mod local_bus;
mod message;
mod packet;
mod peer;
mod retained;
mod revocation;
mod roster;
mod seat;
mod session;
mod subscriptions;
mod tls;
mod topic;
mod transport;
mod verifier;

pub use broker::{BindError, Broker, CounterView};
pub use bus::{Bus, BusLost, OfferError};
pub use config::{BrokerConfig, Pem};
pub use counters::CounterSnapshot;
pub use limits::Limits;
pub use local_bus::{LinkUnavailable, ServiceLink};
pub use message::{Message, Qos};
pub use revocation::RevocationListError;
pub use tls::TlsError;
pub use topic::{TopicError, TopicFilter, TopicName};
