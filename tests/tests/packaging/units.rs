//! The units, as systemd's own judge sees them.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::{CEILING, World, run, tool, tunnel_binary};

use super::packaging;

#[test]
fn every_unit_is_valid_and_hardened() {
    let world = World::new();
    let mut seen = Vec::new();
    for entry in fs::read_dir(packaging().join("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let unit = unit_for_here(&path, &world);
        verify(&unit);
        let mut judge = Command::new(tool("systemd-analyze"));
        judge
            .args(["security", "--offline=yes", "--threshold=25", "--no-pager"])
            .arg(&unit);
        let judged = run(&mut judge, CEILING).success().stdout;
        let grade = judged.lines().last().unwrap_or_default();
        println!("{grade}");
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "tunnel-agent.service",
            "tunnel-broker.service",
            "tunnel-proxy-sync.service",
            "tunnel-proxy.service",
            "tunnel-serve.service",
            "tunnel-signer.service",
        ]
    );
}

#[test]
fn the_example_for_logins_without_an_sshd_is_valid() {
    let world = World::new();
    let unit = unit_for_here(&packaging().join("systemd/tunnel-agent.service"), &world);
    let beside = world.path("tunnel-agent.service.d");
    fs::create_dir(&beside).unwrap();
    let example = packaging().join("examples/builtin-ssh.conf");
    fs::copy(example, beside.join("builtin-ssh.conf")).unwrap();
    verify(&unit);
}

/// A unit that names our build: systemd looks whether the program is there.
#[track_caller]
fn unit_for_here(unit: &Path, world: &World) -> std::path::PathBuf {
    let text = fs::read_to_string(unit).unwrap();
    let program = tunnel_binary().display().to_string();
    assert!(text.contains("ExecStart=/usr/bin/tunnel "), "{text}");
    let here = world.path(unit.file_name().unwrap().to_str().unwrap());
    fs::write(&here, text.replace("/usr/bin/tunnel", &program)).unwrap();
    here
}

#[track_caller]
fn verify(unit: &Path) {
    let mut verify = Command::new(tool("systemd-analyze"));
    // The pages are in the package: its test looks for them.
    verify.args(["verify", "--man=no"]).arg(unit);
    let verified = run(&mut verify, CEILING).success();
    assert_eq!(verified.stderr, "", "{}", unit.display());
}
