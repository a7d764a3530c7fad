//! The command line.

mod connecting;
mod device;
mod proxy;
mod realm;
mod signing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::logging::{self, LogFilterError, LogFormat, Verbosity};

pub(crate) use connecting::{Connect, Disconnect, List, Stdio};
pub(crate) use device::{Agent, AgentCommand, Enroll, SyncKeys};
pub(crate) use proxy::{
    AddSystem, HostKey, HostKeyCommand, OldKey, Proxy, ProxyCommand, ProxySync, WriteKeys,
};
pub(crate) use realm::{PoliciesAws, PoliciesCommand, RealmCommand, RealmImport, RealmInit, Serve};
pub(crate) use signing::{
    RegistryCommand, RegistryDelete, RegistryList, RegistryShow, SignerCommand, SignerDevice,
    SignerList, SignerRun,
};

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
    Connect(Connect),
    Stdio(Stdio),
    Disconnect(Disconnect),
    List(List),
    Enroll(Enroll),
    Agent(Agent),
    /// Make a realm
    #[command(subcommand)]
    Realm(RealmCommand),
    /// Run a realm: broker, proxy and signer in one process
    Serve(Serve),
    /// Run a realm's broker alone
    Broker(Serve),
    /// Run a realm's proxy alone, or bring it the devices' keys
    Proxy(Proxy),
    /// Sign certificates
    #[command(subcommand)]
    Signer(SignerCommand),
    /// Look after the registry where keys, requests and certificates are exchanged
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Print the access rules for a broker that somebody else runs
    #[command(subcommand)]
    Policies(PoliciesCommand),
    Demo(Demo),
    /// Write the `authorized_keys` of the user who runs this, from standard input
    #[command(hide = true)]
    WriteKeys(WriteKeys),
    /// Pass a stream on to ssh
    #[command(hide = true)]
    Fdpass {
        /// The socket on which it waits
        socket: PathBuf,
    },
}

/// Show everything on this machine: a realm, a remote computer, a connection.
///
/// In a temporary directory and on free ports; nothing else is touched, and everything is removed at the end.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep it running until Ctrl-C, and print the next command to type
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Arguments {
    /// Starts logging as the arguments ask for.
    pub(crate) fn start_logging(&self) -> Result<(), LogFilterError> {
        let format = match self.log_format {
            Format::Human => LogFormat::Human,
            Format::Json => LogFormat::Json,
        };
        let verbosity = match self.command {
            Command::Agent(_)
            | Command::Serve(_)
            | Command::Broker(_)
            | Command::Proxy(_)
            | Command::Signer(_) => Verbosity::Daemon,
            Command::Connect(_)
            | Command::Stdio(_)
            | Command::Disconnect(_)
            | Command::List(_)
            | Command::Enroll(_)
            | Command::Realm(_)
            | Command::Policies(_)
            | Command::Registry(_)
            | Command::Demo(_)
            | Command::WriteKeys(_)
            | Command::Fdpass { .. } => Verbosity::Command,
        };
        logging::start(format, verbosity, self.verbose)
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
