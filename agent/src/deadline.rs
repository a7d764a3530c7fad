//! Waiting for a time that may not be set.

use tokio::time::{Instant, sleep_until};

/// Ends when the deadline is reached: never, without one.
pub(crate) async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
