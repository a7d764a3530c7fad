//! A realm's parts while they run: what is told of them, SIGHUP, and their end.

use daemon::monitor::Pulse;
use daemon::shutdown::Shutdown;
use daemon::systemd;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exit;
use crate::failure::Failure;
use crate::serve::reread::Reread;

/// A realm's parts at work, until one of them or a signal ends it.
pub(super) struct Running {
    pub(super) parts: JoinSet<&'static str>,
    /// What SIGHUP rings.
    pub(super) reload: broker::ReloadBell,
    pub(super) hangup: Signal,
    pub(super) online: Option<watch::Receiver<usize>>,
    pub(super) tunnels: Option<proxy::StatsReader>,
    /// What SIGHUP reads again beside the broker's files.
    pub(super) reread: Reread,
}

impl Running {
    /// Runs until the shutdown, and then until all parts have drained.
    pub(super) async fn wait(mut self, shutdown: &Shutdown, pulse: &Pulse) -> Result<u8, Failure> {
        let mut ticks = Pulse::ticks();
        let ended = loop {
            pulse.beat();
            tokio::select! {
                biased;
                () = shutdown.requested() => break None,
                ended = self.parts.join_next() => break ended,
                _ = ticks.tick() => self.tell_status(),
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP received: files are read again");
                    self.reload.ring();
                    self.reread.read();
                }
            }
        };
        systemd::stopping();
        // A listener that died must not look like a service that runs: the supervisor starts it anew.
        let died = ended.map(|ended| ended.unwrap_or("part"));
        shutdown.request();
        while self.parts.join_next().await.is_some() {}
        if !shutdown.drained().await {
            tracing::warn!(
                "connections were cut: they did not end within {:?}",
                shutdown.grace()
            );
        }
        match died {
            None => Ok(exit::OK),
            Some(part) => Err(Failure::text(
                format!("the {part} has ended by itself"),
                Some("its log says why"),
                exit::FAILURE,
            )),
        }
    }

    fn tell_status(&self) {
        let online = self
            .online
            .as_ref()
            .map(|online| format!("{} devices online", *online.borrow()));
        let tunnels = self.tunnels.as_ref().map(|stats| {
            let stats = stats.now();
            format!("{} tunnels, {} streams", stats.tunnels, stats.streams)
        });
        let told: Vec<String> = online.into_iter().chain(tunnels).collect();
        if !told.is_empty() {
            systemd::status(&told.join("; "));
        }
    }
}
