//! An agent with an ssh of its own, as a service of systemd.

use std::fs;

use e2e::{CEILING, Machine, World, run, wait_until};

use super::install::copy_of_the_program;

const UNIT: &str = "tunnel-agent.service";

#[test]
fn who_logs_in_without_an_sshd_has_what_a_user_has() {
    let world = World::new();
    let _serve = world.serve();
    let controller = world.enroll("hula", "controller-a");
    let program = copy_of_the_program(&world);
    let realm = world.realm().join("realm.toml").display().to_string();
    let machine = Machine::boot(world.folder());
    let install = [
        &program, "agent", "install", "hula", "333", "--realm", &realm,
    ];
    machine.run_within(CEILING * 2, install).success();

    // As the example of a drop-in says.
    machine.said(["useradd", "--create-home", "--shell", "/bin/sh", "atlas"]);
    let drop_in = world.path("builtin-ssh.conf");
    fs::copy(
        super::packaging().join("examples/builtin-ssh.conf"),
        &drop_in,
    )
    .unwrap();
    let service = "printf '\\n[services]\\nssh = \"builtin\"\\n' >> /etc/tunnel/device.toml";
    let place = "/etc/systemd/system/tunnel-agent.service.d";
    let put = format!(
        "{service} && mkdir -p {place} && cp {} {place}/ && \
         {program} --dir /etc/tunnel agent sync-keys --builtin && chown -R atlas /etc/tunnel && \
         systemctl daemon-reload && systemctl restart {UNIT}",
        drop_in.display()
    );
    machine
        .run_within(CEILING * 2, ["sh", "-c", &put])
        .success();
    machine.wait_for_status(UNIT, "online");

    let leave = "grep NoNewPrivs /proc/self/status; nohup sleep 4711 > /dev/null 2>&1 & echo $HOME";
    let mut connect = world.tunnel_as(&controller, &["connect", "atlas@333", "--", leave]);
    let said = run(&mut connect, CEILING * 2).success();
    let mut lines: Vec<&str> = said.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["/home/atlas", "NoNewPrivs:\t0"],
        "{}",
        said.report()
    );

    let journal = machine.said(["journalctl", "--no-pager", "--unit", UNIT]);
    assert!(
        journal.contains("logged in to the built-in ssh"),
        "{journal}"
    );

    // Root looks, and changes nothing.
    machine.said([&program, "--dir", "/etc/tunnel", "agent", "--check"]);
    let first = machine.property(UNIT, "MainPID");
    let again = machine.run_within(CEILING * 2, install).success();
    assert!(!again.stderr.contains("certificate"), "{}", again.report());
    assert_eq!(machine.property(UNIT, "MainPID"), first);

    machine.said(["systemctl", "restart", UNIT]);
    wait_until("another agent", CEILING, || {
        let now = machine.property(UNIT, "MainPID");
        (now != first && now != "0").then_some(()).ok_or(now)
    });
    machine.said(["pgrep", "-u", "atlas", "-f", "sleep 4711"]);
}
