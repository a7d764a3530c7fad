//! Clients of others that no Debian package has: Python's and Node's, in a folder of the build.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{run, tool};

/// Python with packages of its index, each as `name==version`, in an environment of its own below `folder`. It is made when it
/// is not there; tests that ask at the same time wait for each other.
///
/// # Panics
/// When it cannot be made: then nothing of these clients can be shown.
#[track_caller]
pub fn python_with(folder: &Path, packages: &[&str]) -> PathBuf {
    let home = prepare(folder, "python", packages, |home| {
        let mut make = Command::new(tool("python3"));
        make.args(["-m", "venv"]).arg(home);
        let mut install = Command::new(home.join("bin/pip"));
        install
            .args([
                "install",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
            ])
            .args(packages);
        vec![make, install]
    });
    home.join("bin/python")
}

/// A folder with packages of npm, each as `name@version`, for `NODE_PATH`.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn node_modules_with(folder: &Path, packages: &[&str]) -> PathBuf {
    let home = prepare(folder, "node", packages, |home| {
        let mut install = Command::new(tool("npm"));
        install
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(home)
            .args(packages);
        vec![install]
    });
    home.join("node_modules")
}

/// Runs the commands that make a folder, unless it has been made for just these packages.
#[track_caller]
fn prepare(
    folder: &Path,
    name: &str,
    packages: &[&str],
    steps: impl Fn(&Path) -> Vec<Command>,
) -> PathBuf {
    fs::create_dir_all(folder).expect("the build's folder is writable");
    let lock = File::create(folder.join(format!("{name}.lock"))).expect("the folder is writable");
    lock.lock().expect("a file can be locked");
    let (home, mark) = (folder.join(name), folder.join(format!("{name}.made")));
    let wanted = packages.join("\n");
    if fs::read_to_string(&mark).is_ok_and(|made| made == wanted) {
        return home;
    }
    if home.exists() {
        fs::remove_dir_all(&home).expect("a folder that was not finished can be removed");
    }
    for mut step in steps(&home) {
        run(&mut step, INSTALLATION).success();
    }
    fs::write(&mark, wanted).expect("the folder is writable");
    home
}

/// How long one step may take: some ten megabytes over a slow line.
const INSTALLATION: Duration = Duration::from_secs(100);
