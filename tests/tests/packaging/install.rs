//! `tunnel agent install`, on a machine with a systemd of its own.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use e2e::{CEILING, Machine, World, run, tool, tunnel_binary, wait_until};

use super::guide::Guide;

const UNIT: &str = "tunnel-agent.service";

#[test]
fn one_command_makes_a_service_of_the_agent_and_another_takes_it_away() {
    let world = World::new();
    let _serve = world.serve();
    let controller = world.enroll("hula", "controller-a");
    let program = copy_of_the_program(&world);
    let realm = world.realm().join("realm.toml").display().to_string();
    let machine = Machine::boot(world.folder());
    let install = [
        &program, "agent", "install", "hula", "333", "--realm", &realm,
    ];

    let planned = machine.run(install.iter().chain(&["--dry-run"])).success();
    assert!(
        planned
            .stdout
            .contains("to do: program at `/usr/local/bin/tunnel`")
            && planned.stdout.contains("to do: this computer enrolled"),
        "{}",
        planned.report()
    );
    assert_ne!(
        machine.run(["ls", "/etc/tunnel"]).code,
        Some(0),
        "nothing is done yet"
    );

    let page = Guide::blocks("remote").remove(1);
    let page = page.with("./tunnel", &program).with("realm.toml", &realm);
    let installed = page.type_in(&machine, world.folder());
    assert!(
        installed
            .stderr
            .ends_with("the agent runs: online; no tunnel\n"),
        "{}",
        installed.report()
    );
    assert_eq!(machine.property(UNIT, "ActiveState"), "active");
    assert_eq!(machine.property(UNIT, "UnitFileState"), "enabled");
    let first = machine.property(UNIT, "MainPID");
    let owner = machine.said(["stat", "--format=%U %a", "/etc/tunnel"]);
    assert_eq!(owner, "tunnel-agent 700");
    let foreign = machine.said(["find", "/etc/tunnel", "!", "-user", "tunnel-agent"]);
    assert_eq!(foreign, "", "the agent owns all that root has written");
    let process = machine.said(["ps", "-o", "user:20=", "-p", &first]);
    assert_eq!(process, "tunnel-agent");
    let entries = run(
        &mut world.tunnel_as(&controller, &["list", "--json"]),
        CEILING,
    )
    .success();
    assert!(entries.stdout.contains("333"), "{}", entries.report());

    // Again: nothing to do. A reload is understood.
    let again = machine.run(install).success();
    assert_eq!(again.stderr, "the agent runs: online; no tunnel\n");
    assert_eq!(machine.property(UNIT, "MainPID"), first);
    machine.said(["systemctl", "reload", UNIT]);
    machine.wait_for_status(UNIT, "online");
    assert_eq!(machine.property(UNIT, "MainPID"), first);

    // Another version takes its place.
    let mut newer = OpenOptions::new().append(true).open(&program).unwrap();
    newer.write_all(b"newer").unwrap();
    drop(newer);
    let upgraded = machine.run(install).success();
    assert_eq!(
        upgraded.stderr.lines().next(),
        Some("program at `/usr/local/bin/tunnel`"),
        "{}",
        upgraded.report()
    );
    assert_ne!(machine.property(UNIT, "MainPID"), first);

    // What dies is started again.
    let victim = machine.property(UNIT, "MainPID");
    machine.said(["kill", "-KILL", &victim]);
    wait_until("another agent", CEILING, || {
        let (state, pid) = (
            machine.property(UNIT, "ActiveState"),
            machine.property(UNIT, "MainPID"),
        );
        if state == "active" && pid != victim && pid != "0" {
            return Ok(());
        }
        Err(format!("{state} {pid}"))
    });

    let removed = machine
        .run(["/usr/local/bin/tunnel", "agent", "uninstall"])
        .success();
    assert!(
        removed
            .stderr
            .contains("keys and certificate stay in `/etc/tunnel`"),
        "{}",
        removed.report()
    );
    assert_eq!(machine.property(UNIT, "LoadState"), "not-found");
    for gone in [
        "/usr/local/bin/tunnel",
        "/etc/systemd/system/tunnel-agent.service",
    ] {
        assert_ne!(machine.run(["ls", gone]).code, Some(0), "{gone}");
    }
    machine.said(["ls", "/etc/tunnel/device.toml"]);
    machine
        .run([&program, "agent", "uninstall", "--purge"])
        .success();
    assert_ne!(machine.run(["ls", "/etc/tunnel"]).code, Some(0));
}

