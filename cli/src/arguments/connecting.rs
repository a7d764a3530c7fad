//! The commands of people who connect.

use std::ffi::OsString;
use std::num::NonZeroU16;

use clap::Args;
use protocol::Label;

use crate::service;

/// How a tunnel is come by.
#[derive(Debug, Args)]
pub(crate) struct Opening {
    /// Print how long each step took, as JSON on standard error
    #[arg(long)]
    pub(crate) timing: bool,
    /// Speak the original's plain grammar with the device
    #[arg(long)]
    pub(crate) plain: bool,
    /// The device's port at the proxy, when it is known otherwise: then nothing is ordered
    #[arg(long, conflicts_with = "plain")]
    pub(crate) port: Option<NonZeroU16>,
}

/// Log in to a remote computer, or run a command there.
///
/// Orders a tunnel, and runs ssh through it with this controller's key. The exit code is the remote command's.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel connect atlas@333\n  tunnel connect atlas@333 -- journalctl -f"
)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) opening: Opening,
    /// Who, and where: `333`, `333.hula` or `333.hula.atlas`
    #[arg(value_name = "[USER@]DEVICE")]
    pub(crate) target: String,
    /// What to run there; without it, a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Join standard input and output with a device's service: for ssh's ProxyCommand.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ssh -o ProxyCommand='tunnel stdio %h %p' atlas@333.hula.atlas\n  tunnel ssh-config --install; ssh atlas@333.hula.atlas"
)]
pub(crate) struct Stdio {
    #[command(flatten)]
    pub(crate) opening: Opening,
    /// `333`, `333.hula` or `333.hula.atlas`
    pub(crate) device: String,
    /// Which of its services, by name or by port
    #[arg(default_value = daemon::device_file::SSH_SERVICE, value_name = "SERVICE|PORT", value_parser = service::parse)]
    pub(crate) service: Label,
}

/// Let ssh, scp, sftp, rsync, git and editors find devices by their full names.
///
/// Prints the settings for ssh: devices are reached through `tunnel stdio`, with this controller's key and its file of host keys.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel ssh-config --install\n  ssh atlas@333.hula.atlas\n  rsync -a data/ atlas@333.hula.atlas:data/"
)]
pub(crate) struct SshConfig {
    /// Write them below ~/.ssh, and include them at the top of ~/.ssh/config; nothing else there changes
    #[arg(long, conflicts_with = "remove")]
    pub(crate) install: bool,
    /// Take away what `--install` has written
    #[arg(long)]
    pub(crate) remove: bool,
    /// Have `333.hula` as a name too; not where `hula` is a domain of the Internet
    #[arg(long)]
    pub(crate) short: bool,
}

/// Give up this controller's tunnels to a device and end its sessions there.
///
/// Other controllers' sessions go on.
#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    /// Speak the original's plain grammar with the device
    #[arg(long)]
    pub(crate) plain: bool,
    /// `333`, `333.hula` or `333.hula.atlas`
    pub(crate) device: String,
}

/// Show the devices of this controller's system.
///
/// Which are online, since when, and the versions of their agents. Of a device whose link was lost it is only known when
/// it had come online: that time has a `<` before it.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
