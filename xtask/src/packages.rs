//! The Debian packages that the end-to-end tests need.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use e2e::{Packages, missing_tools};

use crate::step::{ChoreError, step};

/// Installs what is missing when this is Debian and we are root; else says exactly what is missing.
pub(crate) fn ensure() -> Result<(), ChoreError> {
    let packages: BTreeSet<&str> = missing_tools().iter().map(|tool| tool.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.iter().copied().collect::<Vec<_>>().join(" ");
    if Path::new("/usr/bin/apt-get").exists() && is_root() {
        println!("installing {list}");
        if step("apt-get install", &mut install(&packages)).is_err() {
            // The package lists of a fresh image are old or empty.
            step("apt-get update", apt_get().arg("update"))?;
            step("apt-get install", &mut install(&packages))?;
        }
    }
    let missing: Vec<_> = missing_tools().iter().map(|tool| tool.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ChoreError::Missing(format!(
        "the end-to-end tests need {}, which are not installed\nhint: as root, `apt-get install {list}`; \
         or `cargo xtask test --fast` for the tests that need none of them",
        missing.join(", ")
    )))
}

/// Installs what the tests need of the Python and Node package indexes.
pub(crate) fn ensure_foreign() -> Result<(), ChoreError> {
    for set in Packages::ALL {
        set.install()
            .map_err(|error| ChoreError::Missing(error.to_string()))?;
    }
    Ok(())
}

fn install(packages: &BTreeSet<&str>) -> Command {
    let mut command = apt_get();
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    command
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // In run level 1, Debian's packages do not start their services: the tests want the programs only.
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    command
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
