//! The programs that are handed out.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{cannot, workspace};
use crate::step::{ChoreError, cargo, step, works};

/// For whom a program is built.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The package: everything, with this system's C library. Its resolver knows all that the computer's administrator has
    /// set, and the server gives memory back by itself: docs/decisions/0019-memory-back.md.
    Packaged,
    /// Everything, for any Linux of this processor, without any library.
    Alone,
    /// The agent for small devices, likewise.
    Agent,
}

impl Kind {
    /// Builds it, and puts it into the folder.
    pub(super) fn build(self, out: &Path) -> Result<PathBuf, ChoreError> {
        if self.is_static() {
            ensure_static()?;
        }
        let triple = self.triple();
        let arguments = [
            "build",
            "--locked",
            "--package=cli",
            "--bin=tunnel",
            "--profile",
            self.profile(),
            "--target",
            &triple,
        ];
        step(
            &format!("build `{}`", self.file_name()),
            cargo(&arguments).args(self.features()),
        )?;
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace().join("target"), PathBuf::from);
        let built = target.join(&triple).join(self.profile()).join("tunnel");
        let to = out.join(self.file_name());
        fs::copy(&built, &to).map_err(|error| cannot("copy", &built, &error))?;
        Ok(to)
    }

    fn is_static(self) -> bool {
        match self {
            Self::Packaged => false,
            Self::Alone | Self::Agent => true,
        }
    }

    fn triple(self) -> String {
        let library = if self.is_static() { "musl" } else { "gnu" };
        format!("{ARCH}-unknown-linux-{library}")
    }

    fn profile(self) -> &'static str {
        match self {
            Self::Packaged | Self::Alone => "dist",
            Self::Agent => "dist-small",
        }
    }

    fn features(self) -> &'static [&'static str] {
        match self {
            Self::Packaged | Self::Alone => &[],
            Self::Agent => &["--no-default-features", "--features=agent"],
        }
    }

    fn file_name(self) -> String {
        match self {
            Self::Packaged => format!("tunnel-{ARCH}-gnu"),
            Self::Alone => format!("tunnel-{ARCH}"),
            Self::Agent => format!("tunnel-agent-{ARCH}"),
        }
    }
}

/// What a program without libraries is built with: Rust's own library for musl, and a C compiler for ring's few files.
fn ensure_static() -> Result<(), ChoreError> {
    let target = format!("{ARCH}-unknown-linux-musl");
    let installed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&target));
    if !installed {
        step(
            "rustup target add",
            Command::new("rustup").args(["target", "add", &target]),
        )?;
    }
    if works(Command::new("musl-gcc").arg("--version")) {
        return Ok(());
    }
    Err(ChoreError::Missing(
        "a program without libraries needs `musl-gcc`\nhint: as root, `apt-get install musl-tools`"
            .to_owned(),
    ))
}
