//! Programs from the Python package index, each in an environment of its own beside the build.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{run, tool};

/// The program of this name, from the package of this name and version, installed when it is not there yet.
///
/// # Panics
/// When it cannot be installed.
#[track_caller]
pub fn python_tool(name: &str, version: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/python")
        .join(format!("{name}-{version}"));
    let program = folder.join("bin").join(name);
    fs::create_dir_all(&folder).expect("the build's directory is writable");
    // Tests of other processes may want it at the same time.
    let lock =
        File::create(folder.with_extension("lock")).expect("the build's directory is writable");
    lock.lock().expect("a lock can be waited for");
    if !program.is_file() {
        let mut make = Command::new(tool("python3"));
        run(make.args(["-m", "venv"]).arg(&folder), INSTALL).success();
        let mut install = Command::new(folder.join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check"]);
        run(install.arg(format!("{name}=={version}")), INSTALL).success();
    }
    program
}

/// A download of some megabytes.
const INSTALL: Duration = Duration::from_mins(1);
