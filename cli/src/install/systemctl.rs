//! What systemd is asked to do with the agent's unit.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::place::{Place, UNIT_NAME};
use crate::exit;
use crate::failure::Failure;
use crate::runtime::{self, cannot};

/// `systemctl`, for this system or for one that does not run.
pub(super) struct Systemctl {
    root: Option<PathBuf>,
}

impl Systemctl {
    pub(super) fn of(place: &Place) -> Self {
        Self {
            root: place.root().map(PathBuf::from),
        }
    }

    /// Has the agent started at every boot.
    pub(super) fn enable(&self, changed: bool) -> Result<(), Failure> {
        if changed {
            self.reload()?;
        }
        self.call(&["enable", UNIT_NAME])
    }

    /// Reads the units again.
    pub(super) fn reload(&self) -> Result<(), Failure> {
        if self.root.is_some() {
            return Ok(());
        }
        self.call(&["daemon-reload"])
    }

    /// Stops the agent, if it runs, and has it started no more.
    pub(super) fn disable(&self) -> Result<(), Failure> {
        if self.root.is_none() {
            self.call(&["stop", UNIT_NAME])?;
        }
        self.call(&["disable", UNIT_NAME])
    }

    /// Starts it, anew if something has changed, and waits until it is online; returns what it says of itself.
    pub(super) fn start(&self, changed: bool) -> Result<String, Failure> {
        let verb = if changed { "restart" } else { "start" };
        succeed(self.command().args([verb, UNIT_NAME]), Some(LOG))?;
        runtime::block_on(async {
            let begun = Instant::now();
            loop {
                let shown = self.state()?;
                let status = shown.strip_prefix("active\n").unwrap_or_default();
                if ONLINE.iter().any(|words| status.starts_with(words)) {
                    return Ok(status.to_owned());
                }
                if begun.elapsed() > LIMIT {
                    let shown = shown.replace('\n', ", ");
                    return Err(Failure::text(
                        format!("the agent is started, and not online yet: {shown}"),
                        Some(LOG),
                        exit::UNAVAILABLE,
                    ));
                }
                sleep(PAUSE).await;
            }
        })
    }

    /// Whether it runs, and on the next line what it says.
    fn state(&self) -> Result<String, Failure> {
        let words = ["show", UNIT_NAME, "--property=ActiveState,StatusText"];
        let shown = succeed(self.command().args(words), None)?;
        let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name));
        Ok(format!(
            "{}\n{}",
            value("ActiveState=").unwrap_or("unknown"),
            value("StatusText=").unwrap_or_default()
        ))
    }

    fn call(&self, words: &[&str]) -> Result<(), Failure> {
        succeed(self.command().arg("--quiet").args(words), None).map(drop)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("systemctl");
        if let Some(root) = &self.root {
            let mut option = OsString::from("--root=");
            option.push(root);
            command.arg(option);
        }
        command
    }
}

/// Runs a program to its end, and returns what it prints.
pub(super) fn succeed(command: &mut Command, hint: Option<&str>) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot(&format!("run `{name}`"), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(Failure::text(
        format!("`{name}` failed ({}): {}", output.status, words.trim()),
        hint,
        exit::FAILURE,
    ))
}

/// How the agent's words for its supervisor begin when it can be reached; the second are those of a system that is always on.
const ONLINE: &[&str] = &["online", "a tunnel at port"];

/// How long the agent may take to be online. A broker that is out of reach is no reason to wait longer: the agent goes on
/// trying by itself.
const LIMIT: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(200);

const LOG: &str = "`journalctl -u tunnel-agent` says why; it goes on trying by itself";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_says_what_it_says_itself() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'Unit is masked.' >&2; exit 3"]);
        insta::assert_snapshot!(succeed(&mut command, Some(LOG)).unwrap_err(), @r"
        error: `sh` failed (exit status: 3): Unit is masked.
        hint: `journalctl -u tunnel-agent` says why; it goes on trying by itself
        ");
    }
}
