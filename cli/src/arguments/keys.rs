//! What root has a user do.

use std::path::PathBuf;

use clap::Args;

/// Write the `authorized_keys` of the user who runs this, from standard input.
#[derive(Debug, Args)]
pub(crate) struct WriteKeys {
    /// The home directory
    pub(crate) home: PathBuf,
    /// The word at the end of our lines; without it only the folder is made
    pub(crate) marker: Option<String>,
}
