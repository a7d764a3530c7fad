//! The harness of the end-to-end tests: our built binary and real peers, in one temporary folder each.
//!
//! Nothing here knows how the program works: it starts processes, waits for states that can be seen from outside
//! (a line of output, a listening socket, an exit), and stops what it started by its own process id. A missing tool fails
//! the test with the name of the package that has it; nothing is ever skipped.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a harness reports by failing the test that uses it"
)]

pub mod aws;
mod build;
mod daemon;
mod delay_relay;
mod device;
mod echo;
pub mod github;
mod http;
mod laptop;
mod machine;
mod mosquitto;
mod nats;
mod net;
mod original;
mod outcome;
mod packages;
mod payload;
mod port;
mod procfs;
mod screen;
mod session;
mod sshd;
mod stopwatch;
mod supervisor;
mod terminal;
mod tool;
mod wait;
mod world;

pub use build::{agent_alone, build_tunnel, cargo, tunnel_binary};
pub use daemon::Daemon;
pub use delay_relay::DelayRelay;
pub use device::Device;
pub use echo::{CrowdedServer, EchoServer, SilentServer};
pub use laptop::Laptop;
pub use machine::Machine;
pub use mosquitto::Mosquitto;
pub use nats::NatsCluster;
pub use net::Link;
pub use original::{OriginalTarget, ReverseForward, original_order, original_order_command};
pub use outcome::{Outcome, run};
pub use packages::{Packages, PackagesError};
pub use payload::{checksum, is_beginning, noise_file, random_file, sha256};
pub use port::ReservedPort;
pub use procfs::{
    Usage, allocated, cpu_time, descriptors, end_marked, established, is_listening,
    processes_marked, raise_descriptors, resident, threads, unix_sockets_under, usage,
};
pub use screen::Screen;
pub use session::Session;
pub use sshd::{Sshd, current_user};
pub use stopwatch::Stopwatch;
pub use supervisor::Supervisor;
pub use terminal::Terminal;
pub use tool::{TOOLS, Tool, missing_tools, tool};
pub use wait::{CEILING, wait_until};
pub use world::{MARK, World};
