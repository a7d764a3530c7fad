//! The Python environment of the tests that need one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::tool;

static PYTHON: OnceLock<PathBuf> = OnceLock::new();

/// Why there is no such environment.
#[derive(Debug)]
pub struct PythonError(String);

impl std::fmt::Display for PythonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the tests of AWS IoT Core need moto: {}\nhint: `apt-get install python3-venv`, and see to it that `pip` can install",
            self.0
        )
    }
}

impl std::error::Error for PythonError {}

/// The `python` that has moto. Its environment is made once under `target`, for the versions that are asked for, by whoever
/// comes first; the others wait.
pub fn moto_python() -> Result<PathBuf, PythonError> {
    if let Some(python) = PYTHON.get() {
        return Ok(python.clone());
    }
    let target = target_directory();
    let (home, wanted) = (
        target.join("moto"),
        include_str!("../fixtures/aws/requirements.txt"),
    );
    let fail = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| PythonError(format!("{what}: {error}"))
    };
    fs::create_dir_all(&target).map_err(fail("cannot make the target directory"))?;
    let lock = File::create(target.join("moto.lock")).map_err(fail("cannot make a lock"))?;
    lock.lock().map_err(fail("cannot lock"))?;
    // Written last, so that a half-made environment is made again.
    let (python, made) = (home.join("bin/python"), home.join("made-of.txt"));
    if fs::read_to_string(&made).is_ok_and(|text| text == wanted) && python.exists() {
        return Ok(PYTHON.get_or_init(|| python).clone());
    }
    let list = home.join("requirements.txt");
    run(Command::new(tool("python3"))
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    fs::write(&list, wanted).map_err(fail("cannot write the requirements"))?;
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&list))?;
    fs::write(&made, wanted).map_err(fail("cannot finish the environment"))?;
    Ok(PYTHON.get_or_init(|| python).clone())
}

fn run(command: &mut Command) -> Result<(), PythonError> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(PythonError(format!(
            "{command:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ))),
        Err(error) => Err(PythonError(format!(
            "{command:?} cannot be started: {error}"
        ))),
    }
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).to_owned(),
        PathBuf::from,
    )
}
