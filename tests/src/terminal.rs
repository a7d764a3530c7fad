//! A command at a terminal, with a person who types.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::{CEILING, World, tool, wait_until};

/// A running command whose standard input, output and error are a pseudo-terminal (`script`). Dropping it kills it.
#[derive(Debug)]
pub struct Terminal {
    script: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command in this world. Its program and arguments must need no quoting.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(world: &World, command: &Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>();
        let mut script = Command::new(tool("script"));
        world.mark(&mut script);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                script.env(name, value);
            }
        }
        let mut script = script
            .args(["-qec", &line.join(" "), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`script` cannot be started: {error}"));
        let mut stdout = script.stdout.take().expect("standard output is piped");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&shown);
        thread::spawn(move || {
            let mut some = [0; 1024];
            while let Ok(read @ 1..) = stdout.read(&mut some) {
                let new = some.get(..read).unwrap_or_default();
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(new);
            }
        });
        Self { script, shown }
    }

    /// What stands on the terminal, what was typed and echoed included.
    pub fn shown(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Waits until this text stands on the terminal.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("`{text}` on the terminal"), CEILING, || {
            let shown = self.shown();
            shown.contains(text).then_some(()).ok_or(shown)
        });
    }

    /// Types a line.
    ///
    /// # Panics
    /// When nobody is at the other end.
    #[track_caller]
    pub fn type_line(&mut self, line: &str) {
        let input = self.script.stdin.as_mut().expect("standard input is piped");
        writeln!(input, "{line}").expect("the command reads");
    }

    /// Waits for the end, and returns the exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        wait_until(
            "the end of the command at the terminal",
            CEILING,
            || match self.script.try_wait() {
                Ok(Some(status)) => Ok(status.code()),
                Ok(None) => Err(self.shown()),
                Err(error) => Err(error.to_string()),
            },
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}
