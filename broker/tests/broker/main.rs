//! The broker over real TLS, with clients that behave and clients that do not. One binary, to link once.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking; the lints excuse only test functions, not what these share"
)]

mod access;
mod audit;
mod bind;
mod clients;
mod crowd;
mod delivery;
mod files;
mod hostile;
mod limits;
mod raw;
mod reload;
mod resumption;
mod revocation;
mod services;
mod sessions;
mod slow;
mod store;
mod world;