#[test]
fn an_agent_that_cannot_come_online_is_told_from_one_that_is() {
    let world = World::new();
    let program = copy_of_the_program(&world);
    let serve = world.serve();
    let machine = Machine::boot(world.folder());
    let realm = world.realm().join("realm.toml").display().to_string();
    machine
        .run([
            &program,
            "enroll",
            "hula",
            "333",
            "--no-proof",
            "--realm",
            &realm,
        ])
        .success();
    serve.terminate();
    let installed = machine.run_within(CEILING * 2, [&program, "agent", "install"]);
    assert_eq!(installed.code, Some(69), "{}", installed.report());
    assert_eq!(
        installed.lines("error"),
        ["the agent is started, and not online yet: active, connecting to the broker; no tunnel"]
    );
    assert_eq!(
        installed.lines("hint"),
        ["`journalctl -u tunnel-agent` says why; it goes on trying by itself"]
    );
    assert_eq!(
        machine.said(["find", "/etc/tunnel", "!", "-user", "tunnel-agent"]),
        "",
        "what root enrolled before is the agent's now"
    );
    let _serve = world.serve();
    machine.wait_for_status(UNIT, "online");
}

#[test]
fn an_image_is_prepared_without_being_started() {
    let world = World::new();
    let image = world.path("image");
    for folder in ["etc", "usr/local/bin"] {
        fs::create_dir_all(image.join(folder)).unwrap();
    }
    let root = image.display().to_string();
    let mut install = world.tunnel();
    install.args(["agent", "install", "--root", &root]);
    let installed = run(&mut install, CEILING).success();
    assert!(
        installed
            .stderr
            .ends_with("the agent will start when this system does\n"),
        "{}",
        installed.report()
    );
    let unit = fs::read_to_string(image.join("etc/systemd/system").join(UNIT)).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/tunnel --dir /etc/tunnel agent\n"));
    let link = image
        .join("etc/systemd/system/multi-user.target.wants")
        .join(UNIT);
    assert!(fs::symlink_metadata(link).is_ok(), "it is enabled");
    assert_eq!(
        fs::read(image.join("usr/local/bin/tunnel")).unwrap().len(),
        fs::read(tunnel_binary()).unwrap().len()
    );
    let mut uninstall = world.tunnel();
    uninstall.args(["agent", "uninstall", "--purge", "--root", &root]);
    run(&mut uninstall, CEILING).success();
    assert!(!image.join("etc/tunnel").exists() && !image.join("usr/local/bin/tunnel").exists());
}

#[test]
fn where_systemd_does_not_run_the_person_is_told_what_to_do() {
    let world = World::new();
    let mut install = Command::new(tool("unshare"));
    install
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs tmpfs /run && exec \"$@\"",
            "sh",
        ])
        .arg(tunnel_binary())
        .args(["agent", "install", "hula", "333"]);
    world.mark(&mut install);
    let refused = run(&mut install, CEILING);
    assert_eq!(refused.code, Some(78), "{}", refused.report());
    assert_eq!(
        refused.lines("error"),
        ["systemd does not run this computer"]
    );
    let hints = refused.lines("hint");
    assert!(
        hints.len() == 1 && hints[0].starts_with("enroll with `tunnel enroll SYSTEM DEVICE"),
        "{}",
        refused.report()
    );
}

/// In the world's folder, which the machine has too.
pub(super) fn copy_of_the_program(world: &World) -> String {
    let copy = world.path("tunnel");
    fs::copy(tunnel_binary(), &copy).unwrap();
    copy.display().to_string()
}
