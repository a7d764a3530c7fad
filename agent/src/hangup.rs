//! SIGHUP, where it can be watched for.

use tokio::signal::unix::Signal;

/// Completes at the next SIGHUP; never, without a watch.
pub(crate) async fn hangup(hangups: Option<&mut Signal>) {
    let Some(hangups) = hangups else {
        return std::future::pending().await;
    };
    if hangups.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}
