//! The commands of a remote computer.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::arguments::enroll::Enroll;

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
    Install(Install),
    Uninstall(Uninstall),
}

/// Make a service of systemd out of the agent: enrolled, started, and started again at every boot.
///
/// Copies this program to /usr/local/bin, writes the unit, makes the user `tunnel-agent`, enrolls the computer if it is not
/// yet, starts the agent and waits until it is online. It can be repeated: what is as it should be stays, and a newer program
/// takes the place of the one that runs. Where the Debian package is installed, its program and unit are used.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sudo ./tunnel agent install hula 333 --realm realm.toml")]
pub(crate) struct Install {
    #[command(flatten)]
    pub(crate) enroll: Enroll,
    /// The folder of a system that does not run, such as an image: nothing is started there
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Stop the agent, and take away what `install` has made. Keys and certificate stay in /etc/tunnel.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// Remove keys and certificate too: afterwards the computer has to be enrolled anew
    #[arg(long)]
    pub(crate) purge: bool,
    /// The folder of a system that does not run, such as an image
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
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
