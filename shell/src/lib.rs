//! The built-in ssh service of a computer that runs no sshd: shells, commands, files and forwards, as the agent's own user
//! and for the controllers whose keys stand in a file.
//!
//! [`Server`] serves one SSH connection per socket that it is given; it never listens. What a session runs is a process of
//! its own, begun by this program's own executable: [`begin`] is the first thing in it, and [`sftp`] is what the subsystem
//! of that name runs. So nothing here needs unsafe code, and no file is touched in the agent's process.

pub mod begin;
mod controllers;
mod environment;
mod forward;
mod limits;
mod modes;
mod process;
mod relay;
mod server;
mod session;
pub mod sftp;
mod strangers;
mod terminal;
mod user;

pub use controllers::{Controllers, ControllersError};
pub use forward::Forwarding;
pub use server::{Server, Settings};
pub use user::User;
