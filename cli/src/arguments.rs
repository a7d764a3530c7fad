//! The command line.

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::logging::{self, LogFilterError, LogFormat, Verbosity};
use daemon::registry_place::Repository;
use protocol::{ClientIdSuffix, DeviceId, Label};

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
    /// The device's port at the proxy, when it is known otherwise: then nothing is ordered
    #[arg(long, conflicts_with = "plain")]
    pub(crate) port: Option<NonZeroU16>,
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
    /// The device's port at the proxy, when it is known otherwise: then nothing is ordered
    #[arg(long, conflicts_with = "plain")]
    pub(crate) port: Option<NonZeroU16>,
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
    /// The system that the computer belongs to; default: what the directory says
    #[arg(requires = "device")]
    pub(crate) system: Option<Label>,
    /// The computer's name in its system; default: what the directory says
    pub(crate) device: Option<Label>,
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
    /// Get a new certificate with a new key; the old ones are used until the new ones have proved to work
    #[arg(long)]
    pub(crate) renew: bool,
    /// Do not log in to broker and proxy at the end, for a computer that cannot reach them yet
    #[arg(long)]
    pub(crate) no_proof: bool,
}

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
#[command(after_help = "Example:\n  sudo tunnel agent sync-keys --user atlas --every 5m")]
pub(crate) struct SyncKeys {
    /// Whose `authorized_keys`
    #[arg(long, value_name = "NAME")]
    pub(crate) user: String,
    /// Go on, and look again this often; otherwise once
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Option<humantime::Duration>,
}

/// Run a realm's proxy alone, or bring it the devices' keys.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Proxy {
    #[command(subcommand)]
    pub(crate) command: Option<ProxyCommand>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// Run the proxy, which is also what no further word means
    Serve(Serve),
    /// Bring the keys of permitted devices from the registry to the proxy
    Sync(ProxySync),
    /// Make the account of a system, for a stock sshd that serves as the proxy
    AddSystem(AddSystem),
    HostKey(HostKey),
}

/// Show the proxy's host keys, or replace them without locking anybody out.
///
/// First `next` makes the key that comes and names it in realm.toml. When every computer has that realm.toml, `switch` takes
/// the new key into use at the proxy's next start. When nothing uses the old realm.toml any more, `retire` strikes the old
/// key out of it.
#[derive(Debug, Args)]
pub(crate) struct HostKey {
    #[command(subcommand)]
    pub(crate) command: Option<HostKeyCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostKeyCommand {
    /// Make the next host key, and name it in realm.toml beside the present one
    Next,
    /// Use the next host key from the proxy's next start on
    Switch,
    /// Strike the host keys that are not used any more out of realm.toml
    Retire,
    /// Make a second host key, for clients that do not know Ed25519
    Add {
        /// Of which type
        kind: OldKey,
    },
}

/// A type of host key for old clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OldKey {
    /// ECDSA, P-256
    Ecdsa,
    /// RSA, 3072 bits
    Rsa,
}

/// Bring the keys of permitted devices from the registry to the proxy.
///
/// Added keys work at once; withdrawn and revoked ones end their connections. `tunnel serve` does this by itself.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel proxy sync --every 5m\n  sudo tunnel proxy sync --openssh --every 5m"
)]
pub(crate) struct ProxySync {
    /// Go on, and look again this often; otherwise once
    #[arg(long, value_name = "TIME")]
    pub(crate) every: Option<humantime::Duration>,
    /// Keep the `authorized_keys` of the systems' accounts on this computer, whose stock sshd is the proxy
    #[arg(long)]
    pub(crate) openssh: bool,
}

/// Make the account of a system, for a stock sshd that serves as the proxy.
///
/// It has no password and no shell; all it can do is what the lines allow that `tunnel proxy sync --openssh` writes. What is
/// there already is kept.
#[derive(Debug, Args)]
pub(crate) struct AddSystem {
    /// The system, which is also the account's name
    pub(crate) system: Label,
    /// Take an account over that was not made for a system, such as one of the original's
    #[arg(long)]
    pub(crate) adopt: bool,
}

