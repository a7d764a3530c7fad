//! The command that looks for what is wrong.

use clap::Args;

/// Look for what keeps this computer from connecting, or from being connected to.
///
/// Each leg of the way by name: what is right, what is wrong, and what to do about it. On a controller it goes as far as the login
/// banner of a DEVICE; on a remote computer as far as its own services. The last line is a number: 2 if all is well, 1 after a
/// warning, 0 after an error. The exit code is that of the first error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tunnel doctor 333\n  tunnel doctor --json | jq .result")]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// `333`, `333.hula` or `333.hula.atlas`; only from a controller
    pub(crate) device: Option<String>,
}
