//! What is installed, and how: units, the Debian package, `tunnel agent install`, and the agent alone.

mod agent_alone;
mod guide;
mod install;
mod package;
mod units;

use std::path::{Path, PathBuf};

/// The folder with what is packed.
fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}
