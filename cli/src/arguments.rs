//! The command line.

#[cfg(feature = "agent")]
mod agent;
#[cfg(feature = "builtin-ssh")]
mod builtin_ssh;
#[cfg(feature = "controller")]
mod completing;
#[cfg(feature = "controller")]
mod connecting;
#[cfg(all(feature = "agent", feature = "controller", feature = "realm"))]
mod demo;
mod doctor;
mod enroll;
#[cfg(all(test, feature = "agent", feature = "controller", feature = "realm"))]
mod help;
#[cfg(any(feature = "agent", feature = "realm"))]
mod keys;
#[cfg(feature = "realm")]
mod proxy;
#[cfg(feature = "realm")]
mod realm;
#[cfg(feature = "github")]
mod registry;
#[cfg(feature = "realm")]
mod signing;
#[cfg(feature = "controller")]
mod ssh_options;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use daemon::logging::{self, LogFilterError, LogFormat, Verbosity};

#[cfg(feature = "agent")]
pub(crate) use agent::{Agent, AgentCommand, Install, SyncKeys, Uninstall};
#[cfg(feature = "builtin-ssh")]
pub(crate) use builtin_ssh::{BuiltinSsh, Session};
#[cfg(feature = "controller")]
pub(crate) use completing::{Complete, Completions, Shell};
#[cfg(feature = "controller")]
pub(crate) use connecting::{Connect, Disconnect, Forward, List, SshConfig, Stdio, Which};
#[cfg(all(feature = "agent", feature = "controller", feature = "realm"))]
pub(crate) use demo::Demo;
pub(crate) use doctor::Doctor;
pub(crate) use enroll::Enroll;
#[cfg(any(feature = "agent", feature = "realm"))]
pub(crate) use keys::WriteKeys;
#[cfg(feature = "realm")]
pub(crate) use proxy::{
    AddSystem, HostKey, HostKeyCommand, OldKey, Proxy, ProxyCommand, ProxySync,
};
#[cfg(feature = "realm")]
pub(crate) use realm::{PoliciesAws, PoliciesCommand, RealmCommand, RealmImport, RealmInit, Serve};
#[cfg(feature = "github")]
pub(crate) use registry::{RegistryCommand, RegistryDelete, RegistryList, RegistryShow};
#[cfg(feature = "realm")]
pub(crate) use signing::{SignerCommand, SignerDevice, SignerList, SignerRun};

