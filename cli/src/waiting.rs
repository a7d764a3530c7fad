//! What is being waited for: told on a terminal when it takes longer than a second.

use std::io::IsTerminal;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::output;

/// Tells what is waited for until it is dropped. Nothing is told when standard error is not a terminal.
pub(crate) struct Waiting {
    what: watch::Sender<&'static str>,
    // Dropped with it, and the task with it.
    _task: JoinSet<()>,
}

impl Waiting {
    /// Begins to wait for something; must run in a runtime.
    pub(crate) fn begin() -> Self {
        let (what, mut is) = watch::channel("");
        let mut task = JoinSet::new();
        if std::io::stderr().is_terminal() {
            task.spawn(async move {
                let began = Instant::now();
                let mut ticks = interval_at(began + PATIENCE, PATIENCE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut told = "";
                loop {
                    ticks.tick().await;
                    let now = *is.borrow_and_update();
                    if now != told {
                        output::note(format_args!("waiting for {now} …"));
                        told = now;
                    }
                }
            });
        }
        Self { what, _task: task }
    }

    /// From now on it is this that is waited for.
    pub(crate) fn is_for(&self, what: &'static str) {
        self.what.send_replace(what);
    }
}

/// Whoever waits longer than this wants to know for what.
const PATIENCE: Duration = Duration::from_secs(1);