/// Write the `authorized_keys` of the user who runs this, from standard input.
#[derive(Debug, Args)]
pub(crate) struct WriteKeys {
    /// The home directory
    pub(crate) home: PathBuf,
    /// The word at the end of our lines; without it only the folder is made
    pub(crate) marker: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RealmCommand {
    Init(RealmInit),
    /// Make a realm.toml of the original's system.txt
    Import(RealmImport),
}

/// Make a realm.toml of the original's system.txt.
///
/// That file does not hold all that is needed: what is missing is named, with what there is printed for you to complete.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ssh-keyscan proxy.example.org > host-keys\n  tunnel realm import system.txt --ca ca.pem --host-keys host-keys"
)]
pub(crate) struct RealmImport {
    /// The original's file
    pub(crate) file: PathBuf,
    /// The certificate of the authority that signs the realm's devices, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The certificates of the authorities of the broker, if they are others, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) broker_ca: Option<PathBuf>,
    /// The host keys of the proxy, as `ssh-keyscan` prints them
    #[arg(long, value_name = "FILE")]
    pub(crate) host_keys: Option<PathBuf>,
    /// Where to write the file
    #[arg(long, value_name = "FILE", default_value = "realm.toml")]
    pub(crate) out: PathBuf,
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
    /// Encrypt the authority's key with a passphrase, which is asked for, or read from the file that
    /// `TUNNEL_CA_PASSPHRASE_FILE` names
    #[arg(long)]
    pub(crate) encrypt_ca: bool,
    /// The repository whose issues are the registry, instead of a directory
    #[arg(long, value_name = "OWNER/REPO")]
    pub(crate) github: Option<Repository>,
    /// The GitHub user whose token the signer has; default: the repository's owner, which must then be a user
    #[arg(long, value_name = "LOGIN", requires = "github", value_parser = daemon::registry_place::login)]
    pub(crate) signer: Option<String>,
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
    /// Show what was signed: name, serial number, end, and whether it is good
    List(SignerList),
    /// Shut a device out: revoke its certificates and withdraw its keys
    Revoke(SignerDevice),
    /// Let a device that was shut out enroll again, with new keys
    Readmit(SignerDevice),
}

/// Sign the requests of permitted devices as they come, until SIGTERM.
///
/// Who is permitted stands in the realm's trust.toml. At a terminal you are asked about whom nobody has decided yet, once
/// for each user, and the answer is remembered; without a terminal they are refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tunnel signer run --every 60s\n  tunnel signer run --once")]
pub(crate) struct SignerRun {
    /// Deal with the requests that are there, print what became of each, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// How often to look; default: as often as the registry may be asked
    #[arg(long, value_name = "TIME", conflicts_with = "once")]
    pub(crate) every: Option<humantime::Duration>,
    /// How long certificates are good, in days; default: 397. AWS IoT Core has its own, until 2049
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub(crate) days: Option<u16>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Keep a token for GitHub, read from standard input, in this directory
    Login,
    /// Show what is in the registry: number, title, author and state
    List(RegistryList),
    /// Print an entry as it is served
    Show(RegistryShow),
    /// Withdraw an entry: a file is removed, an issue closed
    Delete(RegistryDelete),
}

/// Show what is in the registry: number, title, author and state.
#[derive(Debug, Args)]
pub(crate) struct RegistryList {
    /// Only titles that end like this, e.g. `.hula.atlas.sshkey.pub`
    pub(crate) suffix: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print an entry as it is served.
#[derive(Debug, Args)]
pub(crate) struct RegistryShow {
    /// Its title, e.g. `333.hula.atlas.x509.cert`
    pub(crate) title: String,
}

/// Withdraw an entry: a file is removed, an issue closed.
#[derive(Debug, Args)]
pub(crate) struct RegistryDelete {
    /// Its number, or its title where there are no numbers
    pub(crate) entry: String,
}

/// Show what was signed: name, serial number, end, and whether it is good.
#[derive(Debug, Args)]
pub(crate) struct SignerList {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A device by its whole name.
#[derive(Debug, Args)]
pub(crate) struct SignerDevice {
    /// `DEVICE.SYSTEM.REALM`, e.g. `333.hula.atlas`
    pub(crate) device: DeviceId,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoliciesCommand {
    Aws(PoliciesAws),
    /// The access control list for mosquitto, for all devices whose certificates are in the registry
    Mosquitto,
    /// The accounts and users for nats-server, for all devices whose certificates are in the registry
    Nats,
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
