//! The proxy with real peers: russh clients as our own agents and controllers use them, and OpenSSH.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its helper functions"
)]
#![expect(
    clippy::print_stdout,
    reason = "times and sizes are part of what a test shows; the runner keeps them with the result"
)]

mod data_path;
mod doorway;
mod early;
mod floods;
mod limits;
mod openssh;
mod pools;
mod refusals;
mod rows;
mod stopping;
mod storm;
mod stream;
mod world;
