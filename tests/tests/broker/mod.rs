//! The realm's broker: the embedded one, and others in its place.

mod conformance;
mod crash;
mod descriptors;
mod external;
mod external_aws;
mod external_mosquitto;
mod external_nats;
mod foreign;
mod fuzz;
mod killers;
mod openssl_resumption;
mod packets;
mod party;
mod realm;
mod seen;
mod settings;
