//! The commands of a realm's admin.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use daemon::registry_place::Repository;
use protocol::{ClientIdSuffix, Label};

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
    /// Where to answer /healthz, /readyz and /metrics; default: what server.toml says
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<SocketAddr>,
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
