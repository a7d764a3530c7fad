//! The Debian package: made of the program under test by what makes the one that is handed out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use e2e::{CEILING, Machine, ReservedPort, World, cargo, run, tool, tunnel_binary, wait_until};

use super::guide::Guide;

const UNITS: [&str; 6] = [
    "tunnel-agent.service",
    "tunnel-serve.service",
    "tunnel-broker.service",
    "tunnel-proxy.service",
    "tunnel-proxy-sync.service",
    "tunnel-signer.service",
];

#[test]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let world = World::new();
    let (first, second) = (package(&world, "0.1.0"), package(&world, "0.1.1"));
    let _serve = world.serve();
    let machine = Machine::boot(world.folder());

    // Installing starts nothing, and leaves what is needed.
    let mut remote = Guide::of("remote");
    assert_eq!(remote.next(), "apt-get install ./tunnel_0.1.0_amd64.deb");
    install(&machine, &first);
    for unit in UNITS {
        assert_eq!(machine.property(unit, "LoadState"), "loaded", "{unit}");
        assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(
            machine.property(unit, "UnitFileState"),
            "disabled",
            "{unit}"
        );
    }
    let keys = machine.said(["stat", "--format=%U %a", "/etc/tunnel"]);
    assert_eq!(keys, "tunnel-agent 700");
    for page in pages(&machine) {
        machine.said(["ls", &format!("/usr/share/man/man1/{page}.1.gz")]);
    }
    machine.said([
        "systemd-analyze",
        "verify",
        "--man=no",
        "/usr/lib/systemd/system/tunnel-agent.service",
    ]);

    // A computer, and a realm's server, beside each other on their own files.
    remote.type_in(&machine, &world.realm());
    machine.wait_for_status(UNITS[0], "online");
    // A port below 1024 is the unit's to permit; the other is kept from tests beside this one.
    let port = ReservedPort::take();
    let here = format!(
        "--proxy 127.0.0.1 --listen 127.0.0.1 --broker-port 885 --proxy-port {}",
        port.number()
    );
    Guide::of("server")
        .with("--proxy proxy.example.org", &here)
        .type_in(&machine, Path::new("/"));
    machine.wait_for_status(UNITS[1], "0 devices online");

    // What a person has changed stays; what runs goes on as the new version.
    let setting = "echo TUNNEL_LOG=debug >> /etc/default/tunnel && sha256sum /etc/default/tunnel /etc/tunnel/*";
    let before = machine.said(["sh", "-c", setting]);
    let (agent, server) = (
        machine.property(UNITS[0], "MainPID"),
        machine.property(UNITS[1], "MainPID"),
    );
    install(&machine, &second);
    let after = machine.said(["sh", "-c", "sha256sum /etc/default/tunnel /etc/tunnel/*"]);
    assert_eq!(after, before);
    assert_ne!(machine.property(UNITS[1], "MainPID"), server);
    assert_eq!(
        machine.property(UNITS[0], "MainPID"),
        agent,
        "whoever upgrades through it is not cut off meanwhile"
    );
    wait_until("the agent's new version", CEILING * 3, || {
        let now = machine.property(UNITS[0], "MainPID");
        if now != agent && now != "0" {
            return Ok(());
        }
        Err(machine.said(["systemctl", "list-timers", "--no-pager"]))
    });
    machine.wait_for_status(UNITS[0], "online");

    // Removing stops; the keys stay.
    machine
        .run_within(CEILING * 2, ["dpkg", "--no-triggers", "--remove", "tunnel"])
        .success();
    for unit in UNITS {
        assert_eq!(machine.property(unit, "LoadState"), "not-found", "{unit}");
    }
    assert_eq!(
        machine
            .run(["pgrep", "-x", "tunnel", "-u", "tunnel,tunnel-agent"])
            .stdout,
        ""
    );
    machine.said([
        "ls",
        "/etc/tunnel/device.toml",
        "/var/lib/tunnel/realm.toml",
    ]);

    // Purging leaves nothing of ours.
    let purged = machine
        .run(["dpkg", "--no-triggers", "--purge", "tunnel"])
        .success();
    assert!(
        purged
            .stdout
            .contains("Removing /etc/tunnel with the keys in it"),
        "{}",
        purged.report()
    );
    let left = machine.said([
        "find",
        "/etc",
        "/var/lib",
        "/usr/bin",
        "/usr/lib/systemd",
        "/usr/lib/sysusers.d",
        "/usr/share/doc",
        "/usr/share/man",
        "/usr/share/bash-completion",
        "/usr/share/zsh",
        "/usr/share/fish",
        "-xdev",
        "(",
        "-name",
        "tunnel",
        "-o",
        "-name",
        "tunnel[-.]*",
        "-o",
        "-name",
        "_tunnel",
        ")",
    ]);
    assert_eq!(left, "");
    assert_eq!(
        machine
            .run(["getent", "passwd", "tunnel-agent", "tunnel"])
            .stdout,
        ""
    );
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    let world = World::new();
    let package = package(&world, "0.1.0");
    let mut lintian = Command::new(tool("lintian"));
    lintian
        .args(["--allow-root", "--no-cfg", "--fail-on", "error"])
        .arg(&package);
    world.mark(&mut lintian);
    let judged = run(&mut lintian, Duration::from_secs(110)).success();
    println!("{}", judged.stdout);
    assert!(!judged.stdout.contains("E: "), "{}", judged.report());
}

/// One page for each command that is shown.
#[track_caller]
fn pages(machine: &Machine) -> Vec<String> {
    let help = machine.said(["tunnel", "--help"]);
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "));
    let pages: Vec<String> = commands
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .map(|name| format!("tunnel-{name}"))
        .collect();
    assert!(pages.len() > 8, "{help}");
    pages
}

#[track_caller]
fn install(machine: &Machine, package: &Path) {
    let package = package.display().to_string();
    // Without triggers: the index of all manual pages would be made anew each time.
    let dpkg = [
        "dpkg",
        "--no-triggers",
        "--install",
        "--force-confold",
        &package,
    ];
    machine.run_within(Duration::from_secs(100), dpkg).success();
}

/// As `cargo xtask dist` makes it, of the program under test.
#[track_caller]
fn package(world: &World, version: &str) -> PathBuf {
    let out = world.path("packages");
    let mut dist = xtask();
    dist.args(["dist", "--fast", "--version", version, "--program"])
        .arg(tunnel_binary())
        .arg("--out")
        .arg(&out);
    run(&mut dist, Duration::from_secs(100)).success();
    let made = fs::read_dir(&out).unwrap().flatten().find(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!("tunnel_{version}_"))
            && Path::new(&name).extension().is_some_and(|end| end == "deb")
    });
    made.unwrap().path()
}

/// The chores that run this test, or else those of this checkout.
fn xtask() -> Command {
    if let Some(running) = std::env::var_os("TUNNEL_XTASK") {
        return Command::new(running);
    }
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "--package=xtask", "--"]);
    command
}
