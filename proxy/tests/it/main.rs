//! The proxy with real peers: russh clients as our own agents and controllers use them, and OpenSSH.

mod data_path;
mod openssh;
mod pools;
mod refusals;
mod stopping;
mod world;
