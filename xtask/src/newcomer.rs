//! `cargo xtask newcomer`: somebody who has never heard of us clones, and types the README's first command.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::arguments::Arguments;
use crate::step::{ChoreError, cargo, step};

pub(crate) fn command(mut arguments: Arguments) -> Result<(), ChoreError> {
    let optimised = arguments.flag("--release");
    arguments.none_left()?;
    run(optimised)
}

/// Clones the last commit into a temporary directory, and runs there what its README shows first: as it stands, or without
/// optimisation, which takes a fraction of the time when this checkout is built already.
pub(crate) fn run(optimised: bool) -> Result<(), ChoreError> {
    let failed =
        |error: std::io::Error| ChoreError::Failed(format!("a newcomer's folder: {error}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    let clone = folder.path().join("tunnel");
    let root = cargo(&[])
        .get_current_dir()
        .unwrap_or(Path::new("."))
        .to_owned();
    let mut git = Command::new("git");
    step(
        "clone",
        git.args(["clone", "--quiet"]).arg(&root).arg(&clone),
    )?;
    let readme = fs::read_to_string(clone.join("README.md")).map_err(failed)?;
    let line = first_command(&readme)
        .ok_or_else(|| ChoreError::Failed("the README shows no command".to_owned()))?;
    let words: Vec<&str> = line
        .split_whitespace()
        .filter(|word| optimised || *word != "--release")
        .collect();
    let Some(("cargo", words)) = words.split_first().map(|(first, rest)| (*first, rest)) else {
        return Err(ChoreError::Failed(format!("`{line}` is not of cargo")));
    };
    let mut first = cargo(words);
    first.current_dir(&clone);
    if !optimised {
        first.env("CARGO_TARGET_DIR", root.join("target"));
    }
    step(line, &mut first)
}

fn first_command(readme: &str) -> Option<&str> {
    readme.lines().find_map(|line| line.strip_prefix("$ "))
}
