//! The commands of people who connect.

use std::ffi::OsString;
use std::num::NonZeroU16;

use clap::Args;
use controller::Wish;
use protocol::Label;

use super::ssh_options::SshOptions;
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
/// Orders a tunnel, and runs ssh through it with this controller's key. The exit code is the remote command's. When the tunnel
/// falls under a shell or a forwarding at a terminal, it connects again until Ctrl-C; a remote command is never run twice.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel connect atlas@333\n  tunnel connect atlas@333 -- journalctl -f\n  tunnel connect -N -L 8080:192.168.1.9:80 atlas@333"
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
    // The last, since its heading holds for all that follow.
    #[command(flatten)]
    pub(crate) ssh: SshOptions,
}

impl Connect {
    /// Whether something is run there, in place of a shell.
    pub(crate) fn has_command(&self) -> bool {
        !self.command.is_empty() || self.ssh.has_command()
    }
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

/// Open local ports that lead to a device's services.
///
/// On 127.0.0.1, until Ctrl-C. Each connection has a stream of its own; the tunnel comes back by itself when the device
/// or its network was away.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel forward 333 web\n  tunnel forward 333 8081:web 2222:ssh 5432"
)]
pub(crate) struct Forward {
    /// Print one line of JSON: an array with the address of each
    #[arg(long)]
    pub(crate) json: bool,
    /// `333`, `333.hula` or `333.hula.atlas`
    pub(crate) device: String,
    /// Which services, by name or by the device's port; without LOCAL, at any port that is free
    #[arg(required = true, num_args = 1..=protocol::limits::MAX_SERVICES, value_name = "[LOCAL:]SERVICE|PORT", value_parser = service::parse_wish)]
    pub(crate) wishes: Vec<Wish>,
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
/// Which are online, since when, their agents' versions and proxies, and who is connected. Of a device whose link was lost it is
/// only known when it had come online: that time has a `<` before it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel list '3*' --online\n  tunnel list --watch\n  tunnel list --watch --json | while read -r change; do …; done"
)]
pub(crate) struct List {
    /// Print JSON; with `--watch` one object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Go on and show each change: on a terminal a screen that is kept up to date, otherwise a line for each
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// Which devices are listed.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only those that are online
    #[arg(long, conflicts_with = "offline")]
    pub(crate) online: bool,
    /// Only those that are not
    #[arg(long)]
    pub(crate) offline: bool,
    /// Only devices of such a name, or such a full name: `*` is anything, `?` any one character
    pub(crate) pattern: Option<String>,
}
