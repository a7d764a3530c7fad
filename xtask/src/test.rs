//! `cargo xtask test`: every test there is.

use e2e::Stopwatch;

use crate::arguments::Arguments;
use crate::packages;
use crate::step::{ChoreError, cargo, step, works};

pub(crate) fn command(mut arguments: Arguments) -> Result<(), ChoreError> {
    let fast = arguments.flag("--fast");
    run(fast, &arguments.rest()?)
}

/// Runs the tests; `fast` leaves the end-to-end tests out, and says so.
pub(crate) fn run(fast: bool, for_runner: &[String]) -> Result<(), ChoreError> {
    let watch = Stopwatch::start();
    // The test of the package makes one with what runs already; the build below may put another one in its place, after which
    // its name could not be asked for any more.
    let running = std::env::current_exe().ok();
    if !fast {
        packages::ensure()?;
        packages::ensure_foreign()?;
    }
    // Everything at once, so that no crate is built for two sets of features.
    println!("\n== build");
    let binary = e2e::build_tunnel(&["--workspace", "--all-targets", "--locked", FEATURES])
        .map_err(ChoreError::Failed)?;
    if !fast {
        // Its test would spend its time on this.
        e2e::agent_alone();
    }
    println!("== build: ok in {:.1?}", watch.elapsed());
    let mut tests = if works(&mut cargo(&["nextest", "--version"])) {
        let mut nextest = cargo(&["nextest", "run", "--workspace", "--locked", FEATURES]);
        if fast {
            nextest.args(["-E", "not (package(e2e) and binary(e2e))"]);
        }
        nextest
    } else {
        println!(
            "cargo-nextest is not installed: `cargo test` runs the tests, without limits of their time"
        );
        let mut test = cargo(&["test", "--workspace", "--locked", "--all-targets", FEATURES]);
        if fast {
            test.args(["--exclude", "e2e"]);
        }
        test
    };
    tests.args(for_runner).env("TUNNEL_BIN", binary);
    if let Some(running) = running {
        tests.env("TUNNEL_XTASK", running);
    }
    step("tests", &mut tests)?;
    step(
        "documentation tests",
        &mut cargo(&[
            "test",
            "--workspace",
            "--locked",
            "--doc",
            "--quiet",
            FEATURES,
        ]),
    )?;
    if fast {
        println!("\n--fast: the end-to-end tests were not run");
    }
    println!("\nall tests passed in {:.1?}", watch.elapsed());
    Ok(())
}

/// With everything that a build can leave out: the tests of AWS IoT Core are among the others.
pub(crate) const FEATURES: &str = "--features=cli/aws,e2e/aws";