/// Get into a computer behind somebody else's NAT.
///
/// A remote computer runs `tunnel agent`. From a controller, `tunnel connect USER@DEVICE` orders a tunnel to it and logs in
/// with ssh, end to end encrypted. `tunnel demo` shows all of it on this machine.
#[derive(Debug, Parser)]
#[command(name = "tunnel", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    /// The directory of this device, or of the realm for commands that serve one
    ///
    /// Default for devices: /etc/tunnel for root, otherwise ~/.config/tunnel; for realms: the present directory.
    #[arg(long, global = true, env = "TUNNEL_DIR", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Say more; twice for all that is going on
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "human")]
    log_format: Format,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Lines of text
    Human,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[cfg(feature = "controller")]
    Connect(Box<Connect>),
    #[cfg(feature = "controller")]
    Forward(Forward),
    #[cfg(feature = "controller")]
    SshConfig(SshConfig),
    #[cfg(feature = "controller")]
    Stdio(Stdio),
    #[cfg(feature = "controller")]
    Disconnect(Disconnect),
    #[cfg(feature = "controller")]
    List(List),
    Enroll(Enroll),
    Doctor(Doctor),
    #[cfg(feature = "agent")]
    Agent(Agent),
    #[cfg(feature = "realm")]
    /// Make a realm
    #[command(subcommand)]
    Realm(RealmCommand),
    #[cfg(feature = "realm")]
    /// Run a realm: broker, proxy and signer in one process
    Serve(Serve),
    #[cfg(feature = "realm")]
    /// Run a realm's broker alone
    Broker(Serve),
    #[cfg(feature = "realm")]
    /// Run a realm's proxy alone, or bring it the devices' keys
    Proxy(Proxy),
    #[cfg(feature = "realm")]
    /// Sign certificates
    #[command(subcommand)]
    Signer(SignerCommand),
    #[cfg(feature = "github")]
    /// Look after the registry where keys, requests and certificates are exchanged
    #[command(subcommand)]
    Registry(RegistryCommand),
    #[cfg(feature = "realm")]
    /// Print the access rules for a broker that somebody else runs
    #[command(subcommand)]
    Policies(PoliciesCommand),
    #[cfg(all(feature = "agent", feature = "controller", feature = "realm"))]
    Demo(Demo),
    #[cfg(feature = "builtin-ssh")]
    /// Be a process of the built-in ssh
    #[command(subcommand, hide = true)]
    BuiltinSsh(BuiltinSsh),
    #[cfg(feature = "controller")]
    Completions(Completions),
    #[cfg(feature = "controller")]
    Complete(Complete),
    #[cfg(any(feature = "agent", feature = "realm"))]
    /// Write the `authorized_keys` of the user who runs this, from standard input
    #[command(hide = true)]
    WriteKeys(WriteKeys),
    /// Write manual pages and completions of the shells below a folder, as they lie below /usr/share
    #[cfg(feature = "pages")]
    #[command(hide = true)]
    Pages {
        /// The folder
        folder: PathBuf,
    },
    /// Pass a stream on to ssh
    #[cfg(feature = "controller")]
    #[command(hide = true)]
    Fdpass {
        /// The socket on which it waits
        socket: PathBuf,
    },
}

impl Arguments {
    /// Starts logging as the arguments ask for.
    pub(crate) fn start_logging(&self) -> Result<(), LogFilterError> {
        let format = match self.log_format {
            Format::Human => LogFormat::Human,
            Format::Json => LogFormat::Json,
        };
        let verbosity = if self.command.is_daemon() {
            Verbosity::Daemon
        } else {
            Verbosity::Command
        };
        logging::start(format, verbosity, self.verbose)
    }
}

impl Command {
    /// Whether it runs until it is told to stop.
    fn is_daemon(&self) -> bool {
        match self {
            #[cfg(feature = "agent")]
            Self::Agent(_) => true,
            #[cfg(feature = "builtin-ssh")]
            Self::BuiltinSsh(_) => false,
            #[cfg(feature = "realm")]
            Self::Serve(_) | Self::Broker(_) | Self::Proxy(_) | Self::Signer(_) => true,
            #[cfg(feature = "controller")]
            Self::Connect(_)
            | Self::Forward(_)
            | Self::SshConfig(_)
            | Self::Stdio(_)
            | Self::Disconnect(_)
            | Self::List(_)
            | Self::Completions(_)
            | Self::Complete(_)
            | Self::Fdpass { .. } => false,
            #[cfg(feature = "github")]
            Self::Registry(_) => false,
            #[cfg(feature = "realm")]
            Self::Realm(_) | Self::Policies(_) => false,
            #[cfg(all(feature = "agent", feature = "controller", feature = "realm"))]
            Self::Demo(_) => false,
            #[cfg(any(feature = "agent", feature = "realm"))]
            Self::WriteKeys(_) => false,
            #[cfg(feature = "pages")]
            Self::Pages { .. } => false,
            Self::Enroll(_) | Self::Doctor(_) => false,
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
   0  it worked
   1  it failed
  64  the command line is wrong
  65  what somebody else sent is wrong, or a host key has changed
  69  the device is offline, or broker or proxy cannot be reached
  77  not permitted, or there is no such device
  78  this computer's configuration, keys or certificate are missing or wrong
`connect` otherwise ends with the remote command's code, and with 255 when ssh fails.";
