//! Signals to a command that somebody waits for.

use daemon::hangup::HangUp;
use daemon::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::runtime::cannot;

/// Watches for SIGINT, SIGTERM and, unless it is ignored, SIGHUP until it is dropped.
pub(crate) struct Interruption {
    cancel: Shutdown,
    code: watch::Receiver<Option<u8>>,
    // Dropped with it, and the task with it.
    _task: JoinSet<()>,
}

impl Interruption {
    /// Begins to watch; must run in a runtime.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let fail = |error| cannot("watch for signals", error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        let mut hang_up = HangUp::watch().map_err(fail)?;
        let (sender, code) = watch::channel(None);
        let cancel = Shutdown::new(std::time::Duration::ZERO);
        let request = cancel.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // As a shell reports a command that the signal ended: 128 and its number.
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                () = hang_up.received() => 129,
            };
            sender.send_replace(Some(code));
            request.request();
            // The receivers stay: a second signal must not have its usual effect while we clean up.
            std::future::pending::<()>().await;
        });
        Ok(Self {
            cancel,
            code,
            _task: task,
        })
    }

    /// Completes with the exit code when a signal has come. Cancel-safe.
    pub(crate) async fn requested(&self) -> u8 {
        self.cancel.requested().await;
        self.code().unwrap_or(130)
    }

    /// The exit code, if a signal has come.
    pub(crate) fn code(&self) -> Option<u8> {
        *self.code.borrow()
    }

    /// What is requested when a signal comes.
    #[cfg(feature = "controller")]
    pub(crate) fn cancel(&self) -> &Shutdown {
        &self.cancel
    }
}
