//! The first thing in a session's process: a session of its own, perhaps with a terminal, and then the user's shell.
//!
//! What has to happen between the agent and the shell cannot be done in the agent without unsafe code, since Rust has no
//! safe way to run something in a forked child. So the agent starts its own executable, which does it and becomes the shell.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a session's process is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Whether standard input is a terminal that is to control it.
    pub terminal: bool,
    /// The user's shell.
    pub shell: PathBuf,
    /// What it is to run; `None` for a login.
    pub command: Option<OsString>,
    /// Where it begins, if that is there.
    pub home: PathBuf,
}

/// Why it has not become that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// It cannot have a session of its own.
    #[error("cannot begin a session")]
    Session(#[source] io::Error),
    /// It cannot have the terminal.
    #[error("cannot take the terminal")]
    Terminal(#[source] io::Error),
    /// There is no such shell, or it may not be run.
    #[error("cannot run `{}`", shell.display())]
    Shell {
        /// The shell.
        shell: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Gives the present process a session of its own, with its standard input as the controlling terminal if it is one.
pub fn own_session(terminal: bool) -> Result<(), BeginError> {
    rustix::process::setsid().map_err(|error| BeginError::Session(error.into()))?;
    if terminal {
        rustix::process::ioctl_tiocsctty(io::stdin())
            .map_err(|error| BeginError::Terminal(error.into()))?;
    }
    Ok(())
}

/// Becomes the user's shell. It returns only if it cannot.
pub fn begin(begin: &Begin) -> BeginError {
    if let Err(error) = own_session(begin.terminal) {
        return error;
    }
    // As sshd does: a home that is not there is no reason to lock its user out.
    if std::env::set_current_dir(&begin.home).is_err() {
        let _ = std::env::set_current_dir("/");
    }
    let mut shell = Command::new(&begin.shell);
    match &begin.command {
        Some(command) => shell.arg0(name(&begin.shell)).arg("-c").arg(command),
        None => shell.arg0(login_name(&begin.shell)),
    };
    BeginError::Shell {
        shell: begin.shell.clone(),
        source: shell.exec(),
    }
}

/// By the dash a shell knows that it begins a login.
fn login_name(shell: &Path) -> OsString {
    let mut login = OsString::from("-");
    login.push(name(shell));
    login
}

fn name(shell: &Path) -> &OsStr {
    shell.file_name().unwrap_or(shell.as_os_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_shell_is_known_by_its_dash() {
        assert_eq!(login_name(Path::new("/bin/bash")), "-bash");
        assert_eq!(name(Path::new("/usr/bin/zsh")), "zsh");
    }
}
