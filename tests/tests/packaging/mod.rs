//! What is installed, and how: units, the Debian package, `tunnel agent install`, and the agent alone.

mod agent_alone;
mod guide;
mod install;
mod logins;
mod package;
mod units;

use std::path::{Path, PathBuf};

/// Those that the tests below type: two for a remote computer, one for a server.
#[test]
fn every_block_of_the_page_is_typed() {
    let typed = guide::Guide::blocks("remote").len() + guide::Guide::blocks("server").len();
    assert_eq!((typed, guide::Guide::count()), (3, 3));
}

/// The folder with what is packed.
fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}
