//! What makes a computer a device of a realm.

use std::path::PathBuf;

use clap::Args;
use protocol::Label;

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
