//! The realm's broker: the embedded one, and others in its place.

mod conformance;
mod external;
mod external_aws;
mod external_mosquitto;
mod external_nats;
mod foreign;
mod fuzz;
mod killers;
mod packets;
mod party;
mod realm;
mod seen;
