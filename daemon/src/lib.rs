//! What every long-running part needs, once: configuration, identity, the MQTT event loop, SSH settings, splicing,
//! backoff, shutdown and error reporting.

pub mod backoff;
pub mod files;
pub mod flow;
pub mod shutdown;
pub mod splice;
pub mod ssh;
pub mod ssh_client;
