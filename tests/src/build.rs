//! The program under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// The built `tunnel`: the one that the environment variable `TUNNEL_BIN` names, else this checkout's own, which is built
/// here first (Cargo's lock serialises the tests that ask at the same time; a fresh build costs the first one only).
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn tunnel_binary() -> &'static Path {
    if let Some(path) = BINARY.get() {
        return path;
    }
    let path = if let Some(path) = std::env::var_os("TUNNEL_BIN").map(PathBuf::from) {
        let shown = path.display();
        assert!(
            path.is_file(),
            "TUNNEL_BIN names `{shown}`, which is no file"
        );
        path
    } else {
        let profile = if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        };
        let mut arguments = vec!["--package", "cli", "--bin", "tunnel", "--profile", profile];
        if cfg!(feature = "aws") {
            arguments.extend(["--features", "aws"]);
        }
        build_tunnel(&arguments).unwrap_or_else(|error| panic!("{error}"))
    };
    BINARY.get_or_init(|| path)
}

/// The build of the agent alone, in a folder of its own: the program under test stays as it is. What both are made of is
/// built once.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn agent_alone() -> PathBuf {
    let shared = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")).to_owned(),
        PathBuf::from,
    );
    let own = shared.join("agent-alone");
    let status = cargo()
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package=cli",
            "--bin=tunnel",
        ])
        .args(["--no-default-features", "--features=agent"])
        .env("CARGO_BUILD_BUILD_DIR", &shared)
        .env("CARGO_TARGET_DIR", &own)
        .status()
        .unwrap_or_else(|error| panic!("cargo cannot be started: {error}"));
    assert!(status.success(), "the agent alone does not build");
    own.join("debug/tunnel")
}

/// Builds `tunnel` with these arguments for `cargo build`, and makes it the program under test of this process unless
/// there is one already. `Err` says why there is none.
pub fn build_tunnel(arguments: &[&str]) -> Result<PathBuf, String> {
    let output = cargo()
        .args(["build", "--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err("`tunnel` does not build".to_owned());
    }
    let path = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        // Not the program's own unit tests, which are named after it.
        .filter(|message| message.pointer("/profile/test") == Some(&false.into()))
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .find(|path| path.file_stem().is_some_and(|stem| stem == "tunnel"))
        .ok_or("cargo has built no `tunnel`")?;
    Ok(BINARY.get_or_init(|| path).clone())
}

/// A `cargo` at the root of the workspace that is not told about the package which runs it. Build scripts ask to be run
/// again when the variables that Cargo sets for `cargo run` and `cargo test` change, so handing them down would rebuild
/// half of the dependencies.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    for (name, _) in std::env::vars_os() {
        let is_from_cargo = SET_BY_CARGO
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_from_cargo {
            command.env_remove(name);
        }
    }
    command
}

/// Beginnings of the variables that Cargo and nextest set for the programs they run.
const SET_BY_CARGO: &[&str] = &[
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_PRIMARY_",
    "NEXTEST",
];
