//! The commands of a proxy's admin.

use clap::{Args, Subcommand, ValueEnum};
use protocol::Label;

use crate::arguments::realm::Serve;

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
/// the new key into use when the proxy is reloaded. When nothing uses the old realm.toml any more, `retire` strikes the old
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
    /// Use the next host key, from the proxy's next reload on
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
