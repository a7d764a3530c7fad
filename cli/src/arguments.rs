//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::logging::{self, LogFilterError, LogFormat, Verbosity};
use protocol::{ClientIdSuffix, Label};

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
    /// Run a realm's proxy alone
    Proxy(Serve),
    /// Sign certificates
    #[command(subcommand)]
    Signer(SignerCommand),
    /// Print the access rules for a broker that somebody else runs
    #[command(subcommand)]
    Policies(PoliciesCommand),
    Demo(Demo),
    /// Pass a stream on to ssh
    #[command(hide = true)]
    Fdpass {
        /// The socket on which it waits
        socket: PathBuf,
    },
}

/// Log in to a remote computer, or run a command there.
///
/// Orders a tunnel, and runs ssh through it with this controller's key. The exit code is the remote command's.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel connect atlas@333\n  tunnel connect atlas@333 -- journalctl -f"
)]
pub(crate) struct Connect {
    /// Print how long each step took, as JSON on standard error
    #[arg(long)]
    pub(crate) timing: bool,
    /// Speak the original's plain grammar with the device
    #[arg(long)]
    pub(crate) plain: bool,
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
    after_help = "Examples:\n  ssh -o ProxyCommand='tunnel stdio %h' atlas@333.hula.atlas\n  scp -o ProxyCommand='tunnel stdio %h' file atlas@333.hula.atlas:"
)]
pub(crate) struct Stdio {
    /// Print how long each step took, as JSON on standard error
    #[arg(long)]
    pub(crate) timing: bool,
    /// Speak the original's plain grammar with the device
    #[arg(long)]
    pub(crate) plain: bool,
    /// `333`, `333.hula` or `333.hula.atlas`
    pub(crate) device: String,
    /// Which of its services
    #[arg(default_value = daemon::device_file::SSH_SERVICE)]
    pub(crate) service: Label,
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

/// Make this computer's keys, hand in its request, and install its certificate.
///
/// It can be repeated: what is there already is kept. A name that begins with `controller` makes a controller, which may
/// order tunnels; all others are remote computers, which may only serve.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tunnel enroll hula 333 --realm realm.toml")]
pub(crate) struct Enroll {
    /// The system that the computer belongs to
    pub(crate) system: Label,
    /// The computer's name in its system
    pub(crate) device: Label,
    /// The realm's file, from its admin; needed the first time
    #[arg(long, value_name = "FILE")]
    pub(crate) realm: Option<PathBuf>,
    /// The registry's directory as this computer sees it; default: the one that realm.toml names
    #[arg(long, value_name = "DIR")]
    pub(crate) registry: Option<PathBuf>,
    /// How long to wait for the signer
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(crate) wait: humantime::Duration,
    /// Take the name over from a computer that has enrolled under it before
    #[arg(long)]
    pub(crate) replace: bool,
}

/// Serve controllers on this remote computer.
///
/// Until SIGTERM; without a network it waits for one, for ever.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Only check configuration, keys and certificate
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RealmCommand {
    Init(RealmInit),
}

/// Make a realm: authority, broker certificate, proxy host key, registry, and the realm.toml for everybody.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tunnel realm init atlas --proxy proxy.example.org\n  tunnel serve --dir atlas"
)]
pub(crate) struct RealmInit {
    /// The realm's name
    pub(crate) name: Label,
    /// The host that devices and controllers reach the proxy at, a name or an address
    #[arg(long, value_name = "HOST")]
    pub(crate) proxy: String,
    /// The host of the broker; default: the proxy's
    #[arg(long, value_name = "HOST")]
    pub(crate) broker: Option<String>,
    /// The proxy's port
    #[arg(long, value_name = "PORT", default_value_t = 2222, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) proxy_port: u16,
    /// The broker's port
    #[arg(long, value_name = "PORT", default_value_t = 8883, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) broker_port: u16,
    /// The address that both listen on
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub(crate) listen: std::net::IpAddr,
    /// What MQTT client ids have behind the device's id, with a leading dot
    #[arg(long, value_name = "SUFFIX", default_value = "")]
    pub(crate) client_id_suffix: ClientIdSuffix,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Serve a realm's directory until SIGTERM.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Only check the realm's files
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SignerCommand {
    Run(SignerRun),
}

/// Sign the requests of permitted devices as they come.
///
/// Until SIGTERM. A target's request may come from whoever can write to the registry, a controller's only from root, the
/// signer's own user, and the users that `server.toml` names.
#[derive(Debug, Args)]
pub(crate) struct SignerRun {
    /// Deal with the requests that are there, print what became of each, and end
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoliciesCommand {
    Aws(PoliciesAws),
    /// The access control list for mosquitto, for all devices whose certificates are in the registry
    Mosquitto,
}

/// The two policy documents for AWS IoT Core, as one JSON object by policy name.
#[derive(Debug, Args)]
pub(crate) struct PoliciesAws {
    /// The AWS region
    #[arg(long)]
    pub(crate) region: String,
    /// The AWS account
    #[arg(long)]
    pub(crate) account: String,
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
            | Command::Demo(_)
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
