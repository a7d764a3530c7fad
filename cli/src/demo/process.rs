//! A part of the demo that runs in the background.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::exit;
use crate::failure::Failure;
use crate::runtime::cannot;

/// A child whose standard error goes to a file.
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
    ) -> Result<Self, Failure> {
        let file = File::create(log).map_err(|error| cannot("make a log file", error))?;
        let child = command
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(|error| cannot(&format!("start the {name}"), error))?;
        Ok(Self {
            name,
            child,
            log: log.to_owned(),
        })
    }

    /// Waits until this line stands on its standard output.
    pub(super) async fn wait_for_line(
        &mut self,
        wanted: &str,
        limit: Duration,
    ) -> Result<(), Failure> {
        let name = self.name;
        let Some(stdout) = self.child.stdout.take() else {
            return Ok(());
        };
        let mut lines = BufReader::new(stdout).lines();
        let found = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line == wanted {
                    return true;
                }
            }
            false
        };
        match timeout(limit, found).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::text(
                format!("the {name} ended before it was ready"),
                None,
                exit::FAILURE,
            )),
            Err(_) => Err(Failure::text(
                format!("the {name} was not ready within {limit:?}"),
                None,
                exit::FAILURE,
            )),
        }
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("--- the {}'s log:\n{}", self.name, text.trim_end())
    }

    pub(super) async fn end(mut self) {
        super::end(&mut self.child).await;
    }
}
