//! A command that is talked to line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{CEILING, Stopwatch, wait_until};

/// A running command with its standard input and output in hand. Dropping it kills it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

/// Lines that may wait to be read; far more than any test leaves unread.
const UNREAD: usize = 1024;

impl Session {
    /// Starts a command. Standard error is the test's own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let input = child.stdin.take();
        let stdout = child.stdout.take().expect("standard output is piped");
        let (send, output) = sync_channel(UNREAD);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            input,
            output,
        }
    }

    /// Sends a line and waits for the same line to come back, as `cat` at the other end does; returns how long it took.
    ///
    /// # Panics
    /// When it does not come back within the ceiling.
    #[track_caller]
    pub fn echo(&mut self, line: &str) -> Duration {
        self.try_echo(line, CEILING)
            .unwrap_or_else(|status| panic!("`{line}` did not come back: {status}"))
    }

    /// Like [`echo`](Self::echo), for a session that may be dead.
    pub fn try_echo(&mut self, line: &str, limit: Duration) -> Result<Duration, String> {
        let watch = Stopwatch::start();
        let input = self.input.as_mut().ok_or("the input is closed")?;
        writeln!(input, "{line}").map_err(|error| error.to_string())?;
        let heard = self.hear(limit)?;
        if heard == line {
            Ok(watch.elapsed())
        } else {
            Err(format!("heard `{heard}` instead"))
        }
    }

    /// The next line of output.
    pub fn hear(&self, limit: Duration) -> Result<String, String> {
        self.output
            .recv_timeout(limit)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => format!("nothing within {limit:?}"),
                RecvTimeoutError::Disconnected => "the output has ended".to_owned(),
            })
    }

    /// Closes standard input and waits for the end; returns the exit code.
    #[track_caller]
    pub fn finish(mut self) -> Option<i32> {
        self.input = None;
        self.wait(CEILING)
    }

    /// Waits for the end with standard input left open; returns the exit code.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        wait_until("the end of the session", limit, || {
            match self.child.try_wait() {
                Ok(Some(status)) => Ok(status.code()),
                Ok(None) => Err("still running".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It fails only when the process has ended, which the caller sees by waiting.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back() {
        let mut session = Session::start(&mut Command::new("cat"));
        session.echo("one");
        session.echo("two");
        assert_eq!(session.finish(), Some(0));
    }
}
