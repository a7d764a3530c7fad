//! The commands of a remote computer.

use clap::{ArgGroup, Args, Subcommand};

/// Serve controllers on this remote computer.
///
/// Until SIGTERM; without a network it waits for one, for ever.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Agent {
    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
    /// Only check configuration, keys and certificate
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Let the controllers of this computer's system log in as a user of it
    SyncKeys(SyncKeys),
}

/// Keep the keys of this system's permitted controllers in the `authorized_keys` of a user of this computer.
///
/// Our lines end with a word by which they are known, so that withdrawn keys go away again; all other lines stay as they are.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("whose").required(true),
    after_help = "Example:\n  sudo tunnel agent sync-keys --user atlas --every 5m"
)]
pub(crate) struct SyncKeys {
    /// Whose `authorized_keys`
    #[arg(long, value_name = "NAME", group = "whose")]
    pub(crate) user: Option<String>,
    /// Instead, the file of the agent's own ssh (`ssh = "builtin"`)
    #[cfg(feature = "builtin-ssh")]
    #[arg(long, group = "whose")]
    pub(crate) builtin: bool,
    /// Go on, and look again this often; otherwise once
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Option<humantime::Duration>,
}
