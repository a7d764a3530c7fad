//! `cargo xtask ci`: everything that has to hold before a change goes in.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::Stopwatch;

use crate::arguments::Arguments;
use crate::newcomer;
use crate::step::{ChoreError, cargo, step, works};
use crate::test::{self, FEATURES};

/// Seconds that each fuzz target runs: enough to meet again whatever a change has broken in a parser of a few hundred
/// lines, while all targets together stay within minutes.
const FUZZ_SECONDS: u32 = 20;

pub(crate) fn command(arguments: Arguments) -> Result<(), ChoreError> {
    arguments.none_left()?;
    let watch = Stopwatch::start();
    step("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    step(
        "lockfile is up to date",
        cargo(&["metadata", "--locked", "--format-version", "1"])
            .stdout(std::process::Stdio::null()),
    )?;
    step(
        "lints",
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            FEATURES,
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    step(
        "lints of the program without its features",
        &mut cargo(&[
            "clippy",
            "--package",
            "cli",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    for role in ["agent", "controller", "realm"] {
        step(
            &format!("lints of the program for `{role}` alone"),
            &mut cargo(&[
                "clippy",
                "--package=cli",
                "--locked",
                "--no-default-features",
                &format!("--features={role}"),
                "--",
                "-D",
                "warnings",
            ]),
        )?;
    }
    step(
        "documentation",
        cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    deny()?;
    test::run(false, &[])?;
    newcomer::run(false)?;
    fuzz()?;
    println!("\nall checks passed in {:.1?}", watch.elapsed());
    Ok(())
}

/// Licences, banned and doubled crates, sources, and known vulnerabilities.
fn deny() -> Result<(), ChoreError> {
    if !works(&mut cargo(&["deny", "--version"])) {
        println!("\n== licences and bans: NOT CHECKED, cargo-deny is not installed");
        return Ok(());
    }
    step(
        "licences and bans",
        &mut cargo(&["deny", "check", "bans", "licenses", "sources"]),
    )?;
    // The list of vulnerabilities has to be fetched, which is not possible everywhere.
    if works(&mut cargo(&["deny", "fetch", "db"])) {
        step("advisories", &mut cargo(&["deny", "check", "advisories"]))
    } else {
        println!("\n== advisories: NOT CHECKED, the database cannot be fetched");
        Ok(())
    }
}

/// Each fuzz target for a bounded time, where the tools for it are.
fn fuzz() -> Result<(), ChoreError> {
    let listed = fuzz_command(&["list"]).output();
    let targets = match listed {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>(),
        Ok(_) | Err(_) => {
            println!(
                "\n== fuzzing: NOT RUN, it needs cargo-fuzz and a nightly toolchain; \
                 the property tests over arbitrary bytes stood in"
            );
            return Ok(());
        }
    };
    let root = cargo(&[])
        .get_current_dir()
        .unwrap_or(Path::new("."))
        .to_owned();
    for target in targets {
        let limit = format!("-max_total_time={FUZZ_SECONDS}");
        // What is found goes to the first folder; the seeds, which are checked in, are only read.
        let (corpus, seeds) = (
            format!("fuzz/corpus/{target}"),
            format!("fuzz/seeds/{target}"),
        );
        fs::create_dir_all(root.join(&corpus))
            .map_err(|error| ChoreError::Failed(format!("cannot make `{corpus}`: {error}")))?;
        step(
            &format!("fuzz {target}"),
            &mut fuzz_command(&["run", &target, &corpus, &seeds, "--", &limit]),
        )?;
    }
    Ok(())
}

fn fuzz_command(arguments: &[&str]) -> Command {
    // rustup's `cargo` takes the toolchain as its first argument; the toolchain's own, which runs this, cannot.
    let ours = cargo(&[]);
    let mut fuzz = Command::new("cargo");
    for (name, _) in ours.get_envs().filter(|(_, value)| value.is_none()) {
        fuzz.env_remove(name);
    }
    if let Some(root) = ours.get_current_dir() {
        fuzz.current_dir(root);
    }
    // Set for the toolchain that runs this, and it would win over `+nightly`.
    fuzz.env_remove("RUSTUP_TOOLCHAIN")
        .args(["+nightly", "fuzz"])
        .args(arguments);
    fuzz
}
