//! What is being waited for: told on a terminal when it takes longer than a second.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::output;

/// Tells what is waited for, and for how long, until it is dropped: one line that is written anew. Nothing is told when standard
/// error is not a terminal.
pub(crate) struct Waiting {
    what: watch::Sender<&'static str>,
    // Dropped with it, and the task with it.
    _task: JoinSet<()>,
    line: Line,
}

/// The line, once there is one; it is wiped off at the end.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    None,
    Shown,
    /// Somebody else has the terminal.
    Over,
}

impl Waiting {
    /// Begins to wait for something; must run in a runtime.
    pub(crate) fn begin() -> Self {
        let (what, is) = watch::channel("");
        let line = Line::default();
        let mut task = JoinSet::new();
        if std::io::stderr().is_terminal() {
            let line = line.clone();
            task.spawn(async move {
                let began = Instant::now();
                let mut ticks = interval_at(began + PATIENCE, PATIENCE);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let (what, so_far) = (*is.borrow(), began.elapsed().as_secs());
                    if !what.is_empty() {
                        line.write(&format!("waiting for {what} … {so_far} s"));
                    }
                }
            });
        }
        Self {
            what,
            _task: task,
            line,
        }
    }

    /// From now on it is this that is waited for.
    pub(crate) fn is_for(&self, what: &'static str) {
        self.what.send_replace(what);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.line.wipe();
    }
}

impl Line {
    fn write(&self, text: &str) {
        // Held while it is written: what is wiped off stays so.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Over) {
            *state = State::Shown;
            output::rewrite(text);
        }
    }

    fn wipe(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Shown) {
            output::rewrite("");
        }
        *state = State::Over;
    }
}

/// Whoever waits longer than this wants to know for what.
const PATIENCE: Duration = Duration::from_secs(1);
