//! What the built-in ssh starts: nobody types it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum BuiltinSsh {
    /// Become a user's shell
    Session(Session),
    /// Be the file server
    Sftp,
}

/// Become a user's shell.
#[derive(Debug, Args)]
pub(crate) struct Session {
    /// Standard input is a terminal which is to control it
    #[arg(long)]
    pub(crate) terminal: bool,
    /// What the shell is to run; without it, a login
    #[arg(long)]
    pub(crate) command: Option<OsString>,
    /// The shell
    pub(crate) shell: PathBuf,
    /// Where it begins
    pub(crate) home: PathBuf,
}
