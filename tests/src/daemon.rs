//! A child process that runs until it is told to stop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{CEILING, wait_until};

/// A running child whose output goes to files. Dropping it kills it, by its own process id.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Daemon {
    /// Starts a command; its output goes to `LOGS/NAME.stdout` and `LOGS/NAME.stderr`, each start to new files.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Self {
        let (stdout, out) = log_file(logs, name, "stdout");
        let (stderr, err) = log_file(logs, name, "stderr");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it has written a line that contains `text` to either output.
    ///
    /// # Panics
    /// When it ends before, or does not write it in time.
    #[track_caller]
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let what = format!("`{text}` from {}", self.name);
        wait_until(&what, CEILING, || {
            // Looked at before the output: what it wrote last must not be missed when it has ended.
            let ended = self.has_ended();
            let output = self.stdout() + &self.stderr();
            if let Some(line) = output.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            assert!(
                ended.is_none(),
                "{} ended ({ended:?}) before `{text}`:\n{output}",
                self.name
            );
            Err(output)
        })
    }

    /// How it ended, when it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // It fails only when the process has ended, which the caller sees by waiting.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it is still running after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_until(&what, limit, || {
            self.has_ended().ok_or_else(|| self.stderr())
        })
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    #[track_caller]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(CEILING)
    }

    /// Ends it without giving it a chance to clean up (SIGKILL), as a crash or a power cut does.
    #[track_caller]
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(CEILING);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(logs: &Path, name: &str, stream: &str) -> (PathBuf, File) {
    (1..)
        .find_map(|start| {
            let path = logs.join(format!("{name}.{start}.{stream}"));
            Some((File::create_new(&path).ok()?, path))
        })
        .map(|(file, path)| (path, file))
        .expect("an unused name exists")
}
