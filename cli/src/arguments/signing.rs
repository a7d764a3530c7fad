//! The commands of who signs.

use clap::{Args, Subcommand};
use protocol::DeviceId;

use crate::arguments::realm::Serve;

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
