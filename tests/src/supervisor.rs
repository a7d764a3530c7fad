//! What stands in for systemd: the socket on which a service says how it is (`sd_notify(3)`).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::{CEILING, wait_until};

/// A service's supervisor. It takes every message at once, so that no service ever waits for it.
#[derive(Debug)]
pub struct Supervisor {
    socket: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Supervisor {
    /// Listens at this path.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn at(socket: &Path) -> Self {
        let listening = UnixDatagram::bind(socket).expect("the world's folder is writable");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        // It lives as long as the test's process: a socket without a path is heard on no more.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = listening.recv(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                let lines = text.lines().map(str::to_owned);
                told.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(lines);
            }
        });
        Self {
            socket: socket.to_owned(),
            heard,
        }
    }

    /// Has a service report here, and show that it lives within this time if one is given.
    pub fn attend(&self, service: &mut Command, watchdog: Option<Duration>) {
        service.env("NOTIFY_SOCKET", &self.socket);
        if let Some(limit) = watchdog {
            service.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
    }

    /// All lines that have come so far, in their order.
    pub fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }

    /// How many lines are this one.
    pub fn count(&self, line: &str) -> usize {
        self.heard().iter().filter(|heard| *heard == line).count()
    }

    /// What the service has said last about its state.
    pub fn status(&self) -> String {
        let heard = self.heard();
        let last = heard
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("STATUS="));
        last.unwrap_or_default().to_owned()
    }

    /// Waits for a line that begins like this.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn wait_for(&self, beginning: &str) {
        wait_until(&format!("`{beginning}`"), CEILING, || {
            let heard = self.heard();
            let found = heard.iter().any(|line| line.starts_with(beginning));
            found.then_some(()).ok_or_else(|| format!("{heard:?}"))
        });
    }
}
