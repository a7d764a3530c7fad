//! What every long-running part needs, once: configuration, identity, the MQTT event loop, SSH settings, splicing,
//! backoff, shutdown and error reporting.

pub mod backoff;
pub mod clock;
pub mod descriptors;
pub mod device_dir;
pub mod device_file;
pub mod doorway;
pub mod files;
pub mod flow;
pub mod hangup;
pub mod host_port;
pub mod identity;
pub mod lock;
pub mod logging;
pub mod monitor;
pub mod mqtt;
pub mod original;
pub mod pace;
pub mod ports;
pub mod rate;
pub mod reach;
pub mod realm_dir;
pub mod realm_file;
pub mod registry_place;
pub mod report;
pub mod server_file;
pub mod service;
pub mod shutdown;
pub mod splice;
pub mod ssh;
pub mod ssh_client;
pub mod systemd;
pub mod tls;
#[cfg(test)]
mod words;
