//! Requests whose answer takes a while: whoever waits for it sees that the signer has taken them up.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use daemon::report::one_line;
use enrollment::registry::within_limit;
use enrollment::{Entry, Registry};
use tokio::time::timeout;

/// Does a piece of work for a request, which is marked as seen if that takes longer than [`PATIENCE`].
pub(crate) async fn marked<T>(
    registry: &impl Registry,
    entry: &Entry,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if let Ok(done) = timeout(PATIENCE, &mut work).await {
        return done;
    }
    mark(registry, entry).await;
    work.await
}

/// Marks a request as seen. That it cannot be marked keeps nobody from answering it.
pub(crate) async fn mark(registry: &impl Registry, entry: &Entry) {
    let marked = within_limit(registry.mark_seen(&entry.title, &entry.revision)).await;
    if let Err(error) = marked {
        let error = one_line(&error);
        tracing::debug!(title = %entry.title, error, "cannot mark a request as seen");
    }
}

/// What is answered at once needs no mark: the answer says it all, and a mark costs a call. A check takes milliseconds, unless
/// a person is asked.
const PATIENCE: Duration = Duration::from_secs(2);
