//! A command run to its end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Stopwatch, wait_until};

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything on standard output, unless it was sent elsewhere.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Outcome {
    /// The same outcome, for a command that has to succeed.
    ///
    /// # Panics
    /// When the exit code is not 0.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.report());
        self
    }

    /// The lines of standard error that begin with `PREFIX: `, without it: `error`, `caused by`, `hint`.
    pub fn lines(&self, prefix: &str) -> Vec<&str> {
        self.stderr
            .lines()
            .filter_map(|line| line.strip_prefix(prefix)?.strip_prefix(": "))
            .collect()
    }

    /// The whole outcome as text, for the message of an assertion.
    pub fn report(&self) -> String {
        format!(
            "exit code {:?} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.code, self.took, self.stdout, self.stderr
        )
    }
}

/// Runs a command to its end, with nothing on standard input.
///
/// # Panics
/// When it cannot be started or does not end within `limit`.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    command.stdin(Stdio::null());
    run_with_input(command, limit)
}

/// Like [`run`], with the standard input that the command has been given.
#[track_caller]
pub(crate) fn run_with_input(command: &mut Command, limit: Duration) -> Outcome {
    let stdout = capture();
    command.stdout(stdout.try_clone().expect("a file handle can be cloned"));
    let mut outcome = run_into(command, limit);
    outcome.stdout = read_all(&stdout);
    outcome
}

/// Like [`run_with_input`], with the standard output that the command has been given; `stdout` stays empty.
#[track_caller]
pub(crate) fn run_into(command: &mut Command, limit: Duration) -> Outcome {
    // Files, not pipes: a grandchild that keeps an end open cannot hold up the test.
    let stderr = capture();
    command.stderr(stderr.try_clone().expect("a file handle can be cloned"));
    let watch = Stopwatch::start();
    let mut child = Reaped(
        command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}")),
    );
    let what = format!("the end of {command:?}");
    let status = wait_until(&what, limit, || match child.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        Ok(None) => Err(format!(
            "still running; stderr so far: {}",
            read_all(&stderr)
        )),
        Err(error) => Err(error.to_string()),
    });
    Outcome {
        code: status.code(),
        stdout: String::new(),
        stderr: read_all(&stderr),
        took: watch.elapsed(),
    }
}

/// A child that does not outlive its owner.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn capture() -> File {
    tempfile::tempfile().expect("the temporary directory is writable")
}

/// What has been written so far. The child shares the file's position, which therefore must not move.
fn read_all(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        let count = file
            .read_at(&mut chunk, bytes.len() as u64)
            .expect("a temporary file can be read");
        if count == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        bytes.extend(chunk.iter().take(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CEILING;

    #[test]
    fn code_and_both_outputs_are_kept() {
        let outcome = run(
            Command::new("sh").args(["-c", "echo out; echo error: broken >&2; exit 3"]),
            CEILING,
        );
        assert_eq!(outcome.code, Some(3));
        assert_eq!(outcome.stdout, "out\n");
        assert_eq!(outcome.lines("error"), ["broken"]);
    }

    #[test]
    #[should_panic(expected = "still running")]
    fn a_command_that_does_not_end_fails() {
        run(Command::new("sleep").arg("60"), Duration::from_millis(50));
    }
}
