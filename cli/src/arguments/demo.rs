//! The command that shows everything.

use clap::Args;

/// Show everything on this machine: a realm, a remote computer, a connection.
///
/// In a temporary directory and on free ports; nothing else is touched, and everything is removed at the end.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep it running until Ctrl-C, and print the next command to type
    #[arg(long)]
    pub(crate) keep: bool,
}
