//! The end-to-end tests: one module a subject. `cargo nextest run -p e2e main_job` runs one of them.

#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "what is not as expected fails the test"
)]
#![expect(
    clippy::print_stdout,
    reason = "times are part of what a test shows; the runner keeps them with the result"
)]

mod broker;
mod builtin;
mod data_path;
mod docs;
mod enrollment;
mod looking;
mod main_job;
mod operations;
mod packaging;
mod person;
mod words;
