//! The commands of the registry.

use clap::{Args, Subcommand};

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
