//! One program run as a step of a chore.

use std::process::Command;

use e2e::Stopwatch;

/// Why a chore was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChoreError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// A step ran and failed; its own output says why.
    #[error("failed: {0}")]
    Failed(String),
    /// A program is needed that is not there.
    #[error("{0}")]
    Missing(String),
    /// A bench has missed a goal.
    #[error("a goal was missed: {0}")]
    GoalMissed(String),
}

/// Runs a step, its output being the chore's, and says how long it took.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<(), ChoreError> {
    println!("\n== {name}");
    let watch = Stopwatch::start();
    let succeeded = command.status().is_ok_and(|status| status.success());
    println!(
        "== {name}: {} in {:.1?}",
        if succeeded { "ok" } else { "FAILED" },
        watch.elapsed()
    );
    if succeeded {
        Ok(())
    } else {
        Err(ChoreError::Failed(name.to_owned()))
    }
}

/// Whether a command runs and succeeds, its output being nobody's.
pub(crate) fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Builds the program that a bench measures, unless `TUNNEL_BIN` names another build.
pub(crate) fn measured_build() -> Result<(), ChoreError> {
    if std::env::var_os("TUNNEL_BIN").is_none() {
        e2e::build_tunnel(&["--release", "--package", "cli", "--bin", "tunnel"])
            .map_err(ChoreError::Failed)?;
    }
    Ok(())
}

/// Fails a bench that was asked to look at its goals, and has missed these.
pub(crate) fn goals<'a>(
    missed: impl Iterator<Item = &'a str>,
    check: bool,
) -> Result<(), ChoreError> {
    let missed: Vec<&str> = missed.collect();
    if check && !missed.is_empty() {
        return Err(ChoreError::GoalMissed(missed.join(", ")));
    }
    Ok(())
}

/// A `cargo` at the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = e2e::cargo();
    command.args(arguments);
    command
}
