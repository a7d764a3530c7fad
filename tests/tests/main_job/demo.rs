//! The first thing that a newcomer runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, processes_marked, run, tunnel_binary, wait_until};
use rustix::process::Signal;

/// What the README tells to type, after the part that builds.
fn demo_as_in_the_readme() -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let line = readme
        .lines()
        .map(|line| line.trim().trim_start_matches("$ "))
        .find(|line| line.starts_with("cargo run --release -- demo"))
        .expect("the README's first screen has the demo");
    line.split_once(" -- ")
        .unwrap()
        .1
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// A folder to run the demo in, with no realm of the test's own.
struct Bare {
    folder: tempfile::TempDir,
}

impl Bare {
    fn new() -> Self {
        Self {
            folder: tempfile::Builder::new().prefix("demo-").tempdir().unwrap(),
        }
    }

    fn tunnel(&self) -> Command {
        let mut command = Command::new(tunnel_binary());
        command
            .env(e2e::MARK, self.folder.path())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env_remove("TUNNEL_DIR")
            .current_dir(self.folder.path());
        command
    }

    #[track_caller]
    fn assert_empty(&self) {
        let left: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        assert_eq!(
            left,
            Vec::<std::path::PathBuf>::new(),
            "the demo left files"
        );
        wait_until("the demo's processes to be gone", CEILING, || {
            none_left(self.folder.path())
        });
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        e2e::end_marked(self.folder.path());
    }
}

fn none_left(folder: &Path) -> Result<(), String> {
    let left = processes_marked(folder);
    if left.is_empty() {
        Ok(())
    } else {
        Err(left.join("\n"))
    }
}

#[test]
fn the_demo_runs_as_the_readme_writes_it() {
    // Its sshd is a real one.
    e2e::tool("sshd");
    let bare = Bare::new();
    let outcome = run(bare.tunnel().args(demo_as_in_the_readme()), CEILING).success();
    let said = outcome.stdout.clone() + &outcome.stderr;
    for step in [
        "realm",
        "broker",
        "proxy",
        "signer",
        "certificates",
        "agent",
        "tunnel connect",
        "hello",
    ] {
        assert!(
            said.contains(step),
            "the demo shows `{step}`: {}",
            outcome.report()
        );
    }
    bare.assert_empty();
}

#[test]
fn a_kept_demo_names_the_next_command_and_it_works() {
    let bare = Bare::new();
    let logs = tempfile::tempdir().unwrap();
    let mut demo = e2e::Daemon::start("demo", bare.tunnel().args(["demo", "--keep"]), logs.path());
    // The line after it shows that the command's line is whole.
    demo.wait_for_line("Ctrl-C");
    let output = demo.stdout();
    let typed = output
        .lines()
        .find(|line| line.contains(" --dir ") && line.contains(" connect "))
        .unwrap_or_else(|| panic!("no command to type: {output}"))
        .trim();
    let mut shell = Command::new("sh");
    shell.env(e2e::MARK, bare.folder.path()).args(["-c", typed]);
    let outcome = run(&mut shell, CEILING);
    assert_eq!(outcome.code, Some(0), "`{typed}`: {}", outcome.report());
    demo.signal(Signal::INT);
    assert!(demo.wait(CEILING).success(), "{}", demo.stderr());
    bare.assert_empty();
}

#[test]
fn neither_sshd_nor_ssh_is_needed() {
    let bare = Bare::new();
    let programs = tempfile::tempdir().unwrap();
    let outcome = run(
        bare.tunnel().arg("demo").env("PATH", programs.path()),
        CEILING,
    )
    .success();
    for said in [
        "its agent will be the ssh server",
        "tunnel connect ",
        "hello from the remote computer, where I am ",
    ] {
        assert!(
            outcome.stdout.contains(said),
            "`{said}`: {}",
            outcome.report()
        );
    }
    bare.assert_empty();
}

#[test]
fn a_closed_terminal_takes_the_demo_with_it() {
    let bare = Bare::new();
    let logs = tempfile::tempdir().unwrap();
    let mut demo = e2e::Daemon::start("demo", bare.tunnel().args(["demo", "--keep"]), logs.path());
    demo.wait_for_line("Ctrl-C");
    demo.signal(Signal::HUP);
    demo.wait(CEILING);
    bare.assert_empty();
}
