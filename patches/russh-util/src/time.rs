//! Time.

#[expect(
    clippy::disallowed_types,
    reason = "it is the clock by which russh counts until it makes new keys"
)]
pub use std::time::Instant;
