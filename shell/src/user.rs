//! The one user that is served: the agent's own.

use std::path::PathBuf;

/// A user as the computer's list of users has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, which a client has to log in as.
    pub name: String,
    /// The number: 0 is root.
    pub uid: u32,
    /// Where sessions begin.
    pub home: PathBuf,
    /// What they run; empty for the usual one.
    pub shell: PathBuf,
}

impl User {
    /// The program that reads commands.
    pub(crate) fn program(&self) -> PathBuf {
        // passwd(5): an empty field means this.
        if self.shell.as_os_str().is_empty() {
            PathBuf::from("/bin/sh")
        } else {
            self.shell.clone()
        }
    }
}
