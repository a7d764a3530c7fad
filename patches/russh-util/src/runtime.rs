//! Tasks.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A task, which goes on when this is dropped.
#[derive(Debug)]
pub struct JoinHandle<T>(tokio::task::JoinHandle<T>);

/// A task has ended without a result: it panicked, or its runtime was shut down.
#[derive(Debug)]
pub struct JoinError;

/// Starts a task on the present tokio runtime.
///
/// # Panics
///
/// Outside of a runtime, as `tokio::spawn` does.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "russh owns its session's task, and joins it by the handle"
    )]
    let task = tokio::spawn(future);
    JoinHandle(task)
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(context)
            .map(|ended| ended.map_err(|_| JoinError))
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the task has ended without a result")
    }
}

impl std::error::Error for JoinError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_result_comes_back_and_a_panic_is_an_error() {
        assert_eq!(spawn(async { 7 }).await.unwrap(), 7);
        let panicking = spawn(async { panic!("as a session may") });
        panicking.await.unwrap_err();
    }

    #[tokio::test]
    async fn a_dropped_handle_lets_the_task_go_on() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(spawn(async move { sender.send(7) }));
        assert_eq!(receiver.await.unwrap(), 7);
    }
}
